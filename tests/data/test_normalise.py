"""Normalised once, ahead, or batch by batch: the same bits, and nothing of the data is written to."""

import dataclasses

import numpy as np
import pytest
import torch

from surefoot.data import normalise
from surefoot.data.batches import fetch, fetch_rows, fetch_slice
from surefoot.data.load import load
from surefoot.data.normalise import learned_ahead, normalised, normalised_images


def images(n=40, channels=3):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (n, channels, 6, 5), dtype=np.uint8), np.arange(n) % 4


def test_a_float_batch_is_not_normalised_in_place():
    data = load(images(), validation=0)
    x = torch.rand(4, 3, 6, 5).to(memory_format=torch.channels_last)
    before = x.clone()
    normalised(data, x)
    assert torch.equal(x, before)


def test_images_of_16_bits_are_normalised_from_their_own_range():
    levels = torch.arange(24).reshape(2, 3, 2, 2) * 2800
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.3, 0.2, 0.1])
    expected = (levels / 65535 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert torch.allclose(normalised_images(levels.to(torch.uint16), mean, std), expected, atol=1e-5)


def test_a_constant_of_the_data_is_put_on_the_device_once(monkeypatch):
    data, made = load(images(), validation=0), []
    monkeypatch.setattr(normalise.learned_ahead, "__defaults__", (0,))
    fetch_rows(data, data.train, torch.arange(4))
    monkeypatch.setattr(torch.Tensor, "repeat", lambda *args: made.append(args))
    fetch_rows(data, data.train, torch.arange(4))
    assert made == []


GENERATOR = np.random.default_rng(1)
KINDS = {
    "bytes": images(), "grey": images(channels=1), "two": images(channels=2),
    "floats": (GENERATOR.random((40, 3, 6, 5), dtype=np.float32), np.arange(40) % 4),
    "numbers": (GENERATOR.normal(5, 9, (40, 7)), GENERATOR.normal(100, 9, 40)),
    "exact": (1.7e9 + GENERATOR.random((40, 2)) * 60, np.arange(40) % 4),
    "sequences": (GENERATOR.normal(5, 9, (40, 7, 3)), np.arange(40) % 4),
    "volumes": (GENERATOR.normal(5, 9, (40, 5, 6, 7)), np.arange(40) % 4),
    "tree": ({"a": GENERATOR.normal(size=(40, 2)), "b": np.arange(40)[:, None]}, np.arange(40) % 4),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_part_normalised_ahead_gives_the_bits_and_the_layout_of_its_batches(kind, channels_last, monkeypatch):
    data = dataclasses.replace(load(KINDS[kind], validation=0), channels_last=channels_last)
    assert learned_ahead(data, data.train) is not None
    rows = np.array([3, 39, 0, 3])
    ahead = (*fetch(data, data.train, rows), *fetch_slice(data, data.train, 5, 9))
    monkeypatch.setattr(normalise.learned_ahead, "__defaults__", (0,))
    data = dataclasses.replace(data, train=dataclasses.replace(data.train))
    assert learned_ahead(data, data.train) is None
    alone = (*fetch(data, data.train, rows), *fetch_slice(data, data.train, 5, 9))
    for one, other in zip(ahead, alone, strict=True):
        for a, b in zip(*([each.values() if isinstance(each, dict) else [each]] for each in (one, other)), strict=True):
            for found, expected in zip(a, b, strict=True):
                assert torch.equal(found, expected)
                assert (found.dtype, found.stride()) == (expected.dtype, expected.stride())


def test_what_is_written_to_afterwards_is_seen():
    data = load(images(), validation=0)
    rows = np.arange(4)
    before, labels = fetch(data, data.train, rows)
    data.train.x[0] = 0
    data.train.y[1] = 3
    after, changed = fetch(data, data.train, rows)
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1:], after[1:])
    assert (labels[1], changed[1]) == (1, 3)


def test_a_part_normalised_by_other_data_is_made_anew():
    data = load(images(), validation=0)
    other = dataclasses.replace(data, mean=data.mean + 0.1)
    assert not torch.equal(fetch(data, data.train, [0])[0], fetch(other, data.train, [0])[0])
    assert torch.equal(fetch(data, data.train, [0])[0], normalised(data, data.train.x[:1]))


def test_a_batch_from_ahead_is_memory_of_its_own():
    data = load(KINDS["numbers"], validation=0)
    expected = fetch(data, data.train, [0, 1])[0].clone()
    for x, y in (fetch(data, data.train, [0, 1]), fetch_slice(data, data.train, 0, 2)):
        x.zero_(), y.zero_()
        assert torch.equal(fetch(data, data.train, [0, 1])[0], expected)
