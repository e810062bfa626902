"""The pictures of a live display: a training, and a search or another measurement, each for any width of a terminal.

Columns and words fall away where the terminal is narrow, the least telling first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from surefoot.cli.tables import clean, loss_text, number, share
from surefoot.record.measures import ACCURACY, LOSS, RISES, is_better, number_of, value_text
from surefoot.record.progress import Progress
from surefoot.record.run import Row

COLUMNS = {
    "epoch": 7, "step": 8, "lr": 9, "train loss": 10, "train acc": 9, "val loss": 9, "val acc": 8, "|grad|": 8,
    "|dW|/|W|": 9, "ex/s": 8, "seconds": 8,
}  # fmt: skip
"""Columns of the table of rows, and their widths in letters."""
_METRIC_WIDTH = 9
_TELLING = (
    "epoch", "val acc", "val loss", "train loss", "train acc", "lr", "seconds", "step", "|grad|", "|dW|/|W|", "ex/s",
)  # fmt: skip
"""Columns, the most telling first."""
BEST = "*"
"""Marks the best value of a column so far, on terminals without colours too."""
_MOST_ROWS = 12
"""Of the table in the picture; the best ones stay though they are older. Chosen by hand."""


def cells(row: Row) -> dict[str, str]:
    """Return a row's values by column; a value that does not exist is a dash."""
    values = {
        "epoch": f"{row.epoch:.2f}", "step": f"{row.step}", "lr": f"{row.lr:.3g}",
        "train loss": loss_text(row.train_loss), "train acc": share(row.train_accuracy),
        "val loss": loss_text(row.val_loss), "val acc": share(row.val_accuracy),
        "|grad|": number(row.grad_norm, ".3g"), "|dW|/|W|": number(row.update_ratio, ".1e"),
        "ex/s": f"{row.examples_per_second:.0f}", "seconds": f"{row.seconds:.1f}",
        **{clean(name): value_text(name, row.metrics[name]) for name in _metrics(row)},
    }  # fmt: skip
    return {name: value or "-" for name, value in values.items()}


def columns_of(row: Row) -> dict[str, int]:
    """Return the columns of a table of such rows and their widths: its metrics are the last."""
    return COLUMNS | {clean(name): max(len(clean(name)), _METRIC_WIDTH) for name in _metrics(row)}


def header(row: Row) -> str:
    """Return the first line of a table of such rows."""
    return " ".join(name.rjust(width) for name, width in columns_of(row).items())


def line(row: Row) -> str:
    """Return a row as a line of that table."""
    values = cells(row)
    return " ".join(values[name].rjust(width) for name, width in columns_of(row).items())


def _metrics(row: Row) -> list[str]:
    return [name for name in row.metrics if name != ACCURACY]  # which has its column


@dataclass
class TrainingView:
    """A training as it is drawn, in bounded memory: a table of its last rows and its best ones, how far it is.

    Attributes:
        now: how far it is.
        rows: the last of them.
        best: the best row so far, by the name of its column: "val loss", "val acc" and shipped metrics.
    """

    now: Progress
    rows: list[Row] = field(default_factory=list)
    best: dict[str, Row] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Add a row."""
        self.rows = [*self.rows, row][-_MOST_ROWS:]
        names = {"val loss": LOSS, "val acc": ACCURACY} | {name: name for name in _metrics(row) if name in RISES}
        for column, name in names.items():
            value, best = number_of(row, name), self.best.get(column)
            than = None if best is None else number_of(best, name)
            if value is not None and (than is None or is_better(value, than, name)):
                self.best[column] = row

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the table and a bar."""
        height = options.max_height or console.height
        if self.rows:
            yield self._table(options.max_width, max(1, min(_MOST_ROWS, height - 4)))
        now = self.now
        parts = [f"{clock(now.seconds_left)} left"] if now.seconds_left is not None else []
        parts.append(f"{now.steps_done:,} of {now.steps_planned:,} steps")
        if now.examples_per_second:
            parts.append(f"{now.examples_per_second:,.0f} examples/s")
        yield _bar(now, parts, options.max_width)

    def _table(self, width: int, most: int) -> Table:
        best = {row.step: row for row in self.best.values()}
        last = [row for row in self.rows if row.step not in best]
        best |= {row.step: row for row in last[max(0, len(last) + len(best) - most) :]}
        rows = [best[step] for step in sorted(best)][-most:]
        lines = [cells(row) for row in rows]
        columns = columns_of(rows[-1])
        sizes = {name: 1 + max(size, *(len(cell.get(name, "")) for cell in lines)) for name, size in columns.items()}
        names, used = set[str](), 0
        for name in (_TELLING[0], *list(columns)[len(COLUMNS) :], *_TELLING[1:]):
            if all(cell.get(name, "-") == "-" for cell in lines):
                continue
            if (used := used + sizes[name]) > width:
                break
            names.add(name)
        table = Table(box=None, padding=0, header_style="dim")
        shown = [name for name in columns if name in names]
        for name in shown:
            table.add_column(name, justify="right", width=sizes[name], no_wrap=True)
        for row, cell in zip(rows, lines, strict=True):
            marked = {name for name in shown if self.best.get(name) is row}
            table.add_row(
                *(Text(BEST + cell[name], "bold green") if name in marked else cell.get(name, "-") for name in shown)
            )
        return table


@dataclass
class SearchView:
    """A search or another measurement as it is drawn: its step, members alive, what its budget leaves.

    Attributes:
        now: how far it is.
    """

    now: Progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give a line for each, and a bar."""
        now = self.now
        yield hanging(now.doing or "starting")
        if now.members:
            yield Text(f"members  {now.alive} of {now.members} still training")
        yield _bar(now, [f"{now.steps_done:,} of {now.steps_planned:,} steps"], options.max_width)
        if now.budget is not None:
            yield hanging(f"budget   {budget_left(now)}")


def hanging(text: str) -> Group:
    """Return lines that break between words; what stands behind a word and three spaces hangs under itself."""
    lines = []
    for words in text.split("\n"):
        _, gap, rest = words.partition("   ")
        rest = rest.lstrip() if gap else words
        grid = Table.grid()
        grid.add_column(no_wrap=True)
        grid.add_row(Text(words[: len(words) - len(rest)]), Text(rest))
        lines.append(grid)
    return Group(*lines)


def budget_left(now: Progress) -> str:
    """Return what of a budget is spent, and the time that is left.

    >>> budget_left(Progress(phase="search", steps_done=0, steps_planned=1, seconds=9.0, budget="2x", spent=0.5))
    '0.50 of 2x spent, 0:09 so far'
    """
    if now.spent is None or now.budget is None:
        spent = f"of {now.budget}, none spent yet"
    elif now.budget.endswith("x"):
        spent = f"{now.spent:.2f} of {now.budget} spent"
    else:
        spent = f"{now.spent:.0f}s of {now.budget} spent"
    left = f"{clock(now.seconds_left)} left" if now.seconds_left is not None else f"{clock(now.seconds)} so far"
    return f"{spent}, {left}"


def clock(seconds: float) -> str:
    """Return a time as a clock shows it.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _bar(now: Progress, parts: Sequence[str], width: int) -> Table:
    """How far something is: its share, a bar as long as there is room, and beside it the parts that fit."""
    words = ""
    for part in parts:
        if len(words) + len(part) + 2 <= width - 16:  # the share, and ten letters of bar
            words += f"  {part}"
    length = min(40, width - 6 - len(words))
    done = min(1.0, now.steps_done / max(1, now.steps_planned))
    grid = Table.grid()
    grid.add_column(width=5)
    grid.add_column(width=length)
    bar = ProgressBar(total=1.0, completed=done, width=length, complete_style="green", finished_style="green")
    grid.add_row(f"{done:>4.0%}", bar, Text(words))
    return grid
