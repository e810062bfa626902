"""A tensor whose rows lie on disk: without storage, and gathered from the file when they are selected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from surefoot.data.mapped import Mapped, pieces


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

    @classmethod
    def of(cls, x: Tensor, device: torch.device) -> MappedTensor:
        """Return a tensor in the memory of the host as one whose rows go to a device when they are selected."""
        return cls(Mapped(x.numpy()), device)

    def gathered(self, key: Any) -> Tensor:
        """Return rows by a slice, numbers or a mask, as a tensor of its own memory on the device."""
        read = self.rows[key.cpu().numpy() if isinstance(key, Tensor) else key]
        fresh = read.flags.owndata and read.flags.c_contiguous  # rows by their numbers are a copy already
        return uploaded(read if fresh else np.array(read, order="C"), self.device)

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
                    return MappedTensor(
                        x.rows.changed(partial(np.asarray, dtype=torch.empty(0, dtype=dtype).numpy().dtype)), device
                    )

        def whole(value: Any) -> Any:
            return value.gathered(slice(None)) if isinstance(value, MappedTensor) else value

        return func(*tree_map(whole, args), **tree_map(whole, kwargs))


def uploaded(array: np.ndarray, device: torch.device) -> Tensor:
    """Return an array that can be written to on a device; on the CPU it shares its memory.

    From pinned memory, so that the host does not wait for what a card has still to do.
    """
    host = torch.from_numpy(array)
    if device.type != "cuda" or host.numel() == 0:
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)
