"""A table in a file: its columns and its labels, to train on or to predict for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from surefoot.data import arrays, mapped, parquet
from surefoot.data.cells import Reading, cells_of
from surefoot.data.check import Problems
from surefoot.data.columns import Columns, raw_columns
from surefoot.data.dataset import Raw, RawPart
from surefoot.data.frame import Frame, Header, frame_of
from surefoot.data.labels import Target, chosen_target, coded, many_values
from surefoot.data.paths import files_of
from surefoot.errors import ConfigError, DataError, nearest

_RAGGED = 10
"""Rows of another width that are named; the rest are counted. Chosen by hand."""


def read(
    path: Path,
    problems: Problems,
    label: str | None = None,
    target: Target = "classes",
    header: Header = "auto",
    columns: Columns | None = None,
) -> Raw:
    """Return the table as float64 [N, D], with the columns that these are, and a label per row.

    The first row is a header if most of its cells outside the label column are text that the rows below do not hold,
    or if its label is such text above labels that repeat; in the second case a warning says so. Fields are separated
    by the comma, semicolon or tab that makes most fields of the first row. Rows are named by their line in the file,
    counted from 1 with the header, as editors and spreadsheets do; blank lines are passed over. There is one part,
    train.

    Args:
        path: of the file; text is UTF-8, or UTF-16 with a byte-order mark.
        problems: takes what is wrong.
        label: name of the label column in the header; None for the last column.
        target: "classes": labels are names, text or whole numbers; "numbers": labels are numbers; "auto": as they look.
        header: whether the first row is one; "auto" looks.
        columns: of a trained model, by which the table is read; x is then the matrix that the model takes.

    Raises:
        DataError: the file cannot be read as a table at all.
        ConfigError: there is no column of that name.
    """
    files = files_of(path)
    if files and columns is None and parquet.is_large(files):
        return _large(path, files, problems, label, target)
    words = {label} if columns is None else {label, columns.label}
    frame = frame_of(path, problems, header, known={word for word in words if word is not None})
    if columns is not None and label is None and columns.label in frame.names:
        label = columns.label
    column = _label_column(path, list(frame.names), label, frame.named)
    if len(frame.names) < 2:
        raise DataError(f"{path}: has one column", "it needs at least one feature and the label", "check the separator")
    if frame.named:
        _check_header(list(frame.names), problems)
    raw = of_frame(frame, column, problems, target, columns)
    for line, fields in frame.ragged[:_RAGGED]:
        width = len(frame.names)
        problems.add(f"row {line}", f"has {fields} fields", f"every row has {width}, as the first", "mend it")
    if len(frame.ragged) > _RAGGED:
        problems.add(f"{len(frame.ragged) - _RAGGED} more rows", "have another number of fields",
                     f"every row has {len(frame.names)}, as the first", "check the separator")  # fmt: skip
    return raw


def _large(path: Path, files: list[Path], problems: Problems, label: str | None, target: Target) -> Raw:
    """Return a table that does not fit into memory, as an array of numbers with names."""
    x, y, features, label = parquet.numbers_of(str(path), files, label)
    raw = arrays.raw_of(str(path), {"train": (x, y)}, problems, target)
    problems.notes.append(
        f"the table is larger than {mapped.IN_MEMORY / 2**30:g} GiB: it is read by row groups, as an array of numbers"
    )
    return replace(raw, features=tuple(features), label=label, integers=False)


def of_frame(frame: Frame, column: int, problems: Problems, target: Target, columns: Columns | None) -> Raw:
    """Return the examples of a table whose labels are in one of its columns."""
    source, features = frame.source, frame.without(column)
    names = features.names if features.named else None
    y, target = _labels(frame, column, problems, target)
    if columns is not None:
        reread = columns.read(frame.title, features.table, names)
        problems.faulty(source, reread.faults)
        x, raw, note = reread.x, None, reread.note()
    else:
        note = None
        raw, x = raw_columns(frame.title, features.table, features.names, source, problems, frame.decimal)
    part = {"train": RawPart(x, y, source)}
    part, classes = coded(part, problems) if target == "classes" else (part, None)
    label = frame.names[column] if frame.named else None
    return Raw(
        frame.title, part, classes, "numbers", features=names, columns=raw, label=label, target=target, note=note
    )


def _labels(frame: Frame, column: int, problems: Problems, target: Target) -> tuple[np.ndarray, Target]:
    """Return the labels as text, or as numbers if they are targets of a regression, and which they are."""
    cells = frame.table.column(column)
    texts = np.array([text.strip() for text in pc.fill_null(pc.cast(cells, pa.string()), "").to_pylist()], dtype=str)
    found = cells_of(cells, decimal=frame.decimal)
    amounts = found.reading.kind == "number" and (found.reading.symbol or any("," in text for text in texts))
    target = chosen_target(found.values if target == "auto" and amounts else texts, target, problems)
    if target == "classes":
        if found.reading.kind == "date" and many_values(texts):
            problems.warn(
                f"labels are dates, {len(set(texts.tolist()))} classes; write them as days since one to predict them"
            )
        return texts, target
    found = found if found.reading.kind == "number" else cells_of(cells, Reading(kind="number"))
    for row in np.flatnonzero(np.isnan(found.values))[:1000].tolist():
        held = "is empty" if texts[row] == "" else f"holds text, {texts[row][:40]!r}"
        problems.add(frame.source.name_of(row), f"column {frame.names[column]!r} {held}",
                     "all targets must be finite numbers", "mend or remove it")  # fmt: skip
    return np.nan_to_num(found.values), target


def read_unlabelled(
    path: Path, columns: Columns, label: str | None = None, header: Header = "auto"
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[str | None], str | None]:
    """Return the line numbers, the matrix, the errors and a note of a table to predict for.

    As `read`, but a row that cannot be read has an error and stops nothing, and there need be no labels.

    Args:
        path: of the file.
        columns: of the model.
        label: name of the column of labels in the run's configuration; it is passed over.
        header: as in `read`.

    Returns:
        Lines [N], counted from 1 with the header; x, float64 [N, W], which means nothing in rows with an error; errors
        [N], None for a row that could be read; what is to be said of the table, or None.

    Raises:
        DataError: the file is no table, is empty, or has other columns.
    """
    problems = Problems(str(path))
    used = {column.name for column in columns.columns if column.use != "dropped"} if columns.named else set()
    frame = frame_of(path, problems, header, known=set() if label is None else {label}, features=used)
    if frame.named and label in frame.names and label not in used:
        frame = frame.without(frame.names.index(label))
    reread = columns.read(str(path), frame.table, frame.names if frame.named else None)
    lines, x, errors = frame.lines, reread.x, reread.faults
    if frame.ragged:
        extra = np.array([line for line, _ in frame.ragged], dtype=np.int64)
        order = np.argsort(np.concatenate([lines, extra]), kind="stable")
        lines = np.concatenate([lines, extra])[order]
        x = np.concatenate([x, np.zeros((len(extra), x.shape[1]))])[order]
        told = errors + [f"has {fields} fields, the first row {len(frame.names)}" for _, fields in frame.ragged]
        errors = [told[i] for i in order]
    return lines, x, errors, reread.note()


def _label_column(path: Path, names: list[str], label: str | None, header: bool) -> int:
    if label is None:
        return len(names) - 1
    if not header:
        raise ConfigError(f"label = {label!r}", f"{path} has no header", "leave label out to take the last column")
    if label not in names:
        raise ConfigError(f"label = {label!r}", f"{path} has no such column", nearest(label, names))
    return names.index(label)


def _check_header(names: list[str], problems: Problems) -> None:
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        shown = repr(name) if name else "without a name"
        problems.add(
            "header", f"column {shown} is there {names.count(name)} times", "names of columns are unique", "rename one"
        )
