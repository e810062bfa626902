"""Tables and JSON on stdout, and text from outside made safe for a terminal."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.record.decision import Decision

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]")
"""Terminal escapes of ECMA-48: control sequences, operating-system commands such as titles, and the short ones."""

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
    kept = _ESCAPE.sub("", str(text))
    return "".join(
        "?" if unicodedata.category(c) == "Cs" else c for c in kept if unicodedata.category(c) not in _HARMFUL
    )


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: Sequence[str] = ()) -> None:
    """Print a table on stdout: ruled on a terminal, else plain aligned text that other programs can cut.

    Args:
        columns: names of the columns.
        rows: one value for each column; a value that is None is shown as a dash.
        left: names of the columns that are aligned to the left; the others hold numbers.
    """
    cells = [["-" if value is None else clean(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_ruled(columns, cells, left)
    else:
        print(aligned(columns, cells, left))


def aligned(columns: Sequence[str], cells: Sequence[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Return a table as plain text, two spaces between columns. Wide characters count as two.

    >>> print(aligned(["class", "n"], [["cat", "7"], ["zebra", "12"]], left=["class"]))
    class   n
    cat     7
    zebra  12
    """
    from rich.cells import cell_len

    lines = [list(columns), *cells]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(columns))]

    def padded(text: str, i: int) -> str:
        space = " " * (widths[i] - cell_len(text))
        return text + space if columns[i] in left else space + text

    return "\n".join("  ".join(padded(text, i) for i, text in enumerate(line)).rstrip() for line in lines)


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


def share(value: float | None) -> str | None:
    """Return a share in percent.

    >>> share(0.9136)
    '91.36%'
    """
    return number(value, ".2%")


def _print_ruled(columns: Sequence[str], cells: Sequence[Sequence[str]], left: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))  # Text: brackets in a name are no markup
    Console(highlight=False).print(table)


def said(curves: Decision | None) -> list[str]:
    """Return what curves say, a line for each finding with its advice."""
    found = curves.findings if curves is not None else ()
    return [f"{each.name}: {each.reason}" + (f"; {each.advice}" if each.advice else "") for each in found]
