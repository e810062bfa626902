"""`surefoot predict`: apply a trained model to images, folders and tables, and give a table, CSV or JSON."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Any, Literal

from surefoot.cli.flags import RunsDir, Switch
from surefoot.cli.tables import clean, print_table, say_notes, spread_digits
from surefoot.errors import ConfigError
from surefoot.record import store

_SHOWN = 5
"""Unreadable examples that are named on stderr; the output names all."""


def predict(
    run: str,
    *inputs: str,
    runs_dir: RunsDir = Path("runs"),
    out: Path | None = None,
    top: int | None = None,
    weights: Literal["best", "last"] | None = None,
    device: str | None = None,
    csv: Switch = False,
    json: Switch = False,
) -> int:
    """Apply a trained model to images, folders of images, .npz, .npy or .csv files without labels.

    Names are exact in CSV and JSON, as UTF-8 with bytes that are none left as they are (surrogateescape); a terminal
    gets them without control characters. What cannot be read gets a row with its error, and the exit code is then 1.

    Args:
        run: Name of the run, or its folder.
        inputs: Files and folders.
        out: File to write in place of stdout, as CSV or JSON, which its name says unless a flag does.
        top: How many of the most probable classes to give, 1 if left out.
        weights: The best by the validation part, or the last; if left out those of which the result speaks.
        device: auto, cpu, cuda or cuda:N; the run's if left out.
        csv: Print as CSV.
        json: Print as JSON.
    """
    form = _form(out, csv=csv, json=json)
    if not inputs:
        raise ConfigError(
            "no input named", "give at least one image, folder, .npz, .npy or .csv", "see surefoot predict --help"
        )
    if top is not None and top < 1:
        raise ConfigError(f"top = {top}", "top must be at least 1", "leave it out for the most probable class")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ConfigError(
            f"out = {out}", "it must be a file in a folder that exists", "make the folder, or choose another"
        )
    folder = store.run_folder(run, runs_dir)
    classes, rows = _predicted(folder, inputs, top, {"device": device, "weights": weights})
    if form == "table":
        columns = _columns(classes, rows)
        left = [name for name in columns if name.startswith(("name", "label", "error"))]
        print_table(columns, [_cells(row, columns, _forms(classes, rows)) for row in rows], left=left)
    else:
        terminal = out is None and sys.stdout.isatty()
        text = _json(folder, classes, rows) if form == "json" else _csv(classes, rows, terminal=terminal)
        # Bytes of a file's name that are no text come out as they went in, so that a program finds the file by it.
        content = text.encode("utf-8", errors="surrogateescape")
        binary: Any = getattr(sys.stdout, "buffer", None)  # which a stream that a program put in its place may lack
        if terminal or (out is None and binary is None):
            print(text, end="")
        elif out is None:
            sys.stdout.flush()
            binary.write(content)
            binary.flush()
        else:
            store.write_bytes(out, content)
            print(f"wrote {clean(out)}", file=sys.stderr)
    return _exit_code(rows)


def _predicted(
    folder: Path, inputs: tuple[str, ...], top: int | None, how: dict[str, Any]
) -> tuple[tuple[str, ...] | None, list[dict[str, Any]]]:
    """Return the classes and a row for each example, showing on stderr how far it is; `how` is for `predict`."""
    from surefoot.data.store import bar
    from surefoot.inference.predict import predict_batches

    classes: tuple[str, ...] | None = None
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    with bar("predicting", unit="examples") as progress:
        for piece in predict_batches(folder, list(inputs), **how):
            classes = piece.classes
            if classes is None and top is not None:
                raise ConfigError(
                    f"top = {top} with a run that predicts numbers", "only classes have a rank", "leave top out"
                )
            rows += piece.to_dicts(top or 1)
            notes += piece.notes
            progress.update(len(piece))
    say_notes(notes, quiet=False)
    return classes, rows


def _form(out: Path | None, *, csv: bool, json: bool) -> str:
    if csv and json:
        raise ConfigError("--csv and --json", "they ask for two formats", "drop one")
    if csv or json or out is None:
        return "csv" if csv else "json" if json else "table"
    if out.suffix.lower() not in (".csv", ".json"):
        raise ConfigError(f"out = {out}", "its name must end in .csv or .json", "rename it, or add --csv")
    return out.suffix.lower()[1:]


def _columns(classes: tuple[str, ...] | None, rows: list[dict[str, Any]]) -> list[str]:
    good = next((row for row in rows if "error" not in row), {})
    if classes is None:
        width = len(good.get("values", ()))
        columns = ["value"] if width == 1 else [f"value {i}" for i in range(width)]
    else:
        columns = ["label", "probability"]
        columns += [f"{name} {i}" for i in range(2, len(good.get("top", ())) + 1) for name in ("label", "probability")]
    return ["name", *columns, *(["error"] if any("error" in row for row in rows) else [])]


def _forms(classes: tuple[str, ...] | None, rows: list[dict[str, Any]]) -> list[str]:
    """Return the formats of a table's numbers: of targets such as 1.7e9 +- 20, four digits alone are all the same."""
    if classes is not None:
        return [".4f"]
    values = [row["values"] for row in rows if "values" in row]
    return [f".{spread_digits(column)}g" for column in zip(*values, strict=True)]


def _cells(row: dict[str, Any], columns: list[str], forms: list[str]) -> list[str | None]:
    """Return a row's cells; numbers in the format of their place among the outputs, probabilities in the first."""
    if "error" in row:
        return [row["name"], *[None] * (len(columns) - 2), row["error"]]
    if "values" in row:
        cells = [format(value, form) for value, form in zip(row["values"], forms, strict=True)]
    else:
        cells = [text for label, p in row["top"] for text in (label, format(p, forms[0]))]
    return [row["name"], *cells, *([None] if columns[-1] == "error" else [])]


def _csv(classes: tuple[str, ...] | None, rows: list[dict[str, Any]], *, terminal: bool) -> str:
    """Return the rows as CSV, RFC 4180 with plain line ends. Names are exact, and quoted where they are unusual; for a
    terminal they are without control characters.
    """
    columns = _columns(classes, rows)
    # Numbers with all their digits, as JSON has them; a format of nothing is the shortest text of the same number.
    forms = [".7g"] if classes is not None else next(([""] * len(row["values"]) for row in rows if "values" in row), [])
    lines = [columns, *(_cells(row, columns, forms) for row in rows)]
    texts = [["" if cell is None else clean(cell) if terminal else cell for cell in line] for line in lines]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in texts)


def _quoted(cell: str) -> str:
    """Return a cell in quotes where it has a comma, a quote, a character that is not seen, or space around it."""
    plain = cell.isprintable() and cell == cell.strip() and not set(cell) & {",", '"'}
    return cell if plain else '"' + cell.replace('"', '""') + '"'


def _json(folder: Path, classes: tuple[str, ...] | None, rows: list[dict[str, Any]]) -> str:
    value = {
        "run": folder.name,
        "classes": None if classes is None else list(classes),
        "failed": sum("error" in row for row in rows),
        "predictions": rows,
    }
    return json_format.dumps(value, indent=2, allow_nan=False) + "\n"


def _exit_code(rows: list[dict[str, Any]]) -> int:
    failed = [row for row in rows if "error" in row]
    for row in failed[:_SHOWN]:
        print(f"surefoot: {clean(row['name'])}: {clean(row['error'])}", file=sys.stderr)
    if failed:
        print(
            f"surefoot: {len(failed)} of {len(rows)} could not be predicted: an input must be readable and fit the "
            "model. Mend or leave out what is named.",
            file=sys.stderr,
        )
    return 1 if failed else 0
