"""Training on a small fixed sample with everything off that would keep a model from learning it by heart."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from surefoot.config import Recipe
from surefoot.data.batches import epoch_order, fetch
from surefoot.data.dataset import DataSet, Part
from surefoot.measure.rates import rate_plan
from surefoot.record.decision import cost_in_examples
from surefoot.record.run import Outcome, Record, Row
from surefoot.training.evaluate import outputs_of
from surefoot.training.loop import advance, start
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.task import Task

EPOCHS_AT_ONCE = 5
"""Passes over the sample between two looks at it. Chosen by hand."""
FASTER, SPENT = "another member was faster", "no more examples were granted"
"""Why a run was interrupted."""
_VARIES_EXAMPLES = 16
"""Examples that are looked at twice to see whether the model draws random numbers. Chosen by hand."""
_ROUNDING = 1e-3
"""How far the sum of a softmax may be from 1, in bfloat16 too."""


@dataclass(frozen=True)
class Sample:
    """What can be said of a sample before anything is trained.

    Attributes:
        examples: N.
        batch_size: examples per update.
        parameters: trainable numbers of the model.
        outputs: classes C, or values per example.
        initial_loss: mean loss of the initial weights, in training mode.
        contradictions: groups of examples with identical input and different targets, each with their names.
        best_accuracy: share that can be right at most, given the contradictions; None for a regression.
        target_variance: mean over the values of the targets' variance; None for classes.
        probabilities: whether the outputs for classes are already probabilities.
        functional_dropout: whether the untrained model in training mode still gives other outputs each time.
    """

    examples: int
    batch_size: int
    parameters: int
    outputs: int
    initial_loss: float
    contradictions: tuple[tuple[str, ...], ...]
    best_accuracy: float | None
    target_variance: float | None
    probabilities: bool
    functional_dropout: bool


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
    rows = torch.as_tensor(np.sort(epoch_order(len(part), task.seed, 0)[:examples]), device=part.x.device)
    sample = Part(part.x[rows], part.y[rows], part.source.taken(rows.cpu().numpy()))
    data: DataSet = dataclasses.replace(task.data, train=sample, validation=sample, test=None)
    return dataclasses.replace(task, data=data, template=_without_dropout(task.template), augment=None)


def _without_dropout(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        elif isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
            module.dropout = 0.0
    return twin


def describe(task: Task, batch_size: int) -> Sample:
    """Return what can be said of a sample before anything is trained.

    Args:
        task: from `sample_task`.
        batch_size: examples per update.
    """
    part = task.data.train
    groups = _identical_inputs(part)
    classifies = task.classifies
    contradictions = tuple(
        tuple(part.name_of(i) for i in group) for group in groups if len(torch.unique(part.y[group], dim=0)) > 1
    )
    most = sum(int(torch.bincount(part.y[group]).max()) for group in groups) if classifies else 0
    spread = part.y.float().var(dim=0, unbiased=False).mean() if not classifies else None
    return Sample(
        examples=len(part),
        batch_size=batch_size,
        parameters=sum(each.numel() for each in task.template.parameters() if each.requires_grad),
        outputs=task.data.outputs,
        initial_loss=_initial_loss(task, batch_size),
        contradictions=contradictions,
        best_accuracy=most / len(part) if classifies else None,
        target_variance=None if spread is None else float(spread),
        probabilities=classifies and task.loss is None and _gives_probabilities(task),
        functional_dropout=_varies(task),
    )


def _identical_inputs(part: Part) -> list[list[int]]:
    groups: dict[bytes, list[int]] = {}
    for i, x in enumerate(part.x.cpu().contiguous()):
        groups.setdefault(x.numpy().tobytes(), []).append(i)
    return list(groups.values())


def _initial_loss(task: Task, batch_size: int) -> float:
    """One pass at rate 0 through the one loop."""
    bare = dataclasses.replace(task, data=dataclasses.replace(task.data, validation=None))
    still = rate_plan(Recipe(batch_size=batch_size), bare.data.examples, np.zeros(bare.data.examples // batch_size))
    _, rows = advance(bare, still, start(bare, still), still.steps)
    return rows[-1].train_loss if rows else float("nan")


def _gives_probabilities(task: Task) -> bool:
    model = task.fresh_model()
    for outputs, _ in outputs_of(task, model, model.state_dict(), task.data.train):
        sums_to_one = bool(((outputs.sum(dim=1) - 1).abs() < _ROUNDING * outputs.shape[1]).all())
        if not (sums_to_one and bool((outputs >= 0).all())):
            return False
    return True


def _varies(task: Task) -> bool:
    """Whether two passes in training mode differ although torch's dropout modules are off."""
    x, _ = fetch(task.data, task.data.train, np.arange(min(_VARIES_EXAMPLES, len(task.data.train))), seed=task.seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), task.machine.autocast():
        first, second = (task.fresh_model().train()(x) for _ in range(2))
    return not torch.equal(first, second)


def description_examples(task: Task, examples: int, batch_size: int) -> tuple[int, int]:
    """Return on how many of a sample's examples `describe` trains, and for how many it only computes outputs."""
    asked = examples if task.classifies and task.loss is None else 0
    return examples // batch_size * batch_size, asked + 2 * min(_VARIES_EXAMPLES, examples)


def look_examples(examples: int, rates: int, passes: int = EPOCHS_AT_ONCE) -> int:
    """Return what the passes until a look cost, each with an evaluation after it, in training examples.

    >>> look_examples(128, 7)  # 4/3 x 128 x 7 x 5
    5974
    """
    return cost_in_examples(passes * rates * examples, passes * rates * examples)


def overfitting(
    task: Task, recipe: Recipe, lrs: Sequence[float], max_steps: int, enough: float | None,
    most_examples: float = math.inf, engine: Engine | None = None,
) -> Generator[int, None, list[Record]]:  # fmt: skip
    """Train at each constant rate until one member knows the sample by heart, or all are at their end.

    Args:
        task: from `sample_task`.
        recipe: the other hyperparameters.
        lrs: the rates, [R].
        max_steps: of each member.
        enough: the loss at which a regression is learned; None: 100 % of the examples right.
        most_examples: what it may cost, in training examples. After the first look no other is begun that would cost
            more.
        engine: computes the steps; None makes one.

    Yields:
        updates of one member that the last piece of work was worth.

    Returns:
        a record for each rate, with a row for each pass; "interrupted" where another member was faster, or where no
        more examples were granted.
    """
    examples, batch = task.data.examples, int(recipe.batch_size)
    passes = max(1, max_steps // (examples // batch))
    steps = passes * (examples // batch)
    marks = tuple(range(examples // batch, steps + 1, examples // batch))
    plans = [rate_plan(recipe, examples, np.full(steps, lr)) for lr in lrs]
    members = [Member(task, dataclasses.replace(each, row_steps=marks)) for each in plans]
    states, rows, engine, reason = start_many(members), [[] for _ in members], engine or Engine(), FASTER
    for until in [*marks[EPOCHS_AT_ONCE - 1 : -1 : EPOCHS_AT_ONCE], steps]:
        before = sum(state.step for state in states)
        alive = [state for state in states if state.outcome is None]
        left = most_examples - cost_in_examples(before * batch, sum(map(len, rows)) * examples)
        ahead = (until - alive[0].step) // (examples // batch)
        if before and look_examples(examples, len(alive), ahead) > left:
            reason = SPENT
            break
        states, new = advance_many(members, states, until, engine)
        rows = [old + more for old, more in zip(rows, new, strict=True)]
        yield max(0, sum(state.step for state in states) - before)
        if any(own and learned(own[-1], enough) for own in rows) or all(state.outcome for state in states):
            break
    return [
        Record(
            rows=tuple(own),
            outcome=state.outcome or Outcome(kind="interrupted", step=state.step, reason=reason),
        )
        for state, own in zip(states, rows, strict=True)
    ]


def learned(row: Row, enough: float | None) -> bool:
    """Return whether the sample is known by heart, in training mode over the last pass and in evaluation mode after it.

    Args:
        row: of a pass.
        enough: the loss to reach, or None for 100 % accuracy.
    """
    if enough is None:
        return row.train_accuracy == 1.0 and row.val_accuracy == 1.0
    return row.train_loss <= enough and row.val_loss is not None and row.val_loss <= enough
