"""How much memory a step is taken to need: it grows with what is computed at once."""

from small import BatchNormDropoutNet, images

import surefoot
from surefoot.training.population.member import Member
from surefoot.training.population.workload import step_bytes, work_of


def member(batch_size, micro_batch_size=2048):
    work = surefoot.task(images(), "mlp", threads=1)
    recipe = surefoot.Recipe(batch_size=batch_size, micro_batch_size=micro_batch_size, epochs=1)
    return Member(work, surefoot.plan(recipe, work.data.examples))


def test_a_larger_batch_takes_more_unless_it_is_taken_in_pieces():
    weights = 6 * 4 * sum(p.numel() for p in member(8).task.template.parameters())
    small, large, pieces = step_bytes(member(8)), step_bytes(member(48)), step_bytes(member(48, micro_batch_size=8))
    assert weights < small < large
    assert pieces == small


def test_as_many_members_are_stacked_as_a_quarter_of_all_memory_holds_and_at_least_one(monkeypatch):
    one = member(8)
    monkeypatch.setattr("surefoot.training.population.workload.total_bytes", lambda _: 13 * step_bytes(one))
    assert work_of(one, 8).fitting == 3
    monkeypatch.setattr("surefoot.training.population.workload.total_bytes", lambda _: 1)
    assert work_of(one, 8).fitting == 1


def test_what_is_free_now_changes_no_choice(monkeypatch):
    before = work_of(member(8), 8)
    monkeypatch.setattr("surefoot.training.memory.free_bytes", lambda _: 0)
    assert work_of(member(8), 8) == before


def test_work_is_counted():
    """The mlp on [B, 192]: calls do not depend on the batch, numbers grow with it, pieces multiply both."""
    small, large, pieces = work_of(member(8), 2), work_of(member(48), 2), work_of(member(48, micro_batch_size=8), 2)
    assert small.weights == sum(p.numel() for p in member(8).task.template.parameters())
    assert small.calls == large.calls
    assert 20 < small.calls < 100
    assert small.weights + 8 * 192 < small.numbers < large.numbers < 6 * small.numbers
    assert (pieces.calls, pieces.numbers) == (6 * small.calls, 6 * small.numbers)


def test_models_with_buffers_or_channels_and_batches_in_pieces_are_not_compiled():
    assert work_of(member(8), 2).compilable
    assert not work_of(member(48, micro_batch_size=8), 2).compilable
    work = surefoot.task(images(), BatchNormDropoutNet, threads=1)
    assert not work_of(Member(work, surefoot.plan(surefoot.Recipe(batch_size=8), work.data.examples)), 2).compilable
