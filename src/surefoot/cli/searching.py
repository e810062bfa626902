"""What a person sees while a search runs: its decisions, the step under way, members alive, what the budget leaves.

All of it goes to stderr. Without a terminal there are plain lines, a step's progress at most every ten seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from rich.text import Text

from surefoot.cli.picture import budget_left, search
from surefoot.cli.screen import Screen
from surefoot.cli.sparks import Curve
from surefoot.record.decision import Decision
from surefoot.record.progress import Progress

_SAY_SECONDS = 10.0
"""Between two lines of progress where there is no terminal. Chosen by hand."""


class SearchDisplay:
    """A context that shows a search's progress. It never raises into the search.

    Args:
        folder: of the search.
        budget: that was granted, in words.
        quiet: show nothing.
        screen: to draw on; one on stderr if left out.
    """

    def __init__(self, folder: Path, budget: str, *, quiet: bool = False, screen: Screen | None = None) -> None:
        self._screen = screen or Screen(quiet=quiet)
        self._said = time.monotonic()
        self._trials, self._counted = Curve(), 0
        self._now = Progress(phase="search", steps_done=0, steps_planned=1, seconds=0.0, budget=budget)
        self._first = f"search   {folder}, budget {budget}"

    def __enter__(self) -> SearchDisplay:
        self._screen.say(self._first)
        self._screen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.__exit__(kind, value, trace)

    def show(self, decisions: Iterable[Decision]) -> None:
        """Add a line for each decision."""
        for each in decisions:
            colour = {"pass": "green", "suspect": "yellow", "fail": "bold red"}[each.verdict]
            self._screen.say(f"step {each.step}   {each.name:<15} {each.verdict:<8}{each.reason}", colour)

    def add_trials(self, losses: Iterable[float | None]) -> None:
        """Add validation losses of finished trials to their curve."""
        self._trials.extend(losses)

    def move(self, now: Progress) -> None:
        """Show what is being measured and how far that is."""
        self._now = now
        self._screen.draw(self._picture)
        if not self._screen.live and time.monotonic() - self._said > _SAY_SECONDS:
            self._said = time.monotonic()
            alive = f", {now.alive} of {now.members} members alive" if now.members else ""
            done = f"{now.steps_done:>9,} of {now.steps_planned:,} steps"
            self._screen.say(f"{done}: {now.doing}{alive}; {budget_left(now).removeprefix('budget').strip()}")

    def _picture(self, width: int, height: int) -> list[Text]:
        return search(self._trials, self._now, width, height, ascii_only=self._screen.ascii_only)
