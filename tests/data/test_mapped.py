"""Rows that lie on disk are what they would be in memory, to NumPy and to torch, and are read as late as can be."""

import numpy as np
import pytest
import torch

from surefoot.data import mapped, tree
from surefoot.data.batches import fetch
from surefoot.data.load import inspect, load
from surefoot.data.mapped import Mapped, large, on_disk, pieces
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.errors import DataError

RNG = np.random.default_rng(0)
SHAPES = {
    "numbers": RNG.normal(size=(60, 5)).astype(np.float32),
    "float64": 1.7e9 + RNG.normal(size=(60, 5)),
    "big-endian": RNG.normal(size=(60, 3)).astype(">f4"),
    "integers": RNG.integers(0, 9, (60, 6)),
    "bytes as numbers": RNG.integers(0, 9, (60, 6), dtype=np.uint8),
    "sequences": RNG.normal(size=(60, 4, 3)).astype(np.float32),
    "one number": RNG.normal(size=60),
    "grey": RNG.integers(0, 255, (60, 4, 5), dtype=np.uint8),
    "channels last": RNG.integers(0, 255, (60, 4, 5, 3), dtype=np.uint8),
    "whole levels": (RNG.integers(0, 255, (60, 3, 4, 5)) / 255).astype(np.float32),
}


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)


@pytest.fixture
def placed(tmp_path):
    def place(x, mode="r"):
        np.save(tmp_path / "x.npy", x)
        return np.load(tmp_path / "x.npy", mmap_mode=mode)

    return place


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_data_on_disk_is_the_data_in_memory(name, mode, placed, monkeypatch):
    x, y = SHAPES[name], np.arange(60) % 3
    here = load((x, y), seed=1)
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    there = load((placed(x, mode), y), seed=1)
    assert isinstance(there.train.x, MappedTensor)
    assert isinstance(there.validation.x, MappedTensor)
    assert (there.fingerprint, there.kind, there.integers) == (here.fingerprint, here.kind, here.integers)
    assert torch.equal(there.mean, here.mean)
    assert torch.equal(there.std, here.std)
    for part in ("train", "validation"):
        rows = np.array([4, 0, 3])
        pair, twin = (fetch(data, data.parts[part], rows) for data in (there, here))
        assert torch.equal(pair[0], twin[0])
        assert type(pair[0]) is torch.Tensor
        assert there.parts[part].name_of(2) == here.parts[part].name_of(2)


def test_images_of_16_bits_are_gathered_too():
    x = RNG.integers(0, 65535, (9, 1, 3, 3), dtype=np.uint16)
    data = load((RNG.integers(0, 255, (9, 3, 3), dtype=np.uint8), np.arange(9) % 2), validation=0)
    parts = (torch.from_numpy(x), MappedTensor(Mapped(x)))
    import dataclasses

    first, second = (fetch(data, dataclasses.replace(data.train, x=part), np.array([3, 1]))[0] for part in parts)
    assert torch.equal(first, second)


def test_numpys_face():
    x = np.arange(12).reshape(6, 2)
    there = Mapped(x, index=np.array([5, 3, 1]))
    assert (there.ndim, there.size, there.nbytes, len(there)) == (2, 6, 48, 3)
    assert there[1].tolist() == [6, 7]
    assert there[1, 1] == 7
    assert there[:, 1].tolist() == [11, 7, 3]
    assert np.asarray(there).tolist() == [[10, 11], [6, 7], [2, 3]]
    assert there[np.array([True, False, True])].tolist() == [[10, 11], [2, 3]]
    assert there.taken(np.array([2, 0])).changed(np.float32)[:].tolist() == [[2, 3], [10, 11]]


def test_pieces_are_small_where_examples_are_large():
    wide = Mapped(np.empty((10, 2**21), np.uint8))
    assert [each.stop - each.start for each in pieces(wide, 1024)] == [2] * 5
    assert list(pieces(np.zeros((0, 3)), 5)) == []


def test_a_view_into_a_memory_map_is_on_disk(placed, small_memory):
    x = placed(np.zeros((100, 4)))
    assert on_disk(x)
    assert on_disk(np.asarray(x)[5:])
    assert on_disk(x.reshape(-1))
    assert not on_disk(np.array(x))
    assert not large(np.zeros((1000, 1000)))
    assert large(np.asarray(x))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_wrong_with_data_on_disk_is_named(value, placed, small_memory):
    x = RNG.normal(size=(60, 5))
    x[33, 2] = value
    with pytest.raises(DataError, match=f"row 33: holds {value} at feature 2"):
        load((placed(x), np.arange(60) % 2))


def test_twins_on_disk_are_found(placed, small_memory):
    x = RNG.normal(size=(60, 5))
    x[50] = x[7]
    problems = inspect((placed(x), np.arange(60) % 3)).problems
    assert problems.warnings == ["1 equal examples have different labels: row 50 = row 7"]


IDS = RNG.integers(0, 9, (60, 8)).astype(np.uint16)
TREES = {
    "tokens": (IDS, np.roll(IDS, 1, 1)),
    "segmentation": (RNG.integers(0, 255, (60, 3, 6, 6), dtype=np.uint8), RNG.integers(0, 3, (60, 6, 6))),
    "multilabel": (RNG.normal(size=(60, 5)), (RNG.random((60, 4)) > 0.5).astype(np.uint8)),
    "classes": ({"a": RNG.normal(size=(60, 5)).astype(np.float32), "b": IDS}, np.arange(60) % 2),
}


@pytest.mark.parametrize("target", TREES)
def test_targets_and_trees_stay_on_disk_too(target, tmp_path, monkeypatch):
    def placed(name, x):
        np.save(tmp_path / f"{name}.npy", x)
        return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    x, y = TREES[target]
    here = load((x, y))
    monkeypatch.setattr(mapped, "IN_MEMORY", 50)
    on_disk = {name: placed(name, each) for name, each in x.items()} if isinstance(x, dict) else placed("x", x)
    there = load((on_disk, placed("y", y)))
    assert (there.fingerprint, there.target) == (here.fingerprint, target)
    assert all(isinstance(leaf, MappedTensor) for leaf in tree.leaves(there.train.x))
    pair, twin = (fetch(data, data.train, np.array([3, 1])) for data in (there, here))
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves(pair), tree.leaves(twin), strict=True))
