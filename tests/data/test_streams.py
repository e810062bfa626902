"""Streams are read once, from front to back, and are then as good as arrays."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import surefoot
from surefoot.data import mapped, streams
from surefoot.data.load import default_model, load
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.errors import ConfigError, DataError

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
PICTURES = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 5), dtype=np.uint8)
Y = np.arange(40) % 2


class Stream(IterableDataset):
    def __init__(self, rows=lambda: zip(X, Y, strict=True)):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows())


class Iterates:
    def __iter__(self):
        return zip(X, Y, strict=True)


def generator():
    yield from zip(X, Y, strict=True)


WAYS = {
    "IterableDataset": Stream,
    "DataLoader": lambda: DataLoader(Stream(), batch_size=7),
    "DataLoader with workers": lambda: DataLoader(Stream(), batch_size=7, num_workers=2),
    "batches": lambda: DataLoader(Stream(lambda: [(X[:16], Y[:16]), (X[16:], Y[16:])]), batch_size=None),
    "generator": generator,
    "zip": lambda: zip(X, Y, strict=True),
    "islice": lambda: itertools.islice(itertools.cycle(zip(X, Y, strict=True)), 40),
    "iterable": Iterates,
    "tensors": lambda: ((torch.from_numpy(x), torch.tensor(y)) for x, y in zip(X, Y, strict=True)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("in_memory", [2**30, 100])
def test_a_stream_is_the_arrays_that_it_holds(way, in_memory, monkeypatch):
    twin = load((X, Y))
    monkeypatch.setattr(mapped, "IN_MEMORY", in_memory)
    data = load(WAYS[way]())
    assert data.fingerprint == twin.fingerprint
    assert isinstance(data.train.x, MappedTensor) == (in_memory == 100)
    assert torch.equal(data.validation.x[:], twin.validation.x)


@pytest.mark.parametrize("way", WAYS)
def test_the_model_follows_from_the_first_example_and_nothing_is_lost_by_looking(way):
    given = WAYS[way]()
    assert default_model(given) == "mlp"
    assert load(given).examples == 36
    assert load(given).examples == 36  # also of an iterator, which is used up


def test_images_and_trees_stream_too():
    data = load(Stream(lambda: zip(PICTURES, Y, strict=True)))
    assert (data.kind, data.input_shape) == ("images", (3, 4, 5))
    assert default_model(Stream(lambda: zip(PICTURES, Y, strict=True))) == "cnn"
    rows = ({"a": x, "b": x[:2], "label": y} for x, y in zip(X, Y, strict=True))
    assert load(rows).input_shape == {"a": (3,), "b": (2,)}


def test_parts_may_be_streams():
    data = load({"train": generator(), "val": Stream(), "test": (X, Y)})
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 40, "validation": 40, "test": 40}
    assert load((Stream(), Stream())).test is not None


def test_a_run_is_trained_and_resumed_on_a_stream(tmp_path):
    settings = {"epochs": 3, "batch_size": 8, "lr": 0.1, "runs_dir": tmp_path}
    whole = surefoot.train((X, Y), "linear", name="a", **settings)
    streamed = surefoot.train(Stream(), "linear", name="b", **settings)
    assert streamed.summary["train_loss"] == whole.summary["train_loss"]
    again = surefoot.train(Stream(), "linear", name="b", **settings)
    assert "nothing was trained" in again.notes[-1]
    once = generator()
    assert surefoot.train(once, "linear", name="c", **settings).summary["train_loss"] == whole.summary["train_loss"]
    assert "nothing was trained" in surefoot.train(once, "linear", name="c", **settings).notes[-1]


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: float(torch.rand(()))])
def test_what_a_stream_draws_stays_and_is_said_and_is_the_same_again(draw):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first, second = (
        load(Stream(lambda: ((x + np.float32(draw()), y) for x, y in zip(X, Y, strict=True)))) for _ in "ab"
    )
    assert streams.DRAWN_ONCE in first.notes
    assert first.fingerprint == second.fingerprint
    assert load(Stream()).notes == ()
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_memory_that_a_stream_uses_again_is_copied():
    def rows():
        buffer = np.empty(3, np.float32)
        for x, y in zip(X, Y, strict=True):
            buffer[:] = x
            yield buffer, y

    assert load(rows()).fingerprint == load((X, Y)).fingerprint


def test_an_iterator_that_is_gone_is_forgotten():
    given = generator()
    load(given)
    assert len(streams._read) >= 1
    key = id(given)
    del given
    assert key not in streams._read


class Says(Stream):
    def __init__(self, length):
        super().__init__()
        self.length = length

    def __len__(self):
        return self.length


@pytest.mark.parametrize("length", [3, 400])
def test_a_length_that_lies_is_said(length):
    data = load(Says(length))
    assert any(f"says that it has {length:,} examples, and has 40" in note for note in data.notes)
    assert not any("says" in note for note in load(Says(40)).notes)


def failing():
    yield X[0], 0
    yield X[1], 1
    raise OSError("the line is cut\nand more")


class Broken(IterableDataset):
    def __iter__(self):
        raise RuntimeError("no server")


BAD = {
    "empty": (lambda: iter([]), DataError, "train: has no examples"),
    "empty dataset": (lambda: Stream(list), DataError, "train: has no examples"),
    "fails": (failing, DataError, r"the stream fails after 2 examples \(OSError: the line is cut\)"),
    "no iterator": (Broken, ConfigError, r"cannot be gone through \(RuntimeError: no server\)"),
    "single tensors": (lambda: (torch.from_numpy(x) for x in X), DataError, "row 0: cannot be read .*no target"),
    "numbers": (lambda: iter(range(40)), DataError, "row 0: cannot be read"),
    "other shapes": (
        lambda: ((x[: 2 + i % 2], i % 2) for i, x in enumerate(X)), DataError,
        r"row 1: has x \(3,\) float32.*and 19 more are unlike it.*in the stream",
    ),
    "no label": (lambda: ({"a": x} for x in X), DataError, "row 0: cannot be read .*a mapping with 'a'"),
    "one example": (lambda: iter([(X[0], 0)]), DataError, "has 1 example"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_streams_have_their_message(kind):
    given, error, message = BAD[kind]
    with pytest.raises(error, match=f"(?s){message}"):
        load(given())
    with pytest.raises((DataError, ConfigError)):
        surefoot.train(given(), epochs=1)


def test_a_stream_without_end_is_said(monkeypatch):
    monkeypatch.setattr(streams, "MOST_EXAMPLES", 1000)
    with pytest.raises(DataError, match=r"the stream has not ended after 1,000 examples.*itertools\.islice"):
        load(itertools.cycle(zip(X, Y, strict=True)))


def test_what_is_no_stream_is_refused_as_before():
    for given in ({1, 2}, 5, None):
        with pytest.raises(ConfigError, match=r"data of type|give for example"):
            load(given)
