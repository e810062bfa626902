"""A table in a file or in memory: where its names, its rows and its labels are. What its cells are is in `cells`."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from surefoot.data.cells import MARKS, Reading, cells_of
from surefoot.data.check import Problems, Target, chosen_target, coded
from surefoot.data.columns import Columns, raw_columns
from surefoot.data.dataset import Raw, RawPart, Source
from surefoot.errors import ConfigError, DataError, nearest

Header = Literal["auto", "yes", "no"]

_ROWS_COMPARED = 1000
"""Rows below the first in which its feature cells are looked for. Chosen by hand."""

_BLOCK = 2**24
"""Bytes that are parsed at once, and the longest row. Chosen by hand."""

_RAGGED = 10
"""Rows of another width that are named; the rest are counted. Chosen by hand."""


def is_table(path: Path) -> bool:
    """Return whether a file is named as a table is: .parquet, or .csv or .tsv, which may be compressed by gzip.

    >>> is_table(Path("a.csv")), is_table(Path("A.TSV.gz")), is_table(Path("a.parquet")), is_table(Path("a.npz"))
    (True, True, True, False)
    """
    name = path.name.lower()
    return name.removesuffix(".gz").endswith((".csv", ".tsv")) or name.endswith((".parquet", ".pq"))


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
    words = {label} if columns is None else {label, columns.label}
    frame = frame_of(path, problems, header, known=words - {None})
    if columns is not None and label is None and columns.label in frame.names:
        label = columns.label
    column = _label_column(path, list(frame.names), label, frame.named)
    if len(frame.names) < 2:
        raise DataError(f"{path}: has one column", "it needs at least one feature and the label", "check the separator")
    if frame.named:
        _check_header(list(frame.names), problems)
    for line, fields in frame.ragged[:_RAGGED]:
        width = len(frame.names)
        problems.add(f"row {line}", f"has {fields} fields", f"every row has {width}, as the first", "mend it")
    if len(frame.ragged) > _RAGGED:
        problems.add(f"{len(frame.ragged) - _RAGGED} more rows", "have another number of fields",
                     f"every row has {len(frame.names)}, as the first", "check the separator")  # fmt: skip
    return of_frame(frame, column, problems, target, columns)


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
    target = chosen_target(texts, target, problems)
    if target == "classes":
        return texts, target
    found = cells_of(cells, decimal=frame.decimal)
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
    frame = frame_of(path, problems, header, known={label} - {None}, features=used)
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
    if path.name.lower().endswith((".parquet", ".pq")):
        return _parquet(path)
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
        told = bool(known & set(names)) or (features and features <= set(names))
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


def _parquet(path: Path) -> Frame:
    try:
        table = pa.parquet.ParquetFile(str(path)).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: {first}", "it must be a whole .parquet file", "write it again") from None
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
    if counted or (repeat and _number(name) is None):
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
