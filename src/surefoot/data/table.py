"""A .csv or .tsv of numbers: with a column of labels to learn from, or without to predict."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from surefoot.data.check import Problems, coded
from surefoot.data.dataset import Raw, RawPart, Source
from surefoot.errors import ConfigError, DataError, nearest

_ROWS_AT_ONCE = 4096


def read(path: Path, problems: Problems, label: str | None = None, target: str = "classes") -> Raw:
    """Return the table as numbers, float32 [N, D], and a label per row.

    The first row is a header if a cell of it, outside the label column, is not a number. Fields are separated by
    the comma, semicolon or tab that the first line has most of. Rows are named by their line in the file, counted
    from 1 with the header, as editors and spreadsheets do; blank lines are passed over. There is one part, train.

    Args:
        path: of the file, UTF-8.
        problems: takes what is wrong.
        label: name of the label column in the header; None for the last column.
        target: "classes": labels are names, text or whole numbers; "numbers": labels are numbers.

    Raises:
        DataError: the file cannot be read as a table at all.
        ConfigError: there is no column of that name.
    """
    lines, rows = _rows(path)
    header = _is_header(rows[0], label)
    names = [cell.strip() for cell in rows[0]] if header else [f"column {i + 1}" for i in range(len(rows[0]))]
    column = _label_column(path, names, label, header)
    if len(names) < 2:
        raise DataError(f"{path}: has one column", "it needs at least one feature and the label", "check the separator")
    if header:
        _check_header(names, problems)
        lines, rows = lines[1:], rows[1:]
    ragged = [i for i, row in enumerate(rows) if len(row) != len(names)]
    for i in ragged:
        problems.add(
            f"row {lines[i]}", f"has {len(rows[i])} fields", f"every row has {len(names)}, as the first", "mend it"
        )
    whole = sorted(set(range(len(rows))) - set(ragged))
    lines, rows = [lines[i] for i in whole], [rows[i] for i in whole]
    features = [i for i in range(len(names)) if i != column]
    x = _numbers([[row[i] for i in features] for row in rows], [names[i] for i in features], lines, problems)
    texts = [row[column].strip() for row in rows]
    source = Source(names=tuple(f"row {line}" for line in lines))
    if target == "numbers":
        y = _numbers([[text] for text in texts], [names[column]], lines, problems)[:, 0]
        return Raw(str(path), {"train": RawPart(x, y, source)}, None, "numbers")
    part = RawPart(x, np.array(texts, dtype=str) if texts else np.empty(0, dtype="U1"), source)
    parts, classes = coded({"train": part}, problems)
    if x.shape[1] and len(x) > 1:
        for i in np.flatnonzero((x == x[0]).all(axis=0)):
            problems.warn(f"column {names[features[i]]!r} has one value, {x[0, i]:g}, in every row")
    return Raw(str(path), parts, classes, "numbers")


def read_unlabelled(path: Path, width: int, label: str | None = None) -> tuple[list[int], np.ndarray, list[str | None]]:
    """Return the line numbers, numbers and errors of a table without labels.

    As `read`, but a row that cannot be read has an error and stops nothing, and any cell of the first row that is not a
    number makes it a header.

    Args:
        path: of the file, UTF-8.
        width: columns that the model takes, D.
        label: name of a column to pass over, where the header has it.

    Returns:
        Lines [N], counted from 1 with the header; x, float32 [N, D], 0 in rows with an error; errors [N], None for
        a row that could be read.

    Raises:
        DataError: the file is no table, is empty, or has other than D columns.
    """
    lines, rows = _rows(path)
    header = any(_number(cell) is None for cell in rows[0]) and len(rows) > 1
    names = [cell.strip() for cell in rows[0]]
    if header:
        lines, rows = lines[1:], rows[1:]
    skipped = names.index(label) if header and label in names else None
    columns = len(names) - (skipped is not None)
    if columns != width:
        advice = "leave the column of labels out" if columns == width + 1 else "give the columns of the training table"
        raise DataError(f"{path}: has {columns} columns", f"the model takes {width} numbers", advice)
    x, errors = np.zeros((len(rows), width), np.float32), []
    for i, row in enumerate(rows):
        cells = [cell for at, cell in enumerate(row) if at != skipped]
        error = f"has {len(row)} fields, the first row {len(names)}" if len(row) != len(names) else _row_fault(cells)
        if error is None:
            x[i] = [float(cell) for cell in cells]
        errors.append(error)
    return lines, x, errors


def _row_fault(cells: Sequence[str]) -> str | None:
    at = next((i for i, cell in enumerate(cells) if _cell_fault(cell) is not None), None)
    return None if at is None else f"column {at + 1} holds {cells[at].strip()[:40]!r}, and no finite number"


def _rows(path: Path) -> tuple[list[int], list[list[str]]]:
    """Return the rows of a table that are not blank, and the lines, counted from 1, on which each ends.

    Raises:
        DataError: the file cannot be read, is no table in UTF-8, or is empty.
    """
    lines, rows, at = [], [], 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=separator, strict=True)
            for row in reader:
                at = reader.line_num + 1
                if any(cell.strip() for cell in row):
                    lines.append(reader.line_num)
                    rows.append(row)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8", "a .csv is text in UTF-8", "save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise DataError(f"{path}: row {at}: {error}", "it must be a table", "mend that row") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "it must be readable", "check its permissions") from None
    if not rows:
        raise DataError(f"{path}: is empty", "it must hold a row per example", "check how it was written")
    return lines, rows


def _is_header(row: Sequence[str], label: str | None) -> bool:
    if label is not None and label in [cell.strip() for cell in row]:
        return True
    return any(cell.strip() and _number(cell) is None for cell in row[:-1])


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


def _number(cell: str) -> float | None:
    try:
        return float(cell) if "_" not in cell else None
    except ValueError:
        return None


def _numbers(rows: list[list[str]], names: list[str], lines: list[int], problems: Problems) -> np.ndarray:
    """Return cells as float32 [N, D], with 0 in place of cells that are no finite number, which are noted."""
    x = np.zeros((len(rows), len(names)), dtype=np.float32)
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        piece = rows[at : at + _ROWS_AT_ONCE]
        try:
            with np.errstate(over="ignore"):
                values = np.array(piece, dtype=np.float64).astype(np.float32)
            if np.isfinite(values).all():
                x[at : at + len(piece)] = values
                continue
        except ValueError:
            pass
        for i, row in enumerate(piece, at):  # slowly, to name the cells
            for j, cell in enumerate(row):
                fault = _cell_fault(cell)
                if fault is None:
                    x[i, j] = float(cell)
                else:
                    problems.add(
                        f"row {lines[i]}",
                        f"column {names[j]!r} {fault}",
                        "all values must be finite numbers in float32",
                        "mend or remove it",
                    )
    return x


def _cell_fault(cell: str) -> str | None:
    """Return why a cell is no finite float32, or None."""
    value = _number(cell)
    if not cell.strip():
        return "is empty"
    if value is None:
        return f"holds text, {cell.strip()[:40]!r}"
    if not math.isfinite(value) or abs(value) > float(np.finfo(np.float32).max):
        return f"holds {cell.strip()[:40]}"
    return None
