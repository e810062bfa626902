"""The short runs of step 3: over a grid of rates, widened and repeated, as far as updates are granted."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from surefoot.config import Recipe, type_error
from surefoot.diagnose import lr as judge
from surefoot.errors import ConfigError
from surefoot.measure.rates import constant_rates, untrained_losses
from surefoot.training.population.engine import Engine
from surefoot.training.task import Task, reseeded
from surefoot.tuning.progress import Progress

NEIGHBOURS = 2
"""Rates above the edge that every seed is measured at, so that a seed with a higher edge shows it. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class LrSearch:
    """What is measured.

    Attributes:
        low, high: first and last rate of the grid, which is widened where the answer lies on its border.
        points_per_decade: of the grid.
        steps: of each short run.
        seeds: repetitions, each with its own initial weights and batches; within one all rates share them.
        range_test: also a classic range test, to show what the usual rules read from it.
        most_updates: what all runs together may have. The first grid is always measured; it is not widened, and there
            are fewer repetitions, where that would take more. None: no limit.
    """

    low: float = 1e-4
    high: float = 1e-1
    points_per_decade: int = 4
    steps: int = 100
    seeds: int = 3
    range_test: bool = True
    most_updates: int | None = None

    def __post_init__(self) -> None:
        least, most = judge.LIMITS
        kinds: dict[str, type] = {"low": float, "high": float, "points_per_decade": int, "steps": int, "seeds": int}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
                raise type_error(kind, value, name)
        if not least <= self.low < self.high <= most:
            raise ConfigError(
                f"low = {self.low:g} and high = {self.high:g}", f"low is below high, both in [{least:g}, {most:g}]",
                "leave them out: the grid is widened by itself",
            )  # fmt: skip
        for name, lowest in (("points_per_decade", 1), ("steps", 10), ("seeds", 1)):
            if getattr(self, name) < lowest:
                raise ConfigError(
                    f"{name} = {getattr(self, name)}", f"{name} must be at least {lowest}", f"leave {name} out"
                )

    @property
    def grid(self) -> list[float]:
        """The rates of the first round, evenly spaced in their logarithm."""
        points = round(math.log10(self.high / self.low) * self.points_per_decade) + 1
        return np.geomspace(self.low, self.high, max(2, points)).tolist()


@dataclass
class Measured:
    """What was measured so far.

    Attributes:
        tasks: one for each seed, [S].
        losses: of each update, [T], by number of the seed and rate.
        untrained: losses of the initial weights on the last batches of each seed, [W] each.
        lrs: the rates that all seeds were measured at, rising.
        seeds: that were measured, counted from the first task's.
        cut: the grid was not widened, or there were fewer seeds, since no more updates were granted.
        engine: computes the steps.
    """

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
        return sum(int(np.isfinite(own).sum()) for own in (*self.losses.values(), *self.untrained))

    def scores(self, lrs: Sequence[float], seeds: int) -> judge.Scores:
        """Return how the runs at these rates ended for the first seeds."""
        losses = np.stack([[self.losses[seed, lr] for seed in range(seeds)] for lr in lrs])
        return judge.scored(lrs, losses, np.stack(self.untrained[:seeds]))


def measuring(
    task: Task, recipe: Recipe, search: LrSearch, engine: Engine | None = None
) -> Generator[Progress, None, Measured]:
    """Train at every rate of the grid, widened where the answer lies on its border, and return all losses.

    The first seed goes over the whole grid, the others over the rates that can matter. Arguments as in `searching`.
    """
    tasks = [task if s == 0 else reseeded(task, task.seed + s) for s in range(search.seeds)]
    measured = Measured(tasks, engine=engine or Engine())
    measured.lrs = yield from _widened(measured, recipe, search, search.grid, seeds=1)
    if search.seeds > 1:
        some = _worth_repeating(measured.scores(measured.lrs, 1))
        while measured.seeds < search.seeds and _granted(measured, search, measured.seeds * len(some), measured.seeds):
            measured.seeds += 1
        measured.cut = measured.cut or measured.seeds < search.seeds
        if measured.seeds > 1:
            measured.lrs = yield from _widened(measured, recipe, search, some, measured.seeds)
    return measured


def _granted(measured: Measured, search: LrSearch, runs: int, seeds: int = 0) -> bool:
    """Return whether so many runs more, the start of so many seeds, and the range test, are granted."""
    window = min(judge.WINDOW_STEPS, search.steps)
    more = (runs + search.range_test) * search.steps + seeds * window
    return search.most_updates is None or measured.updates + more <= search.most_updates


def _widened(
    measured: Measured, recipe: Recipe, search: LrSearch, lrs: Sequence[float], seeds: int
) -> Generator[Progress, None, list[float]]:
    """Measure these rates with the first seeds, widen while the answer lies on the border, and return all rates."""
    rates = sorted(lrs)
    while True:
        for number in range(seeds):
            yield from _measure(measured, recipe, search, number, rates, seeds)
        more = judge.beyond(measured.scores(rates, seeds), search.points_per_decade)
        if not more:
            return rates
        # A decade that was already measured with another number of seeds must give the very same rates.
        known = [lr for _, lr in measured.losses]
        wider = {*rates, *(next((k for k in known if math.isclose(k, lr)), lr) for lr in more)}
        if not _granted(
            measured, search, len({(s, lr) for s in range(seeds) for lr in wider} - measured.losses.keys())
        ):
            measured.cut = True
            return rates
        rates = sorted(wider)


def _measure(
    measured: Measured, recipe: Recipe, search: LrSearch, number: int, lrs: Sequence[float], seeds: int
) -> Generator[Progress, None, None]:
    """Measure what is not yet known of one seed."""
    task, steps = measured.tasks[number], search.steps
    if len(measured.untrained) == number:
        measured.untrained.append(untrained_losses(task, recipe, steps, min(judge.WINDOW_STEPS, steps)))
    missing = [lr for lr in lrs if (number, lr) not in measured.losses]
    done = len(measured.losses) * steps
    waiting = len({(s, lr) for s in range(seeds) for lr in lrs} - measured.losses.keys()) * steps
    work, worth = constant_rates(task, recipe, missing, steps, measured.engine), 0
    text = f"seed {number + 1} of {search.seeds}, rates {lrs[0]:.2g} to {lrs[-1]:.2g}"
    while True:
        yield Progress(done + worth, done + waiting, text)
        try:
            worth += next(work)
        except StopIteration as end:
            measured.losses |= {(number, lr): own for lr, own in zip(missing, end.value, strict=True)}
            return


def _worth_repeating(scores: judge.Scores) -> list[float]:
    """The rates at which one seed's loss drops well, and their neighbours: the others need no repetition."""
    works = np.flatnonzero(scores.drops)
    if not len(works):
        return scores.lrs.tolist()
    return scores.lrs[max(0, works[0] - 1) : works[-1] + 1 + NEIGHBOURS].tolist()
