"""What the parts of a data set must satisfy, whatever reader they came from, and how what is wrong is told at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from surefoot.data import targets, tree
from surefoot.data.dataset import Raw, RawPart, Source
from surefoot.data.labels import Target, chosen_target, coded
from surefoot.data.mapped import Mapped, pieces
from surefoot.data.statistics import number_type
from surefoot.errors import ConfigError, DataError

SHOWN = 10
"""Problems that an error spells out; the rest are counted, and `surefoot data check` lists them."""

_KEPT = 1000
"""Problems kept in full. More than that have one cause, and a million would fill the memory."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (file or row), what, what is allowed, what to do."""

    where: str
    what: str
    allowed: str
    do: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.allowed}; {self.do})"


@dataclass
class Problems:
    """All that is wrong with one source, in the order found; what is only worth a warning; and, as notes, what was
    decided about it by a rule.

    >>> problems = Problems("pets")
    >>> problems.add("cats/1.png", "is empty", "an image must decode", "replace or remove it")
    >>> problems.raise_any()
    Traceback (most recent call last):
    surefoot.errors.DataError: pets: cats/1.png: is empty: an image must decode. Replace or remove it.
    """

    source: str
    items: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, where: str, what: str, allowed: str, do: str) -> None:
        """Note one problem. Beyond the thousandth they are only counted."""
        self.count += 1
        if len(self.items) < _KEPT:
            self.items.append(Problem(where, what, allowed, do))

    def warn(self, text: str) -> None:
        """Note what does not stop a training."""
        self.warnings.append(text)

    def faulty(self, source: Source, faults: Sequence[str | None]) -> None:
        """Note rows that cannot be used, by their names: a hundred, and how many more."""
        rows = [row for row, fault in enumerate(faults) if fault is not None]
        for row in rows[:_LISTED]:
            self.add(source.name_of(row), str(faults[row]), "rows hold what those of the training part do", "mend it")
        if len(rows) > _LISTED:
            self.add(f"{len(rows) - _LISTED} more rows", "cannot be read", "as above", "mend them")

    def raise_any(self) -> None:
        """Raise one DataError that names the first ten problems and counts the rest, if there are any."""
        if not self.count:
            return
        if self.count == 1:
            only = self.items[0]
            where = "" if only.where == self.source else f"{only.where}: "
            raise DataError(f"{self.source}: {where}{only.what}", only.allowed, only.do)
        lines = "".join(f"\n  {item}" for item in self.items[:SHOWN])
        more = f"\n  and {self.count - SHOWN} more" if self.count > SHOWN else ""
        path = f" with `surefoot data check {self.source}`" if Path(self.source).exists() else ""
        raise DataError(
            f"{self.source}:{lines}{more}\n{self.count} problems",
            "data is used only when all of it is right",
            f"mend these, then check again{path}",
        )


_ROWS_AT_ONCE = 4096
_LISTED = 100
"""Rows named for one kind of mistake; the rest of the kind are one more problem with their number."""


def examine(raw: Raw, target: Target, problems: Problems) -> Raw:
    """Note everything that is wrong with the parts in `problems`; return them with labels as indices of named classes.

    A gap in a table is not wrong: it is imputed when the columns are fitted. The y of a regression, whose classes are
    None, are float32, or float64 where that would lose their spread.

    Raises:
        ConfigError: target = "numbers" for data whose labels are classes.
    """
    train = raw.parts.get("train")
    if train is None or not (count := len(tree.leaves(train.y)[0])):
        problems.add("train", "has no examples", "there must be a training part", "add examples to it")
        return raw
    for name, part in raw.parts.items():
        if not len(tree.leaves(part.y)[0]):
            problems.add(
                name, "has no examples", "a part that is given must have some", "add examples, or remove the part"
            )
        if tree.shapes(part.x) != tree.shapes(train.x):
            problems.add(
                name,
                f"has examples of shape {tree.shapes(part.x)}, the training part {tree.shapes(train.x)}",
                "all parts must have one shape",
                "make them alike",
            )
        for title, leaf in tree.named_leaves(part.x) if raw.columns is None else ():
            _values(title, leaf, part, problems)
    inputs = tree.leaves(train.x)
    if any(math.prod(leaf.shape[1:]) == 0 for leaf in inputs):
        problems.add(
            "train", f"has examples of shape {tree.shapes(train.x)}", "an example must hold numbers", "add features"
        )
    elif count > 1 and all(map(_constant, inputs)):
        problems.add("train", "every example is the same", "examples must differ", "check how the data was made")
    if count == 1:
        problems.add("train", "has 1 example", "training needs at least 2", "add examples")
    if raw.target_kind is not None:
        for part in raw.parts.values() if raw.target_kind == "any" else ():
            for title, leaf in tree.named_leaves(part.y):
                _values(f"y.{title}" if title else "y", leaf, part, problems)
        return targets.checked(raw, problems)
    if raw.target is None and target == "auto" and raw.classes is None:
        target = chosen_target(train.y, target, problems)
    return _numbers(raw, problems) if (raw.target or target) == "numbers" else _classes(raw, problems)


def _values(title: str, x: np.ndarray, part: RawPart, problems: Problems) -> None:
    """Name every example that holds NaN or infinity."""
    if x.dtype.kind != "f":
        return
    bad = [
        piece.start + np.flatnonzero(~np.isfinite(x[piece]).all(axis=tuple(range(1, x.ndim))))
        for piece in pieces(x, _ROWS_AT_ONCE)
    ]
    rows = np.concatenate(bad) if bad else np.empty(0, dtype=np.int64)

    def said(row: int) -> str:
        place = np.argwhere(~np.isfinite(x[row]))[0]
        where = f" at {'feature ' if len(place) == 1 else ''}{', '.join(map(str, place))}" if len(place) else ""
        return f"holds {x[(row, *place)]}{where}{(' of ' if where else ' in ') + title if title else ''}"

    _note(problems, part, rows, said, "all values must be finite in float32", "mend or remove it")


def _constant(x: np.ndarray | Mapped) -> bool:
    return all(bool((x[piece] == x[:1]).all()) for piece in pieces(x, _ROWS_AT_ONCE))


def _note(
    problems: Problems, part: RawPart, rows: np.ndarray, said: Callable[[int], str], allowed: str, do: str
) -> None:
    """Note what is said of each of these rows, up to a hundred, then how many more there are."""
    for row in rows[:_LISTED].tolist():
        problems.add(part.source.name_of(row), said(row), allowed, do)
    if len(rows) > _LISTED:
        problems.add(f"{len(rows) - _LISTED} more examples", "have the same fault", allowed, do)


def _numbers(raw: Raw, problems: Problems) -> Raw:
    """Check the targets of a regression."""
    if raw.classes is not None:
        raise ConfigError('target = "numbers"', f"the labels of {raw.name} are classes", 'set target = "classes"')
    parts, wanted = {}, number_type(*(part.y for part in raw.parts.values() if part.y.ndim in (1, 2)))
    for name, part in raw.parts.items():
        try:
            y = part.y.astype(wanted)
        except (TypeError, ValueError):
            problems.add(
                name,
                f"its targets are {part.y.dtype}",
                "the targets of a regression are numbers",
                'mend them, or set target = "classes"',
            )
            continue
        if y.ndim not in (1, 2) or 0 in y.shape[1:]:
            problems.add(name, f"its targets have shape {y.shape}", "targets are [N] or [N, D]", "reshape them")
            continue
        finite = np.isfinite(y) if y.ndim == 1 else np.isfinite(y).all(axis=1)
        rows = np.flatnonzero(~finite)
        _note(problems, part, rows, lambda row, y=y: f"target {y[row]}", "targets must be finite", "mend or remove it")
        if name == "train" and len(y) > 1 and _constant(y):
            problems.add(
                name, f"every target is {np.array2string(y[0])}", "targets must differ", "check how the data was made"
            )
        parts[name] = replace(part, y=y)
    if len({part.y.shape[1:] for part in parts.values()}) > 1:
        problems.add("targets", "have other shapes in other parts", "all parts must have one shape", "make them alike")
    return replace(raw, parts=parts)


def _classes(raw: Raw, problems: Problems) -> Raw:
    """Turn labels into indices and check every class in every part."""
    if raw.classes is None and _are_names(raw.parts["train"].y, problems):
        texts = {name: replace(part, y=part.y.reshape(len(part.y)).astype(str)) for name, part in raw.parts.items()}
        named, classes = coded(texts, problems)
        raw = replace(raw, parts=named, classes=classes)
    parts = {}
    for name, part in raw.parts.items():
        if (y := _indices(name, part, problems, raw.classes)) is not None:
            parts[name] = replace(part, y=y)
    if len(parts) < len(raw.parts):
        return raw
    train = parts["train"]
    if raw.classes is None and train.y.max() >= len(train.y):
        problems.add(
            train.source.name_of(int(train.y.argmax())),
            f"label {train.y.max()} numbers one of {int(train.y.max()) + 1} classes, of {len(train.y)} examples",
            "every class needs examples",
            "number the classes from 0 without gaps",
        )
        return replace(raw, parts=parts)
    classes = raw.classes or tuple(str(index) for index in range(int(train.y.max()) + 1))
    checked = replace(raw, parts=parts, classes=classes)
    if len(classes) < 2:
        problems.add(
            "train",
            f"all examples are of one class, {''.join(classes)!r}",
            "classes need to be at least 2",
            "add examples of another class",
        )
        return checked
    for name, part in parts.items():
        allowed = f"labels are 0 to {len(classes) - 1}, the classes of the training part"
        rows = np.flatnonzero(part.y >= len(classes))
        _note(problems, part, rows, lambda row, y=part.y: f"label {y[row]} is out of range", allowed, "mend it")
        _counts(name, part, classes, raw, problems)
    return checked


def _are_names(y: np.ndarray, problems: Problems) -> bool:
    """Return whether whole numbers are names of classes rather than indices from 0: 1 to K; -1 and 1, with or without
    0; or others above 0 that are few, at most sqrt(N), and none of them there only once, as a slip would be.
    """
    if y.dtype.kind not in "iuf" or y.size != len(y) or not np.isfinite(y).all() or (y != np.floor(y)).any():
        return False
    values, counts = np.unique(y, return_counts=True)
    low, high = values[0], values[-1]
    if low == 0 or len(values) < 2:
        return False
    usual = (low == 1 and high == len(values)) or values.tolist() == [-1, 1]
    few = counts.min() > 1 and (values.tolist() == [-1, 0, 1] or (low > 0 and len(values) ** 2 <= len(y)))
    if few and not usual:
        problems.warn(f"labels do not number the classes from 0: {len(values)} values are taken for their names")
    return bool(usual or few)


def _indices(name: str, part: RawPart, problems: Problems, classes: tuple[str, ...] | None) -> np.ndarray | None:
    """Return labels as int64 [N], or None after noting why that cannot be."""
    y = part.y
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        problems.add(
            name,
            f"its labels have shape {y.shape}",
            "labels are one class index per example, [N]",
            'take the index of the class, argmax for one-hot, or set target = "numbers" if each is a number of its own',
        )
        return None
    if y.dtype.kind not in "iufb":
        problems.add(name, f"its labels are {y.dtype}", "labels are whole numbers from 0", "number the classes from 0")
        return None
    if y.dtype.kind == "f":
        labels = y
        with np.errstate(invalid="ignore"):
            rows = np.flatnonzero(~np.isfinite(y) | (y != np.floor(y)))

        def said(row: int) -> str:
            return "label is missing (nan)" if np.isnan(labels[row]) else f"label {labels[row]} is no whole number"

        do = 'mend it, or set target = "numbers" to predict a number'
        _note(problems, part, rows, said, "labels are whole numbers from 0", do)
        y = np.where(np.isfinite(y), y, 0)
    rows = np.flatnonzero(y < 0) if y.dtype.kind in "if" else np.empty(0, dtype=np.int64)

    def out(row: int) -> str:
        return f"label {int(y[row])} is {'the mark of a missing label' if y[row] == -100 else 'out of range'}"

    allowed = "labels are whole numbers from 0; PyTorch would skip -100 in silence"
    _note(problems, part, rows, out, allowed, "label or remove it")
    if y.dtype.kind in "uf" and len(y) and float(y.max()) > 2**31:
        row = int(y.argmax())
        problems.add(
            part.source.name_of(row), f"label {y[row]} is out of range", "labels number the classes from 0", "mend it"
        )
        return None
    return y.astype(np.int64)


def _counts(name: str, part: RawPart, classes: tuple[str, ...], raw: Raw, problems: Problems) -> None:
    """Note classes without examples: wrong in training, and where a folder was made for them."""
    valid = part.y[(part.y >= 0) & (part.y < len(classes))]
    counts = np.bincount(valid, minlength=len(classes))
    missing = np.flatnonzero(counts == 0)
    if len(missing) and (name == "train" or raw.strict):
        listed = ", ".join(repr(classes[index]) for index in missing[:SHOWN])
        listed += f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        largest = int(valid.argmax()) if len(valid) else 0
        hint = (
            f" (the largest label is {classes[part.y[largest]]!r}, of {part.source.name_of(largest)})"
            if len(valid) and raw.classes is None
            else ""
        )
        problems.add(
            name,
            f"class {listed} has no example{hint}",
            "every class needs examples",
            'add some, number the classes without gaps, or set target = "numbers" if these are amounts',
        )
    elif len(missing) and len(part.y):
        problems.warn(f"{name}: {len(missing)} of {len(classes)} classes have no example")
    if name == "train":
        lone = [classes[index] for index in np.flatnonzero(counts == 1)]
        if lone:
            listed = ", ".join(map(repr, lone[:SHOWN])) + (f" and {len(lone) - SHOWN} more" if lone[SHOWN:] else "")
            are = "class {} has" if len(lone) == 1 else "classes {} have"
            problems.warn(f"train: {are.format(listed)} 1 example, so none can be held out for validation")
        present = counts[counts > 0]
        if len(present) > 1 and present.max() >= 100 * present.min():
            problems.warn(
                f"train: the largest class has {present.max() // present.min()} times the examples of the smallest"
            )
