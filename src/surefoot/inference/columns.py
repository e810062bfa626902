"""A .csv or .tsv of numbers without labels, for `predict`: rows that cannot be read get an error, not the file."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from surefoot.errors import DataError


def read_columns(path: Path, width: int, label: str | None = None) -> tuple[list[int], Tensor, list[str | None]]:
    """Return a table's line numbers, numbers and errors.

    Separator, header and line numbers are found as in `data.table`: the comma, semicolon or tab that the first line
    has most of; a header where a cell of the first row is not a number; blank lines are passed over.

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
        error = f"has {len(row)} fields, the first row {len(names)}" if len(row) != len(names) else _fault(cells)
        if error is None:
            x[i] = [float(cell) for cell in cells]
        errors.append(error)
    return lines, torch.from_numpy(x), errors


def _rows(path: Path) -> tuple[list[int], list[list[str]]]:
    """Return the rows that are not blank, and the line on which each ends."""
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
            for row in reader:
                if any(cell.strip() for cell in row):
                    lines.append(reader.line_num)
                    rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}", "it must be a table in UTF-8", "save it as one") from None
    if not rows:
        raise DataError(f"{path}: is empty", "it must hold a row for each example", "check how it was written")
    return lines, rows


def _fault(cells: list[str]) -> str | None:
    """Return what is wrong with the first cell that is no finite float32, or None."""
    for number, cell in enumerate(cells, start=1):
        value = _number(cell)
        if value is None or not math.isfinite(value) or abs(value) > float(np.finfo(np.float32).max):
            return f"column {number} holds {cell.strip()[:40]!r}, and no finite number"
    return None


def _number(cell: str) -> float | None:
    try:
        return float(cell) if "_" not in cell else None
    except ValueError:
        return None
