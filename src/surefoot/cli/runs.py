"""`surefoot runs`: the runs here, filtered and sorted, as a table, CSV or JSON."""

from __future__ import annotations

import csv as csv_
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from surefoot.cli.show import _listed, _print_list
from surefoot.cli.tables import print_json
from surefoot.errors import ConfigError, nearest
from surefoot.record.stored import run_folders

COLUMNS = (
    "run", "state", "data", "model", "lr", "seed", "epochs", "val_accuracy", "test_accuracy", "test_loss",
)  # fmt: skip
Switch = Parameter(negative=())


def runs(
    *,
    where: tuple[str, ...] = (),
    sort: str | None = None,
    descending: Annotated[bool, Switch] = False,
    csv: Annotated[bool, Switch] = False,
    json: Annotated[bool, Switch] = False,
    runs_dir: Path = Path("runs"),
) -> int:
    """List the runs here.

    Args:
        where: COLUMN=VALUE that a run must have, such as model=cnn; all of several.
        sort: Column to sort by; the oldest first if left out. Runs without a value come last.
        descending: The largest first.
        csv: Print as CSV, with full precision.
        json: Print as JSON.
        runs_dir: Folder in which runs lie.
    """
    if csv and json:
        raise ConfigError("--csv and --json", "the list is printed in one form", "drop one")
    wanted = [_condition(text) for text in where]
    if sort is not None:
        _known("sort", sort)
    listed = [_listed(folder) for folder in run_folders(runs_dir)]
    listed = [each for each in listed if all(_text(each.get(name)) == value for name, value in wanted)]
    if sort is not None:
        with_value = [each for each in listed if each.get(sort) is not None]
        without = [each for each in listed if each.get(sort) is None]
        listed = sorted(with_value, key=lambda each: each[sort], reverse=descending) + without
    elif descending:
        listed.reverse()
    if json:
        print_json(listed)
    elif csv:
        _print_csv(listed)
    else:
        _print_list(listed, runs_dir)
    return 0


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--where {text}", "a condition is COLUMN=VALUE", "try --where state=finished")
    return _known("where", name), value


def _known(flag: str, name: str) -> str:
    if name not in COLUMNS:
        raise ConfigError(f"--{flag} {name}", f"a column: {', '.join(COLUMNS)}", nearest(name, list(COLUMNS)))
    return name


def _print_csv(listed: list[dict[str, Any]]) -> None:
    writer = csv_.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in listed:
        writer.writerow([_safe(each.get(name)) for name in COLUMNS])


def _safe(value: Any) -> str:
    """A name that a spreadsheet would compute gets an apostrophe before it."""
    text = _text(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) and value == int(value) else str(value)
