"""Tables and JSON on stdout, and text from outside made safe for a terminal."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surefoot.record.measures import value_text

if TYPE_CHECKING:
    from surefoot.record.decision import Decision

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]")
"""Terminal escapes of ECMA-48: control sequences, operating-system commands such as titles, and the short ones."""

_WIDEST = 100_000
"""Letters of a line where no terminal breaks it: rich would at 80."""
_FOUR_DECIMALS = (1e-3, 1e6)
"""Losses of which four decimals are at least one digit and at most ten. Chosen by hand."""
_HARMFUL = ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")
"""Unicode's controls, invisible formats (which can reverse text), private and unassigned characters, line breaks."""


def clean(text: object) -> str:
    r"""Return text without terminal escapes and control characters.

    Names of classes, files and runs come from outside; printed as they are, they could move the cursor, hide
    lines, or set the window's title. Half a surrogate pair, which stands for an undecodable byte of a file's name
    and cannot be printed, becomes "?".

    >>> clean("cat\x1b[31m\n"), clean("\x1b]0;title\x07dog"), clean("\udcff.png")
    ('cat', 'dog', '?.png')
    """
    plain = _ESCAPE.sub("", str(text))
    return "".join(
        "?" if unicodedata.category(c) == "Cs" else c for c in plain if unicodedata.category(c) not in _HARMFUL
    )


def chosen_by_it(result: Mapping[str, Any]) -> str:
    """Return what stands behind a validation result by which something was chosen, since it flatters; else nothing.

    >>> chosen_by_it({"weights": "best"}), chosen_by_it({"weights": "last"})
    (', on the part by which these weights were chosen', '')
    """
    if "decisions" in result:
        return ", on the part by which the search chose"
    return ", on the part by which these weights were chosen" if result.get("weights") == "best" else ""


def metrics_text(metrics: Mapping[str, float | None] | None) -> str | None:
    """Return metrics as a line; None where there are none.

    >>> metrics_text({"f1": 0.5, "r2": None}), metrics_text({})
    ('f1 50.00%, r2 -', None)
    """
    return ", ".join(f"{clean(name)} {value_text(name, value)}" for name, value in (metrics or {}).items()) or None


def say_notes(notes: Iterable[str], *, quiet: bool) -> None:
    """Say on stderr what is to be said of data, a line each."""
    for note in () if quiet else notes:
        print(f"note: {clean(note)}", file=sys.stderr, flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: Sequence[str] = ()) -> None:
    """Print a table on stdout: ruled on a terminal, else plain aligned text that other programs can cut.

    Args:
        columns: names of the columns.
        rows: one value for each column; a value that is None is shown as a dash.
        left: names of the columns that are aligned to the left; the others hold numbers.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    ruled = sys.stdout.isatty()
    table = Table(box=box.SIMPLE_HEAD if ruled else None, pad_edge=False, padding=(0, 1) if ruled else (0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", overflow="fold")
    for row in rows:  # Text: brackets in a name are no markup
        table.add_row(*(Text("-" if value is None else clean(value)) for value in row))
    if ruled:
        Console(highlight=False).print(table)
        return
    console = Console(width=_WIDEST, file=io.StringIO(), color_system=None)
    with console.capture() as plain:
        console.print(table)
    print("\n".join(line.rstrip() for line in plain.get().splitlines()))


def print_entries(entries: Iterable[tuple[str, str]], indent: int) -> None:
    """Print named lines; on a terminal what is too long hangs under its beginning, and each command has a line.

    Args:
        entries: name and text; commands in a text are three spaces apart.
        indent: letters before the text.
    """
    if not sys.stdout.isatty():
        for name, text in entries:
            print(f"{name:<{indent}}{text}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid()
    grid.add_column(width=indent)
    for name, text in entries:
        grid.add_row(Text(name), Text(text.replace("   ", "\n")))
    Console(highlight=False).print(grid)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


def number(value: float | None, form: str) -> str | None:
    """Return a number in a format of Python's, and None where there is none."""
    return None if value is None or value != value else format(value, form)


def loss_text(value: float | None) -> str | None:
    """Return a loss, which is in the square of the targets' unit for numbers: with four decimals where these show it.

    >>> loss_text(0.41587), loss_text(2.7e-15), loss_text(2.352720434e15), loss_text(0.0)
    ('0.4159', '2.7e-15', '2.353e+15', '0.0000')
    """
    decimals = value is None or value == 0 or _FOUR_DECIMALS[0] <= abs(value) < _FOUR_DECIMALS[1]
    return number(value, ".4f" if decimals else ".4g")


def spread_digits(values: Sequence[float]) -> int:
    """Return the significant digits with which four of what values differ by are seen; of one alone, ten.

    >>> spread_digits([1.7e9, 1.7e9 + 20]), spread_digits([0.5, -3.0]), spread_digits([1.7e9])
    (12, 4, 10)
    """
    finite = [value for value in values if math.isfinite(value)]
    spread = max(finite, default=0.0) - min(finite, default=0.0)
    if spread == 0:
        return 10
    return min(17, 4 + max(0, math.ceil(math.log10(max(map(abs, finite)) / spread))))


def counted(count: int, name: str) -> str:
    """Return a count and the name of what is counted.

    >>> counted(1, "thread"), counted(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def share(value: float | None) -> str | None:
    """Return a share in percent.

    >>> share(0.9136)
    '91.36%'
    """
    return number(value, ".2%")


def said(curves: Decision | None) -> list[str]:
    """Return what curves say, a line for each finding with its advice."""
    findings = curves.findings if curves is not None else ()
    return [
        f"{finding.name}: {finding.reason}" + (f"; {finding.advice}" if finding.advice else "") for finding in findings
    ]
