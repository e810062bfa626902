"""Processes that read examples of a Dataset ahead of the step that needs them.

What an example is depends on its address (seed, epoch, index) alone, see `data.map_style`, so who reads it, when and
beside what changes no bit. The order of an epoch is a function of the same seed, so what comes next is known: when a
batch is asked for, those after it are handed to the processes. A batch that nobody expected is read all the same.

torch's DataLoader goes from front to back, so it would begin anew for each of K members that take turns; it raises from
a signal handler, anywhere in a step, when one of its processes dies; and it wants shared memory, of which containers
have little. Here batches come through pipes, 1 GB/s or so, and nothing of the caller's process is changed.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

import numpy as np

from surefoot.data.batches import epoch_order
from surefoot.errors import ConfigError, DataError

Draw = Callable[[int, int, Sequence[int]], list[np.ndarray]]
"""(seed, epoch, positions in the Dataset [B]) -> arrays [B, ...], or raises `Fault`."""

_BATCHES_AHEAD = 2
"""Batches that are read beyond the one that is asked for. Chosen by hand: torch's DataLoader has two for each of its
processes, here all of them share the next one."""
_AT_ONCE = 4
"""Most requests that a process has at a time, which its pipe must hold: the parent waits for nobody to read them."""
_MOST_POSITIONS = 2048
"""Most examples of a request: four take 60 kB, less than the smallest buffer of a pipe on Linux."""
_END_SECONDS = 5.0
"""How long a process that was told to end may take until it is killed. Chosen by hand."""


class Fault(Exception):
    """An example that could not be read: its position, and what is wrong with it."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(at, what)
        self.at, self.what = at, what


class Died(Exception):
    """A process that ended while it read: the positions that it may have been at, and how it ended."""

    def __init__(self, positions: Sequence[int], code: int | None) -> None:
        super().__init__(positions, code)
        self.positions, self.code = positions, code


def following(rows: np.ndarray, examples: int, seed: int, epoch: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the epoch and the rows of each batch after this one, endlessly; none where it is not of the run's order.

    >>> order = epoch_order(5, seed=0, epoch=0)
    >>> after = following(order[:2], 5, seed=0, epoch=0)
    >>> [(epoch, rows.tolist()) for epoch, rows in (next(after), next(after))] == [
    ...     (0, order[2:4].tolist()), (1, epoch_order(5, seed=0, epoch=1)[:2].tolist())]
    True
    """
    order, size = epoch_order(examples, seed, epoch), len(rows)
    at = int(np.flatnonzero(order == rows[0])[0]) if size else 0
    if not size or not np.array_equal(order[at : at + size], rows):
        return
    while True:
        at += size
        if at + size > examples:
            epoch, at = epoch + 1, 0
            order = epoch_order(examples, seed, epoch)
        yield epoch, order[at : at + size]


@dataclass(eq=False)
class _Request:
    """Examples that one process reads: their address, and what came back."""

    seed: int
    epoch: int
    positions: list[int]
    left: set[int] = field(default_factory=set)  # places of those that are still wanted
    arrays: list[np.ndarray] | None = None
    fault: Fault | None = None


class _Process:
    """A process that reads, and the requests that it has, oldest first."""

    def __init__(self, draw: Draw, others: Sequence[_Process]) -> None:
        fork = sys.platform == "linux"  # a Dataset need not be picklable then; elsewhere forks are not safe
        context: Any = multiprocessing.get_context("fork" if fork else "spawn")
        self.pipe, theirs = context.Pipe()
        inherited = [self.pipe, *(each.pipe for each in others)] if fork else []
        self.process = context.Process(target=_work, args=(draw, theirs, inherited), daemon=True)
        self.requests: deque[_Request] = deque()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # as in training.population.spread
                self.process.start()
        except (AttributeError, TypeError, ValueError, RuntimeError, OSError, ImportError) as error:
            self.pipe.close()
            raise ConfigError(
                f"workers, and a Dataset that cannot be handed to a process ({type(error).__name__}: {error})",
                "here processes start anew, so a Dataset must be picklable, and a script have its main guarded by "
                'if __name__ == "__main__"',
                "define its class at the top of a module, or set workers = 0",
            ) from None
        theirs.close()

    def ask(self, request: _Request) -> None:
        """Hand over a request."""
        self.requests.append(request)
        message = {"seed": request.seed, "epoch": request.epoch, "positions": request.positions}
        with contextlib.suppress(OSError):  # it has ended: `receive` will say so
            self.pipe.send_bytes(json.dumps(message).encode())

    def receive(self) -> _Request:
        """Wait for the answer to the oldest request and return it."""
        request = self.requests[0]
        try:
            connection.wait([self.pipe, self.process.sentinel])
            head = json.loads(self.pipe.recv_bytes())
            if "fault" in head:
                request.fault = Fault(*head["fault"])
            else:
                request.arrays = []
                for dtype, shape in head["arrays"]:
                    array = np.empty(shape, np.dtype(dtype))
                    if array.nbytes:
                        self.pipe.recv_bytes_into(array.reshape(-1).view(np.uint8).data)
                    request.arrays.append(array)
        except (EOFError, OSError):
            self.process.join(_END_SECONDS)
            raise Died(request.positions, self.process.exitcode) from None
        self.requests.popleft()
        return request


class Ahead:
    """Reads batches of a Dataset, those that come next by processes of its own.

    They begin with the first batch, and end with this object, with its process however that ends, and by `close`. In a
    fork of the process, as members of a population are computed in, examples are read where they are needed.

    Args:
        draw: reads examples.
        workers: how many processes.
        examples: of the part, N, whose order is that of the run.
        index: position in the Dataset of each example of the part, int64 [N]; None for all in order.
    """

    def __init__(self, draw: Draw, workers: int, examples: int, index: np.ndarray | None) -> None:
        self._draw, self._workers, self._examples, self._index = draw, workers, examples, index
        self._pid = os.getpid()
        self._processes: list[_Process] = []
        self._where: dict[tuple[int, int, int], tuple[_Request, int]] = {}
        self._waiting: deque[_Request] = deque()
        self._end = weakref.finalize(self, _end, self._processes, self._pid)

    def close(self) -> None:
        """End the processes; a batch that is asked for later begins new ones."""
        if os.getpid() == self._pid:
            _end(self._processes, self._pid)
            self._where.clear()
            self._waiting.clear()

    def read(self, rows: np.ndarray, *, seed: int, epoch: int) -> list[np.ndarray]:
        """Return arrays [B, ...] of the examples at `rows` of the part, as they are drawn in an epoch.

        Raises:
            Fault: an example cannot be read.
            Died: a process ended while it read.
            ConfigError: the Dataset cannot be handed to processes.
        """
        if os.getpid() != self._pid:
            return self._draw(seed, epoch, self._positions(rows).tolist())
        if not self._processes:
            for _ in range(self._workers):
                self._processes.append(_Process(self._draw, self._processes))
        try:
            return self._read(rows, seed, epoch)
        except BaseException:  # what the processes have in hand belongs to a batch that nobody will take
            self.close()
            raise

    def _positions(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._index is None else self._index[rows]

    def _read(self, rows: np.ndarray, seed: int, epoch: int) -> list[np.ndarray]:
        wanted = self._addresses(rows, seed, epoch)
        self._order(wanted)
        expected = list(wanted)
        for (later, some), _ in zip(following(rows, self._examples, seed, epoch), range(_BATCHES_AHEAD), strict=False):
            upcoming = self._addresses(some, seed, later)
            self._order(upcoming)
            expected += upcoming
        self._forget(seed, set(expected))
        self._hand_out()
        return self._taken(wanted)

    def _addresses(self, rows: np.ndarray, seed: int, epoch: int) -> list[tuple[int, int, int]]:
        return [(seed, epoch, at) for at in self._positions(rows).tolist()]

    def _order(self, addresses: Iterable[tuple[int, int, int]]) -> None:
        """Make requests of those that none holds yet, of like size for all processes."""
        missing = [each for each in dict.fromkeys(addresses) if each not in self._where]
        size = min(_MOST_POSITIONS, -(-len(missing) // self._workers))
        for first in range(0, len(missing), max(1, size)):
            some = missing[first : first + size]
            request = _Request(*some[0][:2], [at for _, _, at in some], set(range(len(some))))
            self._where |= {address: (request, place) for place, address in enumerate(some)}
            self._waiting.append(request)

    def _forget(self, seed: int, expected: set[tuple[int, int, int]]) -> None:
        """Drop what was read ahead of a seed's order and is not wanted any more."""
        for address in [each for each in self._where if each[0] == seed and each not in expected]:
            request, place = self._where.pop(address)
            request.left.discard(place)
        self._waiting = deque(request for request in self._waiting if request.left)

    def _hand_out(self) -> None:
        """Give waiting requests to the processes that have least to do."""
        while self._waiting:
            process = min(self._processes, key=lambda each: len(each.requests))
            if len(process.requests) >= _AT_ONCE:
                return
            process.ask(self._waiting.popleft())

    def _taken(self, addresses: Sequence[tuple[int, int, int]]) -> list[np.ndarray]:
        """Return what was read of these addresses, waiting for it, and let go of it."""
        found: list[np.ndarray] = []
        by_request: dict[_Request, list[tuple[int, int]]] = {}
        for i, address in enumerate(addresses):
            request, place = self._where[address]
            by_request.setdefault(request, []).append((i, place))
        for request, pairs in by_request.items():
            while request.arrays is None and request.fault is None:
                holder = next((each for each in self._processes if request in each.requests), None)
                if holder is None:  # all processes have as much as their pipes hold
                    holder = min(self._processes, key=lambda each: len(each.requests))
                holder.receive()
                self._hand_out()
            if request.fault is not None:
                raise request.fault
            assert request.arrays is not None
            found = found or [np.empty((len(addresses), *each.shape[1:]), each.dtype) for each in request.arrays]
            to, places = (np.array(each) for each in zip(*pairs, strict=True))
            for whole, piece in zip(found, request.arrays, strict=True):
                whole[to] = piece[places]
        for address in set(addresses):
            request, place = self._where.pop(address)
            request.left.discard(place)
        return found


def _end(processes: list[_Process], pid: int) -> None:
    """End processes that read, whatever they do; in a fork of the process that has them they are not ours."""
    if os.getpid() != pid:
        return
    for each in processes:
        each.process.terminate()
    for each in processes:
        each.process.join(_END_SECONDS)
        if each.process.is_alive():
            each.process.kill()
            each.process.join()
        each.pipe.close()
        each.process.close()
    processes.clear()


def _work(draw: Draw, pipe: Any, inherited: Sequence[Any]) -> None:
    """The life of a process: read what is asked for, in order, and send it while the next is read."""
    for each in inherited:
        each.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the parent decides, and ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_watch, daemon=True).start()
    answers: queue.SimpleQueue[tuple[bytes, list[np.ndarray]]] = queue.SimpleQueue()
    threading.Thread(target=_send, args=(pipe, answers), daemon=True).start()
    while True:
        try:
            asked = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            arrays = [np.ascontiguousarray(each) for each in draw(asked["seed"], asked["epoch"], asked["positions"])]
            head: dict[str, Any] = {"arrays": [(each.dtype.str, each.shape) for each in arrays]}
        except Fault as fault:
            arrays, head = [], {"fault": [fault.at, fault.what]}
        answers.put((json.dumps(head).encode(), arrays))


def _send(pipe: Any, answers: queue.SimpleQueue[tuple[bytes, list[np.ndarray]]]) -> None:
    with contextlib.suppress(OSError):
        while True:
            head, arrays = answers.get()
            pipe.send_bytes(head)
            for each in arrays:
                if each.nbytes:
                    pipe.send_bytes(each.reshape(-1).view(np.uint8).data)


def _watch() -> None:
    """End this process when its parent has ended, be it by SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while os.getppid() == parent.pid:
        if connection.wait([parent.sentinel], timeout=0.5):
            break
    os._exit(1)


def died(error: Died, prefix: str, epoch: int) -> DataError:
    """Return what to tell the user of a process that ended."""
    first, last = error.positions[0], error.positions[-1]
    where = f"{prefix}{first}" + (f", or one of the {len(error.positions) - 1} read after it" if first != last else "")
    code = error.code or 0
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return DataError(
        f"{where}, in epoch {epoch}: the process that read it ended {how}",
        "the processes that read a Dataset must live: the system may have ended it where memory is short",
        "set fewer workers, or workers = 0 to see what the Dataset does; a run that has a name goes on from its newest "
        "checkpoint",
    )
