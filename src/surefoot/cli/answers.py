"""Predictions as rows of a table, as CSV, as an .npz and as masks: each kind of answers in the formats that hold it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.cli.tables import clean, spread_digits
from surefoot.errors import ConfigError
from surefoot.record import store

if TYPE_CHECKING:
    from surefoot.inference.predict import Predictions

Rows = list[dict[str, Any]]

_MOST_LABELS = 12
"""Most labels that a table shows with the probability of each, about a terminal's width. Chosen by hand."""
_MOST_TEXT = 60
"""Characters of a sequence that a table shows. Chosen by hand."""
_SHOWN_CLASSES = 5
"""Classes of a mask that a table shows, the most frequent. Chosen by hand."""
_MOST_VALUES = 1000
"""Most values of an example that are cells of a row. Chosen by hand."""


def check_form(piece: Predictions, form: str, out: Path | None, top: int | None) -> None:
    """Raise ConfigError where a format does not hold such answers, or they have no most probable ones.

    Args:
        piece: of the predictions.
        form: table, csv, json, npz or masks.
        out: where they go.
        top: how many of the most probable were asked for.
    """
    kind = piece.kind
    if top is not None and kind not in ("classes", "tokens"):
        raise ConfigError(f"top = {top} with a run that predicts {kind}", "only classes have a rank", "leave top out")
    if form == "masks" and kind != "segmentation":
        raise ConfigError(
            f"out = {out}, a folder, with a run that predicts {kind}", "a folder holds masks",
            "end its name in .csv, .json or .npz",
        )  # fmt: skip
    if form == "csv" and kind == "segmentation":
        raise ConfigError(
            "CSV with a run that predicts masks", "a row of cells holds no mask",
            "--out FOLDER writes a PNG for each, --out FILE.npz one array, --json all numbers",
        )  # fmt: skip
    if form in ("csv", "table") and kind == "any" and _width(piece) is None:
        raise ConfigError(
            f"{form} with a run whose outputs are {_told(piece.outputs)}", "a row of cells holds a few numbers",
            "add --json, or --out FILE.npz",
        )  # fmt: skip


def _width(piece: Predictions) -> int | None:
    """Return how many numbers each output is, where they fit into a row."""
    if not isinstance(piece.outputs, np.ndarray):
        return None
    size = int(np.prod(piece.outputs.shape[1:]))
    return size if size <= _MOST_VALUES else None


def _told(outputs: Any) -> str:
    return f"{list(outputs.shape)}" if isinstance(outputs, np.ndarray) else "several arrays"


def rows_of(piece: Predictions, form: str, top: int) -> Rows:
    """Return a row for each example of a piece, with its error or with what a format shows."""
    if form in ("npz", "masks") or (form == "table" and piece.kind == "segmentation"):
        return [
            {"name": name, "error": error} if error is not None else {"name": name, "classes": _shares(piece, i)}
            for i, (name, error) in enumerate(zip(piece.names, piece.errors, strict=True))
        ]
    rows = piece.to_dicts(top)
    if piece.kind == "any" and form != "json":
        for row in rows:
            if "error" not in row:
                row["values"] = np.ravel(row.pop("outputs")).tolist()
    return rows


def _shares(piece: Predictions, i: int) -> str:
    """Return the most frequent classes of a mask in words."""
    if piece.kind != "segmentation":
        return ""
    classes, counts = np.unique(piece.outputs[i], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    texts = [f"{piece.class_name(int(classes[at]))} {counts[at] / counts.sum():.1%}" for at in order[:_SHOWN_CLASSES]]
    return ", ".join(texts) + (f" and {len(order) - _SHOWN_CLASSES} more" if len(order) > _SHOWN_CLASSES else "")


def columns_of(kind: str, classes: tuple[str, ...] | None, rows: Rows, *, every: bool = False) -> list[str]:
    """Return the names of a table's columns.

    Args:
        kind: of the answers.
        classes: names of the classes, or None.
        rows: of all examples.
        every: whether each label is a column, however many there are.
    """
    good = next((row for row in rows if "error" not in row), {})
    match kind:
        case "classes" if classes is not None:
            columns = ["label", "probability"]
            more = range(2, len(good.get("top", ())) + 1)
            columns += [f"{name} {i}" for i in more for name in ("label", "probability")]
        case "multilabel":
            labels = list(good.get("probabilities", ()))
            columns = labels if every or len(labels) <= _MOST_LABELS else ["labels"]
        case "segmentation":
            columns = ["classes"]
        case "tokens":
            columns = ["tokens", "next", "probability"]
            more = range(2, len(good.get("next", ())) + 1)
            columns += [f"{name} {i}" for i in more for name in ("next", "probability")]
        case _:
            width = len(good.get("values", ()))
            columns = ["value"] if width == 1 else [f"value {i}" for i in range(width)]
    return ["name", *columns, *(["error"] if any("error" in row for row in rows) else [])]


def forms_of(kind: str, rows: Rows) -> list[str]:
    """Return the formats of a table's numbers: of targets such as 1.7e9 +- 20, four digits alone are all the same."""
    if kind not in ("numbers", "any"):
        return [".4f"]
    values = [row["values"] for row in rows if "values" in row]
    return [f".{spread_digits(column)}g" for column in zip(*values, strict=True)]


def cells_of(row: dict[str, Any], columns: list[str], forms: list[str], *, short: bool = True) -> list[str | None]:
    """Return a row's cells; numbers in the format of their place among the outputs, probabilities in the first."""
    if "error" in row:
        return [row["name"], *[None] * (len(columns) - 2), row["error"]]
    if "values" in row:
        cells = [format(value, form) for value, form in zip(row["values"], forms, strict=True)]
    elif "probabilities" in row:
        shares = [format(p, forms[0]) for p in row["probabilities"].values()]
        cells = [", ".join(row["labels"])] if columns[1:2] == ["labels"] and len(shares) != 1 else shares
    elif "tokens" in row:
        text = " ".join(row["tokens"])
        text = text if not short or len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} ..."
        cells = [text, *(cell for label, p in row["next"] for cell in (label, format(p, forms[0])))]
    elif "classes" in row:
        cells = [row["classes"]]
    else:
        cells = [text for label, p in row["top"] for text in (label, format(p, forms[0]))]
    return [row["name"], *cells, *([None] if columns[-1] == "error" else [])]


def csv_of(kind: str, classes: tuple[str, ...] | None, rows: Rows, *, terminal: bool) -> str:
    """Return the rows as CSV, RFC 4180 with plain line ends. Names are exact, and quoted where they are unusual; for a
    terminal they are without control characters.
    """
    columns = columns_of(kind, classes, rows, every=True)
    # Numbers with all their digits, as JSON has them; a format of nothing is the shortest text of the same number.
    of_values = next(([""] * len(row["values"]) for row in rows if "values" in row), [])
    forms = of_values if kind in ("numbers", "any") else [".7g"]
    lines = [columns, *(cells_of(row, columns, forms, short=False) for row in rows)]
    texts = [["" if cell is None else clean(cell) if terminal else cell for cell in line] for line in lines]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in texts)


def _quoted(cell: str) -> str:
    """Return a cell in quotes where it has a comma, a quote, a character that is not seen, or space around it."""
    plain = cell.isprintable() and cell == cell.strip() and not set(cell) & {",", '"'}
    return cell if plain else '"' + cell.replace('"', '""') + '"'


def archive_of(found: Predictions) -> bytes:
    """Return predictions as the bytes of an .npz: names, errors, outputs, names of classes, last log-probabilities."""
    from surefoot.data import tree

    arrays: dict[str, Any] = {"names": np.array(found.names), "errors": np.array([each or "" for each in found.errors])}
    arrays |= {f"outputs.{name}" if name else "outputs": leaf for name, leaf in tree.named_leaves(found.outputs)}
    names: Sequence[str] = found.classes or found.labels_of
    arrays |= {"classes": np.array(names)} if names else {}
    arrays |= {} if found.last is None else {"last": found.last}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


class Masks:
    """Writes masks as PNG images of class numbers into a folder, under the names of what they were predicted from.

    Args:
        folder: new or empty; made with the first mask.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.written = folder, 0
        self._taken: set[str] = set()

    def write(self, piece: Predictions) -> None:
        """Write the masks of a piece, grey of 8 bits, or of 16 where there are more classes."""
        from PIL import Image

        self.folder.mkdir(exist_ok=True)
        for name, error, mask in zip(piece.names, piece.errors, piece.outputs, strict=True):
            if error is None:
                buffer = io.BytesIO()
                Image.fromarray(mask.astype(np.uint8 if mask.max() < 256 else np.uint16)).save(buffer, "PNG")
                store.write_bytes(self.folder / f"{self._free(_stem(name))}.png", buffer.getvalue())
                self.written += 1

    def _free(self, stem: str) -> str:
        at, name = 1, stem
        while name in self._taken:
            at += 1
            name = f"{stem}-{at}"
        self._taken.add(name)
        return name


def _stem(name: str) -> str:
    """Return what a mask is called.

    >>> _stem("photos/cat.jpg"), _stem("some.npz:3"), _stem("3")
    ('cat', 'some-3', '3')
    """
    of_archive = re.fullmatch(r"(.*)\.np[yz]:(\d+)", Path(name).name)
    return f"{of_archive[1]}-{of_archive[2]}" if of_archive else Path(name).stem
