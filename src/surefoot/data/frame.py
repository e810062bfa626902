"""The cells of a file as they were written: where its names and its rows are. What cells are is in `cells`."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions as it is imported, which the type checker does not see.

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from surefoot.data import parquet
from surefoot.data.cells import MARKS
from surefoot.data.check import Problems
from surefoot.data.dataset import Source
from surefoot.data.paths import files_of
from surefoot.errors import DataError

Header = Literal["auto", "yes", "no"]

_ROWS_COMPARED = 1000
"""Rows below the first in which its feature cells are looked for. Chosen by hand."""

_BLOCK = 2**24
"""Bytes that are parsed at once, and the longest row. Chosen by hand."""


@dataclass(frozen=True)
class Frame:
    """A table with its cells as they were written.

    Attributes:
        title: for messages.
        names: of the columns.
        table: the cells, text where they come from text.
        named: whether it has a header.
        lines: of each row, as editors and spreadsheets count them.
        ragged: the lines of rows of another width, which are left out, and how many fields they have.
        decimal: what the comma in 1,234 is: decimal where semicolons part the fields, else of thousands.
    """

    title: str
    names: tuple[str, ...]
    table: pa.Table
    named: bool
    lines: NDArray[np.int64]
    ragged: tuple[tuple[int, int], ...] = ()
    decimal: str = "."

    @property
    def source(self) -> Source:
        """The names of the rows."""
        return Source("row ", index=self.lines)

    def without(self, column: int) -> Frame:
        """Return the table without one of its columns."""
        names = (*self.names[:column], *self.names[column + 1 :])
        return replace(self, names=names, table=self.table.remove_column(column))


def frame_of(
    path: Path, problems: Problems, header: Header, *, known: Set[str], features: Set[str] | None = None
) -> Frame:
    """Return the cells of a file, with its names of columns where it has them, and without rows that are blank.

    Args:
        path: of the file.
        problems: takes a warning where the header is doubtful.
        header: whether there is one.
        known: names, one of which tells a header.
        features: names of the columns of a model, which together tell one; None for a table to train on.

    Raises:
        DataError: it cannot be read, is no table in UTF-8, or is empty.
    """
    if files := files_of(path):
        return _parquet(path, files)
    content = _content(path)
    separator, head = _head(path, content)
    width, names = len(head[0]), [cell.strip() for cell in head[0]]
    wider = len(head) > 1 and all(len(row) == width + 1 for row in head[1:])
    if wider:  # a mark at the end of each row, or names of rows without a name above them, as R writes
        width += 1
        names = [*names, ""] if all(not row[-1].strip() for row in head[1:]) else ["", *names]
    table, ragged = _parsed(path, content, separator, width)
    if any(text.count('"') % 2 for _, _, text in ragged):
        _scanned(path, content, separator)  # a quote that nothing closes is named where it is
    lines = _row_lines(path, content, separator, table.num_rows + len(ragged))
    del content
    away = np.array([ordinal - 1 for ordinal, _, _ in ragged], dtype=np.int64)
    uneven = tuple((int(lines[ordinal - 1]), fields) for ordinal, fields, text in ragged if text.strip())
    lines = np.delete(lines, away)
    table, lines = _filled(table, lines)
    if wider:
        named, uneven = True, uneven[1:]
    elif header != "auto" or not table.num_rows:
        named = header == "yes"
    elif features is not None:
        told = bool(known & set(names)) or (bool(features) and features <= set(names))
        named = len(head) > 1 and (told or _are_names(head, width))
    else:
        named = bool(known & set(names)) or _is_header(table, head, problems)
    if named and not wider:
        table, lines = table.slice(1), lines[1:]
    if not named:
        names = [f"column {i + 1}" for i in range(width)]
    frame = Frame(str(path), tuple(names), table, named, lines, uneven, "," if separator == ";" else ".")
    end = table.column(width - 1)
    spare = width > 1 and (not named or not names[-1]) and table.num_rows and _blank(end).as_py()
    return frame.without(width - 1) if spare else frame


def _blank(column: pa.ChunkedArray) -> pa.Scalar:
    return pc.all(pc.equal(pc.utf8_trim_whitespace(column), ""))


def _content(path: Path) -> bytes:
    """Return the text of a file as UTF-8 without a byte-order mark."""
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {error}", "it must be a whole .gz file", "compress it again") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "it must be readable", "check its permissions") from None
    try:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            content = content.decode("utf-16").encode()
        if not content.isascii():
            content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8", "a .csv is text in UTF-8", "save it as UTF-8"
        ) from None
    content = content.removeprefix(b"\xef\xbb\xbf")
    if not content.strip(b" \t\r\n,;"):
        raise DataError(f"{path}: is empty", "it must hold a row per example", "check how it was written")
    return content


def _text(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")


def _head(path: Path, content: bytes) -> tuple[str, list[list[str]]]:
    """Return the separator, and the first rows that are not blank."""
    file = _text(content)
    separator = _separator(file)
    rows: list[list[str]] = []
    reader, at = csv.reader(file, delimiter=separator, strict=True), 1
    try:
        for row in reader:
            at = reader.line_num + 1
            if any(cell.strip() for cell in row):
                rows.append(row)
            if len(rows) > _ROWS_COMPARED:
                break
    except csv.Error as error:
        raise _no_table(path, at, error) from None
    return separator, rows


def _no_table(path: Path, line: int, error: object) -> DataError:
    return DataError(f"{path}: row {line}: {error}", "it must be a table", "mend that row")


def _parsed(path: Path, content: bytes, separator: str, width: int) -> tuple[pa.Table, list[tuple[int, int, str]]]:
    """Return all rows of that width as text, and of the others their number, counted from 1, their fields and text."""
    ragged: list[tuple[int, int, str]] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        ragged.append((row.number, row.actual_columns, row.text[:1000] if len(ragged) < 1000 else row.text[:10]))
        return "skip"

    names = [str(i) for i in range(width)]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(content),
            read_options=pa.csv.ReadOptions(use_threads=False, column_names=names, block_size=_BLOCK),
            parse_options=pa.csv.ParseOptions(
                delimiter=separator, newlines_in_values=b'"' in content, invalid_row_handler=skip
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=False
            ),
        )
    except pa.ArrowInvalid as error:
        _scanned(path, content, separator)
        raise DataError(f"{path}: {error}", "it must be a table", "mend it") from None
    return table, ragged


def _row_lines(path: Path, content: bytes, separator: str, rows: int) -> NDArray[np.int64]:
    """Return the line on which each row ends, counted from 1."""
    letters = np.frombuffer(content, np.uint8)
    mark = ord("\n") if b"\n" in content else ord("\r")
    pieces = [at + np.flatnonzero(letters[at : at + _BLOCK] == mark) for at in range(0, len(letters), _BLOCK)]
    ends = np.concatenate([*pieces, [len(letters)]])
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts
    lengths -= (lengths > 0) & (letters[np.maximum(ends - 1, 0)] == ord("\r"))
    lines = np.flatnonzero(lengths > 0) + 1
    return lines if len(lines) == rows else _scanned(path, content, separator)  # a quoted cell spans lines


def _scanned(path: Path, content: bytes, separator: str) -> NDArray[np.int64]:
    """Return the line on which each row ends, by Python's own reader, which is slow and names a broken row."""
    reader, lines, at = csv.reader(_text(content), delimiter=separator, strict=True), [], 1
    try:
        for row in reader:
            at = reader.line_num + 1
            if row:
                lines.append(reader.line_num)
    except csv.Error as error:
        raise _no_table(path, at, error) from None
    return np.array(lines, dtype=np.int64)


def _filled(table: pa.Table, lines: NDArray[np.int64]) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return a table without rows whose cells are all blank."""
    blank: Any = np.ones(len(lines), dtype=bool)
    for column in table.columns:
        if not blank.any():
            return table, lines
        places = np.flatnonzero(blank)
        cells = column if len(places) == len(lines) else column.take(pa.array(places))
        blank[places] = np.array(pc.equal(pc.utf8_trim_whitespace(cells), ""))
    return (table.filter(pa.array(~blank)), lines[~blank]) if blank.any() else (table, lines)


def _parquet(path: Path, files: list[Path]) -> Frame:
    table = parquet.table_of(files)
    if not table.num_rows or not table.num_columns:
        raise DataError(f"{path}: is empty", "it must hold a row per example", "check how it was written")
    return Frame(str(path), tuple(table.column_names), table, True, np.arange(1, table.num_rows + 1))


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


def _is_header(table: pa.Table, head: list[list[str]], problems: Problems) -> bool:
    """Return whether the first row of a table whose last column holds the labels is a header."""
    first, width = [cell.strip() for cell in head[0]], len(head[0])
    if _are_names(head, width - 1):
        return True
    name = first[-1]
    labels = pc.value_counts(pc.utf8_trim_whitespace(table.column(width - 1).slice(1)))
    values, count = [each["values"].as_py() for each in labels], table.num_rows - 1
    if not values or name in values or name.lower() in MARKS:
        return False
    counted = width > 2 and first == [str(i) for i in range(width)]  # what pandas writes above columns without names
    repeat = len(values) * 2 <= count or all(_number(label) is not None for label in values)
    far = repeat and min(each["counts"].as_py() for each in labels) > 1 and _is_far(table, first)
    if counted or far or (repeat and _number(name) is None):
        problems.warn(
            f"row 1 is taken for the header, for no row below has its {name!r} in the last column; "
            'if it is an example, set header = "no"'
        )
        return True
    return False


def _are_names(rows: list[list[str]], width: int) -> bool:
    """Return whether most of the first cells of the first row that hold anything are text, and in no row below."""
    cells, below = [cell.strip() for cell in rows[0][:width]], rows[1 : 1 + _ROWS_COMPARED]
    names = [
        i
        for i, cell in enumerate(cells)
        if cell.lower() not in MARKS
        and _number(cell) is None
        and not any(row[i].strip() == cell for row in below if i < len(row))
    ]
    return 2 * len(names) > sum(cell != "" for cell in cells)


def _is_far(table: pa.Table, first: Sequence[str]) -> bool:
    """Return whether all cells of the first row are numbers, and all but the last beyond those below: years, say."""
    for i, cell in enumerate(first[:-1]):
        value = _number(cell)
        try:
            below = pc.min_max(pc.cast(pc.utf8_trim_whitespace(table.column(i).slice(1)), pa.float64())).as_py()
        except pa.ArrowInvalid:
            return False
        if value is None or below["min"] is None or below["min"] <= value <= below["max"]:
            return False
    return len(first) > 2


def _number(cell: str) -> float | None:
    try:
        return float(cell) if "_" not in cell else None  # 1_0 is an identifier, and a number only to Python
    except ValueError:
        return None
