"""What a model's outputs say, by the kind of its targets: probabilities, numbers, classes of pixels and positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surefoot.data import tree
from surefoot.data.dataset import IGNORED, TargetKind
from surefoot.errors import DataError
from surefoot.inference.finished import FinishedRun
from surefoot.record.scores import log_softmax
from surefoot.training.outputs import described


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers for M examples.

    Attributes:
        kind: what they are: that of the targets, or any where the outputs do not have its form.
        outputs: as in `Predictions`.
        last: as in `Predictions`.
    """

    kind: TargetKind
    outputs: Any
    last: NDArray[np.float64] | None = None


def answers_of(finished: FinishedRun, x: Any) -> Answers:
    """Return what a model says of raw inputs, [M, ...].

    Raises:
        DataError: what it gives has no entry for each example.
        Outside: a number has no place in an embedding of the model.
    """
    trained, count = finished.trained, len(tree.leaves(x)[0])
    target, width = trained.target, int(trained.information["outputs"])
    custom = finished.task.loss_fn is not None or "loss_fn" in trained.information or target == "any"
    outputs, last = finished.outputs(x, lambda each: _reduced(each, target)), None
    if target == "tokens" and isinstance(outputs, tuple):
        outputs, last = outputs
    for leaf in tree.leaves(outputs):
        if not isinstance(leaf, Tensor) or leaf.shape[:1] != (count,):
            raise DataError(
                f"the model gives {described(outputs)} for {count} examples",
                "predictions have one entry for each example",
                "give forward=(model, inputs) -> outputs, which returns such",
            )
    if not _fits(outputs, target, count, width):
        if custom or not isinstance(outputs, Tensor):
            return Answers("any", tree.map_leaves(_array, outputs))
        outputs = outputs.reshape(count, -1)
    array = tree.map_leaves(_array, outputs)
    if target == "classes":
        array = np.exp(log_softmax(_broken(array.astype(np.float64))))
    elif target == "numbers":
        array = _broken(array.astype(np.float64).reshape(count, -1))
    elif target == "multilabel":
        array = torch.from_numpy(_broken(array.astype(np.float64))).sigmoid().numpy()
    return Answers(target, array, None if last is None else log_softmax(last.double().numpy()))


def no_answers(finished: FinishedRun, count: int) -> Answers:
    """Return answers for examples that all have none: NaN, or where nothing says how large they are nothing, [M, 0]."""
    trained = finished.trained
    if trained.target in ("classes", "numbers", "multilabel"):
        return Answers(trained.target, np.full((count, int(trained.information["outputs"])), np.nan))
    last = np.full((count, 0), np.nan) if trained.target == "tokens" else None
    return Answers(trained.target, np.full((count, 0), IGNORED), last)


def joined_answers(pieces: Sequence[Any]) -> Any:
    """Return outputs of pieces, arrays [M, ...] or trees of them, as one.

    Sequences of classes that are shorter than others are filled with `IGNORED`, and so is, or with NaN, a piece that
    has no answers.
    """
    like = next((each for each in pieces if not _is_empty(each)), pieces[0])
    whole = [_gaps(like, len(each)) if _is_empty(each) else each for each in pieces]
    return tree.map_leaves(lambda *arrays: _concatenated(arrays), whole[0], *whole[1:])


def _is_empty(outputs: Any) -> bool:
    return isinstance(outputs, np.ndarray) and outputs.shape[1:] == (0,)


def _gaps(like: Any, count: int) -> Any:
    def leaf(array: np.ndarray) -> np.ndarray:
        return np.full((count, *array.shape[1:]), np.nan if array.dtype.kind == "f" else IGNORED, array.dtype)

    return tree.map_leaves(leaf, like)


def _concatenated(arrays: Sequence[np.ndarray]) -> np.ndarray:
    if arrays[0].ndim == 2 and arrays[0].dtype.kind == "i":
        longest = max(each.shape[1] for each in arrays)
        arrays = [np.pad(each, [(0, 0), (0, longest - each.shape[1])], constant_values=IGNORED) for each in arrays]
    return np.concatenate(arrays)


def _reduced(outputs: Any, target: TargetKind) -> Any:
    """Return what is kept of a batch: of pixels their class alone, of positions theirs and the logits of the last."""
    if not isinstance(outputs, Tensor):
        return outputs
    if target == "segmentation" and outputs.dim() == 4:
        return outputs.argmax(1)
    if target == "tokens" and outputs.dim() == 3:
        return outputs.argmax(-1), outputs[:, -1]
    return outputs


def _fits(outputs: Any, target: TargetKind, count: int, width: int) -> bool:
    if not isinstance(outputs, Tensor) or target == "any":
        return False
    match target:
        case "classes" | "multilabel":
            return outputs.shape == (count, width)
        case "numbers":
            return outputs.numel() == count * width
        case "segmentation":
            return outputs.dim() == 3 and not outputs.is_floating_point()
        case _:
            return outputs.dim() == 2 and not outputs.is_floating_point()


def _array(leaf: Tensor) -> np.ndarray:
    return (leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy()


def _broken(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows [M, D] with NaN for all of one that is not finite: its softmax would warn."""
    rows[~np.isfinite(rows).reshape(len(rows), -1).all(1)] = np.nan
    return rows
