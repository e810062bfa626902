"""Do the targets depend on the inputs: short trainings, and a test on examples that they did not see."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from surefoot.config import Recipe, Schedule
from surefoot.data.batches import epoch_order
from surefoot.data.dataset import Part
from surefoot.optim.plan import plan
from surefoot.seeds import generator
from surefoot.steps.wiring.judge_training import CLEAR, LEAST_HELD_OUT, Dependence
from surefoot.training.evaluate import outputs_of
from surefoot.training.population.many import Member, advance_many, start_many
from surefoot.training.task import Task

_RATES = (1e-1, 1e-2, 1e-3)
"""Learning rates, of which one should fit: the three larger ones that the procedure tries in step 3."""
_LOOKS = (10, 30, 60, 100, 150, 200)
"""Updates after which the test is made; a plain dependence shows at the first, and then training ends."""
_MOST_EXAMPLES = 2000
_HELD_OUT = 0.3
_BATCH = 64
_LONGEST_SECONDS = 8.0
"""No look is begun that would end later, once for the given targets and once for planted ones. All chosen by hand."""


def dependence(task: Task) -> Dependence:
    """Return whether a network trained for a moment knows anything of targets that it did not see.

    The statistic is A = sum_i s_i(y_i), the score that outputs i give to target y_i: the log-probability of a class, or
    output times target for numbers. If targets do not depend on inputs, every matching of targets to outputs is as
    likely as the given one, and A has the mean and variance of a random matching (Hoeffding 1951, "A combinatorial
    central limit theorem"), so z = (A - E A) / sd(A). It asks for no prior, and holds for any imbalance of classes.
    """
    began = time.perf_counter()
    small, held = _parts(task)
    z, accuracy, steps = _trained_z(small, held, began)
    planted = None
    if z < CLEAR and len(held.y) >= LEAST_HELD_OUT:
        planted, _, _ = _trained_z(*_planted(small, held), time.perf_counter())
    counts = torch.bincount(held.y) if task.classifies else None
    return Dependence(
        z=z,
        planted_z=planted,
        accuracy=accuracy,
        majority=float(counts.max() / len(held.y)) if counts is not None else None,
        examples=len(small.data.train.y),
        held_out=len(held.y),
        steps=steps,
        seconds=time.perf_counter() - began,
    )


def matching_z(scores: Tensor, targets: Tensor) -> float:
    """Return by how many standard deviations outputs match their own targets better than others'.

    Args:
        scores: what each output gives to each kind of target, [N, C]; for numbers, outputs [N, D].
        targets: classes, int64 [N]; or numbers [N, D].

    >>> y = torch.arange(100) % 4
    >>> [round(matching_z(F.one_hot(y).float(), targets), 1) for targets in (y, torch.arange(100) // 25)]
    [17.2, 0.7]
    """
    scores = scores.double().cpu()
    against = scores[:, targets.cpu()] if targets.dim() == 1 else scores @ targets.double().cpu().T  # [N, N]
    centred = against - against.mean(0, keepdim=True) - against.mean(1, keepdim=True) + against.mean()
    deviation = float((centred.square().sum() / (len(centred) - 1)).sqrt())
    z = float(centred.diagonal().sum()) / deviation if deviation > 1e-12 * float(scores.abs().max() + 1e-300) else 0.0
    return z if math.isfinite(z) else 0.0


def _parts(task: Task) -> tuple[Task, Part]:
    """Return the task on a part of its training examples, and other training examples to test on."""
    rows = epoch_order(task.data.examples, task.seed, 0)[:_MOST_EXAMPLES]
    held = max(1, round(_HELD_OUT * len(rows)))
    train = _taken(task.data.train, rows[held:])
    data = dataclasses.replace(task.data, train=train, validation=None, test=None)
    return dataclasses.replace(task, data=data, augment=None), _taken(task.data.train, rows[:held])


def _taken(part: Part, rows: np.ndarray) -> Part:
    at = torch.from_numpy(rows.copy()).to(part.y.device)
    return Part(part.x[at], part.y[at], part.source.taken(rows))


def _trained_z(task: Task, held: Part, began: float) -> tuple[float, float | None, int]:
    """Return the largest z over rates and looks, the accuracy there, and the updates done."""
    size = min(_BATCH, task.data.examples)
    constant = Schedule(kind="constant")
    recipes = [Recipe(lr=lr, steps=_LOOKS[-1], batch_size=size, weight_decay=0.0, schedule=constant) for lr in _RATES]
    members = [Member(task, plan(recipe, task.data.examples)) for recipe in recipes]
    states = start_many(members)
    best, accuracy, done = -math.inf, None, 0
    entered = time.perf_counter()
    for look in _LOOKS:
        a_step = (time.perf_counter() - entered) / done if done else 0.0
        if done and time.perf_counter() - began + a_step * (look - done) > _LONGEST_SECONDS:
            break
        states, _ = advance_many(members, states, look)
        done = look
        for state in states:
            if state.outcome is None or state.outcome.kind == "finished":
                z, share = _held_out_z(task, state.model, held)
                best, accuracy = (z, share) if z > best else (best, accuracy)
        if best >= CLEAR:
            break
    return max(best, -99.0), accuracy, done


def _held_out_z(task: Task, model: torch.nn.Module, held: Part) -> tuple[float, float | None]:
    pairs = list(outputs_of(task, model, model.state_dict(), held))
    outputs, y = torch.cat([each for each, _ in pairs]), torch.cat([each for _, each in pairs])
    if not bool(torch.isfinite(outputs).all()):
        return -math.inf, None
    if task.classifies:
        return matching_z(F.log_softmax(outputs, 1), y), float((outputs.argmax(1) == y).float().mean())
    targets = y.float().reshape(len(y), -1)
    scores = outputs.reshape(len(y), -1)
    if scores.shape[1] != targets.shape[1]:  # a loss of its own kind: ask only whether outputs and targets go together
        scores = scores[:, :1].expand(-1, targets.shape[1])
    return matching_z(scores, targets), None


def _planted(task: Task, held: Part) -> tuple[Task, Part]:
    """Return task and held-out part with targets that are a function of the inputs: their order along a direction.

    Classes keep their counts, numbers their values: the same targets, handed out by rank.
    """
    train = task.data.train
    x = torch.cat([train.x, held.x]).reshape(len(train.y) + len(held.y), -1).double()
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    direction = generator(task.seed, "planted").normal(size=x.shape[1]) / math.sqrt(x.shape[1])
    ranks = torch.argsort(torch.argsort(x @ torch.from_numpy(direction).to(x.device)))
    y = torch.cat([train.y, held.y])
    flat = y.reshape(len(y), -1)[:, 0]
    planted = y[torch.argsort(flat, stable=True)][ranks]
    data = dataclasses.replace(task.data, train=dataclasses.replace(train, y=planted[: len(train.y)]))
    return dataclasses.replace(task, data=data), dataclasses.replace(held, y=planted[len(train.y) :])
