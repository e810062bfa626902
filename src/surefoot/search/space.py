"""The recipes that a search can choose from, and a coarse grid over them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from surefoot.config import Recipe
from surefoot.record.trial import Trial
from surefoot.rules.groups import shortened
from surefoot.search.response import coordinates
from surefoot.settings import shrunk

PER_DECADE = 8
"""Rates per factor of 10 among the candidates: no tuning needs finer ones (Bengio 2012, arXiv 1206.5533: "up to
approximately a factor of 2")."""
REACH_DECADES = (0.75, 0.25)
"""How far below and above the bracket candidates lie: the best rate of ten epochs lay up to half a decade from that of
one (trials on CIFAR-10 with and without batch norm), and further where a bracket comes from few updates; above the
bracket's high end even short runs do not learn."""


class Point(NamedTuple):
    """A recipe in decoupled coordinates: effective rate; total decay, None where weight decay is fixed; momentum, or
    what the rule has in its place, `UpdateRule.memory`.
    """

    rate: float
    decay: float | None
    momentum: float


@dataclass(frozen=True)
class Space:
    """The recipes that can be chosen.

    Attributes:
        base: the recipe whose other values are kept.
        steps: of the final run.
        low, high: smallest and largest effective rate of the bracket; for SGD lr / (1 - momentum).
        decays: total decays that may be chosen; (None,) where weight decay is fixed.
        momenta: likewise, of the rule's memory; the base's alone where that is fixed.
        usual_decay: the one of `decays` that stands where nothing else was measured.
        fixed_rate: whether the base's rate is kept.
        keeps_decay: the base's weight decay was asked for, and stays as it is where decays are not searched.
    """

    base: Recipe
    steps: int
    low: float
    high: float
    decays: tuple[float | None, ...]
    momenta: tuple[float, ...]
    usual_decay: float
    fixed_rate: bool = False
    keeps_decay: bool = False

    def recipe(self, point: Point, share: float) -> Recipe:
        """Return the recipe of a run of a share of the final length, its length in steps.

        Its weight decay is the one that the final run would have: what a step takes of a weight stays the same, so that
        a short run is not decayed as much in its few steps as a long one in all of its own.
        """
        steps = max(1, math.floor(share * self.steps + 1e-6))
        rate, decay, momentum = point
        rule = self.base.update_rule
        changes: dict[str, Any] = {rule.memory: momentum}
        if momentum == 0 and self.base.momentum_form == "nesterov":
            changes["momentum_form"] = "pytorch"
        values = {**self.base.rule_values, **changes}
        lr = self.base.lr if self.fixed_rate else float(f"{rate * rule.per_rate(values):.4g}")
        weight_decay = self.base.weight_decay
        if decay is not None:
            weight_decay = float(f"{decay / (lr / rule.per_shrink(values) * self.steps):.3g}")
        changes = {"lr": lr, "weight_decay": weight_decay, **changes}
        return dataclasses.replace(self.base, epochs=None, steps=steps, **changes)

    @property
    def rates(self) -> list[float]:
        """The effective rates, evenly spaced in their logarithm, from some way below `low` to beyond `high`."""
        if self.fixed_rate:
            return [self.base.effective_lr]
        low, high = math.log10(self.low) - REACH_DECADES[0], math.log10(self.high) + REACH_DECADES[1]
        return (10 ** np.linspace(low, high, max(2, round((high - low) * PER_DECADE) + 1))).tolist()

    @property
    def candidates(self) -> list[Point]:
        """All points, rates innermost."""
        each = itertools.product(self.momenta, self.decays, self.rates)
        return [Point(rate, decay, momentum) for momentum, decay, rate in each]


def space_around(
    base: Recipe, steps: int, low: float, high: float, fixed: frozenset[str], given: frozenset[str] = frozenset()
) -> Space:
    """Return the recipes around a bracket.

    Args:
        base: the recipe to start from; its memory is the one that the bracket was measured with.
        steps: of the final run.
        low, high: the bracket, learning rates.
        fixed: names of what the user has fixed: "lr", "weight_decay", "momentum".
        given: names of what the user gave to start from.
    """
    rule, keep = base.update_rule, base.update_rule.per_rate(base.rule_values)
    stays = not {rule.memory, f"{rule.memory}_form", "lr"}.isdisjoint(fixed)
    momenta = (base.memory,) if stays else tuple(sorted({*rule.memories, base.memory}))
    keeps_decay = "weight_decay" in given
    wanted = _decay_of(base, steps, given=keeps_decay)
    free = "weight_decay" not in fixed and rule.decays
    decays = tuple(sorted({*rule.decays, wanted})) if free else (None,)
    return Space(base, steps, low / keep, high / keep, decays, momenta, wanted, "lr" in fixed, keeps_decay)


def _decay_of(base: Recipe, steps: int, *, given: bool) -> float:
    """Return the total decay of a recipe that has one of its own, and the usual one for the rule's default."""
    if not given and base.weight_decay in (0.0, base.update_rule.defaults["weight_decay"]):
        return base.update_rule.usual_decay
    if base.weight_decay == 0:
        return 0.0
    return float(f"{10 ** coordinates(dataclasses.replace(base, epochs=None, steps=steps))[1]:.3g}")


def without_momentum(where: Space) -> Space:
    """Return the recipes that have the base's memory."""
    return dataclasses.replace(where, momenta=(where.base.memory,))


def only_rates(where: Space) -> Space:
    """Return the recipes that have the base's memory, and the usual decay or the one that was asked for."""
    decays = tuple(None if each is None or where.keeps_decay else where.usual_decay for each in where.decays[:1])
    return dataclasses.replace(where, momenta=(where.base.memory,), decays=decays)


def coarse_grid(where: Space, count: int) -> list[Point]:
    """Return points spread evenly over the space, from some way below the bracket's low end to its high end.

    Where only rates are free they are evenly spaced. Else the points are those of Halton 1960, "On the efficiency of
    certain quasi-random sequences", which cover every axis with any number of points; random ones do not.

    >>> where = space_around(Recipe(), 1000, 0.01, 1.0, frozenset({"momentum", "weight_decay"}))
    >>> [round(point.rate, 3) for point in coarse_grid(where, 3)]
    [0.018, 0.422, 10.0]
    """
    if where.fixed_rate:
        points = where.candidates
        return points[:: math.ceil(len(points) / count)]
    low, high = math.log10(where.low) - REACH_DECADES[0], math.log10(where.high)
    free = [axis for axis in (where.decays, where.momenta) if len(axis) > 1]
    if not free:
        rates = 10 ** (np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2]))
        return [usual(where, float(rate)) for rate in rates]
    points = []
    for place in _halton(count, len(free) + 1):
        decay = _at(where.decays, place[1] if len(where.decays) > 1 else 0.0)
        momentum = _at(where.momenta, place[-1] if len(where.momenta) > 1 else 0.0)
        points.append(Point(float(10 ** (low + place[0] * (high - low))), decay, momentum))
    return points


def _at(axis: Sequence[Any], place: float) -> Any:
    """Return the value at a place from 0 to 1 of an axis."""
    return axis[int(place * len(axis))]


def _halton(count: int, dimensions: int) -> np.ndarray:
    """Return so many points of the unit cube, [count, dimensions]: the digits of i = 1, 2, ... in bases 2, 3, 5
    mirrored at the point.
    """
    points = np.zeros((count, dimensions))
    for column, base in enumerate((2, 3, 5)[:dimensions]):
        for row in range(count):
            left, weight = row + 1, 1 / base
            while left:
                left, digit = divmod(left, base)
                points[row, column] += digit * weight
                weight /= base
    return points


def usual(where: Space, rate: float) -> Point:
    """Return the point of a rate with the decay and memory that stand where nothing else was measured."""
    decay = None if where.decays == (None,) or where.keeps_decay else where.usual_decay
    return Point(rate, decay, where.base.memory)


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
