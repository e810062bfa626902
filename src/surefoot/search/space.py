"""The recipes that a search can choose from: rate and axes of `search.axes`, in the coordinates of the response.

The first coordinate is the rate at which a complete run in batches of the base's size would be expected to do as well:
the effective rate, moved by what is known of batch and length. The others are those of the axes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from surefoot.config import Recipe
from surefoot.record.trial import Trial
from surefoot.rules.groups import shortened
from surefoot.search.axes import AXES, BRACKET, PER_DOUBLING, RATE_SD, Axis, Frame
from surefoot.search.response import RATE_SCALE, Prior
from surefoot.settings import shrunk

PER_DECADE = 8
"""Rates per factor of 10 among the candidates: no tuning needs finer ones (Bengio 2012, arXiv 1206.5533: "up to
approximately a factor of 2")."""
DRIFT, DRIFT_SD = -0.09, 0.08
"""Decades of the best rate per doubling of the length, and how little is known of it. Complete runs on ImageNet have
-0.06 [-0.12, -0.01] and -0.18 [-0.24, -0.11] (our fit to the tables of github.com/nicholaslourie/opda), language models
-0.10 (Bjorck et al. 2024, arXiv 2409.19913), ResNets under sufficient annealing none (arXiv 2602.04774)."""
REACH_SDS = 2.0
"""Standard deviations around where the best rate is expected within which rates are candidates from the beginning."""
REACH_DECADES = 0.75
"""How far beyond the rates that were tried others are candidates."""


class Point(NamedTuple):
    """A recipe in the search's terms: the effective rate, and the values of the other axes, in their order."""

    rate: float
    others: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Space:
    """The recipes that can be chosen.

    Attributes:
        frame: the base recipe and its length.
        axes: what is varied besides the rate.
        center, sd: log10 of the effective rate where the best is expected, and its standard deviation in decades.
        fixed_rate: whether the base's rate is kept.
    """

    frame: Frame
    axes: tuple[Axis, ...]
    center: float
    sd: float
    fixed_rate: bool = False

    @property
    def base(self) -> Recipe:
        """The recipe whose other values are kept."""
        return self.frame.base

    @property
    def usual(self) -> tuple[Any, ...]:
        """The values of the axes that stand where nothing was measured."""
        return tuple(axis.usual for axis in self.axes)

    @property
    def default(self) -> Point:
        """The recipe that is as good as any before something was measured: the base's rate, or the one expected."""
        low, high = self.center - REACH_SDS * self.sd, self.center + self.sd
        return Point(10 ** min(max(math.log10(self.base.effective_lr), low), high), self.usual)

    @property
    def safe(self) -> Point:
        """The default at the lowest rate that is expected to be best: should all others be too large, it learns."""
        return self.default._replace(rate=10 ** (self.center - REACH_SDS * self.sd + self.by_batch(self.usual)))

    @cached_property
    def prior(self) -> Prior:
        """Where the best recipe is expected."""
        axes = [(axis.center, axis.sd, axis.scale, axis.drift_sd)
                for axis in self.axes for _ in axis.place(axis.usual)]  # fmt: skip
        return Prior(*np.array([(self.center, self.sd, RATE_SCALE, DRIFT_SD), *axes]).T)

    def recipe(self, point: Point, share: float) -> Recipe:
        """Return the recipe of a run of a share of the final length, its length in steps.

        A shorter run has a somewhat higher rate, at which it is expected to say of the point what there is to say.
        """
        values: dict[str, Any] = {}
        pairs = list(zip(self.axes, point.others, strict=True))
        for axis, value in pairs:
            values |= {} if axis.follows_rate else axis.enter(value, values, self.frame)
        rule = self.base.update_rule
        rate = point.rate * 10 ** (DRIFT * math.log2(share)) * rule.per_rate({**self.base.rule_values, **values})
        values["lr"] = self.base.lr if self.fixed_rate else float(f"{rate:.4g}")
        for axis, value in pairs:
            values |= axis.enter(value, values, self.frame) if axis.follows_rate else {}
        steps = self.frame.steps_of(values.get("batch_size", self.base.batch_size))
        return dataclasses.replace(self.base, epochs=None, steps=max(1, math.floor(share * steps + 1e-6)), **values)

    def point(self, trial: Trial) -> Point:
        """Return the point that a trial was at."""
        drift = 1.0 if self.fixed_rate else 10 ** (DRIFT * math.log2(trial.share))
        others = tuple(axis.read(trial.recipe, trial.share) for axis in self.axes)
        return Point(trial.recipe.effective_lr / drift, others)

    def coordinates(self, point: Point, share: float = 1.0) -> list[float]:
        """Return a point's coordinates and the log2 of a run's share of the final length, [D + 1]."""
        places = [each for axis, value in zip(self.axes, point.others, strict=True) for each in axis.place(value)]
        return [math.log10(point.rate) - self.by_batch(point.others), *places, math.log2(share)]

    def by_batch(self, others: Sequence[Any]) -> float:
        """Return by how many decades the rates of these values lie above those of the base's batch."""
        sizes = [value for axis, value in zip(self.axes, others, strict=True) if axis.name == "batch_size"]
        if not sizes:
            return 0.0
        assert isinstance(self.base.batch_size, int)
        return PER_DOUBLING * self.base.update_rule.batch_exponent * math.log2(sizes[0] / self.base.batch_size)

    def at(self, trials: Sequence[Trial]) -> np.ndarray:
        """Return where trials were, [P, D + 1]."""
        found = [self.coordinates(self.point(trial), trial.share) for trial in trials]
        return np.array(found).reshape(len(trials), len(self.prior.center) + 1)

    def rates(self, tried: Sequence[float] = ()) -> list[float]:
        """Return the first coordinates of candidates, evenly spaced: around what is expected, and what was tried."""
        reach = REACH_SDS * self.sd
        low = min([self.center - reach, *(each - REACH_DECADES for each in tried)])
        high = max([self.center + reach, *(each + REACH_DECADES for each in tried)])
        first, last = math.floor(low * PER_DECADE), math.ceil(high * PER_DECADE)
        return [step / PER_DECADE for step in range(first, last + 1)]

    def grid(self, rates: Sequence[float], rows: Sequence[tuple[Any, ...]]) -> np.ndarray:
        """Return the coordinates of complete runs of every rate with every row of other values, rates innermost.

        Args:
            rates: first coordinates, [R]; of a rate that is fixed each row has its one.
            rows: values of the axes.
        """
        places = np.array([[each for axis, value in zip(self.axes, row, strict=True) for each in axis.place(value)]
                           for row in rows]).reshape(len(rows), -1)  # fmt: skip
        by_row = [rates if not self.fixed_rate else
                  [math.log10(self.base.effective_lr) - self.by_batch(row)] for row in rows]  # fmt: skip
        first, wide = np.concatenate([np.asarray(each) for each in by_row]), len(by_row[0])
        return np.column_stack([first, places.repeat(wide, axis=0), np.zeros(len(first))])

    def all_others(self) -> list[tuple[Any, ...]]:
        """Return the values of the other axes in every combination."""
        return list(itertools.product(*(axis.values for axis in self.axes)))

    def point_at(self, rate: float, others: tuple[Any, ...]) -> Point:
        """Return the point of a first coordinate."""
        return Point(self.base.effective_lr if self.fixed_rate else 10 ** (rate + self.by_batch(others)), others)


def space_around(
    base: Recipe, steps: int, bracket: tuple[float, float] | None, fixed: frozenset[str],
    given: frozenset[str] = frozenset(), *, examples: int | None = None,
) -> Space:  # fmt: skip
    """Return the recipes around a bracket.

    Args:
        base: the recipe to start from; its memory is the one that the bracket was measured with.
        steps: of the final run.
        bracket: lowest and highest learning rate that step 3 found; None where it found none.
        fixed: names of what the user has fixed: "lr", "weight_decay", "momentum", "batch_size".
        given: names of what the user gave to start from.
        examples: of the training part, where the batch size is searched.
    """
    frame = Frame(base, steps, examples, lambda name: name not in fixed, given)
    axes = tuple(axis for make in AXES if (axis := make(frame)) is not None)
    precision, center = 1 / RATE_SD**2, math.log10(base.effective_lr)
    if bracket is not None:
        low, high = (math.log10(each / base.update_rule.per_rate(base.rule_values)) for each in bracket)
        weight = 1 / (BRACKET[1] ** 2 + ((high - low) / 2) ** 2)
        center = (precision * center + weight * ((low + high) / 2 + BRACKET[0])) / (precision + weight)
        precision += weight
    return Space(frame, axes, center, precision**-0.5, "lr" in fixed)


def trial_of(stage: str, base: Recipe, recipe: Recipe, seed: int, share: float) -> Trial:
    """Return the trial of a recipe.

    Args:
        stage: that asks for it.
        base: has the final run's schedule and groups.
        recipe: with the trial's length in steps.
        seed: number of the repetition.
        share: the trial's length as a share of the final run's.
    """
    lengths = {"schedule": shrunk(base.schedule, share), "groups": shortened(base.groups, share)}
    return Trial(stage=stage, recipe=dataclasses.replace(recipe, **lengths), seed=seed, share=share)
