"""What an array of examples is taken for, images or numbers, and how it then lies."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np

from surefoot.data.dataset import channel_axis, channels_first
from surefoot.data.mapped import Mapped, large, pieces
from surefoot.data.statistics import number_type

_LEVELS_AT_ONCE = 256
_LEVEL_TOLERANCE = 1e-3
"""How far, in grey levels, float pixels may be from whole levels to be taken for images. Rounding of k/255 to
float16 moves 255 levels by at most 0.06; to float32, by 1e-5. Chosen by hand between the latter and real fractions."""


def kind_of_array(x: np.ndarray | Mapped) -> Literal["images", "numbers"]:
    """Return what an array [N, ...] holds: images where it is uint8 of their shape, or floats in whole 255ths.

    >>> kind_of_array(np.zeros((2, 8, 8), np.uint8)), kind_of_array(np.zeros((2, 8, 8)))
    ('images', 'numbers')
    """
    if x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and channel_axis(x.shape) is not None)):
        return "images"
    if x.dtype.kind == "f" and x.ndim == 4 and x.shape[1] in (1, 3):  # what torchvision's ToTensor makes of an image
        return "images" if all(_whole_levels(x[piece]) for piece in pieces(x, _LEVELS_AT_ONCE)) else "numbers"
    return "numbers"


def _whole_levels(x: np.ndarray) -> bool:
    levels = x.astype(np.float32) * 255
    with np.errstate(invalid="ignore"):
        return bool(np.all((levels >= 0) & (levels <= 255.5) & (np.abs(levels - np.round(levels)) < _LEVEL_TOLERANCE)))


def standard(x: Any, kind: str, wanted: type) -> Any:
    """Return images as uint8 [N, C, H, W] and numbers in the wanted type, [N, ...]."""
    if isinstance(x, Mapped):
        return x.changed(partial(standard, kind=kind, wanted=wanted))
    if kind == "numbers":
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is named by the check
            return np.ascontiguousarray(x.reshape(-1, 1) if x.ndim == 1 else x, dtype=wanted)
    if x.dtype.kind == "f":
        x = np.concatenate([_levels(x[piece]) for piece in pieces(x, _LEVELS_AT_ONCE)])
    return channels_first(x)


def _levels(x: np.ndarray) -> np.ndarray:
    return np.round(x.astype(np.float32) * 255).astype(np.uint8)


def standard_leaf(x: Any) -> Any:
    """Return one of several inputs: images as uint8 [N, C, H, W], whole numbers as int64, others in floating point."""
    if x.dtype.kind == "b":
        return x
    if large(x):
        x = Mapped(x)
    if x.ndim > 1 and kind_of_array(x) == "images":
        return standard(x, "images", np.float32)
    wanted = np.int64 if x.dtype.kind in "iu" else number_type(x)
    change = partial(np.ascontiguousarray, dtype=wanted)
    return x.changed(change) if isinstance(x, Mapped) else change(x)
