"""A .csv or .tsv of numbers: with a column of labels to learn from, or without to predict."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from surefoot.data.check import Problems, coded
from surefoot.data.dataset import Raw, RawPart, Source
from surefoot.errors import ConfigError, DataError, nearest

_ROWS_AT_ONCE = 4096

_ROWS_COMPARED = 1000
"""Rows below the first in which its feature cells are looked for. Chosen by hand."""

_MARKS = ("", "?", "-", "--", ".", "*", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing")
"""What tables hold where a value is missing: no names of columns."""


def is_table(path: Path) -> bool:
    """Return whether a file is named as a table is: .csv or .tsv, or the same compressed by gzip.

    >>> is_table(Path("a.csv")), is_table(Path("A.TSV.gz")), is_table(Path("a.npz"))
    (True, True, False)
    """
    return path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def read(path: Path, problems: Problems, label: str | None = None, target: str = "classes") -> Raw:
    """Return the table as numbers, float32 [N, D], and a label per row.

    The first row is a header if most of its cells outside the label column are text that the rows below do not hold,
    or if its label is such text above labels that repeat; in the second case a warning says so. Fields are separated
    by the comma, semicolon or tab that makes most fields of the first row. Rows are named by their line in the file,
    counted from 1 with the header, as editors and spreadsheets do; blank lines are passed over. There is one part,
    train.

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
    header = label in {cell.strip() for cell in rows[0]} or _is_header(rows, problems)
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

    As `read`, but a row that cannot be read has an error and stops nothing.

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
    header = len(rows) > 1 and (label in {cell.strip() for cell in rows[0]} or _are_names(rows, len(rows[0])))
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
        with (gzip.open if path.suffix.lower() == ".gz" else open)(
            path, "rt", newline="", encoding="utf-8-sig"
        ) as file:
            reader = csv.reader(file, delimiter=_separator(file), strict=True)
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
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {error}", "it must be a whole .gz file", "compress it again") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "it must be readable", "check its permissions") from None
    if not rows:
        raise DataError(f"{path}: is empty", "it must hold a row per example", "check how it was written")
    return lines, rows


def _separator(file: IO[str]) -> str:
    """Return the comma, semicolon or tab that makes most fields of the first row, best as many as of the second; the
    file is left at its start.
    """
    fit = {}
    for separator in ",;\t":
        file.seek(0)
        widths = []
        try:
            for row in csv.reader(file, delimiter=separator, strict=True):
                widths += [len(row)] if any(cell.strip() for cell in row) else []
                if len(widths) == 2:
                    break
        except csv.Error:
            widths = widths[:1]
        first = widths[0] if widths else 0
        fit[separator] = (first > 1, widths[-1:] == [first], first)
    file.seek(0)
    return max(fit, key=lambda separator: fit[separator] if fit[separator][0] else (False, False, 0))


def _is_header(rows: list[list[str]], problems: Problems) -> bool:
    """Return whether the first row of a table whose last column holds the labels is a header."""
    if _are_names(rows, len(rows[0]) - 1):
        return True
    first, width = [cell.strip() for cell in rows[0]], len(rows[0])
    name, labels = first[-1], [row[-1].strip() for row in rows[1:] if len(row) == width]
    if not labels or name in labels or name.lower() in _MARKS:
        return False
    counted = width > 2 and first == [str(i) for i in range(width)]  # what pandas writes above columns without names
    repeat = len(set(labels)) * 2 <= len(labels) or all(_number(label) is not None for label in labels)
    if counted or (repeat and _number(name) is None):
        problems.warn(
            f"row 1 is taken for the header, for no row below has its {name!r} in the last column; "
            "if it is an example, put a row of names above it"
        )
        return True
    return False


def _are_names(rows: list[list[str]], width: int) -> bool:
    """Return whether most of the first cells of the first row that hold anything are text, and in no row below."""
    cells, below = [cell.strip() for cell in rows[0][:width]], rows[1 : 1 + _ROWS_COMPARED]
    names = [
        i
        for i, cell in enumerate(cells)
        if cell.lower() not in _MARKS
        and _number(cell) is None
        and not any(row[i].strip() == cell for row in below if i < len(row))
    ]
    return 2 * len(names) > sum(cell != "" for cell in cells)


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
        return float(cell) if "_" not in cell else None  # 1_0 is an identifier, and a number only to Python
    except ValueError:
        return None


def _numbers(rows: list[list[str]], names: list[str], lines: list[int], problems: Problems) -> np.ndarray:
    """Return cells as float32 [N, D], with 0 in place of cells that are no finite number, which are noted."""
    x = np.zeros((len(rows), len(names)), dtype=np.float32)
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        piece = rows[at : at + _ROWS_AT_ONCE]
        try:
            if any("_" in cell for row in piece for cell in row):
                raise ValueError
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
