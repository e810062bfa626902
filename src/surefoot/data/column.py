"""One column of a table: what it holds, what the training part said of it, and what it becomes in the matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from surefoot.data.cells import Reading

WIDE = 50
"""Levels up to which a category is one-hot for every model; a wider one is embedded by models that can, and for others
this many of its levels are one-hot, those that are there most often. Chosen by hand."""

_FEW_ROWS = 20
"""Rows below which text that never repeats may still be categories. Chosen by hand."""
_LONE = 0.95
"""Share of rows with a level of their own from which text names the rows. Chosen by hand."""

_INDEX_NAMES = ("", "index", "id", "row", "rownames", "unnamed: 0", "__index_level_0__")
"""Names, in lower case, under which programs write the numbers of the rows."""

DAY = 86400.0
_CYCLES = {"day": (DAY, 0.0), "week": (7 * DAY, 14 * DAY), "year": (365.2425 * DAY, 2 * 365.2425 * DAY)}
"""Seconds in each cycle, and for how long the training part's dates must run for a place in it to be told. By hand."""

Use = Literal["number", "date", "one-hot", "embedded", "frequent", "dropped"]
SHOWN = 10
"""Rows or levels that are named; the rest are counted. Chosen by hand."""


@dataclass(frozen=True)
class RawColumn:
    """A column of a table as it was read, beside its values: its name, how it was read, its levels, and whether it only
    counts the rows.
    """

    name: str
    reading: Reading
    levels: tuple[str, ...] = ()
    counts: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """What the training part said of a column.

    Attributes:
        name: in the table.
        reading: how its cells are read.
        use: what becomes of it.
        why: it is dropped.
        gaps: how many the training part had; the model is told of gaps if there were any.
        fill: what stands in a gap: the median, or of booleans the more frequent value.
        low, high: of the training part; a date is counted from its `low`.
        levels: of a category, the most frequent first; "" is the gap. A level that is not here is "other".
        cycles: of `_CYCLES`, those in which a date has a place.
    """

    name: str
    reading: Reading
    use: Use
    why: str = ""
    gaps: int = 0
    fill: float = 0.0
    low: float = 0.0
    high: float = 0.0
    levels: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the matrix that this one becomes."""
        if self.use == "dropped":
            return ()
        if self.use in ("one-hot", "frequent"):
            return tuple(f"{self.name} = {level or 'a gap'}" for level in self.levels[: self._width])
        turns = [f"{self.name}, {turn} of {cycle}" for cycle in self.cycles for turn in ("sine", "cosine")]
        return (self.name, *turns, *([f"{self.name} is missing"] if self.gaps and self.use != "embedded" else []))

    @property
    def _width(self) -> int:
        return WIDE if self.use == "frequent" else len(self.levels)

    def matrix(self, values: NDArray[np.float64], levels: Sequence[str]) -> list[NDArray[np.float64]]:
        """Return the columns of the matrix, each [N]; `levels` are those that the values number."""
        if self.use == "dropped":
            return []
        missing = np.isnan(values)
        if self.use in ("one-hot", "frequent", "embedded"):
            codes = self.codes(values, levels)
            if self.use == "embedded":
                return [codes.astype(np.float64)]
            return [(codes == level + 1).astype(np.float64) for level in range(len(self.names))]
        whole = np.where(missing, self.fill, values) if missing.any() else values
        told = [missing.astype(np.float64)] if self.gaps else []
        if self.use == "number":
            return [whole, *told]
        angles = [2 * np.pi * (whole % _CYCLES[cycle][0]) / _CYCLES[cycle][0] for cycle in self.cycles]
        turns = [turn(angle) for angle in angles for turn in (np.sin, np.cos)]
        return [(whole - self.low) / DAY, *turns, *told]

    def codes(self, values: NDArray[np.float64], levels: Sequence[str]) -> NDArray[np.int64]:
        """Return 1 + the place of each value's level among the fitted ones, 0 for any other."""
        place = {level: i + 1 for i, level in enumerate(self.levels)}
        table = np.array([*(place.get(level, 0) for level in levels), place.get("", 0)], dtype=np.int64)
        return table[np.where(np.isnan(values), len(levels), values).astype(np.int64)]

    def described(self) -> tuple[str, str, str, str]:
        """Return name, type, what the training part holds, and what is done."""
        kind = "text" if self.use == "dropped" and self.reading.kind == "category" else self.reading.kind
        holds = (
            f"{listed([level for level in self.levels if level], 4)}" if self.reading.kind == "category"
            else f"{self._shown(self.low)} to {self._shown(self.high)}"
        )  # fmt: skip
        gap = ""
        if self.gaps and self.use in ("number", "date"):
            gap = f"; gaps become {self._shown(self.fill)}, and a column says where"
        done = {
            "number": "0 and 1" if self.reading.kind == "boolean" else "as it is",
            "date": ", ".join(["days", *(f"place in the {cycle}" for cycle in self.cycles)]),
            "one-hot": f"one-hot, {len(self.levels)} levels" + (", gaps among them" if self.gaps else ""),
            "embedded": f"embedded, {len(self.levels)} levels that repeat",
            "frequent": f"one-hot, the {WIDE} most frequent of {len(self.levels)} levels",
            "dropped": f"dropped: {self.why}",
        }[self.use]
        return self.name, kind, holds, done + gap

    def _shown(self, value: float) -> str:
        if self.reading.kind != "date":
            return f"{value:g}"
        try:
            moment = np.datetime64(round(value), "s")
        except OverflowError:
            return f"{value:g}"
        return str(moment)[: 10 if value % DAY == 0 else None].replace("T", " ")


def is_index(raw: RawColumn) -> bool:
    """Return whether a column is the numbers of the rows, written by a program."""
    return raw.counts and raw.name.strip().lower() in _INDEX_NAMES


def fitted(raw: RawColumn, values: NDArray[np.float64]) -> Column:
    """Return what the training part says of one column."""
    there = values[~np.isnan(values)]
    base = Column(name=raw.name, reading=raw.reading, use="dropped", gaps=len(values) - len(there))
    if not len(there):
        return replace(base, why="it is empty")
    if raw.reading.kind == "category":
        return _category(base, raw, there, len(values))
    low, high = float(there.min()), float(there.max())
    base = replace(base, low=low, high=high)
    if low == high and not base.gaps:
        return replace(base, why=f"it has one value, {base._shown(low)}, in every row")
    if is_index(raw):
        return replace(base, why="it numbers the rows")
    middle = float(np.median(there))
    if raw.reading.kind == "boolean":
        return replace(base, use="number", fill=float(there.mean() >= 0.5))
    if raw.reading.kind == "number":
        return replace(base, use="number", fill=middle)
    span, by_day = high - low, bool((there % DAY != 0).any())
    cycles = tuple(name for name, (_, least) in _CYCLES.items() if span >= least and (name != "day" or by_day))
    return replace(base, use="date", fill=middle, cycles=cycles)


def _category(base: Column, raw: RawColumn, there: NDArray[np.float64], rows: int) -> Column:
    counts = np.bincount(there.astype(np.int64), minlength=len(raw.levels))
    present = sorted(np.flatnonzero(counts).tolist(), key=lambda i: (-counts[i], raw.levels[i]))
    levels = [raw.levels[i] for i in present]
    if len(levels) == 1 and not base.gaps:
        return replace(base, why=f"it has one value, {levels[0][:40]!r}, in every row")
    lone = int((counts == 1).sum())
    if lone > _LONE * len(there) and rows >= _FEW_ROWS:
        why = "its text is another in every row" if lone == len(there) else "its text names the rows"
        return replace(base, why=why, levels=tuple(levels[:SHOWN]))
    gap = [""] if base.gaps else []
    if len(levels) + len(gap) > WIDE:
        # a level that is there once would get a vector of its own from one example; together they teach what "other" is
        levels = [raw.levels[i] for i in present if counts[i] > 1]
    use = "one-hot" if len(levels) + len(gap) <= WIDE else "embedded"
    return replace(base, use=use, levels=(*levels, *gap))


def listed(names: Sequence[str], most: int) -> str:
    """Return names as a list in words, of which at most so many are named."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) if name else "without a name" for name in names[:most]) + rest
