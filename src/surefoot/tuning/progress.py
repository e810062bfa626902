"""Long measurements as generators, which yield how far they are and return what they found."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Progress:
    """How far a measurement is.

    Attributes:
        steps_done: updates done so far, summed over members.
        steps_planned: updates in all, as far as is known now; it grows where a grid is widened.
        text: what is being done.
        members: recipes that are trained together; 0 where one thing is measured.
        alive: those of them that are still trained, neither diverged nor done.
    """

    steps_done: int
    steps_planned: int
    text: str
    members: int = 0
    alive: int = 0


def within(step: str, work: Generator[Progress, None, _T]) -> Generator[Progress, None, _T]:
    """Do a part of a measurement whose progress says to which step it belongs.

    >>> next(within("step 3", (Progress(0, 1, "rates") for _ in range(1)))).text
    'step 3: rates'
    """
    try:
        while True:
            try:
                seen = next(work)
            except StopIteration as end:
                return end.value
            yield replace(seen, text=f"{step}: {seen.text}")
    finally:
        work.close()  # whoever runs the search may stop it here; trials in progress are then saved


def finished(search: Generator[Progress, None, _T]) -> _T:
    """Run a measurement to its end and return what it found.

    >>> def search():
    ...     yield Progress(1, 2, "half")
    ...     return "found"
    >>> finished(search())
    'found'
    """
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value
