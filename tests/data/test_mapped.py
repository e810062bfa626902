"""Rows that lie on disk are what they would be in memory, to NumPy and to torch, and are read as late as can be."""

import numpy as np
import pytest
import torch

from surefoot.data import mapped
from surefoot.data.batches import fetch
from surefoot.data.load import inspect, load
from surefoot.data.mapped import Mapped, MappedTensor, large, on_disk, pieces
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


def test_what_a_tensor_can_do_a_mapped_one_can():
    plain = torch.arange(24, dtype=torch.int32).reshape(6, 2, 2)
    there = MappedTensor(Mapped(plain.numpy()))
    mask = torch.tensor([True, False, True, False, False, True])
    acts = [
        lambda x: x[1:3], lambda x: x[-1], lambda x: x[5], lambda x: x[torch.tensor([2, 0])], lambda x: x[mask],
        lambda x: x[[3, 3]], lambda x: x.index_select(0, torch.tensor([1])), lambda x: x.long()[:2],
        lambda x: x.float().mean(), lambda x: x.reshape(6, -1).amax(1), lambda x: x.reshape(len(x), 4)[1],
        lambda x: (x == 3).sum(), lambda x: x[:, 1], lambda x: x.double().std(0), lambda x: torch.cat([x, x]),
        lambda x: x.bfloat16()[:2], lambda x: x[1, 0], lambda x: torch.from_numpy(x.numpy()),
        lambda x: x.detach()[:1], lambda x: x.cpu().contiguous()[2:3], lambda x: x[4:][0], lambda x: x[::2],
        lambda x: torch.stack(list(x)), lambda x: x.index_select(1, torch.tensor([1])),
    ]  # fmt: skip
    for i, act in enumerate(acts):
        assert torch.equal(act(there), act(plain)), i
    assert "MappedTensor(shape=(6, 2, 2)" in repr(there)


def test_another_type_or_place_reads_nothing():
    reads = []

    class Counted(Mapped):
        def __getitem__(self, key):
            reads.append(key)
            return super().__getitem__(key)

    there = MappedTensor(Counted(np.zeros((6, 2), np.int32)))
    for same in (there.cpu(), there.to("cpu"), there.contiguous(), there.detach(), there.long(), there.reshape(6, 2)):
        assert isinstance(same, MappedTensor)
    assert (there.shape, there.dim(), len(there), there.is_floating_point()) == ((6, 2), 2, 6, False)
    assert reads == []


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
