"""`surefoot data`: the named sets; `surefoot data check`: everything that is wrong with data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from surefoot.cli.tables import clean, print_json, print_table
from surefoot.data.named import NAMED

if TYPE_CHECKING:
    from surefoot.data.load import Inspection


def listing(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the named data sets: what they are, where they come from, and whether they are on this machine.

    Args:
        json: Print the list as JSON.
    """
    if json:
        print_json({"data": [_described(name) for name in NAMED]})
        return 0
    rows = [
        (
            each.name,
            each.what,
            f"{each.train:,} + {each.test:,}",
            "x".join(map(str, each.shape)),
            each.classes,
            "yes" if each.is_here() else f"no, {each.megabytes} MB",
            each.origin,
        )
        for each in NAMED.values()
    ]
    columns = ("name", "what it is", "train + test", "shape", "classes", "on this machine", "from")
    print_table(columns, rows, left=("name", "what it is", "on this machine", "from"))
    print("\nYour own: a folder of images by class, an .npz or a .csv. Check it with surefoot data check PATH.")
    return 0


def check(
    path: str,
    /,
    *,
    data_dir: Path | None = None,
    image_size: int | None = None,
    label: str | None = None,
    target: Literal["classes", "numbers"] = "classes",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Find everything that is wrong with a data set, and say what it holds. Exit code 1 if anything is wrong.

    Args:
        path: A folder of images by class, an .npz, a .csv, or a named set.
        data_dir: Folder or archive that already holds the named set.
        image_size: Side in pixels to which a folder's images will be resized; images may then differ in size.
        label: Name of the label column of a .csv; the last if left out.
        target: classes, or numbers for a regression.
        json: Print as JSON.
    """
    from surefoot.data.load import inspect

    found = inspect(path, data_dir=data_dir, image_size=image_size, label=label, target=target)
    if json:
        print_json(_report(path, found))
    else:
        _print(path, found)
    return 1 if found.problems.count else 0


def _described(name: str) -> dict[str, Any]:
    each = NAMED[name]
    return {
        "name": name,
        "what": each.what,
        "origin": each.origin,
        "examples": {"train": each.train, "test": each.test},
        "shape": list(each.shape),
        "classes": each.classes,
        "megabytes": each.megabytes,
        "is_here": each.is_here(),
    }


def _report(path: str, found: Inspection) -> dict[str, Any]:
    parts = found.raw.parts if found.raw is not None else {}
    shape = list(next(iter(parts.values())).x.shape[1:]) if parts else None
    return {
        "source": clean(path),
        "ok": not found.problems.count,
        "kind": found.raw.kind if found.raw is not None else None,
        "shape": shape,
        "classes": [clean(name) for name in found.classes] if found.classes is not None else None,
        "parts": {
            name: {
                "examples": len(part.y),
                "counts": {clean(label): count for label, count in found.counts(name).items()},
            }
            for name, part in parts.items()
        },
        "problem_count": found.problems.count,
        "problems": [
            {"where": clean(each.where), "what": clean(each.what), "allowed": clean(each.allowed), "do": clean(each.do)}
            for each in found.problems.items
        ],
        "warnings": [clean(text) for text in found.problems.warnings],
    }


def _print(path: str, found: Inspection) -> None:
    raw = found.raw
    if raw is not None and raw.parts:
        shape = "x".join(map(str, next(iter(raw.parts.values())).x.shape[1:]))
        outputs = f"{len(found.classes)} classes" if found.classes is not None else "a regression"
        print(f"{clean(path)}: {raw.kind} of shape {shape}, {outputs}")
        columns = ("class", *raw.parts)
        counts = {name: found.counts(name) for name in raw.parts}
        rows = [(label, *(counts[name].get(label) for name in raw.parts)) for label in found.classes or ()]
        rows.append(("all", *(len(part.y) for part in raw.parts.values())))
        print_table(columns, rows, left=("class",))
    for text in found.problems.warnings:
        print(f"warning: {clean(text)}")
    for each in found.problems.items:
        print(f"wrong: {clean(each)}")
    if found.problems.count > len(found.problems.items):
        print(f"and {found.problems.count - len(found.problems.items):,} more")
    wrong = found.problems.count
    print(f"{wrong:,} {'thing is' if wrong == 1 else 'things are'} wrong" if wrong else "nothing is wrong")
