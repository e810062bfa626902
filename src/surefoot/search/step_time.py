"""What a training step and a look at the validation part take, so that a budget in time can be planned."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

from surefoot.config import Recipe, Schedule
from surefoot.optim.plan import plan
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import advance, start
from surefoot.training.task import Task

_WARM_UP = 3
_ROUNDS = 5
_STEPS_EACH = 4
"""Steps of a round; the median over rounds leaves a disturbance out. Chosen by hand, as the two above."""
_LONGEST_SECONDS = 5.0
"""No round is begun after this."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step of the plain loop, and of one validation."""

    step_seconds: float
    validation_seconds: float

    def seconds(self, steps: int, rows: int) -> float:
        """Return what a run of so many steps and rows takes."""
        return steps * self.step_seconds + rows * self.validation_seconds


def step_time(task: Task, recipe: Recipe) -> StepTime:
    """Measure on a copy of the model; nothing is kept of it.

    Args:
        task: what is trained.
        recipe: its batch size and rule decide; its length and schedule do not.
    """
    steps = _WARM_UP + _ROUNDS * _STEPS_EACH
    slow = replace(recipe, lr=min(recipe.lr, 1e-3), epochs=None, steps=steps, schedule=Schedule(kind="constant"))
    made = plan(slow, task.data.examples)
    made = replace(made, row_steps=(steps + 1,))
    state = start(task, made)
    began = time.perf_counter()
    state, _ = advance(task, made, state, _WARM_UP)
    rounds = []
    while state.outcome is None and (not rounds or time.perf_counter() - began < _LONGEST_SECONDS):
        before = time.perf_counter()
        state, _ = advance(task, made, state, state.step + _STEPS_EACH)
        rounds.append((time.perf_counter() - before) / _STEPS_EACH)
    before = time.perf_counter()
    if task.data.validation is not None:
        with task.machine.computing():
            evaluate_part(task, state.model, state.weights, task.data.validation)
    return StepTime(statistics.median(rounds), time.perf_counter() - before)
