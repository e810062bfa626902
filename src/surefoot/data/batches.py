"""The order of every epoch and the batch of every step, as pure functions of (seed, epoch, index); and normalising.

A run that is resumed at step t needs only t: nothing here has a state. Examples that do not fill a batch are
left out of that epoch; the order is drawn anew for each epoch, so they are others each time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from surefoot import seeds
from surefoot.data import tree
from surefoot.data.augment import Augment, parse
from surefoot.data.dataset import DataSet, Part, channels_first
from surefoot.data.mapped import Mapped, pieces
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.errors import ConfigError

_ROWS_AT_ONCE = 1024
_LEAST_SPREAD = 1e-3
"""Rounding error, as a share of a column's deviation, from which float32 is too narrow. Chosen by hand."""
_SPECK = 1e-14
"""Deviation, as a share of the mean, that is the rounding of float64: 45 times its 2.2e-16. Chosen by hand."""
_PIXELS_AT_ONCE = 2**20
"""Pixels of one channel that are counted at once: numpy makes 8-byte numbers of them. Chosen by hand."""

_in_use: WeakValueDictionary[tuple[int, int, int], np.ndarray] = WeakValueDictionary()


@lru_cache(maxsize=4)
def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of one epoch: a permutation of the examples, int64 [N], read-only.

    It is drawn once for as long as somebody holds it, and the last four are held here: K members with batches of their
    own that take turns need K, at 8 bytes an example.

    >>> epoch_order(5, seed=0, epoch=1).tolist() == epoch_order(5, seed=0, epoch=1).tolist()
    True
    >>> sorted(epoch_order(5, seed=0, epoch=1).tolist())
    [0, 1, 2, 3, 4]
    """
    order = _in_use.get((examples, seed, epoch))
    if order is None:
        order = seeds.generator(seed, "order", epoch).permutation(examples)
        order.setflags(write=False)
        _in_use[examples, seed, epoch] = order
    return order


def batch_indices(examples: int, batch_size: int, seed: int, step: int) -> tuple[int, np.ndarray]:
    """Return the epoch and the examples, int64 [B], of update `step`, counted from 0.

    An epoch has examples // batch_size steps.

    Raises:
        ConfigError: the batch is larger than the training part, or empty.

    >>> [batch_indices(6, 2, seed=0, step=t)[0] for t in range(5)]
    [0, 0, 0, 1, 1]
    """
    if not 1 <= batch_size <= examples:
        raise ConfigError(
            f"batch_size = {batch_size} with {examples} training examples",
            f"a batch has from 1 to {examples} examples",
            'leave it out, or set batch_size = "full"',
        )
    epoch, batch = divmod(step, examples // batch_size)
    return epoch, epoch_order(examples, seed, epoch)[batch * batch_size : (batch + 1) * batch_size]


def fetch(
    data: DataSet,
    part: Part,
    indices: np.ndarray | Tensor,
    *,
    augment: Augment | Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    epoch: int = 0,
    side: int | None = None,
) -> tuple[Any, Any]:
    """Return one batch, augmented and normalised, on the device on which the part lies.

    Args:
        data: gives mean and std.
        part: gives the examples.
        indices: positions in the part, [B].
        augment: applied before normalising; None for validation and test.
        seed, epoch: address of the augmentation's randomness, together with each image's index.
        side: to which the shorter side of images is brought, in pixels; None leaves them as they are.

    Returns:
        x: float32 [B, ...]; images are [B, C, H, W], in channels_last where the data says so. Or a tree.
        y: int64 [B]; for a regression float32 [B] or [B, D], standardised where the data says so. Or a tree.

    Raises:
        ConfigError: the augmentation does not fit the data.
    """
    rows = torch.as_tensor(_writable(indices), device=part.device)
    recipe = augment if augment is None or isinstance(augment, Augment) else parse([augment])
    if recipe is not None and recipe.reader is not None:
        x, y = _read_anew(data, part, recipe, np.asarray(indices), seed, epoch)
    else:
        x, y = (tree.map_leaves(lambda leaf: _rows_from(leaf, rows), each) for each in (part.x, part.y))
    if recipe is not None and recipe.operations:
        kind = "images" if data.kind == "images" else "numbers"
        masks = y if data.target == "segmentation" else None
        x, moved = recipe.moved(x, masks, np.asarray(indices), len(part), data.mean, kind, seed=seed, epoch=epoch)
        y = y if moved is None else moved
    x = normalised(data, x)
    return (x if side is None else resized(x, side)), standardised(data, y)


def resized(x: Tensor, side: int) -> Tensor:
    """Return images [B, C, H, W] with their shorter side brought to `side` pixels, by bilinear interpolation that
    averages over what falls into a pixel; their layout in memory stays.

    >>> resized(torch.ones(2, 3, 32, 64), 20).shape
    torch.Size([2, 3, 20, 40])
    """
    height, width = x.shape[2:]
    share = side / min(height, width)
    last = x.is_contiguous(memory_format=torch.channels_last)
    size = (round(height * share), round(width * share))
    small = torch.nn.functional.interpolate(x, size=size, mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _read_anew(data: DataSet, part: Part, recipe: Augment, rows: np.ndarray, seed: int, epoch: int) -> tuple[Any, Any]:
    """Return a batch as a random Dataset draws it in this epoch, as it would lie in the part."""
    x, y = recipe.reader.read(rows, seed=seed, epoch=epoch, labels=data.classes is not None)
    fresh = tree.map_leaves(_as_it_lies, x, part.x)
    if data.classes is not None:
        at = torch.as_tensor(_writable(rows), device=part.device)
        return fresh, part.y.index_select(0, at)
    return fresh, tree.map_leaves(_as_it_lies, y, part.y)


def _as_it_lies(x: np.ndarray, there: Tensor) -> Tensor:
    """Return what was read anew, [B, ...], as it would lie in the part; floating-point images stay so: what a transform
    makes of them need not be whole levels.
    """
    if there.dtype in (torch.uint8, torch.uint16) and there.dim() == 4:
        fresh = torch.from_numpy(channels_first(x))
        return (fresh.float() if fresh.is_floating_point() else fresh).to(there.device)
    return torch.from_numpy(x).to(there.dtype).reshape(len(x), *there.shape[1:]).to(there.device)


def _rows_from(x: Tensor, rows: Tensor) -> Tensor:
    """Return rows; of 16 bits in [0, 1]. torch computes little with uint16, so its bits are moved as int16."""
    if x.dtype != torch.uint16:
        return x.index_select(0, rows)
    bits = x if isinstance(x, MappedTensor) else x.view(torch.int16)
    return bits.index_select(0, rows).view(torch.uint16).to(torch.float32).div_(65535)


def normalised(data: DataSet, x: Any) -> Any:
    """Return a batch as float32 with the training part's mean 0 and deviation 1: (x - mean) / std.

    Args:
        data: gives mean, std and kind.
        x: images [B, C, H, W] as uint8, uint16, or as floating point in [0, 1]; or numbers [B, ...], computed in
            float64 where they are float64. Whole numbers stay as they are: they are for a model that embeds them. Of a
            tree each leaf is one or the other.
    """

    def leaf(x: Tensor, mean: Tensor | None, std: Tensor | None) -> Tensor:
        if mean is None or std is None:
            return x
        mean, std = mean.to(x.device), std.to(x.device)
        if data.kind == "numbers" or mean.dim() != 1 or x.dim() != 4:
            return _scaled(x, mean, std) if x.is_floating_point() else x
        images = normalised_images(x, mean.float(), std.float())
        return images if data.channels_last else images.contiguous()

    return tree.map_leaves(leaf, x, data.mean, data.std)


def standardised(data: DataSet, y: Any) -> Any:
    """Return targets [B] or [B, D] as float32 with the training part's mean 0 and deviation 1, or as they are where the
    data does not say so: classes, and targets of a loss that takes them in their own unit.
    """
    if data.target_mean is None or data.target_std is None:
        return tree.map_leaves(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, y)
    return _scaled(y, data.target_mean.to(y.device), data.target_std.to(y.device))


def _scaled(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    if x.dtype == torch.float64:
        return ((x - mean.double()) / std.double()).float()
    return (x.float() - mean.float()) / std.float()


def normalised_images(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return images, uint8, uint16 or in [0, 1], [B, C, H, W], as (x - mean) / std, float32, channels_last.

    Scale and shift are laid out once per pixel, so that each pass over memory is one long vector: 2.3 ms for 512
    CIFAR images on one core, where broadcasting [1, C, 1, 1] over channels_last takes 8.6 ms.
    """
    batch, channels, height, width = x.shape
    unit = 1.0 if x.is_floating_point() else 65535.0 if x.dtype == torch.uint16 else 255.0
    scale = (1 / (unit * std)).repeat(height * width)
    shift = (-mean / std).repeat(height * width)
    flat = x.permute(0, 2, 3, 1).reshape(batch, -1).to(torch.float32)
    if flat.data_ptr() == x.data_ptr():  # a float batch that already lay so; it may be the caller's
        flat = flat.clone()
    return flat.mul_(scale).add_(shift).view(batch, height, width, channels).permute(0, 3, 1, 2)


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
    channels, most = x.shape[1], np.iinfo(x.dtype).max
    counts = np.zeros((channels, most + 1), dtype=np.int64)
    rows = max(1, _PIXELS_AT_ONCE // int(np.prod(x.shape[2:])))
    for at in range(0, len(x), rows):
        piece = x[at : at + rows]
        for channel in range(channels):
            counts[channel] += np.bincount(piece[:, channel].ravel(), minlength=most + 1)
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


def _writable(indices: Any) -> Any:
    """Orders are read-only, and torch warns of arrays that it cannot write to."""
    read_only = isinstance(indices, np.ndarray) and not indices.flags.writeable
    return indices.copy() if read_only else indices
