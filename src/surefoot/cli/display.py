"""What a person sees while a model trains: the epoch table, loss and accuracy as curves, how far it is.

All of it goes to stderr. Where that is no terminal there are only the table's plain lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from rich.text import Text

from surefoot.cli.picture import COLUMNS, Seen, cells, training
from surefoot.cli.screen import Screen
from surefoot.record.progress import Progress
from surefoot.record.run import Row


def header() -> str:
    """Return the table's first line."""
    return " ".join(name.rjust(width) for name, width in COLUMNS)


def line(row: Row) -> str:
    """Return a row as a line of the table; a value that does not exist is a dash."""
    values = cells(row)
    return " ".join(values[name].rjust(width) for name, width in COLUMNS)


class Display:
    """A context that shows a run's progress. It never raises into the run.

    Args:
        steps: of the whole run.
        quiet: show nothing.
        screen: to draw on; one on stderr if left out.
    """

    def __init__(self, steps: int, *, quiet: bool = False, screen: Screen | None = None) -> None:
        self._screen = screen or Screen(quiet=quiet)
        self._seen = Seen()
        self._now = Progress(phase="training", steps_done=0, steps_planned=steps, seconds=0.0)

    def __enter__(self) -> Display:
        self._screen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.__exit__(kind, value, trace)

    def say(self, text: str) -> None:
        """Show a line above the table."""
        self._screen.say(text)

    def begin_table(self) -> None:
        """Show the names of the columns, where rows are lines."""
        if not self._screen.live:
            self._screen.say(header())

    def show_rows(self, rows: Iterable[Row]) -> None:
        """Add rows to the table; the best validation loss and accuracy so far are marked on a terminal."""
        for row in rows:
            self._seen.add(row)
            if not self._screen.live:
                self._screen.say(line(row))

    def show(self, now: Progress) -> None:
        """Show how far the run is."""
        self._now = now
        self._screen.draw(self._picture)

    def _picture(self, width: int, height: int) -> list[Text]:
        return training(self._seen, self._now, width, height, ascii_only=self._screen.ascii_only)
