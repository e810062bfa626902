"""Splits are stratified, disjoint, and pure functions of the seed."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from surefoot import seeds
from surefoot.data import mapped
from surefoot.data.dataset import stratified, taken


@given(st.lists(st.integers(0, 5), min_size=2, max_size=300), st.floats(0, 0.99), st.integers(0, 5))
def test_each_class_gives_its_share_rounded_and_keeps_one(labels, share, seed):
    y = np.array(labels)
    kept, held = stratified(y, len(y), share, seed)
    assert sorted([*kept, *held]) == list(range(len(y)))
    for name in set(labels):
        count, out = (y == name).sum(), (y[held] == name).sum()
        assert abs(out - share * count) <= 1
        assert out < count
    assert len(held) <= round(share * len(y)) + 1
    if all((y == name).sum() * (1 - share) >= 1 for name in set(labels)):
        assert len(held) == round(share * len(y))


def test_the_split_depends_on_seed_and_stream_alone():
    y = np.arange(100) % 5
    assert np.array_equal(stratified(y, 100, 0.2, 1)[1], stratified(y, 100, 0.2, 1)[1])
    assert not np.array_equal(stratified(y, 100, 0.2, 1)[1], stratified(y, 100, 0.2, 2)[1])
    assert not np.array_equal(stratified(y, 100, 0.2, 1)[1], stratified(y, 100, 0.2, 1, stream="other")[1])


def test_of_very_many_classes_it_is_what_a_search_for_each_class_finds_and_takes_no_such_search():
    """One search of all labels for each of 50,000 classes would read ten thousand million labels."""
    y = np.random.default_rng(0).integers(0, 40, 2000)
    kept, held = stratified(y, len(y), 0.3, 5)
    expected = [
        seeds.generator(5, "split", place).permutation(np.flatnonzero(y == name))[: int((y[held] == name).sum())]
        for place, name in enumerate(np.unique(y))
    ]
    assert held.tolist() == sorted(np.concatenate(expected).tolist())
    many = np.random.default_rng(1).permutation(200_000) % 50_000
    began = time.process_time()
    kept, held = stratified(many, len(many), 0.1, 0)
    assert time.process_time() - began < 20, "it takes 1 s"
    assert len(kept) + len(held) == len(many)
    assert len(held) == 20_000


def test_a_regression_is_split_without_classes():
    kept, held = stratified(None, 50, 0.1, 0)
    assert (len(kept), len(held)) == (45, 5)


def test_a_large_memory_map_is_split_by_an_index_and_read_where_it_lies(tmp_path, monkeypatch, cache):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3000, dtype=np.uint8).reshape(1500, 2))
    x, rows = np.load(path, mmap_mode="r"), np.arange(1499, 0, -1)
    in_memory = taken(x, rows)
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    on_disk = taken(x, rows)
    assert isinstance(on_disk, mapped.Mapped)
    assert isinstance(in_memory, np.ndarray)
    assert np.array_equal(on_disk[:], in_memory)
    assert not cache.exists()  # nothing was copied
