"""Step 3 of the procedure: a bracket of learning rates at which the loss drops within about 100 steps, measured."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import nn

from surefoot.config import Recipe, type_error
from surefoot.errors import ConfigError
from surefoot.models.build import Factory
from surefoot.record.decision import Decision, worst
from surefoot.record.progress import Progress, finished
from surefoot.steps.lr_range import judge
from surefoot.steps.lr_range.suggestions import smoothed, suggestions
from surefoot.steps.probe import probe_task
from surefoot.steps.rates import constant_rates, ramp, untrained_losses
from surefoot.steps.untouched import untouched
from surefoot.training.population.engine import Engine
from surefoot.training.task import Loss, Task, reseeded

RAMP = (1e-7, 10.0)
"""First and last rate of the range test: fastai's defaults, for which its rules were made."""
NEIGHBOURS = 2
"""Rates above the edge that every seed is measured at, so that a seed with a higher edge shows it. Chosen by hand."""
CURVE_POINTS = 50
"""Points kept of each curve for the picture. Chosen by hand."""


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


def find_lr(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | None = None,
    *,
    low: float = 1e-4,
    high: float = 1e-1,
    points_per_decade: int = 4,
    steps: int = 100,
    seeds: int = 3,
    batch_size: int | Literal["full"] = 128,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    augment: Any = (),
    range_test: bool = True,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Decision:
    """Measure between which learning rates the loss drops within 100 steps, and suggest one to go on with.

    Each rate of a grid is held constant for `steps` updates on all training data with a small weight decay, over
    several seeds. The bracket's low end is the lowest rate whose loss, seed by seed, is not above the least by more
    than two standard errors; its high end the largest rate at which the loss still drops by more than two standard
    errors and by half of the best drop. `lr` is their geometric mean, or a quarter of a decade under the high end where
    that is lower, since neither end is right for a long run (Wu et al. 2018, arXiv 1803.02021).

    Args:
        model, data, loss: as in `surefoot.task`; nothing of them is changed.
        low, high: of the first grid. It is widened by itself, up to 1e-7 and 1e2.
        points_per_decade: rates per factor of 10.
        steps: of each run.
        seeds: repetitions; a module that was given keeps its initial weights in all of them.
        batch_size: examples per update; "full" or more than there are: all of them.
        momentum, weight_decay: held fixed; the answer is for these.
        augment: as in `surefoot.task`.
        range_test: also show what the usual rules read from a classic range test.
        seed: of the first repetition; the others count on.
        device, precision, threads: as in `Config`.

    Returns:
        A decision whose value has lr, low, high, low_interval and high_interval; None where no rate works.

    Raises:
        ConfigError, DataError: as `surefoot.load` and `surefoot.task`, and for a setting out of range.

    >>> found = find_lr("linear", "digits", steps=30, seeds=2, range_test=False)
    >>> found.verdict, found.value["low"] <= found.value["lr"] <= found.value["high"]
    ('pass', True)
    """
    search = LrSearch(
        low=low, high=high, points_per_decade=points_per_decade, steps=steps, seeds=seeds, range_test=range_test
    )
    with untouched(model, data) as proof:
        task = probe_task(
            model, data, loss, augment=augment, seed=seed, device=device, precision=precision, threads=threads
        )
        recipe = Recipe(batch_size=batch_size, momentum=momentum, weight_decay=weight_decay)  # which checks them
        size = task.data.examples if batch_size == "full" else min(batch_size, task.data.examples)
        recipe = dataclasses.replace(recipe, batch_size=size)
        decision = finished(searching(task, recipe, search))
    return dataclasses.replace(decision, untouched=proof.digest)


def searching(
    task: Task, recipe: Recipe, search: LrSearch, engine: Engine | None = None
) -> Generator[Progress, None, Decision]:
    """Do the work of `find_lr` on a task, a piece at a time, and return the decision.

    Args:
        task: what is trained.
        recipe: the other hyperparameters; its rate, length and schedule are not used.
        search: what is measured.
        engine: computes the steps; None makes one.
    """
    began = time.perf_counter()
    measured = yield from measuring(task, recipe, search, engine)
    scores = measured.scores(measured.lrs, measured.seeds)
    found = judge.bracket(scores)
    evidence, updates = _evidence(measured, recipe, search, scores, found), measured.updates
    if search.range_test:
        done = len(measured.losses) * search.steps
        yield Progress(done, done + search.steps, "range test")
        evidence["range_test"], more = _range_test(task, recipe, search.steps)
        updates += more
    evidence["trained_examples"] = updates * int(recipe.batch_size)
    findings = judge.judged(scores, found, search.steps, cut=measured.cut)
    return Decision(
        step=3,
        name="learning-rate",
        claim=f"some rate makes the loss drop significantly within {search.steps} steps on all training data",
        verdict=worst(findings),
        reason=findings[0].reason if found is None else judge.answer(found, search.steps),
        advice=findings[0].advice if found is None else judge.NEITHER_END,
        value=None if found is None else {name: _plain(each) for name, each in dataclasses.asdict(found).items()},
        findings=findings,
        evidence=evidence,
        seconds=time.perf_counter() - began,
    )


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


def _evidence(
    measured: Measured, recipe: Recipe, search: LrSearch, scores: judge.Scores, found: judge.Bracket | None
) -> dict[str, Any]:
    initial = [float(own.mean()) for own in measured.untrained]
    best = float(scores.mean_drop.max())
    rates = []
    for lr in sorted({lr for _, lr in measured.losses}):
        runs = [measured.losses[s, lr] for s in range(search.seeds) if (s, lr) in measured.losses]
        finals = [float(run[-judge.WINDOW_STEPS :].mean()) for run in runs]
        drop = float(np.mean([a - b for a, b in zip(initial[: len(finals)], finals, strict=True)]))
        word = judge.word(lr, drop, best, found)
        rates.append({"lr": lr, "final_losses": finals, "drop": drop, "word": word, "curve": _thinned(runs[0])})
    return {
        "steps": search.steps, "window_steps": min(judge.WINDOW_STEPS, search.steps),
        "seeds": [task.seed for task in measured.tasks[: measured.seeds]], "cut": measured.cut,
        "initial_weights": "the given module's each time" if measured.tasks[0].model is None else "new for each seed",
        "batch_size": recipe.batch_size, "momentum": recipe.momentum, "momentum_form": recipe.momentum_form,
        "weight_decay": recipe.weight_decay, "initial_losses": initial, "curve_steps": _thinned_steps(search.steps),
        "rates": rates,
    }  # fmt: skip


def _range_test(task: Task, recipe: Recipe, steps: int) -> tuple[dict[str, Any], int]:
    """Return what it shows, and its updates."""
    lrs, losses = ramp(task, recipe, *RAMP, steps)
    curve = smoothed(losses)
    shown = slice(0, len(curve))
    shows = {"lrs": lrs[shown].tolist(), "losses": losses[shown].tolist(), "smoothed": curve.tolist(),
             "suggestions": suggestions(lrs, losses)}  # fmt: skip
    return shows, int(np.isfinite(losses).sum())


def _thinned(losses: np.ndarray) -> list[float]:
    return [float(piece.mean()) for piece in np.array_split(losses, min(CURVE_POINTS, len(losses)))]


def _thinned_steps(steps: int) -> list[float]:
    return [float(piece.mean()) for piece in np.array_split(np.arange(1, steps + 1), min(CURVE_POINTS, steps))]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
