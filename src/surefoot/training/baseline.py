"""A trained model beside the simplest answers, on the part that is scored: the arrays that `record.baseline` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surefoot.data.dataset import Part
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.record.baseline import Baseline, class_baseline, linear_answers, number_baseline
from surefoot.record.ranking import ranked
from surefoot.record.scores import by_example
from surefoot.training.task import Task


def baseline_of(task: Task, part: str, scored: Part, pairs: Sequence[tuple[Tensor, Tensor]]) -> Baseline | None:
    """Return a model beside the simplest answers; None where its outputs are not finite or not one for each target.

    Args:
        task: that was learned.
        part: name of the scored part.
        scored: the part itself.
        pairs: outputs (logits, or numbers) and targets of its batches, in its order.
    """
    outputs = torch.cat([each for each, _ in pairs]).numpy()
    y = torch.cat([each for _, each in pairs]).numpy()
    train, classes = task.data.train, task.data.classes
    if not np.isfinite(outputs).all():
        return None
    targets = train.y.cpu().numpy()
    fitted, weighted = None, task.class_weights is not None
    if task.data.kind == "numbers" and train.x.dim() == 2 and train.x.is_floating_point():
        arrays: list[Any] = [
            each.rows if isinstance(each, MappedTensor) else each.cpu().numpy() for each in (train.x, scored.x)
        ]
        x, others = arrays
        fitted = linear_answers(x, targets, others, None if classes is None else len(classes), weighted=weighted)
    linear, fitted_to = fitted if fitted is not None else (None, 0)
    if classes is not None and outputs.shape == (len(y), len(classes)):
        guessed, _, log_true, _ = by_example(outputs, y)
        prior = dict(zip(classes, np.bincount(targets, minlength=len(classes)).tolist(), strict=True))
        auc = ranked(outputs.astype(np.float64), y)[1][0] if len(classes) == 2 else None
        return class_baseline(
            part, guessed == y, log_true, y, prior, linear, fitted_to, auc=auc, weighted=weighted
        )  # fmt: skip
    if classes is None and outputs.size == y.size:
        mean = targets.reshape(len(targets), -1).mean(0, dtype=np.float64)
        return number_baseline(part, outputs, y, mean, linear, fitted_to)
    return None  # a loss of the user's own, whose outputs mean what we cannot know
