"""The losses of a task under given learning rates: the one loop with tables of rates, and all of its losses kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence

import numpy as np

from surefoot.config import Recipe, Schedule
from surefoot.measure.pace import FIRST_STEPS, steps_at_once
from surefoot.record.run import Row
from surefoot.sgd.plan import Plan, plan
from surefoot.training.loop import advance, start
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.state import State
from surefoot.training.task import Task

LOSSES_PER_ROW = 100
"""A row keeps up to 100 losses unthinned (`training.loop`), so with a row every 100 steps none is lost."""
MOST_NUMBERS = 2**27
"""Weights of all members that are trained at once: 0.5 GB, and as much again for velocities. Chosen by hand."""


def rate_plan(recipe: Recipe, examples: int, lr: np.ndarray) -> Plan:
    """Return the plan that follows a table of rates, whatever its shape: a constant, a ramp, or zeros.

    Args:
        recipe: the other hyperparameters; its rate, length and schedule are not used.
        examples: N, the size of the training part.
        lr: [T], the rate of each update.

    Raises:
        ConfigError: the batch is larger than the training part.

    >>> rate_plan(Recipe(batch_size=4), examples=8, lr=np.array([0.1, 0.2, 0.4])).lr.tolist()
    [0.1, 0.2, 0.4]
    """
    steps = len(lr)
    peak = float(np.max(lr)) or 1.0
    constant = dataclasses.replace(recipe, lr=peak, epochs=None, steps=steps, schedule=Schedule(kind="constant"))
    table = np.array(lr, dtype=np.float64)
    table.flags.writeable = False
    marks = (*range(LOSSES_PER_ROW, steps, LOSSES_PER_ROW), steps)
    return dataclasses.replace(plan(constant, examples), lr=table, row_steps=marks)


def without_validation(task: Task) -> Task:
    """Return the task without validation and test parts, so that rows cost nothing."""
    return dataclasses.replace(task, data=dataclasses.replace(task.data, validation=None, test=None))


def losses_of(state: State, rows: Sequence[Row], steps: int) -> np.ndarray:
    """Return the mini-batch loss of each step, [T]; infinite from the step at which a run diverged.

    Args:
        state, rows: of one run by a `rate_plan`, from its start on.
        steps: T.
    """
    seen = [loss for row in rows for loss in row.losses] + state.tally.losses
    losses = np.full(steps, np.inf)
    losses[: len(seen)] = seen
    return losses


def constant_rates(
    task: Task, recipe: Recipe, lrs: Sequence[float], steps: int, engine: Engine | None = None
) -> Generator[int, None, list[np.ndarray]]:
    """Train a copy of the task's model at each constant rate, and return the losses of each: [T] for each of R.

    All see the same batches. As many are trained at once as memory allows.

    Args:
        task: what is trained.
        recipe: the other hyperparameters.
        lrs: the rates, [R].
        steps: T, of each.
        engine: computes the steps; the same one for every call need not choose anew.

    Yields:
        updates of one member that the last piece of work was worth; R x T in all.
    """
    bare = without_validation(task)
    members = [Member(bare, rate_plan(recipe, bare.data.examples, np.full(steps, lr))) for lr in lrs]
    engine = engine or Engine()
    size = sum(parameter.numel() for parameter in task.template.parameters())
    at_once = max(1, MOST_NUMBERS // max(1, size))
    losses: list[np.ndarray] = []
    for first in range(0, len(members), at_once):
        some = members[first : first + at_once]
        states, rows = start_many(some), [[] for _ in some]
        piece = steps_at_once(some)
        first_piece = max(FIRST_STEPS, piece)
        for done in [0, *range(first_piece, steps, piece)]:
            until = min(steps, done + (piece if done else first_piece))
            states, new = advance_many(some, states, until, engine)
            rows = [old + more for old, more in zip(rows, new, strict=True)]
            yield len(some) * (until - done)
        losses += [losses_of(state, own, steps) for state, own in zip(states, rows, strict=True)]
    return losses


def untrained_losses(task: Task, recipe: Recipe, steps: int, last: int) -> np.ndarray:
    """Return the losses of the initial weights on the last batches of a run, [last]: the same loop at rate 0.

    The baseline of a trained run on the very same batches, in training mode, so that differences are paired.

    Args:
        task, recipe, steps: as in `constant_rates`.
        last: how many batches.
    """
    bare = without_validation(task)
    still = rate_plan(recipe, bare.data.examples, np.zeros(steps))
    state = start(bare, still)
    state.step = steps - last
    state, rows = advance(bare, still, state, steps)
    return losses_of(state, rows, last)


def ramp(task: Task, recipe: Recipe, low: float, high: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rates and losses, both [T], of a range test: one run whose rate rises from low to high, exponentially.

    Smith 2017 (arXiv 1506.01186), section 3.3, there with a linear rise; exponential in Gugger 2018 ("How do you find
    a good learning rate") and in fastai.

    Args:
        task, recipe, steps: as in `constant_rates`.
        low, high: the first and the last rate.
    """
    bare = without_validation(task)
    lrs = np.geomspace(low, high, steps)
    table = rate_plan(recipe, bare.data.examples, lrs)
    state, rows = advance(bare, table, start(bare, table), steps)
    return lrs, losses_of(state, rows, steps)
