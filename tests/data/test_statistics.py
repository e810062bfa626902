"""Mean and deviation are those of float64, whatever the type, and 1 where there is no spread."""

import numpy as np
import pytest
import torch

from surefoot.data.statistics import image_statistics, number_statistics


@pytest.mark.parametrize("n", [1, 7, 1024, 1500])
def test_of_images(n):
    x = np.random.default_rng(n).integers(0, 256, (n, 3, 4, 5), dtype=np.uint8)
    mean, std = image_statistics(x)
    np.testing.assert_allclose(mean, (x / 255).mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, (x / 255).std((0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1500,), (1500, 4), (1500, 3, 2), (30, 3, 4, 5)])
def test_of_numbers(shape):
    x = np.random.default_rng(0).normal(1e4, 3, shape).astype(np.float32)  # a mean that would ruin a float32 sum
    mean, std = number_statistics(x)
    axes = (0, 1) if x.ndim == 3 else (0, *range(2, x.ndim))
    keep = (slice(None), None, None) if x.ndim == 4 else ()
    assert mean.dtype == std.dtype == torch.float64
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axes)[keep], rtol=1e-6)
    np.testing.assert_allclose(std, x.astype(np.float64).std(axes)[keep], rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, -7.0])
def test_without_spread_the_deviation_is_1(value):
    _, std = number_statistics(np.full((10_000, 1), value, dtype=np.float32))
    assert std.tolist() == [1]


def test_a_channel_of_one_level_has_deviation_1():
    assert image_statistics(np.full((5, 1, 2, 2), 77, dtype=np.uint8))[1].tolist() == [1]


def test_statistics_of_images_of_every_type_are_those_of_float64():
    draw = np.random.default_rng(0)
    for x, unit in (
        (draw.integers(0, 256, (30, 3, 5, 4), dtype=np.uint8), 255),
        (draw.integers(0, 65536, (30, 1, 5, 4), dtype=np.uint16), 65535),
        (draw.normal(-900, 40, (30, 1, 5, 4)).astype(np.float32), 1),
    ):
        mean, std = image_statistics(x)
        truth = x.astype(np.float64) / unit
        assert mean.numpy() == pytest.approx(truth.mean((0, 2, 3)), rel=1e-6)
        assert std.numpy() == pytest.approx(truth.std((0, 2, 3)), rel=1e-6)
