"""Examples that lie on disk and are read when they are asked for: larger than memory, at constant memory.

`Mapped` is the NumPy face: an array in a memory map, some of its rows, and what is done to those that are read.
`MappedTensor` is the same to torch: a tensor without storage whose rows are gathered from the file. What needs all of
it at once gets all of it, as with any other tensor: so a pass goes through `pieces`.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

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


class MappedTensor(Tensor):
    """A tensor [N, ...] whose rows lie on disk: rows that are selected are read, and moved to its device.

    Another type, device, or shape of the rows is another such tensor. All else makes a tensor of all of it first.

    >>> x = MappedTensor(Mapped(np.arange(6, dtype=np.float32).reshape(3, 2)))
    >>> x.shape, x[1].tolist(), x.index_select(0, torch.tensor([2, 0])).tolist(), x.long()[:1].tolist()
    (torch.Size([3, 2]), [2.0, 3.0], [[4.0, 5.0], [0.0, 1.0]], [[0, 1]])
    """

    rows: Mapped

    @staticmethod
    def __new__(cls, rows: Mapped, device: torch.device | str = "cpu") -> MappedTensor:
        """Return the tensor of these rows on a device."""
        dtype = torch.from_numpy(np.empty(0, rows.dtype)).dtype
        made = Tensor._make_wrapper_subclass(cls, rows.shape, dtype=dtype, device=torch.device(device))  # pyright: ignore[reportAttributeAccessIssue]
        made.rows = rows
        return made

    def __init__(self, rows: Mapped, device: torch.device | str = "cpu") -> None: ...

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"MappedTensor(shape={tuple(self.shape)}, dtype={self.dtype}, device={self.device})"

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """Return all rows as an array."""
        return np.array(self.rows[:])

    def gathered(self, key: Any) -> Tensor:
        """Return rows by a slice, numbers or a mask, as a tensor of its own memory on the device."""
        with torch.utils._python_dispatch._disable_current_modes():
            read = self.rows[key.cpu().numpy() if isinstance(key, Tensor) else key]
            return torch.from_numpy(np.array(read, order="C")).to(self.device)

    def rows_shape(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of a row where the whole has this size, in which one length may be -1."""
        known = math.prod(each for each in size[1:] if each != -1)
        return tuple(math.prod(self.shape[1:]) // known if each == -1 else each for each in size[1:])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten, kwargs = torch.ops.aten, kwargs or {}
        x, rest = args[0], args[1:]
        if isinstance(x, MappedTensor):
            if func is aten.index_select.default and rest[0] == 0:
                return x.gathered(rest[1])
            if func is aten.index.Tensor and len(rest[0]) == 1 and rest[0][0].dim() == 1:
                return x.gathered(rest[0][0])
            if func is aten.slice.Tensor and (not rest or rest[0] == 0):
                return x.gathered(slice(*rest[1:]))
            if func is aten.select.int and rest[0] == 0:
                return x.gathered(slice(rest[1], rest[1] + 1 or None))[0]
            if func is aten.detach.default:
                return MappedTensor(x.rows, x.device)
            if func in (aten.amax.default, aten.amin.default) and rest[:1] and 0 not in rest[0]:  # rows one by one
                return torch.cat([func(x.gathered(piece), *rest) for piece in pieces(x.rows, len(x))])
            if func is aten.view.default and rest[0][0] == len(x) and len(x):
                return MappedTensor(
                    x.rows.changed(lambda rows: rows.reshape(len(rows), *x.rows_shape(rest[0]))), x.device
                )
            if func is aten._to_copy.default and not set(kwargs) - {"dtype", "device", "non_blocking"}:
                device, dtype = kwargs.get("device") or x.device, kwargs.get("dtype") or x.dtype
                if dtype == x.dtype:
                    return MappedTensor(x.rows, device)
                if dtype != torch.bfloat16:
                    return MappedTensor(x.rows.changed(torch.empty(0, dtype=dtype).numpy().dtype.type), device)
        whole = lambda value: value.gathered(slice(None)) if isinstance(value, MappedTensor) else value  # noqa: E731
        return func(*tree_map(whole, args), **tree_map(whole, kwargs))
