"""The batch size that is predicted to reach a loss first, from seconds of a step at each size and noise along a run."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.record.decision import Decision, worst
from surefoot.record.noise import Estimate
from surefoot.record.progress import Progress
from surefoot.record.run import Row
from surefoot.steps.batch_size import judge
from surefoot.steps.batch_size.noise import GROUPS, MICRO_BATCH_SIZE, noise_at
from surefoot.steps.batch_size.noise_estimate import LEAST_GROUPS
from surefoot.steps.batch_size.race import Race, decided, race_for, reached, rivals
from surefoot.steps.batch_size.throughput import ROUNDS, Timed, step_seconds
from surefoot.steps.rates import losses_of, rate_plan, without_validation
from surefoot.training.loop import advance, start
from surefoot.training.task import Task

CLAIM = "at some batch size a given loss is reached in the least time"
_STEPS_AT_ONCE = 25


@dataclass(frozen=True, kw_only=True)
class BatchSizeSearch:
    """What is measured.

    Attributes:
        sizes: batch sizes to compare; None takes powers of two up to where memory, data or throughput end.
        probe_steps: of the short run along which noise is measured, at the recipe's batch size and rate.
        points: of that run at which it is, evenly spaced.
        groups, group_size: of each measurement: independent micro-batches, and examples in each.
        rounds: timings of each size.
    """

    sizes: tuple[int, ...] | None = None
    probe_steps: int = 200
    points: int = 5
    groups: int = GROUPS
    group_size: int = MICRO_BATCH_SIZE
    rounds: int = ROUNDS

    def __post_init__(self) -> None:
        for name, least in (("probe_steps", 10), ("points", 1), ("groups", LEAST_GROUPS), ("group_size", 1),
                            ("rounds", 1)):  # fmt: skip
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


def choosing_batch_size(task: Task, recipe: Recipe, search: BatchSizeSearch) -> Generator[Progress, None, Decision]:
    """Measure and choose, a piece at a time, and return the decision.

    Seconds of a step are timed at each size. Then a copy of the model is trained for a short run at the recipe's batch
    size and rate, held constant, and gradient noise is measured along it; what a batch of another size would need to
    reach the loss at its end follows (`judge`), and is checked by another short run, at the size that is predicted
    (`race`). The recipe's rate should be one that trains: that of step 3. The decision's value
    has batch_size, noise_scale and its interval; it is None where the run diverged.

    Args:
        task: what is trained; nothing of it is changed.
        recipe: the hyperparameters; its length and schedule are not used.
        search: what is measured.

    Raises:
        ConfigError: a size is larger than the training part.

    >>> import surefoot
    >>> from surefoot.record.progress import finished
    >>> task = surefoot.task(surefoot.load("digits"), "linear")
    >>> search = BatchSizeSearch(sizes=(16, 64, 256), probe_steps=20, points=2, rounds=2)
    >>> decision = finished(choosing_batch_size(task, surefoot.Recipe(lr=0.03), search))
    >>> decision.value["batch_size"] in (16, 64, 256)
    True
    """
    began, examples = time.perf_counter(), task.data.examples
    if search.sizes is not None and max(search.sizes) > examples:
        raise ConfigError(f"a batch size of {max(search.sizes)}",
                          f"a batch is no larger than the training part, {examples} examples",
                          "give smaller sizes")  # fmt: skip
    asked = examples if recipe.batch_size == "full" else recipe.batch_size
    recipe = dataclasses.replace(recipe, batch_size=min(asked, examples), ema_decay=None)
    timing = step_seconds(task, recipe, search.sizes, search.rounds)
    while True:
        try:
            yield Progress(0, search.probe_steps, f"timing steps: {next(timing)}")
        except StopIteration as end:
            timed, ended = end.value
            break
    if not timed:
        raise ConfigError(f"no batch size could be timed: {ended}", "one step must fit into half of the free memory",
                          "give a smaller micro_batch_size or smaller sizes")  # fmt: skip
    run = yield from _short_run(task, recipe, search)
    choice = None if run.diverged else judge.chosen(run, {each.batch_size: each.seconds for each in timed})
    findings, races = judge.judged(run, choice), list[Race]()
    if choice is not None:
        races = yield from _raced(task, recipe, run, choice, search.probe_steps)
        size, seen = decided(run, choice, races)
        choice, findings = dataclasses.replace(choice, batch_size=size), findings + seen
    return Decision(
        step=3,
        name="batch-size",
        claim=CLAIM,
        verdict=worst(findings),
        reason=findings[0].reason if choice is None else judge.answer(run, choice),
        advice=findings[0].advice if choice is None else judge.PROXY,
        value=None if choice is None else _value(run, choice),
        findings=findings,
        evidence=_evidence(task, run, choice, timed, ended) | {"races": [dataclasses.asdict(race) for race in races]},
        seconds=time.perf_counter() - began,
    )


def _short_run(task: Task, recipe: Recipe, search: BatchSizeSearch) -> Generator[Progress, None, judge.ShortRun]:
    """Train a copy at a constant rate and measure noise along it; it ends early where the run diverges."""
    bare = without_validation(task)
    plan = rate_plan(recipe, bare.data.examples, np.full(search.probe_steps, recipe.lr))
    state, rows, noise, finite = start(bare, plan), [], [], True
    due = search.measured_after
    for until in sorted({*due, *range(_STEPS_AT_ONCE, search.probe_steps, _STEPS_AT_ONCE), search.probe_steps}):
        state, new = advance(bare, plan, state, until)
        rows += new
        finite = state.is_finite(bare.template) and (state.outcome is None or state.outcome.kind == "finished")
        if not finite:
            break
        yield Progress(until, search.probe_steps, f"training at batch {plan.batch_size}, rate {recipe.lr:.2g}")
        if until in due:
            yield Progress(until, search.probe_steps, f"measuring noise after {until} steps")
            try:
                noise.append(noise_at(
                    bare, state, batch_size=plan.batch_size, groups=search.groups,
                    micro_batch_size=min(search.group_size, bare.data.examples),
                    label_smoothing=recipe.label_smoothing,
                ))  # fmt: skip
            except ConfigError:  # the numbers were checked at the door: what is left is a gradient that is not finite
                finite = False
                break
    losses, window = losses_of(state, rows, search.probe_steps), _window(search.probe_steps)
    return judge.ShortRun(
        batch_size=plan.batch_size, steps=search.probe_steps, lr=recipe.lr, first_loss=float(losses[0]),
        last_loss=float(losses[-window:].mean()), diverged=not finite or not np.isfinite(losses).all(),
        noise=tuple(noise),
    )  # fmt: skip


def _window(steps: int) -> int:
    """Return over how many steps of the short run its last loss is meant."""
    return max(1, min(20, steps // 5))


def _raced(
    task: Task, recipe: Recipe, run: judge.ShortRun, choice: judge.Choice, probe_steps: int
) -> Generator[Progress, None, list[Race]]:
    """Run other sizes from the same start until one is at the short run's last loss in less time."""
    bare, races = without_validation(task), list[Race]()
    for size in rivals(run, choice):
        race = race_for(run, choice, size)
        plan = rate_plan(dataclasses.replace(recipe, batch_size=size), bare.data.examples, np.full(race.limit, race.lr))
        window = max(3, round(_window(probe_steps) * run.batch_size / size))  # as many examples, so as little noise
        state, rows, at = start(bare, plan), list[Row](), None
        for until in [*range(_STEPS_AT_ONCE, race.limit, _STEPS_AT_ONCE), race.limit]:
            state, new = advance(bare, plan, state, until)
            rows += new
            at = reached(losses_of(state, rows, race.limit)[:until].tolist(), run.last_loss, min(window, race.limit))
            if at is not None or not state.is_finite(bare.template):
                break
            yield Progress(until, race.limit, f"checking batch {size} at rate {race.lr:.2g}")
        races.append(dataclasses.replace(race, reached=at))
        if at is not None:
            break
    return races


def _value(run: judge.ShortRun, choice: judge.Choice) -> dict[str, Any]:
    scale = choice.noise_scale
    return {
        "batch_size": choice.batch_size,
        "noise_scale": _finite(scale.value), "noise_scale_interval": [scale.low, _finite(scale.high)],
        "batch_size_interval": sorted((choice.at_low, choice.at_high)),
        "lr": run.lr, "lr_batch_size": run.batch_size,
    }  # fmt: skip


def _evidence(
    task: Task, run: judge.ShortRun, choice: judge.Choice | None, timed: Sequence[Timed], ended: str
) -> dict[str, Any]:
    return {
        "target_loss": run.last_loss, "first_loss": run.first_loss, "lr": run.lr, "batch_size": run.batch_size,
        "steps": run.steps, "seed": task.seed, "threads": task.machine.threads, "device": str(task.machine.device),
        "progress": None if choice is None else _ends(choice.progress),
        "sizes_end": ended,
        "sizes": [
            {"batch_size": each.batch_size, "step_seconds": list(each.seconds),
             "examples_per_second": each.batch_size / each.median} for each in timed
        ] if choice is None else [_size(each, next(t for t in timed if t.batch_size == each.batch_size))
                                  for each in choice.predicted],
        "noise": [noise.to_dict() for noise in run.noise],
    }  # fmt: skip


def _size(each: judge.Predicted, timed: Timed) -> dict[str, Any]:
    return {
        "batch_size": each.batch_size, "step_seconds": list(timed.seconds),
        "examples_per_second": each.examples_per_second, "steps": _ends(each.steps), "seconds": _ends(each.seconds),
    }  # fmt: skip


def _ends(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
