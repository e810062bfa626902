"""`surefoot show`: what a run is, how far it got, what came of it, what to do next. `surefoot runs`: which there are.

Both read the folders of runs alone, so they answer at once and on a machine without torch.
"""

from __future__ import annotations

import csv as csv_
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from surefoot.cli.flags import RunsDir, Switch, reference
from surefoot.cli.tables import (
    chosen_by_it,
    clean,
    loss_text,
    metrics_text,
    number,
    print_json,
    print_table,
    said,
    share,
)
from surefoot.errors import ConfigError, SurefootError, nearest
from surefoot.record import store
from surefoot.record.figures import reached_text
from surefoot.record.intervals import wilson
from surefoot.record.measures import value_text
from surefoot.record.stored import Stored, changed_settings, read_run, run_folders
from surefoot.record.test_time import words_of

COLUMNS = (
    "run", "state", "data", "model", "lr", "seed", "epochs", "val_accuracy", "val_loss", "test_accuracy",
    "test_loss",
)  # fmt: skip
_FINGERPRINT_LETTERS = 12
"""Letters of a SHA-256 that are shown: enough to tell two data sets apart. Chosen by hand."""


def show(run: str | None = None, *, runs_dir: RunsDir = Path("runs"), rows: int = 20, json: Switch = False) -> int:
    """Show a run: settings that differ from the defaults, environment, rows, outcome, result, what to do next.

    Without a run, list the runs here.

    Args:
        run: Name of the run, or its folder.
        rows: Most rows shown, evenly thinned from first to last; JSON has all.
        json: Print as JSON.
    """
    if rows < 2:
        raise ConfigError(f"rows = {rows}", "rows must be at least 2, the first and the last", "try --rows 20")
    if run is None:
        return runs(json=json, runs_dir=runs_dir)
    stored = read_run(store.run_folder(run, runs_dir))
    print_json(_plain(stored)) if json else _print(stored, rows)
    return 0


def runs(
    *,
    where: tuple[str, ...] = (),
    sort: str | None = None,
    descending: Switch = False,
    csv: Switch = False,
    json: Switch = False,
    runs_dir: RunsDir = Path("runs"),
) -> int:
    """List the runs here.

    Args:
        where: COLUMN=VALUE that a run must have, such as model=cnn; all of several.
        sort: Column to sort by; the oldest first if left out. Runs without a value come last.
        descending: The largest first.
        csv: Print as CSV, with full precision.
        json: Print as JSON.
    """
    if csv and json:
        raise ConfigError("--csv and --json", "the list is printed in one form", "drop one")
    listed = [_listed(folder) for folder in run_folders(runs_dir)]
    columns = _columns(listed)
    wanted = [_condition(text, columns) for text in where]
    column = sort and _known("sort", sort, columns)
    listed = [run for run in listed if all(_text(run.get(name)) == value for name, value in wanted)]
    if column is not None:
        without = [run for run in listed if run.get(column) is None]
        listed = [run for run in listed if run.get(column) is not None]
        listed = sorted(listed, key=lambda run: run[column], reverse=descending) + without
    elif descending:
        listed.reverse()
    if json:
        print_json(listed)
    elif csv:
        _print_csv(listed, columns)
    else:
        _print_list(listed, columns, runs_dir)
    return 0


def next_steps(stored: Stored) -> list[str]:
    """Return what to do next, as commands or sentences."""
    name = reference(stored.folder)
    scores = "errors with their intervals" if stored.config.target == "numbers" else "per class"
    if stored.state == "training":
        return [f"watch it: surefoot watch {name}"]
    lr = stored.config.recipe.lr / 10  # chosen by hand: a step so large that the next run is most likely stable
    if stored.from_python and stored.state == "unfinished":
        return [f"go on in Python: surefoot.train with the same arguments and name={stored.folder.name!r}"]
    if stored.from_python:
        calls = [f"{scores}: surefoot.evaluate({str(stored.folder)!r}, ...)", f"lower the learning rate: lr={lr:g}"]
        return calls[:1] if stored.state == "finished" else calls[1:]
    if stored.state == "unfinished":
        return [f"go on: surefoot resume {name}"]
    if stored.state == "finished":
        return [f"{scores}: surefoot evaluate {name}", f"use it: surefoot predict {name} FILE..."]
    again = ["surefoot", "train", "--config", str(stored.folder / store.CONFIG), "--lr", f"{lr:g}"]
    return [f"lower the learning rate: {shlex.join([*again, '--name', f'{stored.folder.name}-lr{lr:g}'])}"]


def _plain(stored: Stored) -> dict[str, Any]:
    from surefoot.curves.advice import read_stored

    result, curves = stored.result or {}, read_stored(stored)
    return {
        "run": stored.folder.name,
        "folder": str(stored.folder),
        "state": stored.state,
        "sealed": stored.sealed,
        "reason": result.get("reason"),
        "command": stored.command,
        "settings": changed_settings(stored.config),
        "environment": stored.environment,
        "rows": [row.to_dict() for row in stored.rows],
        "result": stored.result,
        "curves": curves.to_dict() if curves is not None else None,
        "next": next_steps(stored),
    }


def _print(stored: Stored, most_rows: int) -> None:
    from surefoot.cli.picture import header, line
    from surefoot.curves.advice import read_stored
    from surefoot.report.run_folder import thinned

    entries = [("folder", stored.folder), ("command", stored.command), ("state", _state(stored))]
    if not stored.sealed:
        entries.append(("seal", "none, as an older version wrote it: damage of its files cannot be told"))
    _print_entries("run", entries)
    settings = changed_settings(stored.config)
    _print_entries("settings that differ from the defaults", settings.items() or [("none", "")])
    _print_entries("environment", [(name, _short(name, value)) for name, value in stored.environment.items()])
    print("\nrows")
    if stored.rows:
        shown = thinned(stored.rows, most_rows)
        print("\n".join([header(shown[0]), *(line(row) for row in shown)]))
        if len(shown) < len(stored.rows):
            print(f"  {len(shown)} of {len(stored.rows)} rows; --rows {len(stored.rows)} shows all")
    else:
        print("  none yet")
    _print_entries("result", _result(stored.result or {}) or [("none yet", "")])
    if (curves := read_stored(stored)) is not None:
        _print_entries("curves", [(text, "") for text in said(curves)])
    _print_entries("next", [(text, "") for text in next_steps(stored)])


def _state(stored: Stored) -> str:
    if stored.result is not None:
        return f"{stored.state}: {stored.result.get('reason', '')}"
    if not stored.rows:
        return f"{stored.state}, no row yet"
    return f"{stored.state}, step {stored.rows[-1].step} and epoch {stored.rows[-1].epoch:.2f} recorded"


def _result(result: dict[str, Any]) -> list[tuple[str, str]]:
    entries: list[tuple[str, str | None]] = []
    accuracy, examples = result.get("test_accuracy"), result.get("test_examples")
    if accuracy is not None and examples:
        low, high = wilson(round(accuracy * examples), examples)
        entries.append(
            ("test accuracy", f"{accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, {examples:,} examples)")
        )
    chosen_on = chosen_by_it(result)
    of_validation = share(result.get("val_accuracy"))
    entries += [
        ("test loss", loss_text(result.get("test_loss"))),
        ("test metrics", metrics_text(result.get("test_metrics"))),
        ("test-time augmentation", words_of(result)),
        ("validation accuracy", f"{of_validation}{chosen_on}" if of_validation is not None else None),
        ("validation loss", loss_text(result.get("val_loss"))),
        ("validation metrics", metrics_text(result.get("val_metrics"))),
        ("weights", _weights(result)),
        ("started from", _origin(result)),
        ("training time", number(result.get("train_seconds"), ".1f")),
        ("machine's share", reached_text(result.get("reached"))),
        ("epochs", number(result.get("epochs"), "g")),
        ("parameters", number(result.get("parameters"), ",")),
    ]
    return [(name, text + " s" if name == "training time" else text) for name, text in entries if text is not None]


def _weights(result: dict[str, Any]) -> str | None:
    best, used = result.get("best"), result.get("weights")
    if not isinstance(best, dict) or used is None:
        return None
    found = f"best {best['metric']} {best['value']:.4g} at step {best['step']:,}"
    return f"{used}, of step {result.get('weights_from_step'):,}; {found}"


def _origin(result: dict[str, Any]) -> str | None:
    origin = result.get("started_from")
    if not isinstance(origin, dict):
        return None
    return str(origin["from"]) + (f", step {origin['step']:,}" if origin.get("step") else "")


def _print_entries(title: str, entries: Any) -> None:
    print(title if title == "run" else f"\n{title}")
    for name, value in entries:
        print(f"  {name:<22}{clean(value)}".rstrip() if value != "" else f"  {clean(name)}")


def _short(name: str, value: object) -> object:
    return str(value)[:_FINGERPRINT_LETTERS] if name == "data_fingerprint" else value if value != "" else "-"


def _listed(folder: Path) -> dict[str, Any]:
    """One run of the list. A damaged run is named as such, and the others are listed all the same."""
    try:
        stored = read_run(folder)
    except SurefootError as error:
        return {"run": folder.name, "state": "damaged", "reason": str(error)}
    last, result = stored.rows[-1] if stored.rows else None, stored.result or {}
    config = stored.config
    values = (
        folder.name, stored.state, config.data, config.model, config.recipe.lr, config.seed,
        last.epoch if last else 0.0, *(
            result.get(name) if result else getattr(last, name, None) for name in ("val_accuracy", "val_loss")
        ),
        result.get("test_accuracy"), result.get("test_loss"),
    )  # fmt: skip
    seen = (last.metrics if last else {}, result.get("val_metrics") or {}, result.get("test_metrics") or {})
    of_row, of_validation, of_test = ({k: v for k, v in each.items() if v is not None and v == v} for each in seen)
    more = {f"val_{name}": value for name, value in (of_row | of_validation).items()}
    more |= {f"test_{name}": value for name, value in of_test.items()}
    views = result.get("tta") or {}  # of the test part; without one, of the validation part
    more |= {f"{'val' if views['part'] == 'validation' else 'test'}_{name}_{views['tta']}": views[name]
             for name in ("accuracy", "loss") if views.get(name) is not None}  # fmt: skip
    return more | dict(zip(COLUMNS, values, strict=True))


def _columns(listed: list[dict[str, Any]]) -> list[str]:
    """Return the columns of the list: those of every run, and the metrics that some have."""
    more = dict.fromkeys(name for run in listed for name in run if name.startswith(("val_", "test_")))
    return [*COLUMNS, *(name for name in more if name not in COLUMNS)]


def _print_list(listed: list[dict[str, Any]], names: Sequence[str], runs_dir: Path) -> None:
    if not listed:
        print(f"no runs under {clean(runs_dir)}; start one with surefoot train")
        return
    columns = [clean(name).replace("_accuracy", " acc").replace("_", " ", 1) for name in names]
    forms = {"lr": "g", "epochs": ".4g", "val_accuracy": ".2%", "test_accuracy": ".2%"}
    rows = [
        [_cell(run, name, forms) for name in names]
        for run in ({**run, **{name: loss_text(run.get(name)) for name in ("val_loss", "test_loss")}} for run in listed)
    ]
    print_table(columns, rows, left=columns[:4])
    for run in listed:
        if run["state"] == "damaged":
            print(f"damaged: {clean(run['reason'])}")


def _cell(run: dict[str, Any], name: str, forms: dict[str, str]) -> Any:
    if name in COLUMNS:
        return number(run.get(name), forms[name]) if name in forms else run.get(name)
    measure = name.partition("_")[2].removesuffix("_flip-shift").removesuffix("_flip")
    return None if run.get(name) is None else value_text(measure, run[name])


def _condition(text: str, columns: Sequence[str]) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--where {text}", "a condition is COLUMN=VALUE", "try --where state=finished")
    return _known("where", name, columns), value


def _known(flag: str, name: str, columns: Sequence[str]) -> str:
    if name not in columns:
        raise ConfigError(f"--{flag} {name}", f"a column: {', '.join(columns)}", nearest(name, list(columns)))
    return name


def _print_csv(listed: list[dict[str, Any]], columns: Sequence[str]) -> None:
    writer = csv_.writer(sys.stdout, lineterminator="\n")
    writer.writerow([_safe(name) for name in columns])
    for run in listed:
        writer.writerow([_safe(run.get(name)) for name in columns])


def _safe(value: Any) -> str:
    """A name that a spreadsheet would compute gets an apostrophe before it."""
    text = _text(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) and value == int(value) else str(value)
