"""Normalising: examples and targets with the training part's mean 0 and deviation 1.

Constants are put on a device once. A part that is small is normalised once, ahead, and its batches are rows of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary, WeakIdRef

from surefoot.data import tree
from surefoot.data.dataset import DataSet, Part
from surefoot.data.mapped_tensor import MappedTensor

_FEW_VALUES = 2**22
"""Values of a part up to which its first batch normalises all of it, 16 MB: so a batch of 32 digits takes 15 us, and 34
without (one core of an AMD EPYC, torch 2.13). Chosen by hand."""
_constants: Any = WeakIdKeyDictionary()
"""What was made of constants of the data, by device: on a card nothing is uploaded again for each batch."""
_ahead: Any = WeakIdKeyDictionary()
"""What was made of a part: `Ahead`, or how many values it has where those were too many."""


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
        if data.kind == "numbers" or mean.dim() != 1 or x.dim() != 4:
            return _scaled(x, mean, std) if x.is_floating_point() else x
        images = normalised_images(x, mean, std)
        return images if data.channels_last else images.contiguous()

    return tree.map_leaves(leaf, x, data.mean, data.std)


def standardised(data: DataSet, y: Any) -> Any:
    """Return targets [B] or [B, D] as float32 with the training part's mean 0 and deviation 1, or as they are where the
    data does not say so: classes, and targets of a loss that takes them in their own unit.
    """
    if data.target_mean is None or data.target_std is None:
        return tree.map_leaves(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, y)
    return _scaled(y, data.target_mean, data.target_std)


def _scaled(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    return ((x.to(exact) - constant(mean, x.device, exact)) / constant(std, x.device, exact)).float()


def normalised_images(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return images, uint8, uint16 or in [0, 1], [B, C, H, W], as (x - mean) / std, float32, channels_last.

    Scale and shift are laid out once per pixel, so that each pass over memory is one long vector: 2.3 ms for 512
    CIFAR images on one core, where broadcasting [1, C, 1, 1] over channels_last takes 8.6 ms.
    """
    batch, channels, height, width = x.shape
    unit = 1.0 if x.is_floating_point() else 65535.0 if x.dtype == torch.uint16 else 255.0
    scale, shift = _for_each_pixel(mean, std, unit, height * width, x.device)
    flat = x.permute(0, 2, 3, 1).reshape(batch, -1).to(torch.float32)
    if flat.data_ptr() == x.data_ptr():  # a float batch that already lay so; it may be the caller's
        flat = flat.clone()
    return flat.mul_(scale).add_(shift).view(batch, height, width, channels).permute(0, 3, 1, 2)


def _for_each_pixel(
    mean: Tensor, std: Tensor, unit: float, pixels: int, device: torch.device
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return what pixels [P, C] of an image are multiplied by and what is added, float32 [P * C]."""

    def made() -> tuple[Tensor, Tensor]:
        mean32, std32 = constant(mean, device, torch.float32), constant(std, device, torch.float32)
        return (1 / (unit * std32)).repeat(pixels), (-mean32 / std32).repeat(pixels)

    return _once(std, (WeakIdRef(mean), unit, pixels, device), made)


def constant(source: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return a constant of the data on a device, put there once."""
    if source.device == device and source.dtype == dtype:
        return source
    return _once(source, (device, dtype), lambda: source.to(device, dtype))


def _once(source: Tensor, key: Hashable, make: Callable[[], Any]) -> Any:
    """Return what is made of a constant, kept for as long as the constant is.

    What is made while a graph is captured is not.
    """
    made = _constants.setdefault(source, {})
    if key not in made:
        with torch.inference_mode(False):
            value = make()
        if capturing():
            return value
        made[key] = value
    return made[key]


def in_unit(x: Tensor) -> Tensor:
    """Return 16 bits in [0, 1], and all else as it is."""
    return x.to(torch.float32).div_(65535) if x.dtype == torch.uint16 else x


def capturing() -> bool:
    """Return whether a CUDA graph is being captured: what is made now has its values only when it is replayed."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


@dataclass(frozen=True)
class Ahead:
    """A part as a model learns it, all of it.

    Attributes:
        data: whose constants normalised it, weakly.
        versions: the tensors of the part, and how often each had been written to: then it is made anew.
        x, y: trees of `_Rows`.
    """

    data: Any
    versions: tuple[tuple[Tensor, int], ...]
    x: Any
    y: Any

    def taken(self, rows: Tensor) -> tuple[Any, Any]:
        """Return the examples at these places."""
        if isinstance(self.x, _Rows) and isinstance(self.y, _Rows):  # without a walk through trees: a third of the time
            x, y = self.x, self.y
            return x.seen(x.whole.index_select(0, rows)), y.seen(y.whole.index_select(0, rows))

        def taken(leaf: _Rows) -> Tensor:
            return leaf.seen(leaf.whole.index_select(0, rows))

        return tree.map_leaves(taken, self.x), tree.map_leaves(taken, self.y)

    def between(self, first: int, last: int) -> tuple[Any, Any]:
        """Return the examples from `first` to before `last`, in memory of their own."""

        def copied(leaf: _Rows) -> Tensor:
            return leaf.seen(leaf.whole[first:last].clone(memory_format=torch.contiguous_format))

        return tree.map_leaves(copied, self.x), tree.map_leaves(copied, self.y)

    def holds(self, data: DataSet) -> bool:
        """Return whether it is still that of this data."""
        return self.data() is data and all(leaf._version == version for leaf, version in self.versions)


@dataclass(frozen=True)
class _Rows:
    """A tensor [N, ...] whose rows lie together; images in channels_last as [N, H, W, C]."""

    whole: Tensor
    channels_last: bool

    def seen(self, rows: Tensor) -> Tensor:
        """Return rows in the shape of a batch."""
        return rows.permute(0, 3, 1, 2) if self.channels_last else rows


def learned_ahead(data: DataSet, part: Part, most_values: int = _FEW_VALUES) -> Ahead | None:
    """Return a part normalised and standardised as a whole, with the bits of its batches; None where it is large, or
    does not lie in memory.

    Args:
        data: with the constants.
        part: the part.
        most_values: of the part, beyond which it is not made.
    """
    found = _ahead.get(part)
    if isinstance(found, Ahead) and found.holds(data):
        return found
    if isinstance(found, int | float) and found > most_values:
        return None
    leaves = (*tree.leaves(part.x), *tree.leaves(part.y))
    lie_here = not any(isinstance(leaf, MappedTensor) or leaf.is_inference() for leaf in leaves)
    values = sum(leaf.numel() for leaf in leaves) if lie_here and len(part) else math.inf
    if values > most_values or capturing():
        _ahead[part] = values
        return None
    with torch.inference_mode(False), torch.no_grad():
        x, y = normalised(data, tree.map_leaves(in_unit, part.x)), standardised(data, part.y)
        versions = tuple((leaf, leaf._version) for leaf in leaves)
        made = Ahead(WeakIdRef(data), versions, tree.map_leaves(_rows, x), tree.map_leaves(_rows, y))
    _ahead[part] = made
    return made


def _rows(x: Tensor) -> _Rows:
    if x.dim() == 4:
        images = _Rows(x.permute(0, 2, 3, 1).contiguous(), channels_last=True)
        if images.seen(images.whole).stride() == x.stride():
            return images
    return _Rows(x.contiguous(), channels_last=False)
