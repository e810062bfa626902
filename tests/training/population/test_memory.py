"""How much memory a step is taken to need: it grows with what is computed at once."""

import torch
from small import images

import surefoot
from surefoot.training.population.member import Member
from surefoot.training.population.memory import free_bytes, most_members, step_bytes


def member(batch_size, micro_batch_size=2048):
    work = surefoot.task(images(), "mlp", threads=1)
    recipe = surefoot.Recipe(batch_size=batch_size, micro_batch_size=micro_batch_size, epochs=1)
    return Member(work, surefoot.plan(recipe, work.data.examples))


def test_a_larger_batch_takes_more_unless_it_is_taken_in_pieces():
    weights = 6 * 4 * sum(p.numel() for p in member(8).task.template.parameters())
    small, large, pieces = step_bytes(member(8)), step_bytes(member(48)), step_bytes(member(48, micro_batch_size=8))
    assert weights < small < large
    assert pieces == small


def test_as_many_members_as_half_of_the_free_memory_holds_and_at_least_one(monkeypatch):
    one = member(8)
    monkeypatch.setattr("surefoot.training.population.memory.free_bytes", lambda _: 7 * step_bytes(one))
    assert most_members(one) == 3
    monkeypatch.setattr("surefoot.training.population.memory.free_bytes", lambda _: 0)
    assert most_members(one) == 1


def test_the_free_memory_of_this_machine_is_some():
    assert free_bytes(torch.device("cpu")) > 2**20
