"""Values in memory, kept with what they held: each can be put back in place, and digested."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Kept:
    """Values with what they held, by path: each can be put back in place and digested.

    >>> numbers, kept = [1, 2], Kept()
    >>> kept.keep("numbers", numbers)
    >>> before = kept.digests()
    >>> numbers.append(3)
    >>> kept.digests() == before
    False
    >>> kept.restore(); numbers, kept.digests() == before
    ([1, 2], True)
    """

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # holds the value too, so that its id is not given away
        self._restorers: list[Callable[[], None]] = []
        self._digests: list[tuple[str, Callable[[], bytes]]] = []

    def keep(self, path: str, value: Any) -> None:
        """Keep what `value` holds now, and what is in it."""
        mutable = isinstance(value, (Tensor, dict, list, set, np.ndarray)) or is_generator(value)
        if not mutable or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self._keep_tensor(path, value)
        elif isinstance(value, dict):
            self._keep_dict(path, value)
        elif isinstance(value, list):
            self._keep_list(path, value)
        elif isinstance(value, set):
            members = set(value)
            self._add(path, lambda: None if value == members else _refill_set(value, members), lambda: b"")
        elif isinstance(value, np.ndarray):
            if value.dtype.hasobject or not value.flags.writeable:
                return
            copy = value.copy()
            self._add(path, lambda: np.copyto(value, copy), lambda: _array_bytes(value))
        else:
            state = _generator_state(value)
            self._add(path, lambda: _set_generator(value, state), lambda: state_bytes(_generator_state(value)))

    def keep_attribute(self, path: str, thing: Any, name: str) -> None:
        """Keep which object an attribute holds, and not what is in that object."""
        value = getattr(thing, name)
        self._add(path, lambda: setattr(thing, name, value), lambda: repr(getattr(thing, name) is value).encode())

    def restore(self) -> None:
        """Put every value back."""
        with torch.no_grad():
            for restore in self._restorers:
                restore()

    def digests(self) -> dict[str, bytes]:
        """Return the digest of every value as it is now."""
        return {path: hashlib.sha256(read()).digest() for path, read in self._digests}

    def _add(self, path: str, restore: Callable[[], None], read: Callable[[], bytes]) -> None:
        self._restorers.append(restore)
        self._digests.append((path, read))

    def _keep_tensor(self, path: str, value: Tensor) -> None:
        if isinstance(value, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            return  # has no values yet
        memory, copy, needed = value.detach(), value.detach().clone(), value.requires_grad
        grad = value.grad if value.is_leaf else None

        def restore() -> None:
            moved = value.layout == torch.strided and value.data_ptr() != memory.data_ptr()
            if moved or value.shape != memory.shape:
                value.data = memory
            if _tensor_bytes(memory) != _tensor_bytes(copy):
                memory.copy_(copy)
            if value.layout != torch.strided and _tensor_bytes(value) != _tensor_bytes(copy):
                value.copy_(copy)  # an operation in place may have given it new memory
            if value.is_leaf:
                value.requires_grad_(needed)
                value.grad = grad

        def read() -> bytes:
            return _tensor_bytes(value) + repr((value.requires_grad, value.is_leaf and value.grad is None)).encode()

        self._add(path, restore, read)
        if grad is not None:
            self.keep(f"{path}.grad", grad)

    def _keep_dict(self, path: str, value: dict[Any, Any]) -> None:
        items = list(value.items())

        def restore() -> None:
            if not _same(list(value.items()), items):
                value.clear()
                for key, each in items:  # a Counter's `update` adds
                    value[key] = each

        self._add(path, restore, lambda: _plain_bytes(value.items()))
        for position, (key, each) in enumerate(items):
            self.keep(f"{path} {key if isinstance(key, (str, int)) else position}", each)

    def _keep_list(self, path: str, value: list[Any]) -> None:
        items = list(value)

        def restore() -> None:
            if len(value) != len(items) or any(a is not b for a, b in zip(value, items, strict=True)):
                value[:] = items

        self._add(path, restore, lambda: _plain_bytes(enumerate(value)))
        for position, each in enumerate(items):
            self.keep(f"{path} {position}", each)


def _same(now: list[tuple[Any, Any]], before: list[tuple[Any, Any]]) -> bool:
    return len(now) == len(before) and all(
        a is c and b is d for (a, b), (c, d) in zip(now, before, strict=True)
    )  # `is`: keys may be tensors, which == compares element by element


def _refill_set(value: set[Any], members: set[Any]) -> None:
    value.clear()
    value.update(members)


def _plain_bytes(items: Any) -> bytes:
    """Return keys and plain values as bytes; what else there is has a digest of its own, or is kept by reference."""
    return repr([(key if _is_plain(key) else "", each if _is_plain(each) else "") for key, each in items]).encode()


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes))


def _tensor_bytes(value: Tensor) -> bytes:
    """Return shape, type, place and all the bits of a tensor, so that NaN equals NaN and -0 is not 0."""
    head = repr((tuple(value.shape), value.dtype, value.device)).encode()
    if value.device.type == "meta":
        return head
    whole = value.detach().to_dense() if value.layout != torch.strided else value.detach()
    flat = whole.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return head + flat.view(torch.uint8).numpy().tobytes()


def _array_bytes(value: np.ndarray) -> bytes:
    return repr((value.shape, value.dtype)).encode() + value.tobytes()


def is_generator(value: Any) -> bool:
    """Return whether this draws random numbers from a state of its own."""
    return isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random))


def _generator_state(value: Any) -> Any:
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    return value.getstate() if isinstance(value, random.Random) else value.get_state()


def _set_generator(value: Any, state: Any) -> None:
    if isinstance(value, np.random.Generator):
        value.bit_generator.state = state
    elif isinstance(value, random.Random):
        value.setstate(state)
    else:
        value.set_state(state)


def state_bytes(state: Any) -> bytes:
    """Return the state of a generator, of whatever tuples, dicts, arrays and numbers it is made, as bytes."""
    if isinstance(state, Tensor):
        return _tensor_bytes(state)
    if isinstance(state, np.ndarray):
        return _array_bytes(state)
    if isinstance(state, dict):
        return b"".join(str(key).encode() + state_bytes(each) for key, each in state.items())
    return b"".join(map(state_bytes, state)) if isinstance(state, tuple) else repr(state).encode() + b";"
