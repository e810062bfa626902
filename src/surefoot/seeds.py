"""One integer seed -> any number of named, independent, counter-based random streams.

A stream is addressed by (seed, name, counters): the order of epoch 3 is `generator(seed, "order", 3)`
and needs nothing that came before it. So a run that is resumed at step t draws what the undisturbed run
would have drawn at step t, and no random state has to be saved.

The bits come from Philox-4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), as
shipped by NumPy; its 128-bit key is the SHA-256 of the seed and the stream's name.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


def _key(seed: int, stream: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:16], "little")


def generator(seed: int, stream: str, *counters: int) -> np.random.Generator:
    """Return NumPy's generator for one address.

    Args:
        seed: the run's seed, any integer.
        stream: the stream's name, such as "order" or "augment".
        counters: at most two non-negative integers, such as the epoch. Streams with other counters start
            2**128 draws apart, so they never overlap.

    >>> a, b = generator(0, "order", 3), generator(0, "order", 3)
    >>> bool((a.permutation(10) == b.permutation(10)).all())
    True
    """
    if len(counters) > 2:
        raise ValueError(f"a stream takes at most 2 counters, not {len(counters)}")
    high = [0, 0, *counters, *([0] * (2 - len(counters)))]
    return np.random.Generator(np.random.Philox(key=_key(seed, stream), counter=high))


def torch_seed(seed: int, stream: str, *counters: int) -> int:
    """Return a 63-bit integer for `torch.Generator.manual_seed`, a pure function of the address.

    >>> torch_seed(0, "init") == torch_seed(0, "init") != torch_seed(1, "init")
    True
    """
    text = "/".join([str(seed), stream, *map(str, counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


@contextmanager
def torch_stream(seed: int, stream: str, *counters: int) -> Iterator[None]:
    """Run the block with the default generators at one address, then put them back as they were.

    For code that draws from global state and takes no generator: weight initialisation, dropout; and code of the user's
    that draws from NumPy or Python, whose generators are set too. Where CUDA has not been initialised it stays so.

    >>> before = torch.get_rng_state()
    >>> with torch_stream(0, "init"):
    ...     a = torch.randn(3)
    >>> with torch_stream(0, "init"):
    ...     b = torch.randn(3)
    >>> bool((a == b).all()), bool((torch.get_rng_state() == before).all())
    (True, True)
    """
    with StepSeeds(seed, stream, every=True) as seeds:
        seeds.at(*counters)
        yield


class StepSeeds:
    """A context in which default generators can be set to the address (seed, stream, step) at each step or example.

    The states from before come back at the end. Dropout in step t is so a function of (seed, t) alone. Generators
    of cards are set too; where CUDA begins inside of the context, they are set then, and what comes back at the end is
    what a user had seeded for that moment. Those of NumPy and Python are set if `every`, which takes 6 us a step more.

    >>> with StepSeeds(0, "step") as seeds:
    ...     seeds.at(7); a = torch.rand(1)
    ...     seeds.at(7); b = torch.rand(1)
    >>> bool(a == b)
    True
    """

    def __init__(self, seed: int, stream: str, *, every: bool = False) -> None:
        self.seed, self.stream, self.every = seed, stream, every
        self._cards: list[tuple[torch.Generator, Tensor]] = []
        self._value: int | None = None

    def __enter__(self) -> Self:
        self._others = (np.random.get_state(), random.getstate()) if self.every else None
        self._host, self._value, self._cards = torch.get_rng_state(), None, []
        self._put_off = list[tuple[Callable[[], None], list[str]]]()
        if torch.cuda.is_initialized():
            self._hold_cards()
        else:
            self._when_cuda_begins(self._await_cards)
        return self

    def __exit__(self, *exception: Any) -> None:
        for call in self._put_off:
            torch.cuda._queued_calls.remove(call)
        torch.set_rng_state(self._host)
        for generator, state in self._cards:
            generator.set_state(state)
        if self._others is not None:
            np.random.set_state(self._others[0])
            random.setstate(self._others[1])

    def at(self, *counters: int) -> None:
        """Set the generators to the address of these counters: a step's."""
        value = self._value = torch_seed(self.seed, self.stream, *counters)
        torch.default_generator.manual_seed(value)  # put back as it was by __exit__
        for generator, _ in self._cards:
            generator.manual_seed(value)
        if self.every:  # these too come back at the end: the user's code knows no other generators
            np.random.seed(value & 0xFFFFFFFF)
            random.seed(value)

    def _await_cards(self) -> None:
        """Take the generators over as soon as CUDA begins: torch seeds them last of all it has put off until then."""
        self._when_cuda_begins(self._hold_cards)

    def _when_cuda_begins(self, call: Callable[[], None]) -> None:
        self._put_off.append((call, []))
        torch.cuda._queued_calls.append(self._put_off[-1])  # the public `_lazy_call` would format the stack each time

    def _hold_cards(self) -> None:
        self._cards = [(each, each.get_state()) for each in torch.cuda.default_generators]
        if self._value is not None:
            for generator, _ in self._cards:
                generator.manual_seed(self._value)


def generator_states() -> tuple[Any, ...]:
    """Return where torch's (on the CPU), NumPy's and Python's default generators stand: equal if none was drawn from.

    >>> before = generator_states()
    >>> with StepSeeds(0, "dataset", every=True) as seeds:
    ...     seeds.at(3, 7)
    ...     a = random.random(), np.random.rand(), float(torch.rand(()))
    ...     seeds.at(3, 7)
    ...     b = random.random(), np.random.rand(), float(torch.rand(()))
    >>> a == b, generator_states() == before
    (True, True)
    """
    of_numpy: Any = np.random.get_state()
    return (
        torch.get_rng_state().numpy().tobytes(),
        *(each.tobytes() if isinstance(each, np.ndarray) else each for each in of_numpy),
        random.getstate(),
    )
