"""Step 3 of the procedure: a bracket of learning rates at which the loss drops within about 100 steps, measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Mapping
from typing import Any, Literal

import numpy as np
from torch import nn

from surefoot.config import Recipe
from surefoot.errors import ConfigError, nearest
from surefoot.models.build import Factory
from surefoot.optim.plan import batch_size_of
from surefoot.optim.presets import published_recipe
from surefoot.record.decision import Decision, worst
from surefoot.record.progress import Progress, finished
from surefoot.rules.optimizer import NAME as OF_CALLER
from surefoot.settings import merged
from surefoot.steps.lr_range.judge import NEITHER_END, Bracket, ShortRuns, answer, bracket, judge, word
from surefoot.steps.lr_range.measure import LrSearch, Measurement, measure
from surefoot.steps.lr_range.range_test import range_test
from surefoot.steps.probe import probe_task
from surefoot.steps.untouched import untouched
from surefoot.switches import usual_switches
from surefoot.training.call import Forward, LossFn
from surefoot.training.configure import CLIP_OF_NUMBERS
from surefoot.training.losses import Loss
from surefoot.training.optimizer import OptimizerFactory, own_rate
from surefoot.training.population.engine import Engine
from surefoot.training.task import Task

SMALL_WEIGHT_DECAY = 1e-4
"""Of the runs, where nothing else is asked for. Chosen by hand."""
CURVE_POINTS = 50
"""Points kept of each curve for the picture. Chosen by hand."""


@usual_switches
def find_lr(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | str | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
    points_per_decade: int = 4,
    steps: int = 100,
    seeds: int = 3,
    batch_size: int | Literal["full", "auto"] = "auto",
    rule: str | None = None,
    preset: str | None = None,
    optimizer: OptimizerFactory | None = None,
    weight_decay: float | None = None,
    augment: Any = (),
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    from_run: Any = None,
    range_test: bool = True,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    **settings: Any,
) -> Decision:
    """Measure between which learning rates the loss drops within 100 steps, and suggest one to go on with.

    Each rate of a grid is held constant for `steps` updates on all training data with a small weight decay, over
    several seeds. The bracket's low end is the lowest rate whose loss, seed by seed, is not shown to be above the least
    (one-sided 95 %, Student's t); its high end the largest rate at which the loss is still shown to drop, and by half
    of the best drop. `lr` is their geometric mean, or a quarter of a decade under the high end where
    that is lower, since neither end is right for a long run (Wu et al. 2018, arXiv 1803.02021).

    Args:
        model, data, loss: as in `surefoot.task`; nothing of them is changed.
        low, high: of the first grid, 1e-4 and 1e-1 for SGD where they are left out. It is widened by itself, up to 1e-7
            and 1e2.
        points_per_decade: rates per factor of 10.
        steps: of each run.
        seeds: repetitions; a module that was given keeps its initial weights in all of them.
        batch_size: as in `Recipe`; more than there are: all of them.
        rule: that updates the weights; None is the preset's, or else SGD.
        preset: a published recipe, whose update holds where nothing else is given.
        optimizer: in place of a rule, as in `surefoot.train`; its parameter groups keep their ratios at each rate.
        weight_decay: held fixed; None is the rule's own, at most 1e-4.
        augment, forward, loss_fn: as in `surefoot.task`.
        from_run: a run, done or not, from whose weights each rate starts: a rate in the middle of a training.
        range_test: also show what the usual rules read from a classic range test.
        seed: of the first repetition; the others count on.
        device, precision, threads: as in `Config`.
        settings: other fields of `Recipe` that are held fixed, by name: momentum=0.9, beta2=0.98, clip_norm=1.0, which
            standardised targets have as in `surefoot.train` if it is left out.

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
            model, data, loss, augment=augment, forward=forward, loss_fn=loss_fn, optimizer=optimizer, seed=seed,
            device=device, precision=precision, threads=threads, from_run=from_run,
        )  # fmt: skip
        given = {"batch_size": batch_size, "rule": rule, "weight_decay": weight_decay, **_known(settings)}
        if optimizer is not None and rule is None:
            given |= {"rule": OF_CALLER, "lr": own_rate(optimizer)}
        recipe = _held(preset, {name: value for name, value in given.items() if value is not None})
        recipe = with_small_decay(recipe) if weight_decay is None else recipe
        if (
            task.data.target_std is not None and recipe.clip_norm is None and "clip_norm" not in settings
        ):  # as `surefoot.train` does
            recipe = dataclasses.replace(recipe, clip_norm=CLIP_OF_NUMBERS)
        size = batch_size_of(recipe, task.data.examples)
        recipe = dataclasses.replace(recipe, batch_size=min(size, task.data.examples))
        decision = finished(searching(task, recipe, search))
    return dataclasses.replace(decision, untouched=proof.digest)


def with_small_decay(recipe: Recipe) -> Recipe:
    """Return the recipe with the procedure's "small weight decay": more would hide a rate that is too small."""
    return dataclasses.replace(recipe, weight_decay=min(recipe.decay, SMALL_WEIGHT_DECAY))


def _held(preset: str | None, given: Mapping[str, Any]) -> Recipe:
    """Return the recipe of what is given over the update of a preset."""
    published = published_recipe({"schedule": {"preset": preset}})
    published.pop("schedule", None)  # each rate is held
    return Recipe(**merged({"recipe": published}, {"recipe": given})["recipe"])


def _known(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings of a recipe that have an effect here, after checking their names."""
    unread = {"lr", "epochs", "steps", "schedule", "ema_decay", "progressive_resizing"}
    names = {field.name for field in dataclasses.fields(Recipe)} - unread
    for name in settings:
        if name not in names:
            raise ConfigError(
                f"{name} in find_lr", "it must be a setting that holds at every rate", nearest(name, names)
            )
    return settings


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
    measured = yield from measure(task, recipe, search, engine)
    runs = measured.runs(measured.lrs, measured.seeds)
    found = bracket(runs)
    evidence, updates = _evidence(measured, runs, found), measured.updates
    if search.range_test:
        done = len(measured.losses) * search.steps
        yield Progress(done, done + search.steps, "range test")
        evidence["range_test"], more = range_test(task, recipe, search.steps)
        updates += more
    evidence["trained_examples"] = updates * int(recipe.batch_size)
    findings = judge(runs, found)
    return Decision(
        step=3,
        name="learning-rate",
        claim=f"some rate makes the loss drop significantly within {search.steps} steps on all training data",
        verdict=worst(findings),
        reason=findings[0].reason if found is None else answer(found, search.steps),
        advice=findings[0].advice if found is None else NEITHER_END,
        value=None if found is None else {name: _plain(end) for name, end in dataclasses.asdict(found).items()},
        findings=findings,
        evidence=evidence,
        seconds=time.perf_counter() - began,
    )


def _evidence(measured: Measurement, runs: ShortRuns, found: Bracket | None) -> dict[str, Any]:
    search, recipe = measured.search, measured.recipe
    initial = [float(losses.mean()) for losses in measured.untrained]
    best = float(runs.mean_drop.max())
    rates = []
    for lr in sorted({lr for _, lr in measured.losses}):
        losses = [measured.losses[seed, lr] for seed in range(search.seeds) if (seed, lr) in measured.losses]
        finals = [float(run[-search.window_steps :].mean()) for run in losses]
        drop = float(np.mean([a - b for a, b in zip(initial[: len(finals)], finals, strict=True)]))
        rates.append({"lr": lr, "final_losses": finals, "drop": drop, "word": word(lr, drop, best, found),
                      "curve": _thinned(losses[0])})  # fmt: skip
    return {
        "steps": search.steps, "window_steps": search.window_steps,
        "seeds": [task.seed for task in measured.tasks[: measured.seeds]], "cut": measured.cut,
        "initial_weights": "the given module's each time" if measured.tasks[0].model is None else "new for each seed",
        "batch_size": recipe.batch_size, "rule": recipe.rule,
        **{name: value for name, value in recipe.rule_values.items() if name != "lr"}, "initial_losses": initial,
        "curve_steps": _thinned(np.arange(1, search.steps + 1)), "rates": rates,
    }  # fmt: skip


def _thinned(values: np.ndarray) -> list[float]:
    return [float(piece.mean()) for piece in np.array_split(values, min(CURVE_POINTS, len(values)))]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
