"""Labels as they are given: whether they name classes or are numbers to predict, and text as indices of classes."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from surefoot.data.dataset import RawPart

if TYPE_CHECKING:
    from surefoot.data.check import Problems

Target = Literal["auto", "classes", "numbers", "multilabel", "segmentation", "tokens", "any"]
"""What labels are: names, numbers to be predicted, one of the other kinds of `data.dataset.TargetKind`, or what they
look like, see `chosen_target` and `data.targets.special_target`."""

_SOME = 0.25
"""Share of labels that are not whole from which numbers are no names of classes; fewer are slips. Chosen by hand."""
_MANY_VALUES = 20
_EXAMPLES_EACH = 10
"""More different whole numbers than the first, with fewer examples each than the second, that do not number classes
from 0 or 1 without gaps, are amounts. Both chosen by hand."""


def chosen_target(y: np.ndarray, target: Target, problems: Problems) -> Target:
    """Return what labels [N] are: as was asked, or by their values, and then a note says so if they are numbers.

    They are numbers to be predicted if a quarter or more of them are not whole; or if they are whole, of more than 20
    values with fewer than 10 examples each, that do not run from 0 or 1 without gaps as numbers of classes do.

    >>> from surefoot.data.check import Problems
    >>> chosen_target(np.array([0.5, 1.25, 3.0]), "auto", Problems("x"))
    'numbers'
    >>> chosen_target(np.arange(900) % 90, "auto", Problems("x")), chosen_target(np.array(["a"]), "auto", Problems("x"))
    ('classes', 'classes')
    """
    if target != "auto":
        return target
    if y.dtype.kind in "US":
        texts = [label for label in y.tolist() if label.strip().lower() not in ("", "nan")]
        if not all(_AMOUNT.fullmatch(label.strip()) for label in set(texts)):
            return "classes"
        y = np.array(texts, dtype=np.float64)
    if y.dtype.kind not in "iuf" or y.size != len(y) or not len(y):
        return "numbers" if y.dtype.kind == "f" and (y != np.floor(y)).any() else "classes"
    y = y.reshape(-1)[np.isfinite(y.reshape(-1))]
    fractions = float((y != np.floor(y)).mean()) if len(y) else 0.0
    values = np.unique(y)
    numbered = len(values) and values[0] in (0, 1) and values[-1] - values[0] == len(values) - 1
    amounts = not numbered and many_values(y)
    if not (fractions >= _SOME or amounts):
        return "classes"
    what = (
        "are not whole"
        if fractions >= _SOME
        else f"have {len(values)} values, {len(y) / len(values):.1f} examples each"
    )
    problems.warn(f'labels {what}: this is taken for a regression; set target = "classes" if they are names')
    return "numbers"


def many_values(y: np.ndarray) -> bool:
    """Return whether labels [N] have more values, and fewer examples each, than classes have."""
    values = len(np.unique(y))
    return values > _MANY_VALUES and len(y) < _EXAMPLES_EACH * values


def coded(parts: dict[str, RawPart], problems: Problems) -> tuple[dict[str, RawPart], tuple[str, ...] | None]:
    """Return the parts with their text labels as indices, and the classes: the training part's labels in order.

    A label is spelled as it was given, without space around it; an empty one is missing. Where all labels are numbers,
    as a program writes them, a whole one is written one way, so that "1.0" is "1", and nan is missing. Whole numbers
    are put in the order of their values, so class "2" comes before class "10". Parts whose labels are not text come
    back as they were, with None.
    """
    train = parts.get("train")
    if train is None or any(part.y.dtype.kind not in "US" or part.y.ndim != 1 for part in parts.values()):
        return parts, None
    labels = {name: [label.strip() for label in part.y.astype(str).tolist()] for name, part in parts.items()}
    numeric = all(_NUMBER.fullmatch(label) or label.lower() in ("", "nan") for label in set(labels["train"]))
    if numeric:
        labels = {name: list(map(_whole, given)) for name, given in labels.items()}
    classes = tuple(sorted(set(labels["train"]) - {""}, key=_label_order))
    place = {name: index for index, name in enumerate(classes)}
    for word in (name for name in classes if name.lower() in _WORDS_FOR_MISSING):
        problems.warn(f"{word!r} is taken for the name of a class; leave a label empty where it is missing")
    result = {}
    for name, part in parts.items():
        for row, label in enumerate(labels[name]):
            fault = _label_fault(label, place, numeric)
            if fault is not None:
                problems.add(part.source.name_of(row), *fault)
        result[name] = replace(part, y=np.array([place.get(label, 0) for label in labels[name]], dtype=np.int64))
    return result, classes


_AMOUNT = re.compile(r"[+-]?((0|[1-9][0-9]*)\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""Numbers that a label may be, where 007 and 1_0 are names."""

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]*(e[+-][0-9]{2,3})?)?")
"""Numbers as programs write them, with numpy's 1.000e+00. What is spelled otherwise, 007 or 1_0 or 1e5, is a name."""

_WORDS_FOR_MISSING = ("na", "n/a", "nan", "null", "none", "?")


def _whole(label: str) -> str:
    """Return a whole number written one way, and "" for nan; anything else as it is."""
    if not _NUMBER.fullmatch(label):
        return "" if label.lower() == "nan" else label
    value = float(label)
    if "." not in label or value != math.floor(value) or abs(value) >= 2**53:
        return label
    return str(int(value))


def _label_order(label: str) -> tuple[int, int, str]:
    return (0, int(label), label) if re.fullmatch(r"-?[0-9]{1,18}", label) else (1, 0, label)


def _label_fault(label: str, place: dict[str, int], numeric: bool) -> tuple[str, str, str] | None:
    if not label or (numeric and label == "-100"):
        return f"label is missing ({label!r})", "every example needs a label", "label or remove it"
    if label not in place:
        return (
            f"label {label!r} is no class of the training part",
            "all parts have the classes of the training part",
            "mend the label, or add such examples to the training part",
        )
    if numeric and not label.removeprefix("-").isdecimal():
        return (
            f"label {label} is no whole number",
            "numbers that name classes are whole",
            'set target = "numbers" to predict a number',
        )
    return None
