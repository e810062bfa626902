"""Data as a reader hands it over: NumPy arrays by part, not yet checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from surefoot.data.dataset import Source


@dataclass(frozen=True)
class RawPart:
    """One part: x [N, ...], y [N] or [N, D] of any type, names, and the SHA-256 of x where the reader knows it."""

    x: np.ndarray
    y: np.ndarray
    source: Source
    digest: str | None = None


@dataclass(frozen=True)
class Raw:
    """The parts of one source by name, among train, validation and test.

    Attributes:
        name: of the source, for messages.
        parts: images uint8 [N, C, H, W] or numbers float32 [N, ...].
        classes: names of the classes, in which case y holds their indices; None where y holds labels as given.
        kind: of all parts.
        strict: a class without an example in some part is wrong, and not only worth a warning: true of folders,
            where someone made a folder for it.
    """

    name: str
    parts: dict[str, RawPart]
    classes: tuple[str, ...] | None = None
    kind: Literal["images", "numbers"] = "images"
    strict: bool = False
