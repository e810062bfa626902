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
        outputs: as in `Predictions`; None of an example that the model cannot take.
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


def filled(each: Sequence[Answers], there: Sequence[Answers]) -> Answers:
    """Return answers of single examples as one; those without an answer get NaN, or `IGNORED`, in its place."""
    if not there:
        return Answers("any", np.full((len(each), 1), np.nan))
    like = there[0]
    gap = tree.map_leaves(lambda leaf: np.full_like(leaf, np.nan if leaf.dtype.kind == "f" else IGNORED), like.outputs)
    outputs = [gap if answers.outputs is None else answers.outputs for answers in each]
    whole = tree.map_leaves(lambda *arrays: np.concatenate(arrays), outputs[0], *outputs[1:])
    if like.last is None:
        return Answers(like.kind, whole)
    lasts = [np.full_like(like.last, np.nan) if answers.last is None else answers.last for answers in each]
    return Answers(like.kind, whole, np.concatenate(lasts))


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
