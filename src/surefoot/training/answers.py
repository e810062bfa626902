"""Answers of a part of which each example has several, as pixels, tokens and labels: counted by the batch, scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from surefoot.data.dataset import IGNORED
from surefoot.record.baseline import Baseline, answers_baseline
from surefoot.record.ranking import over_classes, ranked_labels
from surefoot.record.task_scores import TaskScores, scores_by_class, share_of_answers
from surefoot.training.gathered import Gathered
from surefoot.training.losses import class_counts
from surefoot.training.task import Task, class_axis

_MOST_RANKED = 50_000_000
"""Most outputs N x L of labels that are kept to be ranked, 0.2 GB. Chosen by hand."""
WORST = 8
"""Masks that are shown, those of which the least is right. Chosen by hand."""
_MOST_POSITIONS = 4096
"""Most positions whose losses are told apart. Chosen by hand."""


class AnswerCounts:
    """What scores and baseline of a part need, in a few numbers for each example and class.

    Args:
        task: what outputs and targets are.
        examples: of the part.
        names: of the classes or labels; numbers where there are none.
        prior: [C] or [L], of `prior_of`; None leaves the simplest answer out.
    """

    def __init__(self, task: Task, examples: int, names: tuple[str, ...] = (), prior: Tensor | None = None) -> None:
        self._task, self._names, self._prior = task, names, prior
        self.right: list[int] = []
        self.counted: list[int] = []
        self._losses: list[float] = []
        self._prior_losses: list[float] = []
        self._by_class: Tensor | None = None
        self._by_position: Tensor | None = None
        ranks = task.data.target == "multilabel" and examples * task.data.outputs <= _MOST_RANKED
        self._gathered = Gathered(examples) if ranks else None

        self.worst: list[tuple[float, int, Tensor]] = []

    @property
    def answers(self) -> int | None:
        """How many there are; None where none is right or wrong."""
        return sum(self.counted) if self.counted else None

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch, whose outputs are answers: see `Task.counts_right`."""
        axis = class_axis(self._task)
        if axis is None:  # several labels: each is a yes or no
            outputs = outputs.reshape(targets.shape)
            said, there = outputs > 0, targets > 0.5
            hit, used = said == there, torch.ones_like(there)
            found = torch.stack([(said & there).sum(0), there.sum(0), said.sum(0)]).cpu()
            if self._gathered is not None:
                self._gathered.add((outputs, targets))
        else:
            said, used = outputs.argmax(axis), targets != IGNORED
            hit, classes = (said == targets) & used, outputs.shape[axis]
            picked = (targets[hit], targets[used], said[used])
            found = torch.stack([torch.bincount(each, minlength=classes) for each in picked]).cpu()
            if self._task.data.target == "segmentation":
                self._remember_worst(hit, used, said)
        self.right += _sums(hit)
        self.counted += _sums(used)
        self._by_class = found if self._by_class is None else self._by_class + found
        if not self._task.custom_loss:
            self._add_losses(outputs, targets, used, axis)

    def _remember_worst(self, hit: Tensor, used: Tensor, said: Tensor) -> None:
        """Remember the masks of which the smallest shares are right: share, place in the part, predicted classes."""
        first, counted = len(self.counted), used.flatten(1).sum(1)
        shares = (hit.flatten(1).sum(1) / counted.clamp_min(1)).tolist()
        here = [i for i, n in enumerate(counted.tolist()) if n]
        for i in sorted(here, key=lambda i: shares[i])[:WORST]:
            self.worst.append((shares[i], first + i, said[i].cpu()))
        self.worst = sorted(self.worst, key=lambda each: each[:2])[:WORST]

    def _add_losses(self, outputs: Tensor, targets: Tensor, used: Tensor, axis: int | None) -> None:
        """Add up -ln p of the targets, of the model and of the shares of the classes in the training part."""
        if axis is None:
            each = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        else:
            places = targets.clamp_min(0)
            each = -F.log_softmax(outputs, axis).gather(axis, places.unsqueeze(axis)).squeeze(axis) * used
        self._losses += _sums(each.double())
        if self._prior is not None:
            prior = self._prior.to(outputs.device)
            if axis is None:
                simple = F.binary_cross_entropy(prior.expand_as(targets), targets.double(), reduction="none")
            else:
                simple = -prior.log()[targets.clamp_min(0)] * used
            self._prior_losses += _sums(simple)
        if self._task.data.target == "tokens" and targets.shape[1] <= _MOST_POSITIONS:
            found = torch.stack([each.double().sum(0), used.double().sum(0)]).cpu()
            self._by_position = found if self._by_position is None else self._by_position + found

    def scores(self, of: str, examples: int, loss: float) -> TaskScores:
        """Return the scores of all that was counted.

        Args:
            of: what was scored.
            examples: N, of the part.
            loss: its mean.
        """
        target = self._task.data.target
        if self._by_class is None or not self.answers:
            return TaskScores(of=of, target=target, examples=examples, answers=self.answers, loss=loss, accuracy=None)
        hits, support, predicted = (np.asarray(each) for each in self._by_class)
        names = self._names if len(self._names) == len(hits) else tuple(map(str, range(len(hits))))
        rankings = None
        if self._gathered is not None:
            z, y = (each.numpy() for each in self._gathered.whole)
            rankings = ranked_labels(z.astype(np.float64), y) if np.isfinite(z).all() else None
        per_class = scores_by_class(names, hits, support, predicted, rankings)
        metrics: dict[str, float] = {}
        if target != "tokens":
            metrics["f1"] = _mean([each.f1 for each in per_class])
        if target == "segmentation":
            metrics = {"iou": _mean([each.iou for each in per_class]), "dice": metrics["f1"]}
        for name, place in (("auc", 0), ("average_precision", 1)):
            mean = None if rankings is None else over_classes([each[place] for each in rankings], [])
            metrics |= {} if mean is None else {name: mean.value}
        if self._losses and target == "tokens":
            metrics["perplexity"] = math.exp(min(sum(self._losses) / self.answers, 700.0))
        return TaskScores(
            of=of, target=target, examples=examples, answers=self.answers, loss=loss,
            accuracy=share_of_answers(self.right, self.counted), per_class=per_class, metrics=metrics,
            loss_by_position=() if self._by_position is None else tuple(
                math.nan if not n else total / n for total, n in self._by_position.T.tolist()
            ),
        )  # fmt: skip

    def baseline(self, part: str) -> Baseline | None:
        """Return the model beside the shares of the classes; None where its loss is the user's, or is not finite.

        Args:
            part: name of the part.
        """
        if not self.answers or not self._prior_losses or not np.isfinite(self._losses).all():
            return None
        return answers_baseline(part, self._task.data.target, self._losses, self._prior_losses, self.counted)


def prior_of(task: Task) -> Tensor | None:
    """Return the shares of the classes among the answers of the training part, [C], or of a yes of each label, [L],
    float64; one example more of each (Laplace 1814), so that what it lacks is not impossible. None where classes are
    weighted, since their shares are then not what is learned, and for other targets.
    """
    target = task.data.target
    if task.class_weights is not None or task.custom_loss or target not in ("multilabel", "segmentation", "tokens"):
        return None
    counts = class_counts(task.data).double().cpu()
    return (counts + 1) / (len(task.data.train) + 2 if target == "multilabel" else counts.sum() + len(counts))


def _mean(values: Sequence[float | None]) -> float:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else math.nan


def _sums(each: Tensor) -> Any:
    return each.reshape(len(each), -1).sum(1).tolist()
