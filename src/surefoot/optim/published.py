"""What a published schedule is: its numbers, its shape as a function of the step, and how it is rescaled.

The table of them is `presets`. A shape takes (peak, steps, lengths) and returns the schedule and its seams, the
steps at which one piece ends and the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from surefoot.errors import ConfigError
from surefoot.optim import schedules
from surefoot.optim.schedules import ScheduleFn, Seam
from surefoot.rules import update_rule

Shape = Callable[[float, int, tuple[int, ...]], tuple[ScheduleFn, tuple[int, ...]]]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published learning-rate schedule, value for value, and what was published with it.

    Attributes:
        name: as in `surefoot schedule NAME`.
        citation: paper and section, or code and commit, that the values come from.
        optimizer: the optimizer that the original used, in its words.
        rule: the same as settings of a `Recipe`, but for rate, momentum and weight decay, which stand for themselves;
            and what else of a recipe was published with it.
        steps: updates of the original run, T.
        peak_lr: highest learning rate of the original.
        lengths: (name, position in steps counted from 0) of what `rescaled` scales besides `steps`.
        shape: the curve.
        batch_size: examples (or sequences) per update; None where not stated.
        momentum: of SGD; None for another optimizer or where not stated.
        weight_decay: as published; None where not stated.
        uncertain: what could not be settled from the sources; empty where nothing is.
        notes: what else a user of it should know.
    """

    name: str
    citation: str
    optimizer: str
    steps: int
    peak_lr: float
    lengths: tuple[tuple[str, int], ...]
    shape: Shape
    batch_size: int | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    uncertain: str = ""
    notes: str = ""
    rule: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a `Recipe` that make the original's update, as far as they are known.

        >>> from surefoot.optim.presets import preset
        >>> preset("resnet-step").settings
        {'momentum_form': 'nesterov', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.0001}
        """
        numbers = {"lr": self.peak_lr, "momentum": self.momentum, "weight_decay": self.weight_decay}
        return {**self.rule, **{name: value for name, value in numbers.items() if value is not None}}

    @property
    def recipe(self) -> dict[str, Any]:
        """The same with its schedule, nested, and with the default of each setting of its rule that the original names
        not: all that a run reads under what is given beside the preset, but for length and batch size.

        >>> from surefoot.optim.presets import preset
        >>> preset("resnet-step").recipe["rule"], preset("resnet-step").recipe["dampening"]
        ('sgd', 0.0)
        """
        rule = update_rule(self.rule.get("rule", "sgd"))
        schedule = {"kind": "preset", "preset": self.name}
        return {"rule": rule.name, **rule.defaults, **self.settings, "schedule": schedule}

    def lr(self, step: Any) -> Any:
        """Return the learning rate of update `step` (a number or an array), counted from 0."""
        return self.schedule(self.peak_lr)(step)

    def schedule(self, peak: float) -> ScheduleFn:
        """Return the curve with another peak, as a function of the step."""
        return self.shape(peak, self.steps, tuple(position for _, position in self.lengths))[0]

    @property
    def seams(self) -> tuple[int, ...]:
        """The steps inside the run at which one piece of the schedule ends and the next begins."""
        found = self.shape(self.peak_lr, self.steps, tuple(position for _, position in self.lengths))[1]
        return tuple(seam for seam in found if 0 < seam < self.steps)

    def rescaled(self, steps: int) -> tuple[Preset, tuple[str, ...]]:
        """Return the same shape over another number of steps, and what that changed, in words.

        Every length keeps its share of the run, rounded to whole steps. The peak is left alone: how it should change
        with the batch size and the length is not known in general.

        Raises:
            ConfigError: the run is so short that two parts of the shape fall on one step.

        >>> from surefoot.optim.presets import preset
        >>> preset("bert").rescaled(1000)[1]
        ('steps 1000000 -> 1000', 'end of warmup 10000 -> 10')
        """
        if steps == self.steps:
            return self, ()
        scaled = tuple((name, max(1, round(position * steps / self.steps))) for name, position in self.lengths)
        positions = [0, *(position for _, position in scaled)]
        fits = all((new < steps) == (old < self.steps) for (_, new), (_, old) in zip(scaled, self.lengths, strict=True))
        if not fits or any(a >= b for a, b in pairwise(positions)):
            raise ConfigError(
                f"steps = {steps} with preset {self.name}",
                f"its parts ({', '.join(name for name, _ in self.lengths) or 'its curve'}) need a step each",
                "give more steps",
            )
        changes = [f"steps {self.steps} -> {steps}"]
        for (name, old), (_, new) in zip(self.lengths, scaled, strict=True):
            changes.append(f"{name} {old} -> {new}")
        return replace(self, steps=steps, lengths=scaled), tuple(changes)


def drops(
    peak: float, steps: int, lengths: tuple[int, ...], *, factor: float = 0.1
) -> tuple[ScheduleFn, tuple[int, ...]]:
    """A drop by `factor` at each length."""
    return schedules.step(peak, lengths, factor), lengths


def low_then_drops(
    peak: float, steps: int, lengths: tuple[int, ...], *, start: float, factor: float = 0.1
) -> tuple[ScheduleFn, tuple[int, ...]]:
    """Hold start * peak up to the first length, then drops at the others, all counted from step 0."""
    pieces = [schedules.constant(start * peak), schedules.step(peak, lengths[1:], factor)]
    return schedules.join(pieces, lengths[:1], count="from-start"), lengths


def ramp_then_drops(
    peak: float, steps: int, lengths: tuple[int, ...], *, start: float, factor: float = 0.1
) -> tuple[ScheduleFn, tuple[int, ...]]:
    """A linear warmup from start * peak over the first length, drops at the others, all counted from step 0."""
    return schedules.warmup(schedules.step(peak, lengths[1:], factor), lengths[0], start, seam="jump"), lengths


def cycles(peak: float, steps: int, lengths: tuple[int, ...], *, mult: int) -> tuple[ScheduleFn, tuple[int, ...]]:
    """SGDR: the first cycle ends at the first length."""
    found = schedules.restarts(lengths[0], mult, steps)
    return schedules.sgdr(peak, lengths[0], mult), tuple(int(at) for at in found)


def ramp_then_decay(
    peak: float, steps: int, lengths: tuple[int, ...], *, decay: Callable[..., ScheduleFn], seam: Seam,
    start: float = 0.0, end: float = 0.0,
) -> tuple[ScheduleFn, tuple[int, ...]]:  # fmt: skip
    """A linear warmup over the first length, and `decay` (cosine or linear) joined to it by `seam`.

    It ends with the run, or at a second length, from which on its last rate is kept.
    """
    warm, *later = lengths
    last = later[0] if later else steps
    length = last - warm if seam == "shift" else last
    return schedules.warmup(decay(peak, length, end=end), warm, start, seam), lengths


def gpt_cosine(peak: float, steps: int, lengths: tuple[int, ...]) -> tuple[ScheduleFn, tuple[int, ...]]:
    """GPT's `warmup_cosine`: s (x/w) + (1 - s) (1 + cos(pi x)) / 2 with x = t / T and s = (x <= w).

    The last update of the ramp is t = w T itself, which runs at the peak: the cosine begins one update later.
    """
    ramp = schedules.warmup(schedules.constant(peak), lengths[0])
    seam = lengths[0] + 1
    return schedules.join([ramp, schedules.cosine(peak, steps)], [seam], count="from-start"), (seam,)


def gpt_linear(
    peak: float, steps: int, lengths: tuple[int, ...], *, share: float
) -> tuple[ScheduleFn, tuple[int, ...]]:
    """GPT's `warmup_linear`: (s (x/w) + (1 - s)) (1 - x) with x = t / T and s = (x <= w), w the warmup's share."""
    seam = share * steps
    return schedules.warmup(schedules.linear(peak, steps), seam, seam="multiply"), (int(np.ceil(seam)),)


def stairs(peak: float, steps: int, lengths: tuple[int, ...]) -> tuple[ScheduleFn, tuple[int, ...]]:
    """Half a cosine whose rate is set once per epoch, the first length being an epoch."""
    return schedules.held(schedules.cosine(peak, steps), lengths[0]), ()


def triangle(
    peak: float, steps: int, lengths: tuple[int, ...], *, share: float, start: float, end: float
) -> tuple[ScheduleFn, tuple[int, ...]]:
    """Straight up from start * peak over int(share * steps) steps, straight down to end * peak."""
    top = int(share * steps)
    return schedules.one_cycle(peak, steps, top, start, end, shape="linear"), (top,)
