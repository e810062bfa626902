"""Examples that come one after another, of one shape: kept in memory while they are few, then in a file on disk.

The file lies in the cache folder without a name, so that it is gone with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np

from surefoot.data import mapped
from surefoot.data.store import writable
from surefoot.errors import DataError
from surefoot.settings import cache_folder

_BLOCK_BYTES = 2**26
"""Bytes that are written at once. Chosen by hand."""
_BLOCK_ROWS = 4096
"""Rows that are kept apart until then: each has 100 bytes or so of its own."""
_SPARE_BYTES = 2**29
"""Bytes of the disk that are left to others. Chosen by hand."""


class Spool:
    """An array [N, ...] that is written row by row.

    Args:
        title: of what is written, for messages.

    >>> spool = Spool("a stream")
    >>> for i in range(3):
    ...     spool.add(np.full(2, i))
    >>> spool.array().tolist()
    [[0, 0], [1, 1], [2, 2]]
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._blocks: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._pending, self._bytes, self._count = 0, 0, 0
        self._file: IO[bytes] | None = None
        self._folder = Path()
        self._form: tuple[np.dtype[Any], tuple[int, ...]] | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, row: np.ndarray) -> None:
        """Write a row, of the shape of all others, and of their type but for text, whose length may differ.

        Raises:
            DataError: the disk has no room for it, or the cache folder cannot be written to.
        """
        self._form = self._form or (row.dtype, row.shape)
        self._rows.append(np.array(row))  # a source may give the same memory each time
        self._count += 1
        self._pending += row.nbytes
        if self._pending >= _BLOCK_BYTES or len(self._rows) >= _BLOCK_ROWS:
            self.extend()

    def extend(self, rows: np.ndarray | None = None) -> None:
        """Write rows [M, ...] after those before them."""
        if self._rows:
            self._keep(np.stack(self._rows))
            self._rows, self._pending = [], 0
        if rows is not None and len(rows):
            self._form = self._form or (rows.dtype, rows.shape[1:])
            self._count += len(rows)
            self._keep(rows)

    def array(self) -> np.ndarray:
        """Return all that was written, [N, ...], in memory or in a memory map that cannot be written to."""
        self.extend()
        dtype, shape = self._form or (np.dtype(np.float32), (1,))
        if self._file is None:
            return np.concatenate(self._blocks) if self._blocks else np.empty((0, *shape), dtype)
        self._file.flush()
        return np.memmap(self._file, dtype=dtype, mode="r", shape=(self._count, *shape))  # with a handle of its own

    def _keep(self, block: np.ndarray) -> None:
        self._blocks.append(block)
        self._bytes += block.nbytes
        if self._file is None and self._bytes > mapped.IN_MEMORY and block.dtype.kind not in "OSU":
            self._begin()
        if self._file is not None:
            assert self._form is not None
            for each in self._blocks:
                self._write(each.astype(self._form[0], copy=False))
            self._blocks = []

    def _begin(self) -> None:
        self._folder = writable(cache_folder() / "images")
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix="stream.", suffix=".tmp", delete=False) as file:
            self._file = open(file.name, "r+b")  # noqa: SIM115  # it stays open as long as the array is used
            weakref.finalize(self, self._file.close)
            with contextlib.suppress(OSError):  # an open file may have to stay until the cache is cleared
                os.unlink(file.name)

    def _write(self, block: np.ndarray) -> None:
        assert self._file is not None
        free = shutil.disk_usage(self._folder).free
        try:
            if free < block.nbytes + _SPARE_BYTES:
                raise OSError(f"{free / 1e9:,.1f} GB of its disk are free")
            self._file.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise DataError(
                f"{self.title}, of which {self._count:,} examples ({self._bytes / 1e9:,.1f} GB) have come so far: "
                f"no room in {self._folder} ({error.strerror or error})",
                f"what is larger than {mapped.IN_MEMORY / 2**30:g} GiB is kept there while it is trained on",
                "set SUREFOOT_CACHE to a folder on a larger disk, or give fewer examples",
            ) from None
