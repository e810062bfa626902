"""What a person sees while a model trains: a table that grows by a row, and a bar with rate and time left.

All of it goes to stderr. Without a terminal, under CI or NO_COLOR there are only the table's plain lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from surefoot.record.run import Row

_COLUMNS = (
    ("epoch", 7), ("step", 8), ("lr", 9), ("train loss", 10), ("train acc", 9), ("val loss", 9), ("val acc", 8),
    ("|grad|", 8), ("|dW|/|W|", 9), ("ex/s", 8), ("seconds", 8),
)  # fmt: skip


def header() -> str:
    """Return the table's first line."""
    return " ".join(name.rjust(width) for name, width in _COLUMNS)


def line(row: Row) -> str:
    """Return a row as a line of the table; a value that does not exist is a dash."""
    values = (
        f"{row.epoch:.2f}", f"{row.step}", f"{row.lr:.3g}", _number(row.train_loss, ".4f"),
        _percent(row.train_accuracy), _number(row.val_loss, ".4f"), _percent(row.val_accuracy),
        _number(row.grad_norm, ".3g"), _number(row.update_ratio, ".1e"), f"{row.examples_per_second:.0f}",
        f"{row.seconds:.1f}",
    )  # fmt: skip
    return " ".join(value.rjust(width) for value, (_, width) in zip(values, _COLUMNS, strict=True))


class Display:
    """A context that shows a run's progress.

    Args:
        steps: of the whole run.
        quiet: show nothing.
    """

    def __init__(self, steps: int, *, quiet: bool = False) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True, quiet=quiet)
        self._best: float | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            refresh_per_second=4,
            disable=not self._console.is_terminal or quiet,
            transient=True,
        )
        self._bar = self._progress.add_task("training", total=steps, rate="")

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Show a line above the bar."""
        self._console.print(text, markup=False)

    def show_rows(self, rows: Iterable[Row]) -> None:
        """Add rows to the table; the best validation accuracy so far stands in bold on a terminal."""
        for row in rows:
            better = row.val_accuracy is not None and (self._best is None or row.val_accuracy > self._best)
            self._best = row.val_accuracy if better else self._best
            self._console.print(line(row), markup=False, style="bold green" if better else None)

    def show_step(self, step: int, examples_per_second: float) -> None:
        """Move the bar."""
        self._progress.update(self._bar, completed=step, rate=f"{examples_per_second:,.0f} examples/s")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or value != value else format(value, form)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}%"
