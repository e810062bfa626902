"""Labels that are text, and their classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from surefoot.data.problems import Problems
from surefoot.data.raw import RawPart


def coded(parts: dict[str, RawPart], problems: Problems) -> tuple[dict[str, RawPart], tuple[str, ...] | None]:
    """Return the parts with their text labels as indices, and the classes: the training part's labels in order.

    Whole numbers are put in the order of their values, so class "2" comes before class "10". Parts whose labels
    are not text come back as they were, with None.
    """
    train = parts.get("train")
    if train is None or any(part.y.dtype.kind not in "US" or part.y.ndim != 1 for part in parts.values()):
        return parts, None
    classes = tuple(sorted({_plain(label) for label in train.y.astype(str)} - {""}, key=_in_order))
    place = {name: index for index, name in enumerate(classes)}
    result = {}
    for name, part in parts.items():
        names = [_plain(label) for label in part.y.astype(str)]
        for row, label in enumerate(names):
            fault = _fault(label, place)
            if fault is not None:
                problems.add(part.source.name_of(row), *fault)
        result[name] = replace(part, y=np.array([place.get(label, 0) for label in names], dtype=np.int64))
    return result, classes


def _plain(label: str) -> str:
    """Return the label without space around it, and a whole number written one way: "1.0" is "1"."""
    label = label.strip()
    try:
        value = float(label)
    except ValueError:
        return label
    return str(int(value)) if abs(value) < 2**53 and value == int(value) else label


def _in_order(label: str) -> tuple[int, int, str]:
    return (0, int(label), "") if label.removeprefix("-").isdecimal() and label.isascii() else (1, 0, label)


def _fault(label: str, place: dict[str, int]) -> tuple[str, str, str] | None:
    if label.lower() in ("", "nan", "na", "null", "none", "-100"):
        return f"label is missing ({label!r})", "every example needs a label", "label or remove it"
    if label not in place:
        return (
            f"label {label!r} is no class of the training part",
            "all parts have the classes of the training part",
            "mend the label, or add such examples to the training part",
        )
    try:
        float(label)
    except ValueError:
        return None
    if not label.removeprefix("-").isdecimal():
        return (
            f"label {label} is no whole number",
            "numbers that name classes are whole",
            'set target = "numbers" to predict a number',
        )
    return None
