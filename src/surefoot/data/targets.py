"""Targets that are neither one class nor numbers: several yes or no, a class for each pixel or position, anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from surefoot.data import tree
from surefoot.data.dataset import IGNORED, Raw, RawPart, TargetKind
from surefoot.data.mapped import Mapped, large, pieces

if TYPE_CHECKING:
    from surefoot.data.check import Problems

LABEL_NAMES = ("labels", "label", "targets", "target", "y")
"""The keys by which an example that is a mapping names its targets; the first that is there."""

_DENSE = ("segmentation", "tokens")
_SPECIAL = (*_DENSE, "multilabel", "any")
_AT_ONCE = 2**22
_MOST_CLASSES = 128
"""More different values than these in what might be masks are levels of grey. Chosen by hand."""
_VOID = 255
"""What masks of 8 bits have where nothing is to be learned, by the convention of PASCAL VOC (Everingham et al. 2010)
and Cityscapes (Cordts et al. 2016); where it is the only value but 0, it is white, the second class."""


def label_name(example: Mapping[str, Any]) -> str | None:
    """Return the key of the targets of an example that is a mapping; None where it has none.

    >>> label_name({"input_ids": 1, "labels": 2})
    'labels'
    """
    return next((name for name in LABEL_NAMES if name in example), None)


def special_target(target: str, x: Any, y: Any) -> TargetKind | None:
    """Return what targets are, as asked or by their form; None for classes and numbers.

    By itself: a tree is anything; whole numbers [N, H, W] of at most 128 values beside images of H x W are masks; whole
    numbers [N, T] beside whole numbers [N, T] are tokens; zeros and ones [N, L], of which some rows have not exactly
    one 1, are labels.

    Args:
        target: as in `Config`.
        x, y: arrays, or trees of them, of the training part.

    >>> special_target("auto", np.zeros((4, 9), int), np.ones((4, 9), int))
    'tokens'
    """
    if target in _SPECIAL:
        return next(kind for kind in get_args(TargetKind) if kind == target)
    if target != "auto":
        return None
    if not tree.is_leaf(y):
        return "any"
    if y.dtype.kind not in "iufb" or y.ndim < 2:
        return None
    whole = y.dtype.kind in "iub"
    leaves = tree.leaves(x)
    beside = any(leaf.ndim == 4 and leaf.shape[-2:] == y.shape[1:] for leaf in leaves)
    if whole and y.ndim == 3 and beside and len(_values(y)) <= _MOST_CLASSES:
        return "segmentation"
    if whole and y.ndim == 2 and any(leaf.dtype.kind in "iu" and leaf.shape == y.shape for leaf in leaves):
        return "tokens"
    if y.ndim > 2:
        return "any"
    if y.shape[1] > 1 and _all(y, lambda piece: (piece == 0) | (piece == 1)):
        return None if _all(y, lambda piece: piece.sum(1) == 1) else "multilabel"
    return None


def _values(y: np.ndarray) -> set[int]:
    """Return the different values of whole numbers, looked at in pieces; it ends where there are very many."""
    found, rows = set[int](), max(1, _AT_ONCE // max(1, y[:1].size))
    for at in range(0, len(y), rows):
        found |= set(np.unique(y[at : at + rows]).tolist())
        if len(found) > 4 * _MOST_CLASSES:
            break
    return found


def _all(y: np.ndarray, true: Any) -> bool:
    return all(bool(np.all(true(y[at : at + 4096]))) for at in range(0, len(y), 4096))


def checked(raw: Raw, problems: Problems) -> Raw:
    """Return the parts with targets in the type in which losses take them, noting what is wrong.

    Classes of pixels and positions become int64, `IGNORED` where they are; labels float32; leaves of other targets
    float32 or int64. How many outputs there must be is one more than the largest class of the training part, or than
    the largest token of it.
    """
    kind, train = raw.target_kind, raw.parts["train"]
    parts, wrong = {}, problems.count
    raw = _without_void(raw, problems) if kind == "segmentation" else raw
    for name, part in raw.parts.items():
        y = typed(name, part, str(kind), problems)
        if y is not None:
            parts[name] = replace(part, y=y)
    if problems.count > wrong:
        return raw
    return replace(raw, parts=parts, classes=None, output_count=_outputs(raw, parts, problems, train))


def _without_void(raw: Raw, problems: Problems) -> Raw:
    """Return masks with 255 as `IGNORED`, or as class 1 where there is nothing but 0 besides; and say so."""
    if any(not tree.is_leaf(part.y) or part.y.dtype.kind not in "iu" for part in raw.parts.values()):
        return raw
    values = set[int]().union(*(_values(part.y) for part in raw.parts.values())) - {IGNORED}
    if _VOID not in values or len(values) < 2 or _VOID - 1 in values:
        return raw
    white = values == {0, _VOID}
    meaning = 1 if white else IGNORED
    told = "white, is class 1" if white else "by convention no class: such pixels do not count"
    problems.notes.append(f"masks: {_VOID} is {told}")
    parts = {
        name: replace(part, y=np.where(part.y == _VOID, meaning, part.y.astype(np.int64)))
        for name, part in raw.parts.items()
    }
    return replace(raw, parts=parts)


def typed(name: str, part: RawPart, kind: str, problems: Problems) -> Any:
    """Return the targets of one part in the type in which losses take them; None after noting what is wrong.

    Args:
        name: of the part.
        part: with targets as they were given.
        kind: multilabel, segmentation, tokens or any.
        problems: takes what is wrong.
    """
    y = part.y
    if kind == "any":
        return tree.map_leaves(_standard, y)
    axes = {"multilabel": 2, "tokens": 2, "segmentation": 3}[kind]
    form = {"multilabel": "[N, L] of 0 and 1", "tokens": "[N, T]", "segmentation": "[N, H, W]"}[kind]
    if not tree.is_leaf(y) or y.dtype.kind not in "iufb" or y.ndim != axes or 0 in y.shape[1:]:
        what = f"of shape {y.shape} and type {y.dtype}" if tree.is_leaf(y) else "several arrays"
        problems.add(name, f"its targets are {what}", f'targets of target = "{kind}" are {form}', "bring them to it")
        return None
    for at in range(0, len(y), max(1, _AT_ONCE // max(1, y[:1].size))):
        piece = y[at : at + max(1, _AT_ONCE // max(1, y[:1].size))].reshape(-1, *y.shape[1:])
        if kind == "multilabel":
            bad, allowed = ~((piece == 0) | (piece == 1)), "labels are 0 or 1"
        else:
            bad, allowed = (piece < 0) & (piece != IGNORED), f"classes are 0 and up, or {IGNORED} where none counts"
            bad |= piece != np.floor(piece)
        rows = np.flatnonzero(bad.reshape(len(piece), -1).any(1))
        for row in rows[:20].tolist():
            value = piece[row].reshape(-1)[int(bad[row].reshape(-1).argmax())]
            problems.add(part.source.name_of(at + row), f"target {value}", allowed, "mend it")
        if len(rows):
            return None
    return _typed(y, np.float32 if kind == "multilabel" else np.int64)


def _standard(y: np.ndarray) -> np.ndarray | Mapped:
    return _typed(y, np.float32 if y.dtype.kind == "f" else np.int64 if y.dtype.kind in "iu" else y.dtype)


def _typed(y: np.ndarray | Mapped, dtype: Any) -> np.ndarray | Mapped:
    """Return an array in another type; what is on disk and large stays there."""
    if large(y):
        return (y if isinstance(y, Mapped) else Mapped(y)).changed(partial(np.ascontiguousarray, dtype=dtype))
    return np.ascontiguousarray(y, dtype)


def _most(x: np.ndarray | Mapped) -> int:
    return max(int(x[piece].max()) for piece in pieces(x, len(x)))


def _outputs(raw: Raw, parts: dict[str, RawPart], problems: Problems, train: RawPart) -> int:
    y = parts["train"].y
    if raw.target_kind == "any":
        return 1
    if raw.target_kind == "multilabel":
        return int(y.shape[1])
    most = max(_most(part.y) for part in parts.values())
    if raw.target_kind == "tokens":
        whole = "iuf" if raw.integers else "iu"
        ids = [leaf for leaf in tree.leaves(train.x) if leaf.dtype.kind in whole and leaf.shape == y.shape]
        most = max([most, *map(_most, ids)])
    elif most > _most(y):
        problems.warn(f"class {most} is in no target of the training part")
    counted = sum(int(np.count_nonzero(y[piece] != IGNORED)) for piece in pieces(y, len(y)))
    if not counted:
        problems.add("train", f"all targets are {IGNORED}", "some must count", "give classes from 0")
    return max(2, most + 1)
