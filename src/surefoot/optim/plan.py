"""A plan is a recipe tabulated over the steps of one run: how many updates, which learning rate each, when a row.

Made once, before any work, so that every mistake in lengths is found then, and so that the loop only looks values up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

import surefoot.config as config
from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.optim import schedules
from surefoot.optim.schedules import ScheduleFn
from surefoot.rules.progressive import side_at, stages_of

DEFAULT_EPOCHS = 10.0
"""Length of a run whose recipe gives none and whose data are many; chosen by hand."""
LEAST_STEPS = 1000
MOST_DEFAULT_EPOCHS = 200.0
"""Such a run has as many epochs more as make 1,000 updates, but at most 200, which scikit-learn's MLP has by default.
Ten epochs of 100 rows are 60 updates, and end far from where the loss could be (docs/log.md, "The field's tables")."""
USUAL_BATCH = 128
"""Examples per update where there are many and nothing is given. Chosen by hand, as the next two."""
LEAST_STEPS_PER_EPOCH = 20
LEAST_BATCH = 16
"""A batch that nobody gave is halved until an epoch has 20 updates, but not under 16 examples: with fewer updates small
sets are not learned in ten epochs. `surefoot noise` measures instead."""
DECAY_EXAMPLES = 3.0
MOST_DECAY = 0.1
"""Weight decay "auto" is 3 / N, but at most 0.1. By default scikit-learn's ridge regression has 2 / N, its logistic
regression 1 / N. On tables 3 is better than 1, than 10 and than one value for every N (docs/log.md, "The field's
tables")."""
NOTABLE_REST = 0.02
"""Share of the training part that is left out of each epoch, from which on that is said. Chosen by hand."""
MOST_STEPS = 100_000_000
"""Longest plan: its table of rates takes 800 MB, and no published run is a hundredth of it. Chosen by hand."""
DEFAULT_FACTOR = {"step": 0.1, "exponential": 0.95, "plateau": 0.1}
"""Multipliers left out: 0.1 as He et al. 2015 (arXiv 1512.03385), section 4.2; 0.95 per epoch chosen by hand."""


@dataclass(frozen=True)
class Plan:
    """A recipe tabulated over the steps of one run. T steps, N examples.

    Attributes:
        recipe: the hyperparameters; weight decay "auto" resolved by `weight_decay_of`.
        examples: N, the size of the training part.
        steps: T, the number of updates.
        steps_per_epoch: updates per pass: N // batch_size. The remainder, other examples each epoch, is left out.
        batch_size: examples per update; "full" and "auto" resolved by `batch_size_of`.
        lr: [T] float64, the learning rate of each update, read-only. Without plateau's factor, which depends on
            the record: `plateau_factor`.
        row_steps: numbers of updates after which a row of the record is made; the last is T.
    """

    recipe: Recipe
    examples: int
    steps: int
    steps_per_epoch: int
    batch_size: int
    lr: np.ndarray = field(compare=False, repr=False)
    row_steps: tuple[int, ...] = field(repr=False)

    def side_at(self, step: int) -> int | None:
        """Return the side in pixels to which training images are brought at an update; None for their full size."""
        return side_at(self.stages, step, self.steps) if self.recipe.progressive_resizing else None

    @property
    def turns(self) -> tuple[int, ...]:
        """The numbers of the updates at which training images get another size."""
        return tuple(round(share * self.steps) for _, share in self.stages)

    @property
    def stages(self) -> tuple[tuple[int, float], ...]:
        """Sides in pixels of training images, and the share of the run until which they hold."""
        return stages_of(self.recipe.progressive_resizing)


def batch_size_of(recipe: Recipe, examples: int, usual: int = USUAL_BATCH) -> int:
    """Return the examples per update of a recipe, for a training part of this size.

    >>> [batch_size_of(Recipe(batch_size=size), 54) for size in ("auto", "full", 8)]
    [16, 54, 8]
    """
    if recipe.batch_size == "auto":
        return fitting_batch(usual, examples)
    return examples if recipe.batch_size == "full" else recipe.batch_size


def fitting_batch(usual: int, examples: int) -> int:
    """Return the batch size for a training part of this size where nobody has measured or given one.

    >>> fitting_batch(128, 50_000), fitting_batch(128, 1294), fitting_batch(128, 100), fitting_batch(128, 9)
    (128, 64, 16, 9)
    """
    size = usual
    while size > LEAST_BATCH and examples // size < LEAST_STEPS_PER_EPOCH:
        size //= 2
    return max(1, min(size, examples))


def weight_decay_of(recipe: Recipe, examples: int) -> float:
    """Return the weight decay of a recipe, for a training part of this size.

    >>> [weight_decay_of(Recipe(weight_decay="auto"), examples) for examples in (3, 103, 50_000)]
    [0.1, 0.0291, 6e-05]
    """
    if recipe.weight_decay == "auto":
        return min(float(f"{DECAY_EXAMPLES / examples:.3g}"), MOST_DECAY)
    return recipe.weight_decay


def said_of_batch(recipe: Recipe, examples: int, usual: int = USUAL_BATCH) -> list[str]:
    """Return what a user should know of a recipe's batches: that the size was fitted to the data, and what is left out.

    >>> said_of_batch(Recipe(batch_size=100), 540)
    ['40 of 540 training examples are left out of each epoch, others each time: they do not fill a batch of 100']
    >>> said_of_batch(Recipe(batch_size=64), 1294)
    []
    """
    size, said = batch_size_of(recipe, examples, usual), list[str]()
    if recipe.batch_size == "auto" and size < usual:
        said.append(
            f"the batch is {size} and not {usual}, since there are {examples:,} training examples: it is halved until "
            f"an epoch has {LEAST_STEPS_PER_EPOCH} updates, but not under {LEAST_BATCH}; batch_size sets another"
        )
    if (rest := examples % size) > NOTABLE_REST * examples:
        said.append(
            f"{rest} of {examples:,} training examples are left out of each epoch, others each time: they do not fill "
            f"a batch of {size}"
        )
    return said


def plan(recipe: Recipe, examples: int, rows_per_epoch: int = 1) -> Plan:
    """Return the plan of a recipe for a training part of this size.

    Args:
        recipe: the hyperparameters.
        examples: N, the size of the training part.
        rows_per_epoch: rows of the record per epoch, evenly spaced.

    Raises:
        ConfigError: a batch is larger than the training part; a warmup, milestone or other length does not fit into
            the run; more rows than updates per epoch.

    >>> made = plan(Recipe(lr=0.5, epochs=2, batch_size=10, schedule=config.Schedule(kind="linear")), examples=25)
    >>> made.steps, made.steps_per_epoch, made.lr.tolist(), made.row_steps
    (4, 2, [0.5, 0.375, 0.25, 0.125], (2, 4))
    """
    batch_size = batch_size_of(recipe, examples)
    if not 1 <= batch_size <= examples:
        raise ConfigError(
            f"batch_size = {recipe.batch_size} for {examples} training examples",
            "a batch must be no larger than the training part",
            f'leave it out for {fitting_batch(USUAL_BATCH, examples)}, or set batch_size = "full"',
        )  # fmt: skip
    per_epoch = examples // batch_size
    epochs = default_epochs(per_epoch) if recipe.epochs is None else recipe.epochs
    length = recipe.steps if recipe.steps is not None else epochs * per_epoch
    if length > MOST_STEPS:
        given = f"epochs = {epochs:g}" if recipe.steps is None else f"steps = {recipe.steps}"
        raise ConfigError(given, f"a run has at most {MOST_STEPS:,} updates", "give fewer epochs or steps")
    steps = max(1, round(length))
    if not 1 <= rows_per_epoch <= per_epoch:
        raise ConfigError(
            f"rows_per_epoch = {rows_per_epoch} with {per_epoch} updates per epoch",
            "a row needs at least one update", f"give rows_per_epoch at most {per_epoch}",
        )  # fmt: skip
    lr = np.asarray(schedule_of(recipe.schedule, recipe.lr, steps, per_epoch)(np.arange(steps)))
    lr.flags.writeable = False
    if recipe.weight_decay == "auto":
        recipe = replace(recipe, weight_decay=weight_decay_of(recipe, examples))
    return Plan(recipe, examples, steps, per_epoch, batch_size, lr, _row_steps(steps, per_epoch, rows_per_epoch))


def default_epochs(steps_per_epoch: int) -> float:
    """Return the length of a run whose recipe gives none.

    >>> [default_epochs(steps) for steps in (390, 20, 6, 1)]
    [10.0, 50.0, 167.0, 200.0]
    """
    return max(DEFAULT_EPOCHS, min(float(math.ceil(LEAST_STEPS / steps_per_epoch)), MOST_DEFAULT_EPOCHS))


def schedule_of(shape: config.Schedule, peak: float, steps: int, steps_per_epoch: float) -> ScheduleFn:
    """Return the schedule that the settings describe, as a function of the step.

    Milestones are counted from the start of the run; everything else from the end of warmup, or from step 0 with
    decay_from "start" (the seam "jump" of `schedules.warmup`). A preset keeps its own way, rescaled to `steps`.

    Args:
        shape: the settings.
        peak: highest learning rate.
        steps: T.
        steps_per_epoch: updates per pass, for the lengths that are given in epochs; need not be whole.

    Raises:
        ConfigError: a length does not fit into the run.
    """
    if shape.kind == "preset":
        from surefoot.optim.presets import preset  # tables that no other kind needs

        return preset(shape.preset or "").rescaled(steps)[0].schedule(peak)
    described = curve_of(shape, steps, steps_per_epoch)
    made = getattr(schedules, described.name)(peak, **described.numbers)
    return schedules.warmup(made, described.warmup_steps, shape.warmup_start, described.seam)


@dataclass(frozen=True)
class Curve:
    """A schedule of settings as the functions of `schedules` that make it.

    Attributes:
        name: of the function.
        numbers: its arguments but for the peak, lengths in steps.
        warmup_steps: before it, or over its beginning.
        seam: how these join, see `schedules.warmup`.
    """

    name: str
    numbers: Mapping[str, Any]
    warmup_steps: int
    seam: Literal["shift", "jump"]


def curve_of(shape: config.Schedule, steps: int, steps_per_epoch: float) -> Curve:
    """Return the schedule that settings describe, a preset excepted; arguments and errors as in `schedule_of`.

    >>> curve_of(config.Schedule(kind="cosine", warmup_epochs=1), 100, 10)
    Curve(name='cosine', numbers={'steps': 90, 'end': 0.0}, warmup_steps=10, seam='shift')
    """
    warm = round(shape.warmup_epochs * steps_per_epoch)
    _fits("warmup_epochs", shape.warmup_epochs, warm, steps - 1)
    if shape.kind == "one-cycle" and warm > 0:
        raise ConfigError(
            f"warmup_epochs = {shape.warmup_epochs:g} with schedule one-cycle", "one-cycle brings its own rise",
            "leave warmup_epochs out and set peak_epochs",
        )  # fmt: skip
    from_start = shape.decay_from == "start" or shape.kind == "step"
    name, numbers = _curve(shape, steps if from_start else steps - warm, steps_per_epoch, warm)
    return Curve(name, numbers, warm, "jump" if from_start else "shift")


def _curve(shape: config.Schedule, steps: int, per_epoch: float, warm: int) -> tuple[str, dict[str, Any]]:
    """The schedule without its warmup, over `steps` steps."""
    end = 0.0 if shape.end is None else shape.end
    factor = DEFAULT_FACTOR.get(shape.kind, 1.0) if shape.factor is None else shape.factor

    def length(name: str, default: float) -> int:
        epochs = getattr(shape, name)
        if epochs is None:
            return max(1, round(default))
        found = max(1, round(epochs * per_epoch))
        _fits(name, epochs, found, steps)
        return found

    match shape.kind:
        case "step":
            return "step", {"milestones": _milestones(shape, steps, per_epoch, warm), "factor": factor}
        case "cosine" | "linear":
            return shape.kind, {"steps": steps, "end": end}
        case "polynomial":
            return "polynomial", {"steps": steps, "power": 2.0 if shape.power is None else shape.power, "end": end}
        case "exponential":
            return "exponential", {"factor": factor, "every": per_epoch}
        case "inverse-sqrt":
            return "inverse_sqrt", {"timescale": warm or per_epoch}
        case "one-cycle" if steps > 1:
            peak_step = min(length("peak_epochs", 0.3 * steps), steps - 1)
            return "one_cycle", {"steps": steps, "peak_step": peak_step, "end": end}
        case "wsd":
            return "wsd", {"steps": steps, "decay_steps": length("decay_epochs", 0.2 * steps), "end": end}
        case "sgdr":
            first = length("cycle_epochs", min(10 * per_epoch, steps))
            return "sgdr", {"first": first, "mult": 2.0 if shape.cycle_mult is None else shape.cycle_mult, "end": end}
        case _:
            return "constant", {}


def _milestones(shape: config.Schedule, steps: int, per_epoch: float, warm: int) -> list[int]:
    given = list(shape.milestones_epochs or ())
    found = [round(epoch * per_epoch) for epoch in given]
    for epoch, at in zip(given, found, strict=True):
        _fits("milestones_epochs", epoch, at, steps - 1)
    if given and found[0] < max(1, warm):
        raise ConfigError(
            f"milestones_epochs = {given[0]:g} with warmup_epochs = {shape.warmup_epochs:g}",
            "the first drop must come after the first update and after the warmup",
            "give a later milestone or a shorter warmup",
        )
    return found


def _fits(name: str, epochs: float, length: int, most: int) -> None:
    if length > most:
        raise ConfigError(
            f"{name} = {epochs:g}, which is {length} updates", f"at most {most} updates fit into the run",
            f"give a smaller {name} or a longer run",
        )  # fmt: skip


def _row_steps(steps: int, per_epoch: int, rows_per_epoch: int) -> tuple[int, ...]:
    count = steps * rows_per_epoch // per_epoch + 1
    rows = {round(k * per_epoch / rows_per_epoch) for k in range(1, count + 1)}
    return (*sorted(row for row in rows if 0 < row < steps), steps)


def plateau_factor(shape: config.Schedule, val_losses: Sequence[float]) -> float:
    """Return the factor on `Plan.lr` for the next update, given the validation losses so far: 1 unless kind plateau.

    Args:
        shape: the schedule's settings.
        val_losses: one per epoch, oldest first.

    >>> plateau_factor(config.Schedule(kind="plateau", patience_epochs=1), [1.0, 1.0, 1.0])
    0.1
    """
    if shape.kind != "plateau":
        return 1.0
    return schedules.plateau(val_losses, *plateau_numbers(shape))


def plateau_numbers(shape: config.Schedule) -> tuple[float, int]:
    """Return factor and patience of kind plateau."""
    factor = DEFAULT_FACTOR["plateau"] if shape.factor is None else shape.factor
    return factor, 5 if shape.patience_epochs is None else shape.patience_epochs
