"""Tables in memory: frames of pandas, of Polars or of Arrow, structured arrays, and arrays that hold text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from surefoot.data.cells import decoded
from surefoot.data.check import Problems
from surefoot.data.columns import Columns, raw_columns
from surefoot.data.dataset import Raw, RawPart, Source, column_order
from surefoot.data.frame import Frame
from surefoot.data.labels import Target, chosen_target, coded
from surefoot.errors import DataError


def is_frame(x: Any) -> bool:
    """Return whether this is a table whose columns have types, and no array of numbers.

    >>> is_frame(np.array([[1, "a"]], dtype=object)), is_frame(np.zeros((2, 2))), is_frame(pa.table({"a": [1]}))
    (True, False, True)
    """
    if isinstance(x, pa.Table) or (hasattr(x, "__arrow_c_stream__") and hasattr(x, "columns")):
        return True
    if _names(x) is not None and hasattr(x, "to_numpy"):
        return True
    if isinstance(x, list):
        x = np.empty(0) if not _holds_text(x) else np.asarray(x, dtype=object)
    if not isinstance(x, np.ndarray):
        return False
    return x.dtype.names is not None or (x.dtype.kind in "OUST" and x.ndim in (1, 2) and _is_mixed(x))


def _holds_text(rows: list[Any]) -> bool:
    return any(isinstance(cell, str) for row in rows[:100] for cell in (row if isinstance(row, list) else [row]))


def _is_mixed(x: np.ndarray) -> bool:
    """Return whether an array holds text or dates, or a gap among numbers."""
    plain = (bool, int, float, np.number, np.bool_)
    return x.dtype.kind != "O" or not all(isinstance(value, plain) for value in x.ravel().tolist())


def _names(x: Any) -> tuple[str, ...] | None:
    columns = getattr(x, "columns", None)
    names = tuple(columns) if columns is not None and not callable(columns) else ()
    return names if names and all(isinstance(n, str) for n in names) and len(set(names)) == len(names) else None


def frame_of(x: Any, title: str) -> Frame:
    """Return a table in memory with its cells.

    Args:
        x: as `is_frame` takes it.
        title: for messages.

    Raises:
        DataError: two columns have one name, or it has no row or no column.
    """
    if isinstance(x, pa.Table):
        names, columns = x.column_names, list(x.columns)
    elif hasattr(x, "iloc"):  # pandas, column by column: its own way to Arrow would add the index
        names, columns = list(x.columns), [_column(x.iloc[:, i]) for i in range(x.shape[1])]
    elif hasattr(x, "__arrow_c_stream__"):
        table = pa.table(x)
        names, columns = table.column_names, list(table.columns)
    else:
        array = x.to_numpy() if hasattr(x, "to_numpy") else x if isinstance(x, np.ndarray) else np.asarray(x, object)
        names = _names(x) or array.dtype.names
        if array.dtype.names is not None:
            columns = [_column(array[name]) for name in array.dtype.names]
        else:
            array = array[:, None] if array.ndim == 1 else array
            columns = [_column(array[:, i]) for i in range(array.shape[1])]
    named = names is not None and all(isinstance(name, str) for name in names)
    shown = [f"column {i + 1}" for i in range(len(columns))] if names is None else [str(name) for name in names]
    twice = next((name for name in shown if shown.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{title}: has twice the column {twice!r}", "names of columns are unique", "rename one")
    rows = len(columns[0]) if columns else 0
    if not rows:
        raise DataError(f"{title}: has {len(columns)} columns and {rows} rows", "a table has some", "check its source")
    table = pa.table([decoded(column) for column in columns], names=shown)
    return Frame(title, tuple(shown), table, named, np.arange(rows))


def _column(values: Any) -> pa.ChunkedArray:
    """Return a column; what is of several types is text."""
    if isinstance(values, np.ndarray):
        values = values.astype(str) if values.dtype.kind == "T" else values
        values = np.char.decode(values) if values.dtype.kind == "S" else values
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        cells = list(values)
        if any(isinstance(cell, (list, dict, set, tuple, np.ndarray)) for cell in cells):
            raise DataError(
                "a column of lists", "a column holds numbers, text, booleans or dates", "spread it over columns"
            ) from None
        found = pa.array([None if _is_gap(cell) else _text(cell) for cell in cells], pa.string())
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])


def _is_gap(cell: Any) -> bool:
    return cell is None or cell != cell or type(cell).__name__ in ("NAType", "NaTType")


def _text(cell: Any) -> str:
    return cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)


def read(
    pairs: Mapping[str, tuple[Frame, np.ndarray]], problems: Problems, target: Target, columns: Columns | None,
    label: str | None,
) -> Raw:  # fmt: skip
    """Return parts whose examples are the rows of tables. Their columns are typed together, and matched by name.

    Args:
        pairs: the table and the labels [N] of each part.
        problems: takes what is wrong.
        target: what the labels are.
        columns: of a trained model, by which the tables are read.
        label: name of the labels, which a table to predict for may still hold.
    """
    first = next(iter(pairs.values()))[0]
    many, tables, parts = len(pairs) > 1, [], {}
    for part, (frame, y) in pairs.items():
        if columns is None and frame.named and first.named:
            order = column_order(part, frame.names, first.names)
            frame = replace(frame, names=first.names, table=frame.table.select(order))
        if y.ndim == 0 or len(y) != frame.table.num_rows or len(frame.names) != len(first.names):
            shape = (frame.table.num_rows, len(frame.names))
            given = f"x has shape {shape}, y {y.shape}"
            problems.add(part, given, "x and y have one entry per example", "make them alike")
            return Raw("arrays", {}, None, "numbers")
        parts[part] = RawPart(np.empty(0), y, Source(f"{part} row " if many else "row "))
        tables.append(frame)
    raw, note = None, None
    if columns is not None:
        for (part, each), frame in zip(list(parts.items()), tables, strict=True):
            reread = columns.read("data", frame.table, frame.names if frame.named else None)
            problems.faulty(each.source, reread.faults)
            note = reread.note() or note
            parts[part] = replace(each, x=reread.x)
    else:
        whole = pa.concat_tables([frame.table for frame in tables], promote_options="permissive")
        names = [f"{'' if not many else part + ' '}row {i}" for part, each in parts.items() for i in range(len(each.y))]
        raw, x = raw_columns("x", whole, first.names, Source(names=tuple(names)), problems)
        ends = np.cumsum([frame.table.num_rows for frame in tables])
        for part, piece in zip(list(parts), np.split(x, ends[:-1]), strict=True):
            parts[part] = replace(parts[part], x=piece)
    target = chosen_target(next(iter(parts.values())).y, target, problems)
    classes = None
    if target == "classes":
        parts, classes = coded(parts, problems)
    features = first.names if first.named else None
    return Raw(
        "arrays", parts, classes, "numbers", features=features, columns=raw, target=target,
        label=None if label in first.names else label, note=note,
    )  # fmt: skip


def of_array(x: np.ndarray) -> pa.Table:
    """Return numbers [N, D] as a table without names."""
    return pa.table([*x.T], names=[str(i) for i in range(x.shape[1])])


def dense(x: Any, title: str) -> np.ndarray:
    """Return a sparse matrix of SciPy's as an array.

    Raises:
        DataError: it would not fit into 4 GB.
    """
    if x.shape[0] * x.shape[1] * 8 > 2**32:
        raise DataError(
            f"{title}: a sparse matrix of {x.shape[0]:,} x {x.shape[1]:,}",
            "it is trained on as a whole array, of at most 4 GB",
            "reduce its columns, with scikit-learn's TruncatedSVD for example",
        )
    return x.toarray()


def is_sparse(x: Any) -> bool:
    """Return whether this is a sparse matrix or array of SciPy's."""
    return hasattr(x, "toarray") and hasattr(x, "nnz")


def title_of_label(labels: Sequence[Any]) -> str | None:
    """Return the name of the labels where they are a named column of pandas or Polars."""
    return next((each.name for each in labels if isinstance(getattr(each, "name", None), str)), None)
