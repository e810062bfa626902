"""What is worth a second look in data that can be trained on: twins, torn labels, spellings, leaks, counted rows."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from surefoot.data import tree
from surefoot.data.check import SHOWN, Problems
from surefoot.data.column import RawColumn, is_index
from surefoot.data.dataset import Raw
from surefoot.data.mapped import pieces

_LEVEL_EXAMPLES = 5
"""Examples for each level, on average, from which a category that decides the label is more than a small sample."""
_LEAK_EXAMPLES = 50
"""Examples from which a column that decides the label alone is pointed at. Both chosen by hand."""
_ROWS_AT_ONCE = 1024
_SAME = 1e-9
"""How far from 1 the correlation of a column with the target may be to be the target itself. Chosen by hand."""


def suspect(raw: Raw, problems: Problems) -> None:
    """Warn of what is suspicious in checked parts.

    Examples that are in two parts; equal examples with different labels; classes that differ only in case or blanks; a
    column that decides the label alone: a category each of whose levels has one label, a number by which sorted each
    class is in one piece, or one that is the target but for unit and origin; and a column that numbers the rows.
    """
    if problems.count or "train" not in raw.parts:
        return
    if tree.is_leaf(raw.parts["train"].x) and tree.is_leaf(raw.parts["train"].y):
        _twins(raw, problems)
    if raw.classes is not None:
        _spellings(raw.classes, problems)
    if raw.columns is None:
        return
    part = raw.parts["train"]
    labels = part.y if raw.classes is not None else None
    for i, column in enumerate(raw.columns):
        values = part.x[:, i]
        if column.counts and not is_index(column) and len(raw.columns) > 1 and len(values) >= _LEAK_EXAMPLES:
            problems.warn(f"column {column.name!r} numbers the rows from {values[0]:g}: it says nothing of an example")
        elif labels is not None and _decides(column, values, labels):
            problems.warn(f"column {column.name!r} decides the label alone; leave it out if it was made from the label")
        elif labels is None and part.y.ndim == 1 and column.reading.kind == "number" and _is_target(values, part.y):
            problems.warn(f"column {column.name!r} is the target itself in another unit; leave it out")


def _decides(column: RawColumn, values: NDArray[np.float64], labels: NDArray[np.int64]) -> bool:
    """Return whether a column alone tells the label of every example: rules in `suspect`."""
    if len(values) < _LEAK_EXAMPLES or np.isnan(values).any():
        return False
    if column.reading.kind == "category":
        if len(column.levels) * _LEVEL_EXAMPLES > len(values):
            return False
        pairs = np.unique(values.astype(np.int64) * (int(labels.max()) + 1) + labels)
        return len(pairs) == len(np.unique(values)) > 1
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    low, high = np.minimum.reduceat(values[order], starts), np.maximum.reduceat(values[order], starts)
    rising = np.argsort(low)
    return len(starts) > 1 and bool((high[rising][:-1] < low[rising][1:]).all())


def _is_target(values: NDArray[np.float64], y: NDArray[np.floating]) -> bool:
    if len(values) < _LEAK_EXAMPLES or np.isnan(values).any():
        return False
    a, b = values - values.mean(), y.astype(np.float64) - y.mean(dtype=np.float64)
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    # float32 targets cannot be nearer to the line than their own rounding
    least = max(_SAME, float(np.finfo(y.dtype).eps)) if y.dtype.kind == "f" else _SAME
    return size > 0 and abs(float(a @ b)) > (1 - least) * size


def _spellings(classes: tuple[str, ...], problems: Problems) -> None:
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault("".join(name.split()).casefold(), []).append(name)
    for names in [each for each in alike.values() if len(each) > 1][:SHOWN]:
        listed = ", ".join(map(repr, names))
        problems.warn(f"classes {listed} differ only in case or blanks; spell them alike if they are one")


def _twins(raw: Raw, problems: Problems) -> None:
    """Warn of examples that are in two parts, and of equal examples with different labels, by their SHA-256."""
    seen: dict[bytes, tuple[str, int]] = {}
    across: dict[tuple[str, str], list[str]] = {}
    torn: list[str] = []
    same, candidates = 0, _candidates(raw)
    for name, part in raw.parts.items():
        for row in candidates[name]:
            key = hashlib.sha256(np.ascontiguousarray(part.x[row]).data).digest()
            other, at = seen.setdefault(key, (name, row))
            if other == name and at == row:
                continue
            if other != name:
                pair = f"{part.source.name_of(row)} = {raw.parts[other].source.name_of(at)}"
                across.setdefault((other, name), []).append(pair)
            elif not np.array_equal(part.y[row], part.y[at]):
                torn.append(f"{part.source.name_of(row)} = {part.source.name_of(at)}")
            else:
                same += 1
    for (first, second), pairs in across.items():
        problems.warn(f"{len(pairs)} examples of {second} are also in {first}: {_listed(pairs)}")
    if torn:
        problems.warn(f"{len(torn)} equal examples have different labels: {_listed(torn)}")
    if same and raw.columns is not None:
        problems.warn(f"{same} rows repeat another, label and all; one may be held out while its twin is trained on")


def _candidates(raw: Raw) -> dict[str, list[int]]:
    """Return the rows that may have a twin: those whose sum of bits, times odd numbers, repeats. 8 bytes a row."""
    width = -(-raw.parts["train"].x[:1].nbytes // 8)
    factors = np.random.default_rng(0).integers(2**63, size=width, dtype=np.uint64) * 2 + 1
    sums = {
        name: np.concatenate([_bits(part.x[piece], width) @ factors for piece in pieces(part.x, _ROWS_AT_ONCE)])
        for name, part in raw.parts.items()
    }
    values, counts = np.unique(np.concatenate(list(sums.values())), return_counts=True)
    return {name: np.flatnonzero(np.isin(each, values[counts > 1])).tolist() for name, each in sums.items()}


def _bits(rows: np.ndarray, width: int) -> NDArray[np.uint64]:
    """Return the bytes of rows as whole numbers, [B, W]; the last is filled up with zeros."""
    found = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    spare = 8 * width - found.shape[1]
    return (np.pad(found, ((0, 0), (0, spare))) if spare else found).view(np.uint64)


def _listed(pairs: list[str]) -> str:
    return ", ".join(pairs[:SHOWN]) + (f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else "")
