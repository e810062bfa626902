"""An array is images or numbers by its type, shape and values, in memory and on disk alike."""

import numpy as np
import pytest

from surefoot.data.layout import kind_of_array, standard, standard_leaf
from surefoot.data.mapped import Mapped

LEVELS = np.random.default_rng(0).integers(0, 256, (300, 3, 4, 5), dtype=np.uint8)
ARRAYS = {
    "bytes": (LEVELS, "images"),
    "grey": (LEVELS[:, 0], "images"),
    "channels last": (LEVELS.transpose(0, 2, 3, 1), "images"),
    "whole levels": (LEVELS / 255, "images"),
    "one value off": (np.where(np.arange(300)[:, None, None, None] == 299, 0.5001, LEVELS / 255), "numbers"),
    "floats": (np.random.default_rng(0).normal(size=(30, 3, 4, 5)), "numbers"),
    "many channels": (np.zeros((9, 7, 8, 9), np.uint8), "numbers"),
    "rows": (np.arange(12.0).reshape(4, 3), "numbers"),
    "flat": (np.arange(4), "numbers"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_kind_and_form(name):
    x, kind = ARRAYS[name]
    there = Mapped(np.asarray(x))
    assert kind_of_array(x) == kind_of_array(there) == kind
    here, on_disk = standard(x, kind, np.float32), standard(there, kind, np.float32)
    assert (here.shape, here.dtype) == (on_disk.shape, on_disk.dtype)
    assert np.array_equal(on_disk[:], here)
    assert here.dtype == (np.uint8 if kind == "images" else np.float32)
    if kind == "images":
        assert here.shape[1] in (1, 3)


def test_one_of_several_inputs():
    assert standard_leaf(np.arange(6, dtype=np.int16)).dtype == np.int64
    assert standard_leaf(np.ones(3, bool)).dtype == bool
    assert standard_leaf(1.7e9 + np.arange(60.0)).dtype == np.float64
    assert standard_leaf(LEVELS.transpose(0, 2, 3, 1)).shape == (300, 3, 4, 5)
