"""Short runs at constant rates, over a grid that is widened where the answer lies on its border, and several seeds."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from surefoot.config import Recipe
from surefoot.errors import ConfigError, type_error
from surefoot.record.progress import Progress
from surefoot.steps.follow import follow, losses_of, rate_plan, without_validation
from surefoot.steps.lr_range.judge import LIMITS, WINDOW_STEPS, ShortRuns, beyond, check_grid, rate_grid
from surefoot.training.loop import advance, start
from surefoot.training.make import reseeded
from surefoot.training.population.engine import Engine
from surefoot.training.population.member import Member
from surefoot.training.task import Task

NEIGHBOURS = 2
"""Rates above the edge that every seed is measured at, so that a seed with a higher edge shows it. Chosen by hand."""
MOST_NUMBERS = 2**27
"""Weights of all members that are trained at once: 0.5 GB, and as much again for velocities. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class LrSearch:
    """What is measured.

    Attributes:
        low, high: first and last rate of the grid, which is widened where the answer lies on its border. None: as the
            rule has it, `UpdateRule.lr_range`.
        points_per_decade: of the grid.
        steps: of each short run.
        seeds: repetitions, each with its own initial weights and batches; within one all rates share them.
        range_test: also a classic range test, to show what the usual rules read from it.
        most_updates: what all runs together may have. The first grid is always measured; it is not widened, and there
            are fewer repetitions, where that would take more. None: no limit.
    """

    low: float | None = None
    high: float | None = None
    points_per_decade: int = 4
    steps: int = 100
    seeds: int = 3
    range_test: bool = True
    most_updates: int | None = None

    def __post_init__(self) -> None:
        for name, kinds, least in (
            ("low", (int, float), -math.inf), ("high", (int, float), -math.inf), ("points_per_decade", int, 1),
            ("steps", int, 10), ("seeds", int, 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is None and kinds is not int:
                continue
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise type_error(int if kinds is int else float, value, name)
            if value < least:
                raise ConfigError(f"{name} = {value}", f"{name} must be at least {least}", f"leave {name} out")
        low, high = (LIMITS[0] if self.low is None else self.low), (LIMITS[1] if self.high is None else self.high)
        check_grid(low, high)

    @property
    def window_steps(self) -> int:
        """W, the last steps of a run over which its loss is averaged."""
        return min(WINDOW_STEPS, self.steps)


@dataclass
class Measurement:
    """What was measured so far.

    Attributes:
        recipe: the hyperparameters that all runs share.
        search: what is measured.
        tasks: one for each seed, [S].
        losses: of each update, [T], by number of the seed and rate.
        untrained: losses of the initial weights on the last batches of each seed, [W] each.
        lrs: the rates that all seeds were measured at, rising.
        seeds: that were measured, counted from the first task's.
        cut: the grid was not widened, or there were fewer seeds, since no more updates were granted.
        engine: computes the steps.
    """

    recipe: Recipe
    search: LrSearch
    tasks: list[Task]
    losses: dict[tuple[int, float], np.ndarray] = field(default_factory=dict)
    untrained: list[np.ndarray] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    seeds: int = 1
    cut: bool = False
    engine: Engine = field(default_factory=Engine)

    @property
    def updates(self) -> int:
        """How many updates were done, those at rate 0 included."""
        return sum(int(np.isfinite(losses).sum()) for losses in (*self.losses.values(), *self.untrained))

    def grants(self, runs: int, seeds: int = 0) -> bool:
        """Return whether so many runs more, the start of so many seeds, and the range test, are granted."""
        search = self.search
        more = (runs + search.range_test) * search.steps + seeds * search.window_steps
        return search.most_updates is None or self.updates + more <= search.most_updates

    def runs(self, lrs: Sequence[float], seeds: int) -> ShortRuns:
        """Return the runs at these rates of the first seeds."""
        losses = np.stack([[self.losses[seed, lr] for seed in range(seeds)] for lr in lrs])
        return ShortRuns(np.array(lrs), losses, np.stack(self.untrained[:seeds]), self.cut)


def measure(
    task: Task, recipe: Recipe, search: LrSearch, engine: Engine | None = None
) -> Generator[Progress, None, Measurement]:
    """Train at every rate of the grid, widened where the answer lies on its border, and return all losses.

    The first seed goes over the whole grid, the others over the rates that can matter. Within a seed all rates see the
    same batches.

    Args:
        task: what is trained.
        recipe: the other hyperparameters; its rate, length and schedule are not used.
        search: what is measured.
        engine: computes the steps; None makes one.
    """
    tasks = [task if seed == 0 else reseeded(task, task.seed + seed) for seed in range(search.seeds)]
    measured = Measurement(recipe, search, tasks, engine=engine or Engine())
    first, last = recipe.update_rule.lr_range
    low, high = first if search.low is None else search.low, last if search.high is None else search.high
    check_grid(low, high)
    grid = rate_grid(low, high, search.points_per_decade)
    measured.lrs = yield from _widened(measured, grid, seeds=1)
    if search.seeds > 1:
        lrs = _worth_repeating(measured.runs(measured.lrs, 1))
        while measured.seeds < search.seeds and measured.grants(measured.seeds * len(lrs), measured.seeds):
            measured.seeds += 1
        measured.cut = measured.cut or measured.seeds < search.seeds
        if measured.seeds > 1:
            measured.lrs = yield from _widened(measured, lrs, measured.seeds)
    return measured


def _widened(measured: Measurement, lrs: Sequence[float], seeds: int) -> Generator[Progress, None, list[float]]:
    """Measure these rates with the first seeds, widen while the answer lies on the border, and return all rates."""
    rates = sorted(lrs)
    while True:
        for number in range(seeds):
            yield from _train(measured, number, rates, seeds)
        more = beyond(measured.runs(rates, seeds), measured.search.points_per_decade)
        if not more:
            return rates
        # A decade that was already measured with another number of seeds must give the very same rates.
        tried = [lr for _, lr in measured.losses]
        wider = {*rates, *(next((old for old in tried if math.isclose(old, lr)), lr) for lr in more)}
        if not measured.grants(len(_missing(measured, wider, seeds))):
            measured.cut = True
            return rates
        rates = sorted(wider)


def _missing(measured: Measurement, lrs: Iterable[float], seeds: int) -> set[tuple[int, float]]:
    """Return which runs of the first seeds at these rates were not measured yet."""
    return {(seed, lr) for seed in range(seeds) for lr in lrs} - measured.losses.keys()


def _train(measured: Measurement, number: int, lrs: Sequence[float], seeds: int) -> Generator[Progress, None, None]:
    """Train one seed at those of the rates at which it was not trained yet, as many at once as memory allows."""
    recipe, steps, losses = measured.recipe, measured.search.steps, measured.losses
    bare = without_validation(measured.tasks[number])
    examples = bare.data.examples
    if len(measured.untrained) == number:
        measured.untrained.append(untrained_losses(bare, recipe, steps, measured.search.window_steps))
    missing = [lr for lr in lrs if (number, lr) not in losses]
    done = len(losses) * steps
    planned = done + len(_missing(measured, lrs, seeds)) * steps
    text = f"seed {number + 1} of {measured.search.seeds}, rates {lrs[0]:.2g} to {lrs[-1]:.2g}"
    yield Progress(done, planned, text)
    at_once = max(1, MOST_NUMBERS // max(1, sum(each.numel() for each in bare.template.parameters())))
    for first in range(0, len(missing), at_once):
        together = missing[first : first + at_once]
        members = [Member(bare, rate_plan(recipe, examples, np.full(steps, lr))) for lr in together]
        for look in follow(members, [steps], measured.engine):
            done += look.steps
            yield Progress(done, planned, text)
            if look.mark == steps:
                for lr, state, rows in zip(together, look.states, look.rows, strict=True):
                    losses[number, lr] = losses_of(state, rows, steps)


def untrained_losses(task: Task, recipe: Recipe, steps: int, last: int) -> np.ndarray:
    """Return the losses of the initial weights on the last batches of a run, [last]: the same loop at rate 0.

    The baseline of a trained run on the very same batches, in training mode, so that differences are paired.

    Args:
        task: what is trained.
        recipe: the other hyperparameters.
        steps: T, of the run.
        last: how many batches.
    """
    still = rate_plan(recipe, task.data.examples, np.zeros(steps))
    state = start(task, still)
    state.step = steps - last
    state, rows = advance(task, still, state, steps)
    return losses_of(state, rows, last)


def _worth_repeating(runs: ShortRuns) -> list[float]:
    """The rates at which one seed's loss drops well, and their neighbours: the others need no repetition."""
    works = np.flatnonzero(runs.drops)
    if not len(works):
        return runs.lrs.tolist()
    return runs.lrs[max(0, works[0] - 1) : works[-1] + 1 + NEIGHBOURS].tolist()
