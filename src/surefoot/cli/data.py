"""`surefoot data`: the named sets; `surefoot data check`: everything that is wrong with data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from surefoot.cli.flags import Switch
from surefoot.cli.tables import clean, print_json, print_table
from surefoot.data.named import NAMED

_SHOWN = 40
"""Columns that are printed. Chosen by hand."""

if TYPE_CHECKING:
    from surefoot.data.dataset import RawPart
    from surefoot.data.load import Inspection


def listing(*, json: Switch = False) -> int:
    """List the named data sets: what they are, where they come from, and whether they are on this machine.

    Args:
        json: Print the list as JSON.
    """
    if json:
        shown = [
            {"name": data.name, "what": data.what, "origin": data.origin,
             "examples": {"train": data.train, "test": data.test}, "shape": list(data.shape), "classes": data.classes,
             "megabytes": data.megabytes, "is_here": data.is_here()}
            for data in NAMED.values()
        ]  # fmt: skip
        print_json({"data": shown})
        return 0
    rows = [
        (data.name, data.what, f"{data.train:,} + {data.test:,}", "x".join(map(str, data.shape)), data.classes,
         "yes" if data.is_here() else f"no, {data.megabytes} MB", data.origin)
        for data in NAMED.values()
    ]  # fmt: skip
    columns = ("name", "what it is", "train + test", "shape", "classes", "on this machine", "from")
    print_table(columns, rows, left=("name", "what it is", "on this machine", "from"))
    print("\nYour own: a folder of images by class, an .npz, a table, shards. Check it with surefoot data check PATH.")
    return 0


def check(
    path: str,
    /,
    *,
    data_dir: Path | None = None,
    image_size: int | None = None,
    label: str | None = None,
    target: Literal["auto", "classes", "numbers", "multilabel", "segmentation", "tokens", "any"] = "auto",
    header: Literal["auto", "yes", "no"] = "auto",
    json: Switch = False,
) -> int:
    """Find everything that is wrong with a data set, and say what it holds. Exit code 1 if anything is wrong.

    Args:
        path: A folder of images by class, an .npz, a table (.csv, .tsv, .parquet), shards (.tar), or a named set.
        data_dir: Folder or archive that already holds the named set.
        image_size: Side in pixels to which a folder's images will be resized; chosen where they differ in size.
        label: Name of the label column of a table; the last if left out.
        target: As of train: classes, numbers for a regression and so on, or auto: as the labels look.
        header: Whether the first row of a .csv names the columns; auto: as it looks.
        json: Print as JSON.
    """
    from surefoot.data.load import inspect

    inspection = inspect(path, data_dir=data_dir, image_size=image_size, label=label, target=target, header=header)
    if json:
        print_json(_report(path, inspection))
    else:
        _print(path, inspection)
    return 1 if inspection.problems.count else 0


def _report(path: str, inspection: Inspection) -> dict[str, Any]:
    raw, problems = inspection.raw, inspection.problems
    parts = raw.parts if raw is not None else {}
    return {
        "source": clean(path),
        "ok": not problems.count,
        "kind": raw.kind if raw is not None else None,
        "columns": _columns(inspection),
        "shape": _shape(next(iter(parts.values())).x) if parts else None,
        "target": None if raw is None else raw.target_kind or ("numbers" if inspection.classes is None else "classes"),
        "classes": [clean(name) for name in inspection.classes] if inspection.classes is not None else None,
        "parts": {
            name: {
                "examples": _examples(part),
                "counts": {clean(label): count for label, count in inspection.counts(name).items()},
            }
            for name, part in parts.items()
        },
        "problem_count": problems.count,
        "problems": [
            {name: clean(getattr(problem, name)) for name in ("where", "what", "allowed", "do")}
            for problem in problems.items
        ],
        "notes": [clean(text) for text in problems.notes],
        "warnings": [clean(text) for text in problems.warnings],
    }


_COLUMN = ("column", "type", "gaps", "holds", "what is done")


def _columns(inspection: Inspection) -> list[dict[str, Any]] | None:
    """Return what is said of each column of a table; None for other data."""
    if inspection.columns is None:
        return None
    rows = zip(inspection.columns.described(), inspection.columns.columns, strict=True)
    return [
        dict(zip(_COLUMN, (clean(name), kind, column.gaps, clean(holds), clean(done)), strict=True))
        for (name, kind, holds, done), column in rows
    ]


_TARGETS = {
    "multilabel": "{count:,} labels, each a yes or no", "segmentation": "masks of {count:,} classes",
    "tokens": "tokens of {count:,} classes", "any": "targets of any form",
}  # fmt: skip


def _shape(x: Any) -> Any:
    """Return the shape of an example; of several inputs that of each by its name."""
    from surefoot.data import tree

    named = {name: list(leaf.shape[1:]) for name, leaf in tree.named_leaves(x)}
    return named if not tree.is_leaf(x) else named[""]


def _examples(part: RawPart) -> int:
    from surefoot.data import tree

    return len(tree.leaves(part.y)[0])


def _sizes(shape: list[int]) -> str:
    return "x".join(map(str, shape)) or "1"


def _print(path: str, inspection: Inspection) -> None:
    raw = inspection.raw
    if raw is not None and raw.parts:
        shape, count = _shape(next(iter(raw.parts.values())).x), len(inspection.classes or ())
        outputs = f"{count:,} class{'' if count == 1 else 'es'}" if inspection.classes is not None else "a regression"
        outputs = _TARGETS[raw.target_kind].format(count=raw.output_count) if raw.target_kind in _TARGETS else outputs
        told = _columns(inspection)
        holds = f"a table of {len(told)} columns" if told is not None else f"{raw.kind} of shape {_sizes(shape)}"
        if isinstance(shape, dict):
            holds = "inputs " + ", ".join(f"{clean(name)} {_sizes(each)}" for name, each in shape.items())
        print(f"{clean(path)}: {holds}, {outputs}")
        if told is not None:
            rows = [[each[name] or ("" if name == "gaps" else each[name]) for name in _COLUMN] for each in told]
            print_table(_COLUMN, rows[:_SHOWN], left=("column", "type", "holds", "what is done"))
            print(f"and {len(told) - _SHOWN} more columns; --json has all\n" if told[_SHOWN:] else "")
        columns = ("class", *raw.parts)
        counts = {name: inspection.counts(name) for name in raw.parts}
        rows = [(label, *(counts[name].get(label) for name in raw.parts)) for label in inspection.classes or ()]
        rows.append(("all", *map(_examples, raw.parts.values())))
        print_table(columns, rows, left=("class",))
    for text in inspection.problems.notes:
        print(f"note: {clean(text)}")
    for text in inspection.problems.warnings:
        print(f"warning: {clean(text)}")
    for problem in inspection.problems.items:
        print(f"wrong: {clean(problem)}")
    if inspection.problems.count > len(inspection.problems.items):
        print(f"and {inspection.problems.count - len(inspection.problems.items):,} more")
    wrong = inspection.problems.count
    print(f"{wrong:,} {'thing is' if wrong == 1 else 'things are'} wrong" if wrong else "nothing is wrong")
