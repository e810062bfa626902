"""`untouched`: what is measured on the caller's own objects leaves them as they were, byte for byte, and proves it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

_SHOWN = 5
_LINKS = ("sampler", "batch_sampler", "dataset", "datasets", "transform", "target_transform", "transforms")
"""Where a DataLoader leads to objects that may draw random numbers: torch's own names, and torchvision's."""


@dataclass(frozen=True)
class Proof:
    """That nothing was changed.

    Attributes:
        digest: SHA-256, as hex, over all that can be put back; the same before and after the block.
    """

    digest: str


@contextmanager
def untouched(*things: Any) -> Iterator[Proof]:
    """Run the block, then put everything that it may have changed back as it was, whatever ended it.

    Put back are the states of Python's, NumPy's and torch's global random generators, and of each thing:

    - a module: parameters, buffers, gradients, `requires_grad`, modes, and all that hangs on its modules as numbers,
      lists, dicts, tensors, arrays and generators;
    - a torch optimizer: the same of its state and its groups;
    - a DataLoader: every generator in it, its samplers, its dataset and their transforms, and its position where it
      keeps its workers.

    Tensors keep their memory; one that did not change is not written to, so a graph that holds it stays valid.

    Args:
        things: any number of these; anything else is let be.

    Raises:
        RuntimeError: something could not be put back; it is named. That is a bug of this package.

    >>> model = nn.Linear(2, 1)
    >>> before = model.weight.clone()
    >>> with untouched(model) as proof:
    ...     noise = torch.randn(1, 2)
    ...     _ = model.eval().weight.data.add_(noise)
    >>> model.training, torch.equal(model.weight, before), len(proof.digest)
    (True, True, 64)
    """
    snapshot = Snapshot()
    for number, thing in enumerate(things):
        if isinstance(thing, nn.Module):
            for name, module in thing.named_modules():
                snapshot.keep(f"model {number} {name or '.'}", module.__dict__)
        elif isinstance(thing, torch.optim.Optimizer):
            snapshot.keep(f"optimizer {number}", thing.__dict__)
        elif isinstance(thing, DataLoader):
            _keep_loader(snapshot, f"loader {number}", thing)
    _keep_global_generators(snapshot)
    before = snapshot.digests()
    try:
        for thing in things:
            if isinstance(thing, DataLoader):
                thing._iterator = None  # where it keeps its workers, a second iteration would wind back the first
        yield Proof(hashlib.sha256(b"".join(name.encode() + before[name] for name in sorted(before))).hexdigest())
    finally:
        try:
            snapshot.restore()
        except KeyboardInterrupt:  # what puts back can be done again from the start
            snapshot.restore()
            raise
        after = snapshot.digests()
        wrong = sorted(name for name in before if before[name] != after[name])
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise RuntimeError(f"could not be put back: {', '.join(wrong[:_SHOWN])}{more}; this is a bug of surefoot")


def _keep_global_generators(snapshot: Snapshot) -> None:
    snapshot.keep_state("random state of Python", random.getstate, random.setstate)
    snapshot.keep_state("random state of NumPy", np.random.get_state, np.random.set_state)
    snapshot.keep_state("random state of torch", torch.get_rng_state, torch.set_rng_state)
    if torch.cuda.is_initialized():
        cuda = torch.cuda
        snapshot.keep_state("random state of CUDA", lambda: tuple(cuda.get_rng_state_all()), cuda.set_rng_state_all)


def _keep_loader(snapshot: Snapshot, path: str, loader: DataLoader) -> None:
    """Keep every generator that a loader leads to, and its place where it keeps its workers."""
    waiting: list[tuple[str, Any]] = [(path, loader)]
    visited: set[int] = set()
    while waiting:
        where, thing = waiting.pop()
        if id(thing) in visited:
            continue
        visited.add(id(thing))
        if isinstance(thing, (list, tuple)):
            waiting += [(f"{where} {place}", entry) for place, entry in enumerate(thing)]
            continue
        for name, value in vars(thing).items() if hasattr(thing, "__dict__") else ():
            if is_generator(value):
                snapshot.keep(f"{where} {name}", value)
            elif name in _LINKS:
                waiting.append((f"{where} {name}", value))
    snapshot.keep_attribute(f"{path} position", loader, "_iterator")


class Snapshot:
    """Values with what they held, by path: each can be put back in place and digested.

    >>> numbers, snapshot = [1, 2], Snapshot()
    >>> snapshot.keep("numbers", numbers)
    >>> before = snapshot.digests()
    >>> numbers.append(3)
    >>> snapshot.digests() == before
    False
    >>> snapshot.restore(); numbers, snapshot.digests() == before
    ([1, 2], True)
    """

    def __init__(self) -> None:
        self._values: dict[int, Any] = {}  # holds the value too, so that its id is not given away
        self._restorers: list[Callable[[], None]] = []
        self._digests: list[tuple[str, Callable[[], bytes]]] = []

    def keep(self, path: str, value: Any) -> None:
        """Keep what `value` holds now, and what is in it."""
        mutable = isinstance(value, (Tensor, dict, list, set, np.ndarray)) or is_generator(value)
        if not mutable or id(value) in self._values:
            return
        self._values[id(value)] = value
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
            self.keep_state(path, lambda: _generator_state(value), lambda state: _set_generator(value, state))

    def keep_attribute(self, path: str, thing: Any, name: str) -> None:
        """Keep which object an attribute holds, and not what is in that object."""
        value = getattr(thing, name)
        self._add(path, lambda: setattr(thing, name, value), lambda: repr(getattr(thing, name) is value).encode())

    def keep_state(self, path: str, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        """Keep the state of a random generator, given how it is read and written."""
        state = read()
        self._add(path, lambda: write(state), lambda: state_bytes(read()))

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
