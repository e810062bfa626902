"""A batch is the images at its indices, normalised by the training part."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import surefoot
from surefoot.data.augment import parse
from surefoot.data.batches import (
    batch_indices,
    capture_refusal,
    fetch,
    fetch_rows,
    fetch_slice,
)
from surefoot.data.epochs import epoch_draws, epoch_rows
from surefoot.data.load import load
from surefoot.data.mapped import Mapped
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.errors import ConfigError


def images(n=40, channels=3, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (n, channels, 6, 5), dtype=np.uint8), np.arange(n) % 4


@pytest.mark.parametrize("channels", [1, 3])
def test_fetch_equals_the_formula(channels):
    data = load(images(channels=channels), validation=0)
    rows = np.array([5, 0, 39])
    x, y = fetch(data, data.train, rows)
    expected = (data.train.x[rows].double() / 255 - data.mean.view(1, -1, 1, 1)) / data.std.view(1, -1, 1, 1)
    torch.testing.assert_close(x, expected.float(), rtol=0, atol=2e-6)  # a few float32 roundings of values up to 4
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert y.tolist() == [1, 0, 3]


def test_the_training_part_has_mean_0_and_deviation_1_after_normalising():
    data = load(images(n=400), validation=0.25)
    x, _ = fetch(data, data.train, np.arange(data.examples))
    for axis_mean, axis_std in zip(x.mean((0, 2, 3)), x.std((0, 2, 3), unbiased=False), strict=True):
        assert abs(float(axis_mean)) < 1e-5
        assert abs(float(axis_std) - 1) < 1e-5


def test_numbers_are_normalised_per_feature_and_targets_of_a_regression_standardised():
    generator = np.random.default_rng(0)
    x, y = generator.normal(5, 3, (50, 4)), generator.normal(100, 9, 50)
    data = load((x, y), target="numbers", validation=0)
    fetched, targets = fetch(data, data.train, np.arange(50))
    np.testing.assert_allclose(fetched.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(targets, (y - y.mean()) / y.std(), atol=1e-5)
    assert data.target_mean is not None
    assert float(data.target_mean) == pytest.approx(y.mean())
    plain = load((x, y), target="numbers", validation=0, normalise=False, standardise_targets=False)
    fetched, targets = fetch(plain, plain.train, np.arange(50))
    np.testing.assert_array_equal(fetched, x.astype(np.float32))
    np.testing.assert_array_equal(targets, y.astype(np.float32))


def test_a_fetch_never_writes_to_the_data():
    data = load(images(), validation=0)
    before = data.train.x.clone()
    x, _ = fetch(data, data.train, np.arange(8), augment=lambda x: x.mul_(0))
    x.zero_()
    assert torch.equal(data.train.x, before)


def test_indices_may_be_a_tensor():
    data = load(images(), validation=0)
    a, _ = fetch(data, data.train, torch.tensor([3, 1]))
    b, _ = fetch(data, data.train, np.array([3, 1]))
    assert torch.equal(a, b)


def test_the_whole_part_is_one_batch():
    epoch, rows = batch_indices(7, 7, 0, 3)
    assert epoch == 3
    assert sorted(rows.tolist()) == list(range(7))


@pytest.mark.parametrize("batch_size", [0, 8])
def test_a_batch_that_no_epoch_holds_is_refused(batch_size):
    with pytest.raises(ConfigError, match="from 1 to 7 examples"):
        batch_indices(7, batch_size, 0, 0)


AUGMENTATIONS = [[], ["flip"], ["flip-alternate", "crop:1"], ["crop:2", "cutout:3", "flip"]]


@pytest.mark.parametrize("names", AUGMENTATIONS, ids=" ".join)
@pytest.mark.parametrize("epoch", [0, 3])
def test_rows_and_draws_on_the_device_are_the_batch_of_their_indices(names, epoch):
    data, augment = load(images(), validation=0), parse(names)
    rows = epoch_rows(40, 5, epoch, torch.device("cpu"))[8:16]
    draws = epoch_draws(augment, 40, 5, epoch, torch.device("cpu"))
    here = fetch_rows(data, data.train, rows, augment=augment, draws=draws[rows])
    for given in (rows, rows.numpy(), rows.tolist()):
        there = fetch(data, data.train, given, augment=augment, seed=5, epoch=epoch)
        assert torch.equal(here[0], there[0])
        assert torch.equal(here[1], there[1])


def test_the_rows_of_several_batches_are_one_call():
    data, augment = load(images(), validation=0), parse(["flip", "crop:1"])
    rows = torch.stack([epoch_rows(40, seed, 1, torch.device("cpu"))[:8] for seed in range(3)])
    draws = [epoch_draws(augment, 40, seed, 1, torch.device("cpu")) for seed in range(3)]
    at = torch.cat([each[some] for each, some in zip(draws, rows, strict=True)])
    x, y = (
        each.unflatten(0, (3, 8)) for each in fetch_rows(data, data.train, rows.flatten(), augment=augment, draws=at)
    )
    for seed in range(3):
        alone = fetch(data, data.train, rows[seed], augment=augment, seed=seed, epoch=1)
        assert torch.equal(x[seed], alone[0])
        assert torch.equal(y[seed], alone[1])


class NothingFromTheHost(TorchDispatchMode):
    """Refuses what a graph cannot hold: numbers that are read back, copies between devices, and values of the host."""

    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        assert not any(
            word in name for word in ("_local_scalar_dense", "nonzero", "lift_fresh", "item", "is_pinned")
        ), name
        assert "device" not in (kwargs or {}) or "_to_copy" not in name, name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("names", AUGMENTATIONS, ids=" ".join)
@pytest.mark.parametrize(
    "data",
    [
        images(),
        (np.random.default_rng(0).random((40, 3, 6, 5), dtype=np.float32), np.arange(40) % 4),
        (np.random.default_rng(0).integers(0, 65536, (40, 1, 6, 5), dtype=np.uint16), np.arange(40) % 4),
        (np.random.default_rng(0).normal(size=(40, 4)), np.arange(40.0)),
        ({"a": np.arange(80.0).reshape(40, 2), "b": np.arange(40)[:, None]}, np.arange(40) % 4),
    ],
    ids=["bytes", "floats", "16 bits", "regression", "tree"],
)
def test_a_batch_of_rows_takes_nothing_from_the_host(data, names):
    data = load(data, validation=0)
    augment = parse(names if data.kind == "images" else [])
    rows = epoch_rows(40, 0, 0, torch.device("cpu"))[:8]
    draws = epoch_draws(augment, 40, 0, 0, torch.device("cpu"))
    assert capture_refusal(data, augment) is None
    expected = fetch_rows(data, data.train, rows, augment=augment, draws=draws.index_select(0, rows))
    with NothingFromTheHost():
        found = fetch_rows(data, data.train, rows, augment=augment, draws=draws.index_select(0, rows))
    assert all(map(torch.equal, surefoot.data.tree.leaves(found), surefoot.data.tree.leaves(expected)))


def test_what_a_graph_cannot_hold_is_said_in_words():
    data = load(images(), validation=0)
    there = MappedTensor(Mapped(data.train.x.numpy()))
    read = dataclasses.replace(data, train=dataclasses.replace(data.train, x=there))
    assert "does not lie on the card" in str(capture_refusal(read, None))
    drawing = dataclasses.replace(parse([]), reader=object())
    assert "draws its examples anew" in str(capture_refusal(data, drawing))
    assert "calls a function" in str(capture_refusal(data, parse(["flip", lambda x: x])))


@pytest.mark.parametrize("form", ["bytes", "floats", "16 bits", "numbers", "embedded", "mapped"])
def test_a_slice_is_the_batch_of_its_indices_in_memory_of_its_own(form):
    generator = np.random.default_rng(0)
    x = {
        "floats": generator.random((40, 3, 6, 5), dtype=np.float32),
        "16 bits": generator.integers(0, 65536, (40, 1, 6, 5), dtype=np.uint16),
        "numbers": generator.normal(size=(40, 4)), "embedded": generator.integers(0, 9, (40, 4)),
    }.get(form, images()[0])  # fmt: skip
    data = load((x, np.arange(40) % 4), validation=0, normalise=form != "embedded")
    if form == "embedded":
        data = dataclasses.replace(
            data, train=dataclasses.replace(data.train, x=torch.from_numpy(x)), mean=None, std=None
        )
    part = data.train
    if form == "mapped":
        part = dataclasses.replace(part, x=MappedTensor(Mapped(x)))
    before = part.x[:].clone()
    for first, last in ((0, 7), (7, 40), (30, 99)):
        expected = fetch(data, part, np.arange(first, min(last, 40)))
        found = fetch_slice(data, part, first, last)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        assert found[0].stride() == expected[0].stride()
        found[0].zero_(), found[1].zero_()
    if x.dtype != np.uint16:
        assert torch.equal(part.x[:], before)
    assert part.y.any()
