"""A data set looked at without training on it: all that is wrong, what it holds, and what is worth a warning."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.data.check import Target, examine
from surefoot.data.load import read
from surefoot.data.problems import SHOWN, Problems
from surefoot.data.raw import Raw
from surefoot.errors import DataError


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        problems: everything that is wrong; empty if the data can be trained on.
        raw: the checked parts; None where they could not be read.
        classes: names of the classes; None for a regression, or where unknown.
    """

    problems: Problems
    raw: Raw | None
    classes: tuple[str, ...] | None

    def counts(self, part: str) -> dict[str, int]:
        """Return the number of examples of each class in a part; empty for a regression."""
        if self.raw is None or self.classes is None:
            return {}
        y = self.raw.parts[part].y
        if y.dtype != np.int64:
            return {}
        known = np.bincount(y[(y >= 0) & (y < len(self.classes))], minlength=len(self.classes))
        return dict(zip(self.classes, known.tolist(), strict=True))


def inspect(
    source: Any,
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    label: str | None = None,
    target: Target = "classes",
) -> Inspection:
    """Return everything that can be found about data, in place of raising at what is wrong. Arguments as of `load`.

    >>> inspect("digits").counts("test")["0"]
    36
    """
    problems = Problems(str(source) if isinstance(source, (str, Path)) else "arrays")
    try:
        raw = read(source, problems, data_dir=data_dir, image_size=image_size, label=label, target=target)
    except DataError as error:
        problems.add(problems.source, error.given.removeprefix(f"{problems.source}: "), error.allowed, error.do)
        return Inspection(problems, None, None)
    if problems.count and not raw.parts:
        return Inspection(problems, None, raw.classes)
    checked = examine(raw, target, problems)
    _warn_of_twins(checked.raw, problems, classified=checked.classes is not None)
    return Inspection(problems, checked.raw, checked.classes)


def _warn_of_twins(raw: Raw, problems: Problems, *, classified: bool) -> None:
    """Warn of examples that are in two parts, and of equal examples with different labels, by their SHA-256."""
    seen: dict[bytes, tuple[str, int]] = {}
    across: dict[tuple[str, str], list[str]] = {}
    torn: list[str] = []
    for name, part in raw.parts.items():
        for row in range(len(part.x)):
            key = hashlib.sha256(np.ascontiguousarray(part.x[row]).data).digest()
            other, at = seen.setdefault(key, (name, row))
            pair = f"{part.source.name_of(row)} = {raw.parts[other].source.name_of(at)}"
            if other != name:
                across.setdefault((other, name), []).append(pair)
            elif at != row and classified and not np.array_equal(part.y[row], part.y[at]):
                torn.append(pair)
    for (first, second), pairs in across.items():
        problems.warn(f"{len(pairs)} examples of {second} are also in {first}: {_listed(pairs)}")
    if torn:
        problems.warn(f"{len(torn)} equal examples have different labels: {_listed(torn)}")


def _listed(pairs: list[str]) -> str:
    return ", ".join(pairs[:SHOWN]) + (f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else "")
