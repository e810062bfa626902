"""Long measurements as generators, which yield how far they are and return what they found."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Progress:
    """How far a measurement is.

    Attributes:
        steps_done: updates done so far, summed over members.
        steps_planned: updates in all, as far as is known now; it grows where a grid is widened.
        text: what is being done.
    """

    steps_done: int
    steps_planned: int
    text: str


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
