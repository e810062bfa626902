"""`surefoot predict`: apply a trained model to images, folders, tables and arrays, and give its answers in a format."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from surefoot.cli.answers import Masks, archive_of, cells_of, check_form, columns_of, csv_of, forms_of, rows_of
from surefoot.cli.flags import RunsDir, Switch
from surefoot.cli.process import loading
from surefoot.cli.tables import clean, print_table, say_notes
from surefoot.config import Tta
from surefoot.errors import ConfigError
from surefoot.record import store

if TYPE_CHECKING:
    from surefoot.inference.predict import Predictions

_SHOWN = 5
"""Unreadable examples that are named on stderr; the output names all."""


def predict(
    run: str,
    *inputs: str,
    runs_dir: RunsDir = Path("runs"),
    out: Path | None = None,
    top: int | None = None,
    weights: Literal["best", "last"] | None = None,
    forward: str | None = None,
    device: str | None = None,
    tta: Tta = "none",
    csv: Switch = False,
    json: Switch = False,
) -> int:
    """Apply a trained model to images, folders of images, .npz, .npy or .csv files without labels.

    Several inputs come from an .npz with an array of the name of each. Of pixels the classes are written as one PNG for
    each image (--out FOLDER) or as an array (--out FILE.npz).

    Names are exact in CSV and JSON, as UTF-8 with bytes that are none left as they are (surrogateescape); a terminal
    gets them without control characters. What cannot be read gets a row with its error, and the exit code is then 1.

    Args:
        run: Name of the run, or its folder.
        inputs: Files and folders.
        out: File to write in place of stdout, .csv, .json or .npz, which its name says unless a flag does; or a new
            folder for masks.
        top: How many of the most probable classes to give, 1 if left out; of tokens those that come next.
        weights: The best by the validation part, or the last; if left out those of which the result speaks.
        forward: package.module:function of model and inputs; the run's if left out.
        device: auto, cpu, cuda or cuda:N; the run's if left out.
        tta: Test-time augmentation of images: answers of the mean outputs over an image and its mirror image (flip),
            and over these shifted by a pixel, too (flip-shift).
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
    folder = store.run_folder(run, runs_dir)
    how = {"forward": forward, "device": device, "weights": weights, "tta": tta}
    kind, classes, rows = _predicted(folder, inputs, _Way(form, out, top or 1, asked=top), how)
    if form == "table":
        columns = columns_of(kind, classes, rows)
        left = [name for name in columns if name.startswith(("name", "label", "error", "classes", "tokens", "next"))]
        print_table(columns, [cells_of(row, columns, forms_of(kind, rows)) for row in rows], left=left)
    elif form in ("csv", "json"):
        terminal = out is None and sys.stdout.isatty()
        text = _json(folder, kind, classes, rows) if form == "json" else csv_of(kind, classes, rows, terminal=terminal)
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


@dataclass(frozen=True)
class _Way:
    """How answers are given: the format, where to, and how many of the most probable classes."""

    form: str
    out: Path | None
    top: int
    asked: int | None


def _predicted(
    folder: Path, inputs: tuple[str, ...], way: _Way, how: dict[str, Any]
) -> tuple[str, tuple[str, ...] | None, list[dict[str, Any]]]:
    """Return the kind of the answers, the classes and a row for each example, showing on stderr how far it is.

    Masks and arrays are written; `how` is for `predict`.
    """
    with loading():
        from surefoot.data.store import bar
        from surefoot.inference.predict import joined, predict_batches

    kind, classes = "classes", None
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    pieces: list[Predictions] = []
    masks = Masks(way.out) if way.form == "masks" and way.out is not None else None
    with bar("predicting", unit="examples") as progress:
        for piece in predict_batches(folder, list(inputs), **how):
            kind, classes = piece.kind, piece.classes
            check_form(piece, way.form, way.out, way.asked)
            if masks is not None:
                masks.write(piece)
            if way.form == "npz":
                pieces.append(piece)
            rows += rows_of(piece, way.form, way.top)
            notes += piece.notes
            progress.update(len(piece))
    say_notes(notes, quiet=False)
    if way.out is not None and pieces:
        store.write_bytes(way.out, archive_of(joined(pieces)))
        print(f"wrote {clean(way.out)}", file=sys.stderr)
    if masks is not None:
        print(f"wrote {masks.written} masks into {clean(masks.folder)}", file=sys.stderr)
    return kind, classes, rows


def _form(out: Path | None, *, csv: bool, json: bool) -> str:
    if csv and json:
        raise ConfigError("--csv and --json", "they ask for two formats", "drop one")
    if out is None:
        return "csv" if csv else "json" if json else "table"
    suffix = out.suffix.lower()
    masks = suffix == "" and not csv and not json
    if (out.is_dir() and not masks) or not out.absolute().parent.is_dir():
        raise ConfigError(
            f"out = {out}", "it must be a file in a folder that exists", "make the folder, or choose another"
        )
    if masks and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise ConfigError(f"out = {out}", "masks go into a folder that is new or empty", "choose another")
    if csv or json:
        return "csv" if csv else "json"
    if not masks and suffix not in (".csv", ".json", ".npz"):
        raise ConfigError(
            f"out = {out}", "its name must end in .csv, .json or .npz, or be that of a new folder for masks",
            "rename it, or add --csv",
        )  # fmt: skip
    return "masks" if masks else suffix[1:]


def _json(folder: Path, kind: str, classes: tuple[str, ...] | None, rows: list[dict[str, Any]]) -> str:
    value = {
        "run": folder.name,
        "target": kind,
        "classes": None if classes is None else list(classes),
        "failed": sum("error" in row for row in rows),
        "predictions": rows,
    }
    return json_format.dumps(value, indent=None if kind in ("segmentation", "any") else 2, allow_nan=False) + "\n"


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
