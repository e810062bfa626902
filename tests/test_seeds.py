import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surefoot import seeds

ADDRESSES = [
    (0, "order"),
    (1, "order"),
    (0, "augment"),
    (0, "order", 1),
    (0, "order", 0, 1),
    (0, "order", 1, 1),
    (-1, "order"),
]


def test_every_address_has_its_own_numbers():
    drawn = {seeds.generator(*address).bytes(16) for address in ADDRESSES}
    assert len(drawn) == len(ADDRESSES)
    assert len({seeds.torch_seed(*address) for address in ADDRESSES}) == len(ADDRESSES)


@given(st.integers(-(2**80), 2**80), st.text(max_size=8), st.integers(0, 2**40))
def test_an_address_is_a_pure_function(seed, stream, counter):
    first, second = (seeds.generator(seed, stream, counter).bytes(8) for _ in range(2))
    assert first == second
    assert 0 <= seeds.torch_seed(seed, stream, counter) < 2**63


def test_the_numbers_are_written_down():
    """These must never change: a run that is resumed under a later version goes on with them."""
    assert seeds.generator(0, "order", 3).permutation(8).tolist() == [0, 1, 5, 2, 4, 7, 3, 6]
    assert seeds.torch_seed(0, "init") == 3330654677893223573
    assert seeds.torch_seed(7, "step", 12) == 4622802816326250099


def test_streams_do_not_depend_on_what_was_drawn_before():
    expected = seeds.generator(5, "order", 9).random(4)
    other = seeds.generator(5, "order", 8)
    other.random(10**6)
    assert np.array_equal(seeds.generator(5, "order", 9).random(4), expected)


def test_two_counters_are_the_most():
    with pytest.raises(ValueError, match="at most 2"):
        seeds.generator(0, "order", 1, 2, 3)


def test_a_stream_of_torch_ends_with_its_block_also_by_an_exception():
    before = torch.get_rng_state()
    with contextlib.suppress(KeyError), seeds.torch_stream(0, "init"):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_a_step_has_its_own_numbers_in_whatever_order_steps_come():
    with seeds.StepSeeds(3, "step") as each:
        forward = []
        for step in range(4):
            each.at(step)
            forward.append(torch.rand(2))
            torch.rand(step)
        for step in (2, 0, 3, 1):
            each.at(step)
            assert torch.equal(torch.rand(2), forward[step])
    assert len({tuple(draw.tolist()) for draw in forward}) == 4


def test_the_steps_state_ends_with_its_block_also_by_an_exception():
    before = torch.get_rng_state()
    with contextlib.suppress(KeyError), seeds.StepSeeds(3, "step") as each:
        each.at(5)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_that_a_user_left_for_a_card_is_not_superseded():
    """Before CUDA is initialised its seeds wait in a queue; one of ours behind them could not be taken back."""
    assert not torch.cuda.is_initialized()
    queued = list(torch.cuda._queued_calls)
    with seeds.torch_stream(0, "init"):
        first = torch.rand(3)
    with seeds.torch_stream(0, "init"), seeds.StepSeeds(1, "step") as inner:
        inner.at(4)
    with seeds.torch_stream(0, "init"):
        assert torch.equal(first, torch.rand(3))
    assert torch.cuda._queued_calls == queued
    assert not torch.cuda.is_initialized()


class Card:
    """A card's generators, which begin when they are first needed, as `torch.cuda._lazy_init` lets them."""

    def __init__(self, monkeypatch, begun=False):
        self.begun, self.queue = begun, []
        self.generators = (torch.Generator().manual_seed(11), torch.Generator().manual_seed(12))
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: self.begun)
        monkeypatch.setattr(torch.cuda, "default_generators", self.generators if begun else ())
        monkeypatch.setattr(torch.cuda, "_queued_calls", self.queue)

    def begin(self, seed=None):
        torch.cuda.default_generators = self.generators
        if seed is not None:  # what `torch.manual_seed` has put off comes last
            self.queue.append((lambda: [each.manual_seed(seed) for each in self.generators], []))
        for call, _ in self.queue:
            call()
        self.begun = True

    def draw(self):
        return [torch.rand(2, generator=each).tolist() for each in self.generators]


@pytest.mark.parametrize("begun", [True, False])
def test_what_is_drawn_on_a_card_is_of_the_step_and_the_users_state_comes_back(begun, monkeypatch):
    drawn = []
    for _ in range(2):
        card = Card(monkeypatch, begun)
        before = [each.get_state() for each in card.generators]
        with seeds.StepSeeds(0, "step") as each:
            each.at(3)
            if not begun:
                card.begin()
            drawn.append(card.draw())
            each.at(4)
            drawn.append(card.draw())
        assert all(map(torch.equal, before, (each.get_state() for each in card.generators)))
        assert len(card.queue) == 0
    assert drawn[:2] == drawn[2:]
    assert drawn[0] != drawn[1]


def test_what_a_user_seeds_for_a_card_that_has_not_begun_is_there_after_a_context_in_which_it_begins(monkeypatch):
    card = Card(monkeypatch)
    with seeds.torch_stream(0, "init"):
        with seeds.torch_stream(1, "init"):
            card.begin(seed=77)
            inner = card.draw()
        outer = card.draw()
    assert card.draw() == [torch.rand(2, generator=torch.Generator().manual_seed(77)).tolist()] * 2
    assert inner != outer
    with seeds.torch_stream(0, "init"):
        assert card.draw() == outer


def test_a_card_that_does_not_begin_is_left_alone(monkeypatch):
    card = Card(monkeypatch)
    with seeds.torch_stream(0, "init"):
        assert len(card.queue) == 1
    assert (card.begun, card.queue) == (False, [])
