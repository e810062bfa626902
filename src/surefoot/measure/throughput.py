"""How long a step takes at each batch size: the one loop, timed, sizes in turn so that a slow moment meets them all."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from surefoot.config import Recipe
from surefoot.measure.rates import rate_plan, without_validation
from surefoot.training.loop import advance, start
from surefoot.training.population.member import Member
from surefoot.training.population.workload import MEMORY_SHARE, free_bytes, step_bytes
from surefoot.training.state import State
from surefoot.training.task import Task

ROUNDS = 5
"""Timings of each size. The range of five independent timings holds the median with a chance of 1 - 2 / 2^5 = 94 %."""
ROUND_SECONDS = 0.1
"""Length of each timing, or one step where that takes longer. Chosen by hand."""
MOST_STEP_SECONDS = 3.0
"""Sizes whose step takes longer are not timed. Chosen by hand: five rounds of it are 15 s."""
GAIN = 1.05
"""Sizes end where four times the batch no longer gives so many times the examples per second: beyond, a larger batch
costs as much more as it is larger, and saves less than that. Chosen by hand."""
SMALLEST = 4
"""The first size of those that are chosen by themselves. Chosen by hand."""
_MOST_STEPS = 200


@dataclass(frozen=True)
class Timed:
    """What a step takes.

    Attributes:
        batch_size: examples per step.
        seconds: of a step, one for each round, [R].
    """

    batch_size: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of a step, the median of the rounds."""
        return float(np.median(self.seconds))


@dataclass
class _Running:
    """A size being timed: its run, and how many steps make a round."""

    task: Task
    recipe: Recipe
    state: State
    clock: Callable[[], float]
    steps: int = 1

    def go(self, steps: int) -> float:
        """Do steps and return the seconds of one."""
        until = self.state.step + steps
        # One step longer than what is done, so that no row is made and no end is looked at.
        plan = dataclasses.replace(rate_plan(self.recipe, self.task.data.examples, np.zeros(until + 1)), row_steps=())
        began = self.clock()
        self.state, _ = advance(self.task, plan, self.state, until)
        seconds = (self.clock() - began) / steps
        self.state.tally.losses.clear()
        return seconds


def step_seconds(
    task: Task,
    recipe: Recipe,
    sizes: Sequence[int] | None = None,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Generator[str, None, tuple[list[Timed], str]]:
    """Time a step at each batch size, and return the timings, smallest size first, and why they end there.

    The steps are those of training without its validation, at rate 0.

    Args:
        task: what would be trained; its model stays as it is.
        recipe: the other hyperparameters.
        sizes: to time; None takes powers of two up to where memory, the training part or `MOST_STEP_SECONDS` end, or
            throughput no longer grows. Those that do not fit into memory are left out of given ones, too.
        rounds: timings of each.
        clock: what is read before and after. On one thread of a busy machine `time.process_time` tells what a quiet one
            would take.

    Yields:
        what is being done, before every timing.
    """
    bare, examples = without_validation(task), task.data.examples
    asked = sorted(set(sizes)) if sizes is not None else _powers(examples)
    running: dict[int, _Running] = {}
    rough: dict[int, float] = {}
    reason = "the largest that was asked for" if sizes is not None else f"the training part has {examples:,} examples"
    for size in asked:
        yield f"batch {size}"
        own = dataclasses.replace(recipe, batch_size=size)
        if not _fits(bare, own):
            reason = f"a step at {size:,} would take more than half of the free memory"
            break
        try:
            one = _Running(bare, own, start(bare, rate_plan(own, examples, np.zeros(1))), clock)
            one.go(1)
            rough[size] = min(one.go(1), one.go(1))
        except torch.OutOfMemoryError:
            reason = f"a step at {size:,} did not fit into memory"
            break
        if sizes is None and rough[size] > MOST_STEP_SECONDS and running:
            reason = f"a step at {size:,} takes {rough[size]:.2g} s"
            break
        one.steps = int(np.clip(round(ROUND_SECONDS / rough[size]), 1, _MOST_STEPS))
        running[size] = one
        if sizes is None and _saturated(rough, size):
            reason = "beyond, examples per second no longer grow"
            break
    seconds: dict[int, list[float]] = {size: [] for size in running}
    for number in range(rounds):
        for size, one in running.items():
            yield f"batch {size}, round {number + 1} of {rounds}"
            seconds[size].append(one.go(one.steps))
    return [Timed(size, tuple(own)) for size, own in seconds.items()], reason


def _powers(examples: int) -> list[int]:
    first = min(SMALLEST, examples)
    return [first * 2**k for k in range(40) if first * 2**k <= examples]


def _saturated(rough: dict[int, float], size: int) -> bool:
    """Whether this size and half of it give hardly more examples per second than a quarter of it."""
    quarter = rough.get(size // 4)
    if quarter is None or size // 2 not in rough:
        return False
    before = size // 4 / quarter
    return max(size / rough[size], size // 2 / rough[size // 2]) < GAIN * before


def _fits(task: Task, recipe: Recipe) -> bool:
    member = Member(task, rate_plan(recipe, task.data.examples, np.zeros(1)))
    return step_bytes(member) <= MEMORY_SHARE * free_bytes(task.machine.device)
