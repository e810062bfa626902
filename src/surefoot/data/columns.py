"""The columns of a table as a model takes them: fitted on the training part, plain values, saved with the weights.

A number stays as it is, and a gap in it becomes the training part's median; a category is one-hot, or from `WIDE`
levels on a code for a model that embeds it; a date becomes days since the training part's first, and its place in the
day, the week and the year. Where the training part had gaps, a column of 0 and 1 says where.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from surefoot.data.cells import Cells, Reading, cells_of
from surefoot.data.column import SHOWN, WIDE, Column, RawColumn, fitted, listed
from surefoot.data.dataset import DataSet, column_order
from surefoot.errors import DataError

if TYPE_CHECKING:
    from surefoot.data.check import Problems
    from surefoot.data.dataset import Source


@dataclass(frozen=True)
class Columns:
    """The fitted columns of a table.

    Attributes:
        columns: in the table's order.
        named: whether they are matched by name, else by their place.
        label: name of the column of labels in the table they come from, which is passed over in another; None if it had
            none.

    >>> x = np.array([[1.0, 0.0], [np.nan, 1.0], [3.0, 1.0]])
    >>> raw = [RawColumn("size", Reading(kind="number")), RawColumn("hue", Reading(kind="category"), ("red", "blue"))]
    >>> fitted = Columns.fit(raw, x)
    >>> fitted.names
    ('size', 'size is missing', 'hue = blue', 'hue = red')
    >>> fitted.encode(raw, x).tolist()
    [[1.0, 0.0, 0.0, 1.0], [2.0, 1.0, 1.0, 0.0], [3.0, 0.0, 1.0, 0.0]]
    >>> Columns.from_dict(fitted.to_dict()) == fitted
    True
    """

    columns: tuple[Column, ...]
    named: bool = True
    label: str | None = None

    @classmethod
    def fit(
        cls, raw: Sequence[RawColumn], x: NDArray[np.float64], *, named: bool = True, label: str | None = None
    ) -> Columns:
        """Return what the training part says of each column.

        Args:
            raw: the columns.
            x: their values in the training part, float64 [N, D], NaN for a gap.
            named: whether other tables are matched by name.
            label: name of the column of labels.
        """
        return cls(tuple(fitted(column, x[:, i]) for i, column in enumerate(raw)), named, label)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the matrix."""
        return tuple(name for column in self.columns for name in column.names)

    @property
    def plain(self) -> NDArray[np.bool_]:
        """Which columns of the matrix are not standardised: codes, what is 0 or 1, and turns."""
        marks = [
            column.use not in ("number", "date") or column.reading.kind == "boolean" or i > 0
            for column in self.columns
            for i in range(len(column.names))
        ]
        return np.array(marks, dtype=bool)

    @property
    def categories(self) -> tuple[tuple[int, int], ...]:
        """The columns of codes: the place in the matrix, and how many codes there are, "other" included."""
        found, at = [], 0
        for column in self.columns:
            if column.use == "embedded":
                found.append((at, len(column.levels) + 1))
            at += len(column.names)
        return tuple(found)

    def encode(self, raw: Sequence[RawColumn], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the matrix, float64 [N, W], of columns that were read as these; x itself where nothing changes it."""
        if all(column.use == "number" and not column.gaps for column in self.columns) and not np.isnan(x).any():
            return x
        pieces = [piece for i, column in enumerate(self.columns) for piece in column.matrix(x[:, i], raw[i].levels)]
        return np.stack(pieces, axis=1) if pieces else np.empty((len(x), 0))

    def unembedded(self) -> Columns:
        """Return the columns for a model that does not embed: codes become the most frequent levels, one-hot."""
        return replace(
            self,
            columns=tuple(replace(c, use="frequent") if c.use == "embedded" else c for c in self.columns),
        )

    def described(self) -> list[tuple[str, str, str, str]]:
        """Return name, type, content and treatment of each column."""
        return [column.described() for column in self.columns]

    def notes(self) -> list[str]:
        """Return what is to be said of the columns, a line for each kind of treatment that is not "as it is"."""
        said: dict[str, list[str]] = {}
        for column in self.columns:
            match column:
                case Column(use="dropped"):
                    said.setdefault(f"dropped, {column.why}", []).append(column.name)
                case Column(use="embedded"):
                    words = f"over {WIDE} levels: embedded by mlp, the {WIDE} most frequent one-hot for other models"
                    said.setdefault(words, []).append(column.name)
                case Column(use="one-hot"):
                    said.setdefault("categories, one-hot", []).append(column.name)
                case Column(use="date"):
                    said.setdefault("dates, as numbers", []).append(column.name)
            if column.gaps and column.use in ("number", "date"):
                said.setdefault("gaps, imputed with a column that says where", []).append(column.name)
            if column.reading.note and column.use != "dropped":
                said.setdefault(column.reading.note, []).append(column.name)
        return [
            f"{'column' if len(names) == 1 else f'{len(names)} columns'} {listed(names, 5)}: {what}"
            for what, names in said.items()
        ]

    @classmethod
    def of_numbers(cls, width: int, names: Sequence[str] | None = None) -> Columns:
        """Return columns of numbers as they are, matched by name or by place; nothing is known to stand in a gap."""
        shown = names or [f"column {i + 1}" for i in range(width)]
        columns = (Column(name=name, reading=Reading(kind="number"), use="number", fill=np.nan) for name in shown)
        return cls(tuple(columns), named=names is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `from_dict` makes the same."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Columns:
        """Return what `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        columns = []
        for each in values["columns"]:
            reading = Reading(**each["reading"] | {"gaps": tuple(each["reading"]["gaps"])})
            lists = {name: tuple(each[name]) for name in ("levels", "cycles")}
            columns.append(Column(**each | {"reading": reading} | lists))
        return cls(tuple(columns), bool(values["named"]), values["label"])

    def read(self, title: str, table: pa.Table, names: Sequence[str] | None) -> Reread:
        """Return another table as the matrix of these columns.

        Args:
            title: of the table, for messages.
            table: cells of any type.
            names: of its columns, by which they are matched; None to match by place.

        Raises:
            DataError: a column is missing, unknown or there twice; or by place there are more or fewer.
        """
        order = self._order(title, table, names)
        n = table.num_rows
        x, raw, faults, others, gaps = np.full((n, len(order)), np.nan), [], [None] * n, {}, {}
        for i, (column, at) in enumerate(zip(self.columns, order, strict=True)):
            if at is None:
                raw.append(RawColumn(column.name, column.reading))
                continue
            cells = _cells(title, column.name, table.column(at), column.reading)
            x[:, i] = cells.values
            raw.append(RawColumn(column.name, column.reading, cells.levels))
            for row, text in zip(cells.faults, cells.texts, strict=True):
                faults[row] = faults[row] or fault(column.name, text, column.reading)
            new = [] if column.gaps or "" in column.levels else np.flatnonzero(np.isnan(cells.values)).tolist()
            for row in new if np.isnan(column.fill) else ():
                faults[row] = faults[row] or f"column {column.name!r} is empty; the model learned from whole arrays"
            if left := sum(faults[row] is None for row in new):
                gaps[column.name] = left
            if column.levels:
                unknown = (column.codes(cells.values, cells.levels) == 0) & ~np.isnan(cells.values)
                if unknown.any():
                    others[column.name] = int(unknown.sum())
        return Reread(self.encode(raw, x), faults, others, gaps)

    def _order(self, title: str, table: pa.Table, names: Sequence[str] | None) -> list[int | None]:
        """Return where each column stands; None for a dropped one, which a table need not have."""
        used = [column.name for column in self.columns if column.use != "dropped"]
        if names is None or not self.named:
            if table.num_columns == len(self.columns):
                return [None if c.use == "dropped" else i for i, c in enumerate(self.columns)]
            raise DataError(
                f"{title}: has {table.num_columns} columns",
                f"the model takes {len(self.columns)}",
                "leave the column of labels out" if table.num_columns == len(self.columns) + 1
                else "give the columns of the training table",
            )  # fmt: skip
        spare = {column.name for column in self.columns if column.use == "dropped"} | {self.label} - set(used)
        places = [i for i, name in enumerate(names) if name not in spare]
        order = iter([places[i] for i in column_order(title, [names[i] for i in places], used)])
        return [None if column.use == "dropped" else next(order) for column in self.columns]


@dataclass(frozen=True)
class Reread:
    """Another table in the columns of the training table.

    Attributes:
        x: float64 [N, W]; what stands in rows with a fault means nothing.
        faults: why a row cannot be used, or None, [N].
        others: cells with a level that the training part had not, by column: they are taken for "other".
        gaps: gaps in columns where the training part had none, by column: they are imputed as its own would be.
    """

    x: NDArray[np.float64]
    faults: list[str | None]
    others: dict[str, int]
    gaps: dict[str, int]

    def note(self) -> str | None:
        """Return what is to be said of levels and gaps that are new."""
        said = {
            "cells with a level that the model has not learned, taken for 'other'": self.others,
            "gaps where the training part had none, imputed": self.gaps,
        }
        lines = [
            f"{what}: {', '.join(f'{count} of {name!r}' for name, count in counts.items())}"
            for what, counts in said.items() if counts
        ]  # fmt: skip
        return "; ".join(lines) or None


def raw_columns(
    title: str, table: pa.Table, names: Sequence[str], source: Source, problems: Problems, decimal: str = "."
) -> tuple[tuple[RawColumn, ...], NDArray[np.float64]]:
    """Return the columns of a table and their values, float64 [N, D], noting cells that are not what a column holds."""
    x, raw = np.empty((table.num_rows, len(names)), order="F"), []
    for i, name in enumerate(names):
        cells = _cells(title, name, table.column(i), None, decimal)
        x[:, i] = cells.values
        raw.append(RawColumn(name, cells.reading, cells.levels, _counts(cells)))
        for row, text in zip(cells.faults[:SHOWN], cells.texts, strict=False):
            problems.add(
                source.name_of(row),
                fault(name, text, cells.reading),
                _allowed(cells.reading),
                "mend it, or empty it for a gap",
            )
        if len(cells.faults) > SHOWN:
            problems.add(f"{len(cells.faults) - SHOWN} more rows", f"column {name!r} has the same fault",
                         _allowed(cells.reading), "mend them, or empty them for gaps")  # fmt: skip
    return tuple(raw), x


def fault(name: str, text: str, reading: Reading) -> str:
    """Return what is wrong with a cell that is not what its column holds."""
    try:
        number = float(text) if "_" not in text else None
    except ValueError:
        number = None
    held = text[:40] if number is not None else f"text, {text[:40]!r}"
    return f"column {name!r} holds {held}" + ("" if reading.kind == "number" else f", which is no {reading.kind}")


def _allowed(reading: Reading) -> str:
    return "all values must be finite numbers in float32" if reading.kind == "number" else f"it holds {reading.kind}s"


def _cells(
    title: str, name: str, column: pa.ChunkedArray, reading: Reading | None, decimal: str = "."
) -> Cells:  # fmt: skip
    try:
        return cells_of(column, reading, decimal)
    except (TypeError, pa.ArrowException) as error:
        raise DataError(
            f"{title}: column {name!r} holds {error}",
            "a column holds numbers, text, booleans or dates",
            "convert it, or leave it out",
        ) from None


def _counts(cells: Cells) -> bool:
    """Return whether numbers count the rows by one from 0 or 1."""
    values = cells.values if cells.reading.kind == "number" else np.empty(0)
    return len(values) > 1 and values[0] in (0, 1) and bool((np.diff(values) == 1).all())


def unembedded(data: DataSet) -> DataSet:
    """Return the data for a model that does not embed codes: see `Columns.unembedded`."""
    columns = data.columns
    if columns is None or not columns.categories:
        return data

    def spread(x: Tensor, of_code: Any) -> Tensor:
        pieces, at = [], 0
        for place, codes in columns.categories:
            pieces += [x[..., at:place], of_code(x[..., place], min(WIDE, codes - 1))]
            at = place + 1
        return torch.cat([*pieces, x[..., at:]], dim=-1)

    def one_hot(codes: Tensor, width: int) -> Tensor:
        return (codes[..., None] == torch.arange(1, width + 1, device=codes.device)).to(codes.dtype)

    parts: dict[str, Any] = {name: replace(part, x=spread(part.x, one_hot)) for name, part in data.parts.items()}
    return replace(
        data, **parts, columns=columns.unembedded(),
        mean=spread(data.mean, lambda value, width: value.new_zeros(width)),
        std=spread(data.std, lambda value, width: value.new_ones(width)),
    )  # fmt: skip
