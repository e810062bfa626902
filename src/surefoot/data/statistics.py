"""Mean and deviation of the training part, by which data is normalised, and the type in which it is kept until then."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from surefoot.data.mapped import Mapped, pieces

_ROWS_AT_ONCE = 1024
_LEAST_SPREAD = 1e-3
"""Rounding error, as a share of a column's deviation, from which float32 is too narrow. Chosen by hand."""
_SPECK = 1e-14
"""Deviation, as a share of the mean, that is the rounding of float64: 45 times its 2.2e-16. Chosen by hand."""
_PIXELS_AT_ONCE = 2**20
"""Pixels of one channel that are counted at once: numpy makes 8-byte numbers of them. Chosen by hand."""


def image_statistics(x: np.ndarray | Mapped) -> tuple[Tensor, Tensor]:
    """Return mean and population deviation per channel, float32 [C], of images [N, C, H, W]: of uint8 and uint16 scaled
    to [0, 1], of float32 as they are.

    From the counts of the levels, in whole numbers: 0.3 s for CIFAR-10, where sums in float64 take 0.55 s.

    >>> mean, std = image_statistics(np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1))
    >>> mean.tolist(), std.tolist()
    ([0.5], [0.5])
    """
    if x.dtype.kind == "f":
        mean, std = number_statistics(x)
        return mean.flatten().float(), std.flatten().float()
    return level_statistics(level_counts(x))


def level_counts(x: np.ndarray | Mapped) -> np.ndarray:
    """Return how often each level occurs in each channel, int64 [C, 256 or 65536], of images [N, C, H, W] of whole
    numbers.
    """
    channels, most = x.shape[1], np.iinfo(x.dtype).max
    counts = np.zeros((channels, most + 1), dtype=np.int64)
    rows = max(1, _PIXELS_AT_ONCE // int(np.prod(x.shape[2:])))
    for at in range(0, len(x), rows):
        piece = x[at : at + rows]
        for channel in range(channels):
            counts[channel] += np.bincount(piece[:, channel].ravel(), minlength=most + 1)
    return counts


def level_statistics(counts: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return mean and population deviation per channel, float32 [C], of levels that occur so often, [C, levels]."""
    most = counts.shape[1] - 1
    levels, total = np.arange(most + 1) / most, counts.sum(axis=1)
    mean = counts @ levels / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    mean32, std32 = mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
    return torch.from_numpy(mean32), torch.from_numpy(np.where(std32 <= 1e-7 * mean32, np.float32(1), std32))


def number_statistics(x: np.ndarray | Mapped) -> tuple[Tensor, Tensor]:
    """Return mean and population deviation of numbers, float64. The deviation is 1 where it would be 0.

    They are of each feature, the last axis, of rows [N, D] and of sequences [N, T, F]; of each channel, as [C, 1, 1],
    of what has more axes, [N, C, H, W]; and one of [N].

    >>> mean, std = number_statistics(np.array([[1.0, 5.0], [3.0, 5.0]], dtype=np.float32))
    >>> mean.tolist(), std.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    axes, shape = _axes(x)
    mean, variance = _moments(x, axes)
    std = np.sqrt(variance)
    # A feature without spread carries nothing; rounding can leave a deviation that is a speck of the mean.
    exact = x.dtype in (np.float64, np.int64)
    std = np.where(std <= (_SPECK if exact else 1e-7) * np.abs(mean), 1.0, std)
    return torch.from_numpy(np.asarray(mean).reshape(shape)), torch.from_numpy(std.reshape(shape))


def loses_spread(mean: Any, std: Any) -> Any:
    """Return where float32 is too narrow: the mean's rounding, |mean| * 2^-24, is above a thousandth of the deviation.

    >>> loses_spread(1.7e9, 20.0), loses_spread(350_000.0, 100_000.0)
    (True, False)
    """
    return abs(mean) * 2.0**-24 > _LEAST_SPREAD * std


def number_type(*parts: np.ndarray | Mapped) -> type[np.float32] | type[np.float64]:
    """Return the type in which numbers are kept until they are normalised: float32, unless it would lose a column.

    Seconds since 1970 of one day are lost, see `loses_spread`. What is float32 already, or narrower, cannot win by
    float64.

    Args:
        parts: of one data set, [N, ...].

    >>> number_type(1.7e9 + np.arange(60.0)), number_type(np.arange(60.0))
    (<class 'numpy.float64'>, <class 'numpy.float32'>)
    """
    for x in parts:
        if x.size and x.dtype.kind in "iuf" and x.dtype.itemsize >= (4 if x.dtype.kind in "iu" else 8):
            with np.errstate(all="ignore"):  # what is not finite is named by the check
                mean, variance = _moments(x, _axes(x)[0])
                std = np.sqrt(variance)
                lost = loses_spread(mean, std) & (std > _SPECK * np.abs(mean))
            if bool(lost.any()):
                return np.float64
    return np.float32


def _axes(x: np.ndarray | Mapped) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes over which statistics are taken, and the shape that they have against an example."""
    if x.ndim == 3:
        return (0, 1), x.shape[2:]
    return (0, *range(2, x.ndim)), (*x.shape[1:2], *([1] * (x.ndim - 2)))


def _moments(x: np.ndarray | Mapped, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and population variance over these axes, in float64."""
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    count = x.size / max(1, int(np.prod(shape)))
    mean = sum(_sums(x, axes, lambda piece: piece), np.zeros(shape)) / count
    centre = np.expand_dims(mean, axes)
    return mean, sum(_sums(x, axes, lambda piece: (piece - centre) ** 2), np.zeros(shape)) / count


def _sums(x, axes, of):
    for piece in pieces(x, _ROWS_AT_ONCE):
        yield of(x[piece].astype(np.float64)).sum(axis=axes)
