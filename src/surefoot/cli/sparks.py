"""A curve as one line of text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-=+*%#"
MOST = 2048
"""Values that a curve keeps; more are averaged in pairs. Many times the columns of a terminal. Chosen by hand."""


def sparkline(values: Sequence[float], width: int, *, log: bool = False, ascii_only: bool = False) -> str:
    """Return values as a line of at most `width` letters, from lowest to highest; more values are averaged.

    Args:
        values: those that are not finite are left out.
        width: in letters.
        log: on a logarithmic scale, where all are above 0.
        ascii_only: for terminals that know no blocks.

    >>> sparkline([1, 2, 3, 8], 10)
    '▁▂▃█'
    >>> sparkline([0, 0, 1, 1], 2, ascii_only=True)
    '_#'
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    if log and min(finite) > 0:
        finite = [math.log(value) for value in finite]
    count = min(width, len(finite))
    edges = [round(i * len(finite) / count) for i in range(count + 1)]
    means = [sum(finite[low:high]) / (high - low) for low, high in pairwise(edges)]
    letters = ASCII if ascii_only else BLOCKS
    low, span = min(means), max(means) - min(means)
    return "".join(letters[round((mean - low) / span * 7) if span else 0] for mean in means)


class Curve:
    """Values that arrive one by one, kept in bounded memory.

    >>> curve = Curve()
    >>> curve.extend(float(i) for i in range(10_000))
    >>> len(curve.values) <= MOST, curve.last
    (True, 9999.0)
    """

    def __init__(self) -> None:
        self.values: list[float] = []
        self.last: float | None = None
        self._each, self._waiting = 1, list[float]()

    def extend(self, values: Iterable[float | None]) -> None:
        """Add values; None and what is not finite are left out."""
        for value in values:
            if value is None or not math.isfinite(value):
                continue
            self.last = value
            self._waiting.append(value)
            if len(self._waiting) == self._each:
                self.values.append(sum(self._waiting) / self._each)
                self._waiting.clear()
            if len(self.values) == MOST:
                self.values = [(a + b) / 2 for a, b in zip(self.values[::2], self.values[1::2], strict=True)]
                self._each *= 2
