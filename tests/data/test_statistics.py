"""Mean and deviation against NumPy's in float64."""

import numpy as np
import pytest

from surefoot.data import statistics


@pytest.mark.parametrize("n", [1, 7, 1024, 1500])
def test_of_images(n):
    x = np.random.default_rng(n).integers(0, 256, (n, 3, 4, 5), dtype=np.uint8)
    mean, std = statistics.of_images(x)
    np.testing.assert_allclose(mean, (x / 255).mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, (x / 255).std((0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1500,), (1500, 4), (1500, 3, 2), (30, 3, 4, 5)])
def test_of_numbers(shape):
    x = np.random.default_rng(0).normal(1e4, 3, shape).astype(np.float32)  # a mean that would ruin a float32 sum
    mean, std = statistics.of_numbers(x)
    axes = (0, *range(2, x.ndim))
    keep = (slice(None), *[None] * (x.ndim - 2)) if x.ndim > 1 else ()
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axes)[keep], rtol=1e-6)
    np.testing.assert_allclose(std, x.astype(np.float64).std(axes)[keep], rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, -7.0])
def test_without_spread_the_deviation_is_1(value):
    _, std = statistics.of_numbers(np.full((10_000, 1), value, dtype=np.float32))
    assert std.tolist() == [1]


def test_a_channel_of_one_level_has_deviation_1():
    assert statistics.of_images(np.full((5, 1, 2, 2), 77, dtype=np.uint8))[1].tolist() == [1]
