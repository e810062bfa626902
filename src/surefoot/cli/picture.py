"""The pictures of a live display, as lines of text for a width: pure functions of what was seen.

Columns and parts fall away where the terminal is narrow, the least telling first, and nothing is cut or wrapped.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from surefoot.cli.sparks import Curve, sparkline
from surefoot.record.progress import Progress
from surefoot.record.run import Row

COLUMNS = (
    ("epoch", 7), ("step", 8), ("lr", 9), ("train loss", 10), ("train acc", 9), ("val loss", 9), ("val acc", 8),
    ("|grad|", 8), ("|dW|/|W|", 9), ("ex/s", 8), ("seconds", 8),
)  # fmt: skip
_KEPT = (
    "epoch", "val acc", "val loss", "train loss", "train acc", "lr", "seconds", "step", "|grad|", "|dW|/|W|", "ex/s",
)  # fmt: skip
"""Columns, those that fall away last first."""
BEST = "*"
"""Marks the best value of a column so far, on terminals without colours too."""
_MOST_ROWS = 12
"""Of the table in the picture; the best ones stay though they are older. Chosen by hand."""
_STYLE = "bold green"


@dataclass
class Seen:
    """What was seen of a training so far, in bounded memory: its last rows, its best ones, and its curves."""

    rows: list[Row] = field(default_factory=list)
    best: dict[str, Row] = field(default_factory=dict)
    losses: Curve = field(default_factory=Curve)
    accuracies: Curve = field(default_factory=Curve)
    validated: bool = False

    def add(self, row: Row) -> bool:
        """Add a row and return whether its validation is the best so far, by accuracy or else by loss."""
        self.rows = [*self.rows, row][-_MOST_ROWS:]
        self.losses.extend(row.losses or (row.train_loss,))
        self.validated |= row.val_accuracy is not None
        self.accuracies.extend((row.val_accuracy if self.validated else row.train_accuracy,))
        better = [self._better("val loss", row, row.val_loss, -1), self._better("val acc", row, row.val_accuracy, 1)]
        return better[1] if row.val_accuracy is not None else better[0]

    def _better(self, name: str, row: Row, value: float | None, sign: int) -> bool:
        if value is None or value != value:
            return False
        before = self.best.get(name)
        known = None if before is None else before.val_loss if name == "val loss" else before.val_accuracy
        if known is not None and sign * value <= sign * known:
            return False
        self.best[name] = row
        return True

    def shown(self, most: int) -> list[Row]:
        """Return at most `most` rows: the best ones, and the last."""
        pinned = {row.step: row for row in self.best.values()}
        last = [row for row in self.rows if row.step not in pinned]
        room = max(0, most - len(pinned))
        kept = {**pinned, **{row.step: row for row in (last[-room:] if room else [])}}
        return [kept[step] for step in sorted(kept)][-most:]


def cells(row: Row) -> dict[str, str]:
    """Return a row's values by column; a value that does not exist is a dash."""
    return {
        "epoch": f"{row.epoch:.2f}", "step": f"{row.step}", "lr": f"{row.lr:.3g}",
        "train loss": number(row.train_loss, ".4f"), "train acc": percent(row.train_accuracy),
        "val loss": number(row.val_loss, ".4f"), "val acc": percent(row.val_accuracy),
        "|grad|": number(row.grad_norm, ".3g"), "|dW|/|W|": number(row.update_ratio, ".1e"),
        "ex/s": f"{row.examples_per_second:.0f}", "seconds": f"{row.seconds:.1f}",
    }  # fmt: skip


def table(seen: Seen, width: int, most_rows: int) -> list[Text]:
    """Return the epoch table: the best validation loss and accuracy are marked, and stay though they are old."""
    rows = seen.shown(most_rows)
    lines = [cells(row) for row in rows]
    sizes = {
        name: max(size, *(len(line[name]) for line in lines)) if lines else size for name, size in dict(COLUMNS).items()
    }
    empty = {name for name in sizes if lines and all(line[name] == "-" for line in lines)}
    kept, used = set[str](), 0
    for name in (each for each in _KEPT if each not in empty):
        if used + sizes[name] + 1 > width:
            break
        kept.add(name)
        used += sizes[name] + 1  # and a space or a mark behind it
    names = [name for name, _ in COLUMNS if name in kept]
    found = [Text(" ".join(name.rjust(sizes[name]) for name in names), style="dim")]
    for row, line in zip(rows, lines, strict=True):
        text = Text()
        for name in names:
            best = seen.best.get(name) is row
            text.append(line[name].rjust(sizes[name]), style=_STYLE if best else "")
            text.append(BEST if best else " ", style=_STYLE if best else "")
        text.rstrip()
        found.append(text)
    return found


def curve(label: str, values: Curve, form: str, width: int, *, log: bool = False, ascii_only: bool = False) -> Text:
    """Return a curve as a line: its name, its first value, the line, its last value."""
    first, last = (format(value, form) if value is not None else "-" for value in (values.values[0], values.last))
    head, tail = f"{label:<9}{first} ", f" {last}"
    line = sparkline(values.values, width - len(head) - len(tail), log=log, ascii_only=ascii_only)
    return Text.assemble(head, (line, "cyan"), tail)


def bar(done: int, planned: int, parts: Sequence[str], width: int, *, ascii_only: bool = False) -> Text:
    """Return how far something is: its share, a bar as long as there is room, and the parts that fit beside it."""
    share = min(1.0, done / max(1, planned))
    head, room, kept = f"{share:>4.0%} ", width - 5 - 10, list[str]()  # ten letters of bar at least
    for part in parts:
        if len(part) + 2 <= room:
            kept.append(part)
            room -= len(part) + 2
    tail = "".join(f"  {part}" for part in kept)
    length = max(1, min(40, width - len(head) - len(tail)))
    full = round(share * length)
    filled, rest = ("#", "-") if ascii_only else ("━", "─")
    return Text.assemble(head, (filled * full, "green"), (rest * (length - full), "dim"), tail)


def training(seen: Seen, now: Progress, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
    """Return the picture of a training: table, curves of loss and accuracy, and how far it is."""
    lines = table(seen, width, max(1, min(_MOST_ROWS, height - 6))) if seen.rows else []
    if seen.losses.values:
        lines.append(curve("loss", seen.losses, ".4g", width, log=True, ascii_only=ascii_only))
    if seen.accuracies.values:
        label = "val acc" if seen.validated else "acc"
        lines.append(curve(label, seen.accuracies, ".2%", width, ascii_only=ascii_only))
    parts = [f"{clock(now.seconds_left)} left"] if now.seconds_left is not None else []
    parts.append(f"{now.steps_done:,} of {now.steps_planned:,} steps")
    if now.examples_per_second:
        parts.append(f"{now.examples_per_second:,.0f} examples/s")
    return [*lines, bar(now.steps_done, now.steps_planned, parts, width, ascii_only=ascii_only)]


def search(trials: Curve, now: Progress, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
    """Return the picture of a search: its step, members alive, trials so far, what is left of the budget."""
    lines = [Text(line) for line in textwrap.wrap(now.doing or "starting", width, subsequent_indent="  ")]
    if now.members:
        lines.append(Text(f"members  {now.alive} of {now.members} alive"))
    if trials.values:
        lines.append(curve("trials", trials, ".4g", width, log=True, ascii_only=ascii_only))
    lines.append(bar(now.steps_done, now.steps_planned, [f"{now.steps_done:,} of {now.steps_planned:,} steps"],
                     width, ascii_only=ascii_only))  # fmt: skip
    lines += [Text(line) for line in textwrap.wrap(budget_left(now), width, subsequent_indent=" " * 9)]
    return lines[-max(1, height - 1) :]


def budget_left(now: Progress) -> str:
    """Return what of a budget is spent, and the time that is left.

    >>> budget_left(Progress(phase="search", steps_done=0, steps_planned=1, seconds=9.0, budget="2x", spent=0.5))
    'budget   0.50 of 2x spent, 0:09 so far'
    """
    if now.spent is None or now.budget is None:
        spent = f"of {now.budget}, none spent yet"
    else:
        spent = f"{now.spent:.2f} of {now.budget} spent" if now.budget.endswith("x") else (
            f"{now.spent:.0f}s of {now.budget} spent"
        )  # fmt: skip
    left = f"{clock(now.seconds_left)} left" if now.seconds_left is not None else f"{clock(now.seconds)} so far"
    return f"budget   {spent}, {left}"


def clock(seconds: float | None) -> str:
    """Return a time as a clock shows it.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    whole = round(max(0.0, seconds or 0.0))
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def number(value: float | None, form: str) -> str:
    """Return a number, and a dash where there is none."""
    return "-" if value is None or value != value else format(value, form)


def percent(value: float | None) -> str:
    """Return a share in percent, and a dash where there is none."""
    return "-" if value is None else f"{100 * value:.2f}%"
