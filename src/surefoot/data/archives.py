"""Arrays by name: those of an .npz, and .npy files that lie beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from surefoot.data import npz
from surefoot.data.arrays import PARTS, raw_of, typed
from surefoot.data.check import Problems
from surefoot.data.columns import Columns
from surefoot.data.dataset import Raw
from surefoot.data.labels import Target


def read_npz(path: Path, problems: Problems, target: Target = "auto", columns: Columns | None = None) -> Raw:
    """Return the parts of an .npz: x and y, or x_train, y_train and the same with val and test; and, if it has
    them, the names of the classes in `classes`. Nothing pickled is read.
    """
    names = npz.array_names(path)
    return _named(str(path), names, lambda name: npz.read_array(path, name), problems, target, columns)


def read_npy(folder: Path, problems: Problems, target: Target = "auto", columns: Columns | None = None) -> Raw:
    """Return the parts that a folder of .npy files holds: x.npy beside y.npy, or as `read_npz` names arrays."""
    files = npz.array_files(folder)
    return _named(str(folder), list(files), lambda name: npz.read_npy(files[name]), problems, target, columns)


def holds_arrays(folder: Path) -> bool:
    """Return whether a folder holds x.npy, or x_train.npy and the like."""
    return any((key_of(name) or "y")[0] == "x" for name in npz.array_files(folder))


def _named(
    title: str, keys: Sequence[str], read: Callable[[str], np.ndarray], problems: Problems, target: Target,
    columns: Columns | None,
) -> Raw:  # fmt: skip
    """Return the parts of arrays by name."""
    arrays: dict[str, np.ndarray] = {}
    known = {key: key_of(key) for key in keys}
    for key in (key for key in keys if known[key] is not None or key == "classes"):
        try:
            arrays[key] = read(key)
        except npz.Unusable as error:
            problems.add(
                f"array {key}",
                str(error),
                "arrays hold numbers or text, and fit into memory",
                "save it with numpy.savez",
            )
    parts = {}
    for name in dict.fromkeys(part for _, part in filter(None, known.values())):
        pair = {known_as[0]: key for key, known_as in known.items() if known_as is not None and known_as[1] == name}
        same = [key for key, known_as in known.items() if known_as is not None and known_as[1] == name]
        if len(same) > 2 or len(pair) < len(same):
            problems.add(
                f"arrays {', '.join(same)}", f"are all of the {name} part", "a part has one x and one y", "rename"
            )
        elif len(pair) < 2:
            only = next(iter(pair.values()))
            problems.add(
                f"array {only}",
                f"has no {'y' if 'x' in pair else 'x'} beside it",
                "x and y come in pairs",
                "add the other array",
            )
        elif all(key in arrays for key in pair.values()):
            parts[name] = (arrays[pair["x"]], arrays[pair["y"]])
    if not any(known.values()):
        problems.add(
            "arrays",
            f"are named {', '.join(keys[:10]) or 'nothing'}",
            "they must be x and y, or x_train, y_train, x_val and so on",
            "rename them",
        )
    classes = _class_names(arrays["classes"], problems) if "classes" in arrays else None
    return raw_of(title, parts, problems, target, classes, columns)


def _class_names(names: np.ndarray, problems: Problems) -> tuple[str, ...] | None:
    names = typed(names) if names.dtype.kind == "S" else names
    if names.ndim == 1 and names.dtype.kind in "iubfU" and len(set(names.tolist())) == len(names) > 1:
        return tuple(map(str, names))
    problems.add(
        "array classes",
        f"has the type {names.dtype} and the shape {names.shape}",
        "it names each of at least two classes once, as text, [C]",
        "mend it, or leave it out",
    )
    return None


def key_of(key: str) -> tuple[str, str] | None:
    """Return ("x" or "y", part) for the name of an array, or None."""
    letter, _, part = key.lower().partition("_")
    name = "train" if not part else PARTS.get(part)
    return (letter, name) if letter in ("x", "y") and name is not None else None
