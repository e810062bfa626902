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
from torch import nn
from torch.utils.data import DataLoader

from surefoot.steps.snapshot import Kept, is_generator, state_bytes

_SHOWN = 5
_LINKS = ("sampler", "batch_sampler", "dataset", "datasets", "transform", "target_transform", "transforms")
"""Where a DataLoader leads to objects that may draw random numbers: torch's own names, and torchvision's."""


@dataclass(frozen=True)
class Proof:
    """That nothing was changed.

    Attributes:
        digest: SHA-256, as hex, over all that is kept; the same before and after the block.
    """

    digest: str


@contextmanager
def untouched(*things: Any) -> Iterator[Proof]:
    """Run the block, then put everything that it may have changed back as it was, whatever ended it.

    Kept are the states of Python's, NumPy's and torch's global random generators, and of each thing:

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
    kept = Kept()
    for number, thing in enumerate(things):
        if isinstance(thing, nn.Module):
            for name, module in thing.named_modules():
                kept.keep(f"model {number} {name or '.'}", module.__dict__)
        elif isinstance(thing, torch.optim.Optimizer):
            kept.keep(f"optimizer {number}", thing.__dict__)
        elif isinstance(thing, DataLoader):
            _keep_loader(kept, f"loader {number}", thing)
    before = {**kept.digests(), **_random_digests()}
    restore_random = _random_restorer()
    try:
        for thing in things:
            if isinstance(thing, DataLoader):
                thing._iterator = None  # where it keeps its workers, a second iteration would wind back the first
        yield Proof(_total(before))
    finally:
        try:
            kept.restore()
            restore_random()
        except KeyboardInterrupt:  # what puts back can be done again from the start
            kept.restore()
            restore_random()
            raise
        after = {**kept.digests(), **_random_digests()}
        wrong = sorted(name for name in before if before[name] != after.get(name))
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise RuntimeError(f"could not be put back: {', '.join(wrong[:_SHOWN])}{more}; this is a bug of surefoot")


def _keep_loader(kept: Kept, path: str, loader: DataLoader) -> None:
    """Keep every generator that a loader leads to, and its place where it keeps its workers."""
    found: list[tuple[str, Any]] = [(path, loader)]
    seen: set[int] = set()
    while found:
        where, each = found.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, (list, tuple)):
            found += [(f"{where} {place}", one) for place, one in enumerate(each)]
            continue
        for name, value in vars(each).items() if hasattr(each, "__dict__") else ():
            if is_generator(value):
                kept.keep(f"{where} {name}", value)
            elif name in _LINKS:
                found.append((f"{where} {name}", value))
    kept.keep_attribute(f"{path} position", loader, "_iterator")


def _random_digests() -> dict[str, bytes]:
    states = {
        "random state of Python": random.getstate(),
        "random state of NumPy": np.random.get_state(),
        "random state of torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        states["random state of CUDA"] = tuple(torch.cuda.get_rng_state_all())
    return {name: hashlib.sha256(state_bytes(state)).digest() for name, state in states.items()}


def _random_restorer() -> Callable[[], None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

    return restore


def _total(digests: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(name.encode() + digests[name] for name in sorted(digests))).hexdigest()
