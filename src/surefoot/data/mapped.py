"""Examples that lie on disk and are read when they are asked for: larger than memory, at constant memory.

`Mapped` is an array in a memory map, some of its rows, and what is done to those that are read. What needs all of it at
once gets all of it, as with any array: so a pass goes through `pieces`. `data.mapped_tensor` is the same to torch.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

IN_MEMORY = 2**30
"""Bytes of a memory map, or of a stream, up to which it is read into memory; what is larger stays on disk. Chosen by
hand."""
_PIECE_VALUES = 2**22
"""Values of a piece that a pass looks at: 32 MB where it makes float64 of them. Chosen by hand."""


def pieces(x: np.ndarray | Mapped, rows: int) -> Iterator[slice]:
    """Yield slices that cover the rows of an array in order, of at most so many rows and of bounded memory.

    >>> [(each.start, each.stop) for each in pieces(np.zeros((5, 2)), rows=2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    many = max(1, min(rows, _PIECE_VALUES // max(1, math.prod(x.shape[1:]))))
    for at in range(0, len(x), many):
        yield slice(at, min(at + many, len(x)))


def on_disk(x: np.ndarray) -> bool:
    """Return whether an array is a view into a memory-mapped file.

    >>> on_disk(np.zeros(3))
    False
    """
    base: Any = x
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return isinstance(base, mmap.mmap)


def large(x: np.ndarray | Mapped) -> bool:
    """Return whether this is on disk and stays there: too large to be read into memory, or a part of what is."""
    return isinstance(x, Mapped) or (x.nbytes > IN_MEMORY and on_disk(x))


class Mapped:
    """Rows of an array on disk, as far as a reader needs one: shape, type, length, and rows by number.

    Args:
        array: [M, ...], in a memory map; never written to.
        index: which rows of it, in which order, int64 [N]; None for all.
        change: makes of rows [B, ...] that were read what they are taken for, row by row; None: as they are.

    >>> x = Mapped(np.arange(12, dtype=np.int16).reshape(4, 3), change=np.float32)
    >>> x.shape, x.dtype, x.taken(np.array([3, 1]))[:].tolist()
    ((4, 3), dtype('float32'), [[9.0, 10.0, 11.0], [3.0, 4.0, 5.0]])
    """

    def __init__(
        self,
        array: np.ndarray,
        index: np.ndarray | None = None,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._array, self._index, self._change = array.view(np.ndarray), index, change
        first = self._changed(self._array[:1])
        self.shape = (len(array) if index is None else len(index), *first.shape[1:])
        self.dtype = first.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Return a row by its number, or rows by a slice, by numbers or by a mask, as an array."""
        if isinstance(key, tuple):
            return self[key[0]][key[1:] if isinstance(key[0], int | np.integer) else (slice(None), *key[1:])]
        if isinstance(key, int | np.integer):
            return self[np.array([key])][0]
        return self._changed(self._array[key if self._index is None else self._index[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def taken(self, index: np.ndarray) -> Mapped:
        """Return the rows at these places, [M]: nothing is read."""
        return Mapped(self._array, index if self._index is None else self._index[index], self._change)

    def changed(self, change: Callable[[np.ndarray], np.ndarray]) -> Mapped:
        """Return what a function makes of rows [B, ...], row by row, when they are read."""
        before = self._change
        return Mapped(self._array, self._index, change if before is None else lambda rows: change(before(rows)))

    def _changed(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._change is None else self._change(rows)
