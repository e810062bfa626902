"""What a person sees while a search runs: a line for each decision, and how far the present step is.

All of it goes to stderr. Without a terminal there are plain lines, a step's progress at most every ten seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from surefoot.record.decision import Decision

_SAY_SECONDS = 10.0
"""Between two lines of progress where there is no terminal. Chosen by hand."""


class SearchDisplay:
    """A context that shows a search's progress.

    Args:
        folder: of the search.
        budget: that was granted, in words.
        quiet: show nothing.
    """

    def __init__(self, folder: Path, budget: str, *, quiet: bool = False) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True, quiet=quiet)
        self._plain = not self._console.is_terminal
        self._said = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            console=self._console, refresh_per_second=4, disable=self._plain or quiet, transient=True,
        )  # fmt: skip
        self._bar = self._progress.add_task("searching", total=None)
        self._first = f"search   {folder}, budget {budget}"

    def __enter__(self) -> SearchDisplay:
        self._console.print(self._first, markup=False)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, decisions: Iterable[Decision]) -> None:
        """Add a line for each decision."""
        for each in decisions:
            colour = {"pass": "green", "suspect": "yellow", "fail": "bold red"}[each.verdict]
            self._console.print(f"step {each.step}   {each.name:<15} {each.verdict:<8}", style=colour, end="")
            self._console.print(each.reason, markup=False)

    def move(self, done: int, planned: int, text: str) -> None:
        """Show how far the present step is, in updates."""
        self._progress.update(self._bar, completed=done, total=max(planned, 1), description=text)
        if self._plain and time.monotonic() - self._said > _SAY_SECONDS:
            self._said = time.monotonic()
            self._console.print(f"{done:>9,} of {planned:,} steps: {text}", markup=False)
