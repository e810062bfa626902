"""Members advanced to marks, and looked at there: the one runner of every measurement that trains; and its plans."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from surefoot.config import Recipe, Schedule
from surefoot.data.tree import leaves
from surefoot.optim.plan import Plan, plan
from surefoot.record.run import Row
from surefoot.steps.wiring.measure import batch, seen_outputs
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.state import State
from surefoot.training.task import Task

PIECE_SECONDS = 1.0
"""What a piece takes on the nominal machine. Chosen by hand."""
_RATE = {"cpu": 3e10, "cuda": 3e12}
"""Floating-point operations per second of the nominal machine, a CPU's for each thread: 3e10 were seen for small CNNs
on one core of an AMD EPYC. Only the length of pieces hangs on it."""
_STEP_SECONDS, _MODULE_SECONDS = 3e-4, 1e-4
"""What a step takes besides, and what each module with weights adds: 0.7 ms for a perceptron of two layers, 3 ms for
one of 13, on the same core."""
_EXAMPLES = 8


def steps_at_once(members: Sequence[Member]) -> int:
    """Return how many steps of all members make a piece of work, at least 1.

    On a nominal machine a piece takes `PIECE_SECONDS`: a step of K members, one after the other, takes
    K (t_0 + t_1 M + 6 W B / r), with M modules and W multiplications of one example's forward pass, each of two
    operations and three times, since the backward pass takes two forward ones.

    Args:
        members: that are computed together, [K]; the first one's model, batch and machine speak for all.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "mlp", threads=1)
    >>> plan = surefoot.plan(surefoot.Recipe(batch_size=64), digits.data.examples)
    >>> steps_at_once([Member(digits, plan)]), steps_at_once([Member(digits, plan)] * 5)
    (1605, 321)
    """
    task, size = members[0].task, members[0].plan.batch_size
    place = task.machine
    rate = _RATE.get(place.device.type, _RATE["cpu"]) * (place.threads if place.device.type == "cpu" else 1)
    modules, multiplications = work_of(task)
    step = _STEP_SECONDS + _MODULE_SECONDS * modules + 6 * multiplications * size / rate
    return max(1, int(PIECE_SECONDS / (len(members) * step)))


def work_of(task: Task) -> tuple[int, int]:
    """Return how many modules with weights of their own a forward pass calls, and about its multiplications an example.

    Each number that such a module returns takes as many multiplications as its weights have for one output. So linear
    and convolutional layers are counted exactly; others roughly, each parameter at least once.

    >>> import surefoot
    >>> work_of(surefoot.task(surefoot.load("digits"), "mlp"))  # 64 x 128 + 128 x 10, and a bias for each output
    (2, 9610)
    """
    x, y = batch(task, 0, _EXAMPLES)
    examples = len(leaves(y)[0])
    model = task.fresh_model() if examples > 1 else task.fresh_model().eval()
    calls, total = 0, 0

    def count(module: nn.Module, _: Any, outputs: Any) -> None:
        nonlocal calls, total
        first = outputs[0] if isinstance(outputs, tuple) and outputs else outputs
        if isinstance(first, Tensor):
            calls += 1
            fans = sum(each.numel() // max(1, len(each)) if each.dim() else 1 for each in _parameters(module))
            total += first.numel() // examples * fans

    for module in model.modules():
        if _parameters(module):
            module.register_forward_hook(count)
    seen_outputs(task, model, x, y)
    return calls, max(total, sum(each.numel() for each in model.parameters()))


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


LOSSES_PER_ROW = 100
"""A row keeps up to 100 losses unthinned (`training.loop`), so with a row every 100 steps none is lost."""


def rate_plan(recipe: Recipe, examples: int, lr: np.ndarray) -> Plan:
    """Return the plan that follows a table of rates, whatever its shape: a constant, a ramp, or zeros.

    Args:
        recipe: the other hyperparameters; its rate, length, schedule and progressive sizes are not used.
        examples: N, the size of the training part.
        lr: [T], the rate of each update.

    Raises:
        ConfigError: the batch is larger than the training part.

    >>> rate_plan(Recipe(batch_size=4), examples=8, lr=np.array([0.1, 0.2, 0.4])).lr.tolist()
    [0.1, 0.2, 0.4]
    """
    steps = len(lr)
    peak = float(np.max(lr)) or 1.0
    constant = dataclasses.replace(
        recipe, lr=peak, epochs=None, steps=steps, schedule=Schedule(kind="constant"), progressive_resizing=()
    )
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
    done = [loss for row in rows for loss in row.losses] + state.tally.losses
    losses = np.full(steps, np.inf)
    losses[: len(done)] = done
    return losses


@dataclass(frozen=True)
class Look:
    """Where members stand when they are looked at.

    Attributes:
        mark: the mark that they have reached; None between two marks.
        states: of the members, [K]. They are moved on when the next look is asked for, so keep a clone and not a state.
        rows: of each member from its start on, [K].
        steps: updates of single members since the look before.
    """

    mark: int | None
    states: list[State]
    rows: list[list[Row]]
    steps: int

    @property
    def alive(self) -> int:
        """How many members are still trained, neither diverged nor done."""
        return sum(state.outcome is None for state in self.states)


def follow(
    members: Sequence[Member],
    marks: Sequence[int],
    engine: Engine | None = None,
    states: Sequence[State] | None = None,
) -> Iterator[Look]:
    """Train members from mark to mark and give a look at each, and after each piece of work between them.

    Pieces are counted and take about a second (`pace`): the same call is divided alike on every machine. The caller
    owns the `for`: to stop early, stop asking. A member that has ended stands where it ended, and every mark
    is looked at, also when nobody is alive.

    Args:
        members: [K].
        marks: steps at which to look, rising; 0 is a look before the first step.
        engine: computes the steps; None makes one.
        states: to go on from, [K]; None starts all members.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> member = Member(digits, surefoot.plan(surefoot.Recipe(epochs=1), digits.data.examples))
    >>> [(look.mark, look.states[0].step) for look in follow([member], [0, 1, 5]) if look.mark is not None]
    [(0, 0), (1, 1), (5, 5)]
    """
    engine = engine or Engine()
    here = list(states) if states is not None else start_many(members)
    rows: list[list[Row]] = [[] for _ in members]
    piece = steps_at_once(members)
    for mark in marks:
        moved = 0
        while behind := [state.step for state in here if state.outcome is None and state.step < mark]:
            before, until = sum(state.step for state in here), min(mark, min(behind) + piece)
            here, new = advance_many(members, here, until, engine)
            for old, more in zip(rows, new, strict=True):
                old += more
            moved = sum(state.step for state in here) - before
            if until < mark:
                yield Look(None, here, rows, moved)
                moved = 0
        yield Look(mark, here, rows, moved)
