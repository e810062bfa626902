"""Each kind of value in memory comes back, in the same object, and its digest tells when it is another."""

import collections
import random

import numpy as np
import pytest
import torch

from surefoot.steps.snapshot import Kept, is_generator, state_bytes


def write(tensor):
    tensor.data[0] = 7.0


VALUES = {
    "a tensor": (lambda: torch.zeros(3), write),
    "a tensor's sign of zero": (lambda: torch.zeros(3), lambda value: value.neg_()),
    "a tensor's NaN": (lambda: torch.tensor([float("nan"), 1.0]), write),
    "a tensor that is moved": (lambda: torch.zeros(3), lambda value: setattr(value, "data", torch.ones(4))),
    "a tensor in bfloat16": (lambda: torch.zeros(3, dtype=torch.bfloat16), write),
    "a sparse tensor": (lambda: torch.eye(3).to_sparse(), lambda value: value.mul_(2)),
    "a parameter that is frozen": (
        lambda: torch.ones(2, requires_grad=True), lambda value: value.requires_grad_(False),
    ),
    "a gradient that appears": (
        lambda: torch.ones(2, requires_grad=True), lambda value: setattr(value, "grad", torch.ones(2)),
    ),
    "a list": (lambda: [1, [2]], lambda value: value[1].append(3)),
    "a dict": (lambda: {"a": 1, "b": {"c": 2}}, lambda value: value["b"].update(c=3)),
    "a counter": (lambda: collections.Counter("aab"), lambda value: value.update("b")),
    "an array": (lambda: np.arange(3.0), lambda value: value.__setitem__(0, -0.0)),
    "a generator of torch": (lambda: torch.Generator().manual_seed(1), lambda value: torch.rand(1, generator=value)),
    "a generator of numpy": (lambda: np.random.default_rng(1), lambda value: value.normal()),
    "a generator of Python": (lambda: random.Random(1), lambda value: value.random()),
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
def test_a_change_shows_in_the_digest_and_is_undone_in_place(kind):
    make, change = VALUES[kind]
    value, kept = make(), Kept()
    kept.keep("it", value)
    before = kept.digests()
    assert kept.digests() == before, "reading changes nothing"
    change(value)
    assert kept.digests() != before
    kept.restore()
    assert kept.digests() == before


def test_a_set_comes_back():
    value, kept = {1, 2}, Kept()
    kept.keep("it", value)
    value.remove(1)
    kept.restore()
    assert value == {1, 2}


def test_the_path_says_where_in_a_nest_the_change_is():
    value, kept = {"state": [torch.zeros(2), torch.zeros(2)]}, Kept()
    kept.keep("optimizer", value)
    before = kept.digests()
    value["state"][1].add_(1)
    after = kept.digests()
    assert [path for path in before if before[path] != after[path]] == ["optimizer state 1"]


def test_a_value_that_is_reached_twice_is_kept_once_and_a_circle_ends():
    shared, kept = torch.zeros(2), Kept()
    circle: list = [shared, shared]
    circle.append(circle)
    kept.keep("it", circle)
    assert list(kept.digests()) == ["it", "it 0"]


def test_an_attribute_is_kept_by_which_object_it_holds():
    class Thing:
        hook = print

    thing, kept = Thing(), Kept()
    kept.keep_attribute("hook", thing, "hook")
    before = kept.digests()
    thing.hook = repr
    assert kept.digests() != before
    kept.restore()
    assert thing.hook is print


def test_only_what_draws_is_a_generator_and_states_have_bytes_of_their_own():
    assert is_generator(np.random.default_rng(0))
    assert not is_generator(np.zeros(2))
    one, two = (np.random.default_rng(seed).bit_generator.state for seed in (1, 2))
    assert state_bytes(one) != state_bytes(two)
    assert state_bytes((1, np.zeros(2))) != state_bytes((1, np.ones(2)))
