import numpy as np
import pytest
import torch
from small import bits, image_arrays, images

import surefoot
from surefoot.data import loader
from surefoot.data.augment import parse
from surefoot.data.batches import fetch
from surefoot.data.loader import Loader

ROWS = np.array([7, 0, 7, 30])


def bits_of(batch):
    return [(value.stride(), bits(value)) for value in batch]


def numbers(dtype):
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(dtype) * 3 + 1
    return surefoot.load((x, np.arange(60) % 3), validation=0)


@pytest.mark.parametrize(
    "data",
    [
        images(),
        surefoot.load("digits"),
        surefoot.load((image_arrays(60)[0].astype(np.float32) / 255, image_arrays(60)[1]), validation=0),
        surefoot.load(((image_arrays(60)[0].astype(np.uint16) * 257), image_arrays(60)[1]), validation=0),
        numbers(np.float32),
        numbers(np.float64),
    ],
    ids=["bytes", "digits", "floats", "16 bits", "float32", "float64"],
)
def test_a_part_at_rest_gives_the_bits_and_the_layout_of_fetch(data):
    batch = Loader(data, None, 0).batch(ROWS, epoch=2)
    assert bits_of(batch) == bits_of(fetch(data, data.train, ROWS))


def test_targets_of_a_regression_are_standardised():
    x = np.random.default_rng(0).normal(size=(60, 5))
    data = surefoot.load((x, x.sum(1) * 1000 + 5), validation=0)
    assert bits_of(Loader(data, None, 0).batch(ROWS, epoch=0)) == bits_of(fetch(data, data.train, ROWS))


@pytest.mark.parametrize("names", [["flip"], ["flip-alternate", "crop:1"]])
def test_what_is_augmented_is_fetched(names):
    data, augment = images(), parse(names)
    batch = Loader(data, augment, 3).batch(ROWS, epoch=1)
    assert bits_of(batch) == bits_of(fetch(data, data.train, ROWS, augment=augment, seed=3, epoch=1))


def test_a_batch_is_the_callers_to_change():
    loaded = Loader(images(), None, 0)
    loaded.batch(ROWS, epoch=0)[0].zero_()
    assert loaded.batch(ROWS, epoch=0)[0].abs().sum() > 0


def test_large_data_does_not_lie_twice_in_memory(monkeypatch):
    monkeypatch.setattr(loader, "_MOST_VALUES", 25)
    data = images()
    assert Loader(data, None, 0)._ready is None
    assert torch.equal(Loader(data, None, 0).batch(ROWS, 0)[0], fetch(data, data.train, ROWS)[0])
