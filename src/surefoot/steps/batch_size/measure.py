"""What the choice of a batch size stands on: seconds of a step at each size, a short run with its noise, and races."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch

from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.record.progress import Progress
from surefoot.steps.batch_size.judge import BatchSizeChoice, Race, ShortRun, StepTime, race_for, reached, rivals
from surefoot.steps.batch_size.noise import MICRO_BATCH_SIZE, MICRO_BATCHES, noise_at
from surefoot.steps.batch_size.noise_estimate import LEAST_MICRO_BATCHES
from surefoot.steps.follow import follow, losses_of, rate_plan, without_validation
from surefoot.training.loop import advance, start
from surefoot.training.memory import MEMORY_SHARE, free_bytes
from surefoot.training.population.member import Member
from surefoot.training.population.workload import step_bytes
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
WINDOW_SHARE, MOST_WINDOW = 5, 20
"""The last loss of the short run is the mean over a fifth of its steps, at most 20. Chosen by hand."""
STEPS_AT_ONCE = 25
"""Between two looks whether a run has diverged, or a race is won. Chosen by hand."""
_MOST_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class BatchSizeSearch:
    """What is measured.

    Attributes:
        sizes: batch sizes to compare; None takes powers of two up to where memory, data or throughput end.
        probe_steps: of the short run along which noise is measured, at the recipe's batch size and rate.
        points: of that run at which it is, evenly spaced.
        micro_batches, micro_batch_examples: of each measurement: independent micro-batches, and examples in each.
        rounds: timings of each size.
    """

    sizes: tuple[int, ...] | None = None
    probe_steps: int = 200
    points: int = 5
    micro_batches: int = MICRO_BATCHES
    micro_batch_examples: int = MICRO_BATCH_SIZE
    rounds: int = ROUNDS

    def __post_init__(self) -> None:
        for name, least in (("probe_steps", 10), ("points", 1), ("micro_batches", LEAST_MICRO_BATCHES),
                            ("micro_batch_examples", 1), ("rounds", 1)):  # fmt: skip
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{name} = {getattr(self, name)}", f"{name} must be at least {least}", f"leave {name} out"
                )
        if self.points > self.probe_steps:
            raise ConfigError(f"points = {self.points} with probe_steps = {self.probe_steps}",
                              "noise is measured at most once a step", "give fewer points or more steps")  # fmt: skip
        if self.sizes is not None and (not self.sizes or min(self.sizes) < 1):
            raise ConfigError(f"sizes = {list(self.sizes)}", "batch sizes are at least 1, and there is one",
                              "leave sizes out")  # fmt: skip

    @property
    def measured_after(self) -> list[int]:
        """The numbers of updates after which noise is measured: the middles of equal parts of the run."""
        return [int((i + 0.5) * self.probe_steps / self.points) for i in range(self.points)]

    @property
    def window_steps(self) -> int:
        """Steps of the short run over which its last loss is meant."""
        return max(1, min(MOST_WINDOW, self.probe_steps // WINDOW_SHARE))


class StepTimer:
    """Times steps of the loop, without validation and at rate 0, so that nothing can diverge meanwhile.

    Args:
        task: what would be trained; its model stays as it is.
        recipe: the other hyperparameters.
        clock: what is read before and after. On one thread of a busy machine `time.process_time` tells what a quiet one
            would take.

    Attributes:
        rough: seconds of a step, roughly.
    """

    def __init__(self, task: Task, recipe: Recipe, clock: Callable[[], float] = time.perf_counter) -> None:
        self.task, self.recipe, self.clock = without_validation(task), recipe, clock
        self.state = start(self.task, rate_plan(recipe, task.data.examples, np.zeros(1)))
        self._go(1)  # warms up
        self.rough = min(self._go(1), self._go(1))

    def seconds(self) -> float:
        """Return the seconds of one step, over as many as make a fair timing."""
        return self._go(int(np.clip(round(ROUND_SECONDS / self.rough), 1, _MOST_STEPS)))

    def _go(self, steps: int) -> float:
        until = self.state.step + steps
        # One step longer than what is done, so that no row is made and no end is looked at.
        plan = dataclasses.replace(rate_plan(self.recipe, self.task.data.examples, np.zeros(until + 1)), row_steps=())
        began = self.clock()
        self.state, _ = advance(self.task, plan, self.state, until)
        seconds = (self.clock() - began) / steps
        self.state.tally.losses.clear()
        return seconds


def step_times(
    task: Task, recipe: Recipe, search: BatchSizeSearch, clock: Callable[[], float] = time.perf_counter
) -> Generator[Progress, None, tuple[list[StepTime], str]]:
    """Time a step at each batch size, and return the timings, smallest size first, and why they end there.

    Sizes take turns, so that a slow moment meets them all. Those that do not fit into memory are left out.

    Args:
        task, recipe, clock: as in `StepTimer`.
        search: sizes and rounds. Sizes of None end where memory, the training part or `MOST_STEP_SECONDS` end, or
            throughput no longer grows.
    """
    examples, given, first = task.data.examples, search.sizes is not None, min(SMALLEST, task.data.examples)
    sizes = sorted(set(search.sizes or (first * 2**k for k in range(40) if first * 2**k <= examples)))
    timers: dict[int, StepTimer] = {}
    reason = "the largest that was asked for" if given else f"the training part has {examples:,} examples"
    for size in sizes:
        yield Progress(0, search.probe_steps, f"timing steps: batch {size}")
        at_size = dataclasses.replace(recipe, batch_size=size)
        if not _fits(task, at_size):
            reason = f"a step at {size:,} would take more than half of the free memory"
            break
        try:
            timer = StepTimer(task, at_size, clock)
        except torch.OutOfMemoryError:
            reason = f"a step at {size:,} did not fit into memory"
            break
        if not given and timer.rough > MOST_STEP_SECONDS and timers:
            reason = f"a step at {size:,} takes {timer.rough:.2g} s"
            break
        timers[size] = timer
        if not given and _saturated({size: timer.rough for size, timer in timers.items()}, size):
            reason = "beyond, examples per second no longer grow"
            break
    seconds: dict[int, list[float]] = {size: [] for size in timers}
    for number in range(search.rounds):
        for size, timer in timers.items():
            text = f"timing steps: batch {size}, round {number + 1} of {search.rounds}"
            yield Progress(0, search.probe_steps, text)
            seconds[size].append(timer.seconds())
    return [StepTime(size, tuple(rounds)) for size, rounds in seconds.items()], reason


def _saturated(rough: dict[int, float], size: int) -> bool:
    """Whether this size and half of it give hardly more examples per second than a quarter of it."""
    quarter = rough.get(size // 4)
    if quarter is None or size // 2 not in rough:
        return False
    return max(size / rough[size], size // 2 / rough[size // 2]) < GAIN * (size // 4 / quarter)


def _fits(task: Task, recipe: Recipe) -> bool:
    member = Member(without_validation(task), rate_plan(recipe, task.data.examples, np.zeros(1)))
    return step_bytes(member) <= MEMORY_SHARE * free_bytes(task.machine.device)


def short_run(task: Task, recipe: Recipe, search: BatchSizeSearch) -> Generator[Progress, None, ShortRun]:
    """Train a copy at a constant rate and measure noise along it; it ends early where the run diverges."""
    steps, due = search.probe_steps, search.measured_after
    member = _member(task, recipe, steps)
    examples, size = member.task.data.examples, member.plan.batch_size
    noise, finite, losses = [], True, np.full(steps, np.inf)
    text = f"training at batch {size}, rate {recipe.lr:.2g}"
    for look in follow([member], sorted({*due, *range(STEPS_AT_ONCE, steps, STEPS_AT_ONCE), steps})):
        (state,), (rows,) = look.states, look.rows
        if look.mark is None:  # whether it has diverged is looked at after the same steps on every machine
            yield Progress(state.step, steps, text)
            continue
        losses = losses_of(state, rows, steps)
        finite = state.is_finite(member.task.template) and (state.outcome is None or state.outcome.kind == "finished")
        if not finite:
            break
        yield Progress(state.step, steps, text)
        if look.mark in due:
            yield Progress(state.step, steps, f"measuring noise after {state.step} steps")
            try:
                noise.append(noise_at(
                    member.task, state, batch_size=size, micro_batches=search.micro_batches,
                    micro_batch_size=min(search.micro_batch_examples, examples), label_smoothing=recipe.label_smoothing,
                ))  # fmt: skip
            except ConfigError:  # the numbers were checked at the door: what is left is a gradient that is not finite
                finite = False
                break
    return ShortRun(
        batch_size=size, steps=steps, lr=recipe.lr, first_loss=float(losses[0]),
        last_loss=float(losses[-search.window_steps :].mean()), diverged=not finite or not np.isfinite(losses).all(),
        noise=tuple(noise), batch_exponent=recipe.update_rule.batch_exponent,
    )  # fmt: skip


def races(
    task: Task, recipe: Recipe, run: ShortRun, choice: BatchSizeChoice, window_steps: int
) -> Generator[Progress, None, list[Race]]:
    """Run other sizes from the same start until one is at the short run's last loss in less time."""
    run_so_far: list[Race] = []
    for size in rivals(run, choice):
        race = race_for(run, choice, size)
        # As many examples as in the short run's last loss, so as little noise.
        window = min(max(3, round(window_steps * run.batch_size / size)), race.limit)
        member = _member(task, dataclasses.replace(recipe, batch_size=size, lr=race.lr), race.limit)
        at = None
        for look in follow([member], [*range(STEPS_AT_ONCE, race.limit, STEPS_AT_ONCE), race.limit]):
            (state,), (rows,) = look.states, look.rows
            if look.mark is not None:
                losses = losses_of(state, rows, race.limit)[: look.mark]
                at = reached(losses.tolist(), run.last_loss, window)
                if at is not None or not state.is_finite(member.task.template):
                    break
            yield Progress(state.step, race.limit, f"checking batch {size} at rate {race.lr:.2g}")
        run_so_far.append(dataclasses.replace(race, reached=at))
        if at is not None:
            break
    return run_so_far


def _member(task: Task, recipe: Recipe, steps: int) -> Member:
    """Return a copy of the task at the recipe's rate, held constant."""
    bare = without_validation(task)
    return Member(bare, rate_plan(recipe, bare.data.examples, np.full(steps, recipe.lr)))
