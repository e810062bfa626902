"""The order of every epoch and the augmentation of every image are pure functions of (seed, epoch, index)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.data.augment import parse
from surefoot.data.batches import batch_indices, epoch_order, fetch
from surefoot.data.load import load

EVERYTHING = ("flip", "flip-alternate", "crop:2", "cutout:3")


@pytest.fixture(scope="module")
def digits():
    return load("digits", validation=0)


@given(st.integers(1, 500), st.integers(0, 2**40), st.integers(0, 10**6))
def test_an_epoch_is_a_permutation_and_the_same_each_time(examples, seed, epoch):
    order = epoch_order(examples, seed, epoch).tolist()
    assert sorted(order) == list(range(examples))
    epoch_order.cache_clear()
    assert order == epoch_order(examples, seed, epoch).tolist()


def test_orders_differ_between_epochs_and_seeds():
    orders = [tuple(epoch_order(100, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


@given(st.integers(1, 60), st.data())
def test_the_batches_of_an_epoch_are_disjoint_and_a_step_needs_nothing_before_it(examples, data):
    batch_size = data.draw(st.integers(1, examples))
    steps = examples // batch_size
    batches = [batch_indices(examples, batch_size, 7, step) for step in range(2 * steps)]
    seen = [(epoch, indices.copy()) for epoch, indices in batches]
    del batches
    for epoch in (0, 1):
        rows = np.concatenate([indices for at, indices in seen if at == epoch])
        assert len(rows) == len(set(rows.tolist())) == steps * batch_size
    resumed = data.draw(st.integers(0, 2 * steps - 1))
    epoch_order.cache_clear()
    epoch, indices = batch_indices(examples, batch_size, 7, resumed)
    assert epoch == seen[resumed][0]
    assert np.array_equal(indices, seen[resumed][1])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 1437), min_size=1, max_size=20, unique=True), st.integers(0, 5), st.integers(0, 3))
def test_an_image_is_augmented_alike_in_whatever_batch_it_comes(digits, rows, epoch, seed):
    augment = parse(EVERYTHING)
    together, y = fetch(digits, digits.train, np.array(rows), augment=augment, seed=seed, epoch=epoch)
    for place, row in enumerate(rows):
        alone, label = fetch(digits, digits.train, np.array([row]), augment=augment, seed=seed, epoch=epoch)
        assert torch.equal(together[place], alone[0])
        assert y[place] == label[0]


def test_augmentation_does_not_depend_on_threads_history_or_the_state_of_any_generator(digits):
    augment, rows = parse([*EVERYTHING, lambda x: x + torch.rand_like(x)]), np.arange(50)
    first, _ = fetch(digits, digits.train, rows, augment=augment, seed=1, epoch=2)
    with torch.random.fork_rng():
        torch.rand(7)
        before = torch.get_rng_state()
        fetch(digits, digits.train, rows[::-1].copy(), augment=augment, seed=1, epoch=3)
        again, _ = fetch(digits, digits.train, rows, augment=augment, seed=1, epoch=2)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    other, _ = fetch(digits, digits.train, rows, augment=augment, seed=1, epoch=3)
    assert not torch.equal(first, other)
