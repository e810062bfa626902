"""How far a run is, for whoever watches its folder: rows may be minutes apart, this is a second old.

It is a view and no memory: nothing is resumed from it, it is not flushed to the disk, and a run that is done has none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HEARTBEAT = "heartbeat.json"
EVERY_SECONDS = 1.0
"""Between two of them at least. Chosen by hand: short beside a person's patience, and about 0.1 ms of writing."""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a run is doing.

    Attributes:
        phase: "search" for the search of a tuned run, "training" for everything else.
        steps_done: updates done, of the run; in a search, of the measurement under way, summed over members.
        steps_planned: of how many.
        seconds: spent so far: of training as in a row; of a search as in its decisions, and since the last of them.
        examples_per_second: over the last piece of training; None in a search.
        doing: in a search, what is being measured, with the step of the procedure; else empty.
        members: recipes that are trained together in a search; 0 where one thing is measured.
        alive: those of them that are still trained, neither diverged nor done.
        budget: of a search, as it was given: "2x", "300s"; else None.
        spent: of it, in final trainings or in seconds; None before a search knows its final training.
        seconds_left: of training, or of a search's budget, expected; None where that is not known yet.
    """

    phase: Literal["search", "training"]
    steps_done: int
    steps_planned: int
    seconds: float
    examples_per_second: float | None = None
    doing: str = ""
    members: int = 0
    alive: int = 0
    budget: str | None = None
    spent: float | None = None
    seconds_left: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)


class Pulse:
    """Writes heartbeats into a folder, at most one a second.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._next = folder, 0.0

    @property
    def due(self) -> bool:
        """Whether a second has passed."""
        return time.monotonic() >= self._next

    def beat(self, heartbeat: Heartbeat) -> None:
        """Write it. A folder that cannot be written is the business of what must be written there."""
        self._next = time.monotonic() + EVERY_SECONDS
        temporary = self._folder / f".{HEARTBEAT}.tmp-{os.getpid()}"  # such a name is swept, should a kill leave it
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(heartbeat.to_dict()) + "\n", encoding="utf-8")
            temporary.replace(self._folder / HEARTBEAT)

    def stop(self) -> None:
        """Remove what was written: the run is done."""
        with contextlib.suppress(OSError):
            (self._folder / HEARTBEAT).unlink(missing_ok=True)


def read_heartbeat(folder: Path) -> tuple[Heartbeat, float] | None:
    """Return the newest heartbeat and its age in seconds; None where there is none, or none that can be read."""
    path = folder / HEARTBEAT
    try:
        age = time.time() - path.stat().st_mtime
        return Heartbeat(**json.loads(path.read_text(encoding="utf-8"))), age
    except (OSError, ValueError, TypeError):
        return None
