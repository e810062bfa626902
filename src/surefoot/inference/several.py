"""Scores of examples with several answers each, as pixels, tokens and labels, and of those that have a loss alone."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from surefoot.data import tree
from surefoot.data.dataset import IGNORED, Part
from surefoot.errors import ConfigError, DataError
from surefoot.inference.finished import FinishedRun
from surefoot.record.task_scores import TaskScores
from surefoot.training.answers import AnswerCounts
from surefoot.training.make import must_reshape
from surefoot.training.outputs import answers_fit, described
from surefoot.training.task import Task, class_axis


def task_scores(finished: FinishedRun, part: Part, title: str, said: str) -> TaskScores:
    """Return the loss of a part, and of answers that are right or wrong how many are right, of each class or label.

    Args:
        finished: a run, whose task has its loss.
        part: as the model takes it.
        title: of the part, for messages.
        said: what the scores say they are of.

    Raises:
        DataError: the targets do not fit what the model gives, or the loss cannot take them.
        Outside: a number has no place in an embedding of the model.
    """
    task, counts = finished.task, AnswerCounts(finished.task, len(part), finished.trained.names)
    loss, counted, tried = 0.0, 0.0, False
    for outputs, targets in finished.batches(part, task):
        if not tried:
            task, tried = _tried(task, outputs, targets, part, title), True
        try:
            mean, count = task.counted(outputs, targets)
        except Exception as error:  # the loss may be anyone's, and raise anything
            raise _unfit(title, f"the loss cannot take them: {error}", outputs, targets) from error
        here = len(tree.leaves(targets)[0]) if count is None else float(count)
        loss, counted = loss + float(mean) * here, counted + here
        if task.counts_right:
            counts.add(outputs, targets)
    return counts.scores(said, len(part), loss / counted if counted else math.nan)


def _tried(task: Task, outputs: object, targets: object, part: Part, title: str) -> Task:
    """Return the task, told what the first batch says of outputs and targets."""
    if task.loss_fn is not None:
        return task
    fits = answers_fit(task, outputs, targets)
    if not fits and not task.custom_loss:
        raise _unfit(title, "these targets do not fit", outputs, targets)
    axis = class_axis(task)
    if fits and axis is not None and isinstance(outputs, Tensor):
        _check_range(part, outputs.shape[axis], title)
    try:
        there = replace(task, data=replace(task.data, train=part))
        return replace(task, counts_right=fits, reshapes=must_reshape(there, outputs, targets))
    except ConfigError as error:
        raise DataError(f"{title}: {error.given}", error.allowed, error.do) from None


def _unfit(title: str, what: str, outputs: object, targets: object) -> DataError:
    return DataError(
        f"{title}: of outputs {described(outputs)} and targets {described(targets)} {what}",
        "data to score has targets like the run's own",
        "give such, or the function that was given to train as loss=, forward= or loss_fn=",
    )


def _check_range(part: Part, classes: int, title: str) -> None:
    bad = ((part.y >= classes) & (part.y != IGNORED)).reshape(len(part), -1).any(1).nonzero()
    if len(bad):
        at = int(bad[0])
        raise DataError(
            f"{title}: {part.name_of(at)} has the class {int(part.y[at].max())}",
            f"the model has {classes} classes, 0 to {classes - 1}",
            f"name the classes as the run does, or give {IGNORED} where none counts",
        )
