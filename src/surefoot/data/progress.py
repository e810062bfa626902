"""A progress bar on stderr, for what takes over two seconds on a terminal, and nothing otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

QUIET_SECONDS = 2.0
"""Work shorter than this shows no bar. Chosen by hand."""


class Bar:
    """Counts work, and after two seconds shows it. Has what pooch asks of a bar: total, update, reset, close."""

    def __init__(self, label: str, total: float = 0, unit: str = "images") -> None:
        self.label, self.total, self.unit = label, total, unit
        self._done, self._start = 0.0, time.monotonic()
        self._shown: Any = None

    def update(self, amount: float) -> None:
        """Count `amount` more."""
        self._done += amount
        if self._shown is None and sys.stderr.isatty() and time.monotonic() - self._start > QUIET_SECONDS:
            self._shown = _rich(self.unit)
            self._task = self._shown.add_task(self.label)
            self._shown.start()
        if self._shown is not None:
            self._shown.update(self._task, total=self.total or None, completed=self._done)

    def reset(self, total: float | None = None) -> None:
        """Count from nothing again."""
        self._done, self.total = 0.0, total or self.total

    def close(self) -> None:
        """Leave the line."""
        if self._shown is not None:
            self._shown.stop()
            self._shown = None


@contextmanager
def bar(label: str, total: float = 0, unit: str = "images") -> Iterator[Bar]:
    """Show a bar while the block runs.

    >>> with bar("decoding", total=3) as progress:
    ...     progress.update(1)
    """
    shown = Bar(label, total, unit)
    try:
        yield shown
    finally:
        shown.close()


def _rich(unit: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
