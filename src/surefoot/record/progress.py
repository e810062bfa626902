"""How far a run, a search or a measurement is: what a long one yields, and what its folder shows to others.

Long measurements are generators, which yield their progress and return what they found. In a run's folder it is a view
and no memory: nothing is resumed from it, it is not flushed to the disk, and a run that is done has none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

PROGRESS = "progress.json"
EVERY_SECONDS = 1.0
"""Between two writings at least. Chosen by hand: short beside a person's patience, and about 0.1 ms of writing."""
_P = TypeVar("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Progress:
    """How far something is.

    Attributes:
        steps_done: updates done, of the run; of a measurement summed over members.
        steps_planned: of how many, as far as is known now; it grows where a grid is widened.
        doing: what is being measured, with the step of the procedure; empty while a run trains.
        members: recipes that are trained together; 0 where one thing is measured.
        alive: those of them that are still trained, neither diverged nor done.
        phase: "search" for the search of a tuned run and for measurements, "training" for a run.
        seconds: spent so far: of training as in a row; of a search as in its decisions, and since the last of them.
        examples_per_second: over the last piece of training; None in a search.
        budget: of a search, as it was given: "2x", "300s"; else None.
        spent: of it, in final trainings or in seconds; None before a search knows its final training.
        seconds_left: of training, or of a search's budget, expected; None where that is not known yet.
    """

    steps_done: int
    steps_planned: int
    doing: str = ""
    members: int = 0
    alive: int = 0
    phase: Literal["search", "training"] = "search"
    seconds: float = 0.0
    examples_per_second: float | None = None
    budget: str | None = None
    spent: float | None = None
    seconds_left: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)


class ProgressFile:
    """Writes progress into a folder, at most once a second.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._next = folder, 0.0

    @property
    def due(self) -> bool:
        """Whether a second has passed."""
        return time.monotonic() >= self._next

    def write(self, now: Progress) -> None:
        """Write it. A folder that cannot be written is the business of what must be written there."""
        self._next = time.monotonic() + EVERY_SECONDS
        temporary = self._folder / f".{PROGRESS}.tmp-{os.getpid()}"  # such a name is swept, should a kill leave it
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(now.to_dict()) + "\n", encoding="utf-8")
            temporary.replace(self._folder / PROGRESS)

    def remove(self) -> None:
        """Remove what was written: the run is done."""
        with contextlib.suppress(OSError):
            (self._folder / PROGRESS).unlink(missing_ok=True)


def read_progress(folder: Path) -> tuple[Progress, float] | None:
    """Return the newest progress and its age in seconds; None where there is none, or none that can be read."""
    path = folder / PROGRESS
    try:
        age = time.time() - path.stat().st_mtime
        return Progress(**json.loads(path.read_text(encoding="utf-8"))), age
    except (OSError, ValueError, TypeError):
        return None


def within(step: str, work: Generator[Progress, None, _T]) -> Generator[Progress, None, _T]:
    """Do a part of a measurement whose progress says to which step it belongs.

    >>> next(within("step 3", (Progress(0, 1, "rates") for _ in range(1)))).doing
    'step 3: rates'
    """
    try:
        while True:
            try:
                now = next(work)
            except StopIteration as end:
                return end.value
            yield dataclasses.replace(now, doing=f"{step}: {now.doing}")
    finally:
        work.close()  # whoever runs the search may stop it here; trials in progress are then saved


def finished(work: Generator[_P, None, _T], show: Callable[[_P], object] | None = None) -> _T:
    """Run a measurement to its end and return what it found.

    Args:
        work: that yields its progress and returns what it found.
        show: is called with each progress; nothing is shown if left out.

    >>> def search():
    ...     yield Progress(1, 2, "half")
    ...     return "found"
    >>> finished(search(), lambda now: print(now.doing))
    half
    'found'
    """
    while True:
        try:
            now = next(work)
        except StopIteration as end:
            return end.value
        if show is not None:
            show(now)
