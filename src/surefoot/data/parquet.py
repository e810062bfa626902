"""Parquet: one file, or the files of a folder as one table. Large tables of numbers are read by row groups onto disk.

What is small becomes a table whose columns are typed (`data.columns`). That goes through whole columns, several times;
so what would not fit into memory must be numbers without gaps, and is then as good as an array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from surefoot.data import mapped, store
from surefoot.data.spool import Spool
from surefoot.errors import DataError, nearest


def table_of(files: Sequence[Path]) -> pa.Table:
    """Return all rows of files, in order.

    Raises:
        DataError: one cannot be read, or has other columns.
    """
    tables = []
    for file in files:
        with opened(file) as parquet:
            table = _whole(file, parquet)
        if tables and table.column_names != tables[0].column_names:
            raise _other_columns(file, table.column_names, tables[0].column_names)
        tables.append(table)
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"{files[0].parent}: {_first_line(error)}", "a column has one type in all files", "bring them to it"
        ) from None


def opened(file: Path) -> pyarrow.parquet.ParquetFile:
    """Return an open file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return pyarrow.parquet.ParquetFile(str(file))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(file, error) from None


def is_large(files: Sequence[Path]) -> bool:
    """Return whether the rows of files are too many to be read into memory."""
    total = 0
    for file in files:
        with opened(file) as parquet:
            about = parquet.metadata
            total += about.num_rows * about.num_columns * 8  # as float64, which columns are typed as
    return total > mapped.IN_MEMORY


def numbers_of(title: str, files: Sequence[Path], label: str | None) -> tuple[np.ndarray, np.ndarray, list[str], str]:
    """Return the features [N, D] and labels [N] of a large table of numbers, read by row groups onto disk; the names of
    the features; and that of the labels.

    Args:
        title: of the table, for messages.
        files: its files.
        label: name of the column of labels; None for the last.

    Raises:
        DataError: a column holds no numbers, or a gap; a file cannot be read or has other columns; the disk is full.
    """
    with opened(files[0]) as parquet:
        schema = parquet.schema_arrow
    names = list(schema.names)
    if label is not None and label not in names:
        raise DataError(f"{title}: has no column {label!r}", "label names a column", nearest(label, names))
    if len(names) < 2:
        raise DataError(f"{title}: has one column", "it needs at least one feature and the label", "add features")
    label = names[-1] if label is None else label
    features = [name for name in names if name != label]
    for name in features:
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise DataError(
                f"{title}: column {name!r} holds {kind}, and the table is larger than "
                f"{mapped.IN_MEMORY / 2**30:g} GiB in memory",
                "so large a table holds numbers without gaps, which are read by row groups onto disk",
                "code the column as numbers, or leave it out",
            )
    spool, labels = Spool(title), []
    with store.bar("reading the table", unit="rows") as shown:
        for file, table in _groups(files, names):
            spool.extend(_matrix(file, table, features))
            labels.append(np.asarray(table.column(label).to_numpy(zero_copy_only=False)))
            shown.update(table.num_rows)
    return spool.array(), np.concatenate(labels), features, label


def _groups(files: Sequence[Path], names: list[str]) -> Iterator[tuple[Path, pa.Table]]:
    for file in files:
        with opened(file) as parquet:
            if list(parquet.schema_arrow.names) != names:
                raise _other_columns(file, parquet.schema_arrow.names, names)
            for group in range(parquet.num_row_groups):
                try:
                    yield file, parquet.read_row_group(group)
                except (pa.ArrowException, OSError, ValueError) as error:
                    raise _broken(file, error) from None


def _matrix(file: Path, table: pa.Table, features: Sequence[str]) -> np.ndarray:
    """Return a row group as float32, as float64 where a column of it is."""
    wide = any(table.schema.field(name).type in (pa.float64(), pa.int64(), pa.uint64()) for name in features)
    found = np.empty((table.num_rows, len(features)), np.float64 if wide else np.float32)
    for i, name in enumerate(features):
        column = table.column(name)
        if column.null_count:
            raise DataError(
                f"{file}: column {name!r} has a gap", "so large a table has none", "fill it, or drop such rows"
            )
        found[:, i] = column.to_numpy(zero_copy_only=False)
    return found


def _whole(file: Path, parquet: pyarrow.parquet.ParquetFile) -> pa.Table:
    try:
        return parquet.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(file, error) from None


def _broken(file: Path, error: Any) -> DataError:
    return DataError(f"{file}: {_first_line(error)}", "it must be a whole .parquet file", "write it again")


def _other_columns(file: Path, given: Sequence[str], wanted: Sequence[str]) -> DataError:
    shown = [name for name in given if name not in wanted] or [name for name in wanted if name not in given]
    what = f"other columns than the first file ({', '.join(map(repr, shown[:5])) or 'in another order'})"
    return DataError(f"{file}: has {what}", "all files of a table have the same columns", "bring them to one form")


def _first_line(error: Any) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
