"""The small sample of step 2: its task, and what can be said of it and the model before anything is trained."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from surefoot.config import Recipe
from surefoot.data.batches import epoch_order, fetch, standardised
from surefoot.data.dataset import Part
from surefoot.data.tree import is_leaf, leaves
from surefoot.steps.answers import class_logits, dense, equal, one_class_each
from surefoot.steps.follow import rate_plan
from surefoot.steps.overfit.floor import floor_of
from surefoot.steps.overfit.judge import Sample
from surefoot.training.evaluate import are_probabilities, outputs_of
from surefoot.training.loop import advance, start
from surefoot.training.metrics import MetricSet
from surefoot.training.task import Task

VARIES_EXAMPLES = 16
"""Examples that are looked at twice to see whether the model draws random numbers. Chosen by hand."""


def sample_task(task: Task, examples: int) -> Task:
    """Return the task of learning some training examples by heart: the same are its training and its validation part.

    So every row of the one loop judges the sample in training mode and, after the step, in evaluation mode. There is no
    augmentation, and the dropout of torch's modules is off.

    Args:
        task: the whole task, which stays as it is.
        examples: how many, drawn by the task's seed.
    """
    part = task.data.train
    # Sorted: a memory map is read from front to back.
    sample = part.taken(np.sort(epoch_order(len(part), task.seed, 0)[:examples]))
    data = dataclasses.replace(task.data, train=sample, validation=sample, test=None)
    bare = dataclasses.replace(task, augment=None, metrics=MetricSet())  # those of the rows are of no sample
    return dataclasses.replace(bare, data=data, template=_without_dropout(task.template))


def _without_dropout(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        elif isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
            module.dropout = 0.0
    return twin


def measure_sample(task: Task, batch_size: int) -> Sample:
    """Return what can be said of a sample before anything is trained.

    Args:
        task: from `sample_task`.
        batch_size: examples per update.
    """
    part, answered = task.data.train, task.data.train.y
    groups = _same_inputs(part)
    by_label = _by_label(task, answered)
    torn = by_label is None and task.data.target == "numbers" and is_leaf(answered)
    apart = answered if torn else by_label
    floor = floor_of(task) if dense(task) and not task.custom_loss else None
    if floor is not None:
        least_loss, best = floor.loss, None
    else:
        least_loss = _loss_of_means(task, groups) if torn and task.criterion is not None else 0.0
        best = None if by_label is None else _best_accuracy(by_label, groups)
    return Sample(
        examples=len(part),
        batch_size=batch_size,
        parameters=parameters_of(task),
        outputs=task.data.outputs,
        initial_loss=_initial_loss(task, batch_size),
        contradictions=tuple(
            tuple(part.name_of(i) for i in group)
            for group in groups
            if apart is not None and len(group) > 1 and len(torch.unique(apart[group], dim=0)) > 1
        ),
        best_accuracy=best,
        target_variance=_loss_of_mean(task) if torn else None,
        constant_loss=None if floor is None else floor.constant_loss,
        contexts=None if floor is None else floor.contexts,
        least_loss=least_loss,
        probabilities=one_class_each(task) and not task.custom_loss and _gives_probabilities(task),
        functional_dropout=_varies(task),
        floor_known=floor is not None or best is not None or (task.data.target == "numbers" and task.loss_fn is None),
    )


def _same_inputs(part: Part) -> list[list[int]]:
    """Return the positions of the examples, those of one input together."""
    rows = [leaf.cpu().contiguous().numpy() for leaf in leaves(part.x)]
    same: dict[bytes, list[int]] = {}
    for i in range(len(part)):
        same.setdefault(b"".join(leaf[i].tobytes() for leaf in rows), []).append(i)
    return list(same.values())


def _by_label(task: Task, y: Any) -> Tensor | None:
    """Return the answers of which each is right or wrong, int64 [N, L]: one class, or several yes or no; else None."""
    if not task.counts_right or dense(task):
        return None
    return y.long().reshape(len(y), -1)


def _best_accuracy(labels: Tensor, groups: Sequence[Sequence[int]]) -> float:
    """Return the share that can be right where examples of one input get one answer."""
    most = sum(int(torch.bincount(column).max()) for group in groups for column in labels[list(group)].T)
    return most / labels.numel()


def _loss_of_mean(task: Task) -> float:
    """Return the loss of always answering the mean: the variance, for the squared error and losses of the user's."""
    y = standardised(task.data, task.data.train.y)
    if task.criterion is None:
        return float(y.float().var(dim=0, unbiased=False).mean())
    centred = y if task.criterion == "bce" else y - y.mean(0)
    return float(task.mean_loss(torch.zeros_like(y), centred))


def _loss_of_means(task: Task, groups: Sequence[Sequence[int]]) -> float:
    """Return the loss of answering each of several identical inputs by the mean of their targets."""
    y = standardised(task.data, task.data.train.y)
    answers = y.clone()
    for group in groups:
        if len(group) > 1:
            answers[list(group)] = y[list(group)].mean(0)
    if task.criterion == "bce":  # the logit of a share; what is 0 or 1 alone costs next to nothing
        answers = torch.logit(answers, eps=1e-6)
    return float(task.mean_loss(answers, y))


def _initial_loss(task: Task, batch_size: int) -> float:
    """One pass at rate 0 through the one loop."""
    bare = dataclasses.replace(task, optimizer=None, data=dataclasses.replace(task.data, validation=None))
    still = rate_plan(Recipe(batch_size=batch_size), bare.data.examples, np.zeros(bare.data.examples // batch_size))
    _, rows = advance(bare, still, start(bare, still), still.steps)
    return rows[-1].train_loss if rows else float("nan")


def _gives_probabilities(task: Task) -> bool:
    model = task.fresh_model()
    batches = outputs_of(task, model, model.state_dict(), task.data.train)
    found = [class_logits(task, *each) for each in batches]
    return all(each is not None and are_probabilities(each[0]) for each in found)


def _varies(task: Task) -> bool:
    """Whether two passes in training mode differ although torch's dropout modules are off."""
    x, y = fetch(task.data, task.data.train, np.arange(min(VARIES_EXAMPLES, len(task.data.train))), seed=task.seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), task.machine.autocast():
        first, second = (task.outputs(task.fresh_model(), x, y) for _ in range(2))
    return not equal(first, second)


def parameters_of(task: Task) -> int:
    """Return how many numbers of the model are trained."""
    return sum(parameter.numel() for parameter in task.template.parameters() if parameter.requires_grad)
