"""The batch size that is predicted to reach a loss first, from seconds of a step at each size and noise along a run."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Sequence
from typing import Any

from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.optim.plan import batch_size_of
from surefoot.record.decision import Decision, worst
from surefoot.record.noise import Estimate
from surefoot.record.progress import Progress
from surefoot.steps.batch_size.judge import (
    PROXY,
    BatchSizeChoice,
    Race,
    ShortRun,
    StepTime,
    answer,
    chosen,
    decided,
    judge,
)
from surefoot.steps.batch_size.measure import BatchSizeSearch, races, short_run, step_times
from surefoot.training.task import Task

CLAIM = "at some batch size a given loss is reached in the least time"


def choosing_batch_size(task: Task, recipe: Recipe, search: BatchSizeSearch) -> Generator[Progress, None, Decision]:
    """Measure and choose, a piece at a time, and return the decision.

    Seconds of a step are timed at each size. Then a copy of the model is trained for a short run at the recipe's batch
    size and rate, held constant, and gradient noise is measured along it; what a batch of another size would need to
    reach the loss at its end follows (`judge.chosen`), and is checked by another short run, at the size that is
    predicted (`judge.rivals`). The recipe's rate should be one that trains: that of step 3. The decision's value
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
    recipe = dataclasses.replace(recipe, batch_size=min(batch_size_of(recipe, examples), examples), ema_decay=None)
    timed, ended = yield from step_times(task, recipe, search)
    if not timed:
        raise ConfigError(f"no batch size could be timed: {ended}", "one step must fit into half of the free memory",
                          "give a smaller micro_batch_size or smaller sizes")  # fmt: skip
    run = yield from short_run(task, recipe, search)
    choice = None if run.diverged else chosen(run, timed)
    findings, raced = judge(run, choice), list[Race]()
    if choice is not None:
        raced = yield from races(task, recipe, run, choice, search.window_steps)
        size, of_races = decided(run, choice, raced)
        choice, findings = dataclasses.replace(choice, batch_size=size), findings + of_races
    return Decision(
        step=3,
        name="batch-size",
        claim=CLAIM,
        verdict=worst(findings),
        reason=findings[0].reason if choice is None else answer(run, choice),
        advice=findings[0].advice if choice is None else PROXY,
        value=None if choice is None else _value(run, choice),
        findings=findings,
        evidence=_evidence(task, run, choice, timed) | {
            "sizes_end": ended, "races": [dataclasses.asdict(race) for race in raced]
        },
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def _value(run: ShortRun, choice: BatchSizeChoice) -> dict[str, Any]:
    scale = choice.noise_scale
    return {
        "batch_size": choice.batch_size,
        "noise_scale": _finite(scale.value), "noise_scale_interval": [scale.low, _finite(scale.high)],
        "batch_size_interval": sorted((choice.at_low, choice.at_high)),
        "lr": run.lr, "lr_batch_size": run.batch_size,
    }  # fmt: skip


def _evidence(task: Task, run: ShortRun, choice: BatchSizeChoice | None, timed: Sequence[StepTime]) -> dict[str, Any]:
    sizes: list[dict[str, Any]] = [
        {"batch_size": time.batch_size, "step_seconds": list(time.seconds),
         "examples_per_second": time.batch_size / time.estimate.value} for time in timed
    ]  # fmt: skip
    if choice is not None:
        for size, predicted in zip(sizes, choice.predicted, strict=True):
            size |= {"steps": _ends(predicted.steps), "seconds": _ends(predicted.seconds)}
    return {
        "target_loss": run.last_loss, "first_loss": run.first_loss, "lr": run.lr, "batch_size": run.batch_size,
        "steps": run.steps, "seed": task.seed, "threads": task.machine.threads, "device": str(task.machine.device),
        "progress": None if choice is None else _ends(choice.progress), "sizes": sizes,
        "noise": [noise.to_dict() for noise in run.noise],
    }  # fmt: skip


def _ends(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
