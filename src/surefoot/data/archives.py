"""Arrays by name: those of an .npz, and .npy files that lie beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from surefoot.data import npz, npz_names, tree
from surefoot.data.arrays import raw_of, typed
from surefoot.data.check import Problems
from surefoot.data.columns import Columns
from surefoot.data.dataset import Raw
from surefoot.data.labels import Target
from surefoot.data.targets import LABEL_NAMES


def read_npz(path: Path, problems: Problems, target: Target = "auto", columns: Columns | None = None) -> Raw:
    """Return the parts of an .npz: x and y, or x_train, y_train and the same with val and test, or several inputs by
    name (`npz_names`); and, if it has them, the names of the classes in `classes`. Nothing pickled is read.
    """
    names = npz.array_names(path)
    return _named(str(path), names, lambda name: npz.read_array(path, name), problems, target, columns)


def read_npy(folder: Path, problems: Problems, target: Target = "auto", columns: Columns | None = None) -> Raw:
    """Return the parts that a folder of .npy files holds: x.npy beside y.npy, or as `read_npz` names arrays."""
    files = npz.array_files(folder)
    return _named(str(folder), list(files), lambda name: npz.read_npy(files[name]), problems, target, columns)


def holds_arrays(folder: Path) -> bool:
    """Return whether a folder holds x.npy, or x_train.npy and the like."""
    names = list(npz.array_files(folder))
    is_input = any((npz_names.by_letter(name) or "y")[0] == "x" for name in names)
    return is_input or bool(npz_names.named_parts(names)[0])


def _named(
    title: str, keys: Sequence[str], read: Callable[[str], np.ndarray], problems: Problems, target: Target,
    columns: Columns | None,
) -> Raw:  # fmt: skip
    """Return the parts of arrays by name."""
    arrays: dict[str, np.ndarray] = {}
    named, faults = npz_names.named_parts(keys)
    wanted = [key for each in named.values() for key in (*tree.leaves(each.x), *tree.leaves(each.y))]
    for key in (key for key in keys if key in wanted or key == npz_names.CLASSES):
        try:
            arrays[key] = read(key)
        except npz.Unusable as error:
            problems.add(
                f"array {key}",
                str(error),
                "arrays hold numbers or text, and fit into memory",
                "save it with numpy.savez",
            )
    for fault in faults:
        problems.add(fault.where, fault.what, fault.allowed, fault.do)
    if not named and not faults:
        problems.add(
            "arrays",
            f"are named {', '.join(keys[:10]) or 'nothing'}",
            "they must be x and y, or x_train, y_train, x_val and so on, or inputs beside "
            f"{' or '.join(LABEL_NAMES[:2])}",
            "rename them",
        )
    parts = {
        name: (tree.map_leaves(arrays.__getitem__, each.x), tree.map_leaves(arrays.__getitem__, each.y))
        for name, each in named.items()
        if all(key in arrays for key in (*tree.leaves(each.x), *tree.leaves(each.y)))
    }
    classes = _class_names(arrays[npz_names.CLASSES], problems) if npz_names.CLASSES in arrays else None
    raw = raw_of(title, parts, problems, target, classes, columns)
    return replace(raw, label_name=next((each.label for each in named.values()), None))


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
