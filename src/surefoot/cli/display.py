"""What a person sees on stderr while something is computed: lines, and under them a picture, a few times a second.

It is drawn between two pieces of work, by whoever moves it on: there is no thread that would run beside a step. It
takes at most 1 % of the time, and never raises into the work. Without a terminal there are plain lines alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console
from rich.live import Live

from surefoot.cli.picture import SearchView, TrainingView, budget_left, hanging, header, line
from surefoot.record.decision import Decision
from surefoot.record.progress import Progress
from surefoot.record.run import Row

EVERY_SECONDS = 0.25
"""Between two pictures at least. Chosen by hand: as often as a person can follow."""
SHARE = 0.01
"""Of the time that drawing may take: after a picture that took t, the next waits for t / SHARE."""
_SAY_SECONDS = 10.0
"""Between two lines of a measurement's progress where there is no terminal. Chosen by hand."""


class Terminal(Console):
    """Stderr, without any style where NO_COLOR is set. Its loss is an error like any other; rich alone would exit."""

    def __init__(self, **more: Any) -> None:
        colors: Any = None if os.environ.get("NO_COLOR") else "auto"
        super().__init__(**{"stderr": True, "highlight": False, "color_system": colors, **more})

    def on_broken_pipe(self) -> None:
        """Be called while a `BrokenPipeError` is handled."""
        raise


class Display:
    """A context that shows lines, and under them a picture that changes.

    Args:
        view: what the picture shows.
        quiet: show nothing.
        console: to draw on; stderr if left out.
        clock: seconds.

    Attributes:
        live: whether pictures are drawn: on a terminal that can move its cursor.
    """

    def __init__(
        self, view: Any, *, quiet: bool = False, console: Terminal | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self.view = view
        self._console = console or Terminal(quiet=quiet)
        self.live = self._console.is_terminal and not self._console.is_dumb_terminal and not quiet
        self._live = Live(console=self._console, auto_refresh=False, get_renderable=lambda: self.view)
        self._clock, self._due, self._failed = clock, 0.0, False

    def __enter__(self) -> Self:
        if self.live:
            with self._unharmed():
                self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._unharmed():  # also after a picture that failed: the cursor is to be seen again
            self._live.stop()

    def say(self, text: str, style: str | None = None) -> None:
        """Show lines above the picture."""
        with self._unharmed():
            self._console.print(hanging(text) if self.live else text, markup=False, style=style,
                                soft_wrap=not self.live)  # fmt: skip

    def draw(self) -> None:
        """Draw the picture if one is due."""
        if self.live and not self._failed and self._clock() >= self._due:
            with self._unharmed():
                began = self._clock()
                self._live.refresh()
                ended = self._clock()
                self._due = max(began + EVERY_SECONDS, ended + (ended - began) / SHARE)

    @contextmanager
    def _unharmed(self) -> Iterator[None]:
        """Keep whatever goes wrong with showing from the run, and draw nothing more.

        A terminal that has gone, a stream that is closed or a letter that it cannot write ends the display alone.
        """
        try:
            yield
        except Exception:
            self._failed = True


class TrainingDisplay(Display):
    """How a model trains: the table of epochs, how far it is.

    Args:
        steps: of the whole run.
        more: what `Display` takes.
    """

    def __init__(self, steps: int, **more: Any) -> None:
        super().__init__(TrainingView(Progress(phase="training", steps_done=0, steps_planned=steps)), **more)

    def show_rows(self, rows: Iterable[Row]) -> None:
        """Add rows to the table; the best validation loss and accuracy so far are marked on a terminal."""
        for row in rows:
            if not self.live and not self.view.rows:
                self.say(header(row))
            self.view.add(row)
            if not self.live:
                self.say(line(row))

    def move(self, now: Progress) -> None:
        """Show how far the run is."""
        self.view.now = now
        self.draw()


class SearchDisplay(Display):
    """How a search or another measurement goes: its decisions, the step under way, what is left of its budget.

    Args:
        more: what `Display` takes.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(SearchView(Progress(steps_done=0, steps_planned=1)), **more)
        self._said = float("-inf")

    def show(self, decisions: Iterable[Decision]) -> None:
        """Add a line for each decision."""
        for made in decisions:
            colour = {"pass": "green", "suspect": "yellow", "fail": "bold red"}[made.verdict]
            self.say(f"step {made.step}   {made.name:<15} {made.verdict:<8}{made.reason}", colour)

    def move(self, now: Progress) -> None:
        """Show what is being measured and how far that is; without a terminal at most every ten seconds."""
        self.view.now = now
        self.draw()
        if not self.live and now.doing and time.monotonic() - self._said > _SAY_SECONDS:
            self._said = time.monotonic()
            alive = f", {now.alive} of {now.members} still training" if now.alive else ""
            budget = f"; {budget_left(now)}" if now.budget is not None else ""
            self.say(f"{now.steps_done:>9,} of {now.steps_planned:,} steps: {now.doing}{alive}{budget}")
