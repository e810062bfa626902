"""Which recipes to try next, and which one to choose: pure functions of the trials so far."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.config import Recipe
from surefoot.record.intervals import Z_95
from surefoot.record.measures import ACCURACY
from surefoot.record.trial import TrialResult
from surefoot.search.response import CEILING, LEAST_DECAY, coordinates, errors, fitted
from surefoot.search.space import PER_DECADE, Point, Space

_ARM_DECADES = 0.25
"""Distance of a round's rates from the best so far, in the first round: a factor of 1.8, near Bengio's 2."""
_CAUTION = 0.5
"""Standard deviations by which the choice avoids what is unknown. Chosen by hand: without, rates were extrapolated over
the cliff."""
_SMOOTHING_DECADES = 0.15
"""A rate is chosen by the mean over its neighbours within about this, so that the answer keeps clear of the cliff on
the side of large rates: half of the factor of 2 that tuning needs."""
_MARGIN_DECADES = 0.1
"""How much lower the rate is chosen for every doubling by which the final run is longer than the longest trial: what is
stable in a short run may not be with more exposure to the peak rate, and a rate that is a fifth too low costs little.
Of 0 to 0.15 the one that lost least on eight small tasks; without batch norm on CIFAR-10 the best rate fell by 0.2
decades per doubling, and a rate a quarter of a decade too high there lost 4 points."""
_DRAWS = 2000
"""Curves drawn: the median of their best rates is then sure to a tenth of the spacing of the rates."""
_ALIKE = 1.0
"""Recipes within this many standard deviations of the response cannot be told from the best one. Measured
(`soak/coverage.py`): the best rate of an invented valley is then among them in 97 %; with half of it in 93 %, with 1.96
in all cases, over four times the rates."""
_ALIKE_ERROR = 0.02
"""Nor can those that are expected to make at most this share more errors: too little to pay for. Chosen by hand."""


def next_points(
    results: tuple[TrialResult, ...], where: Space, count: int, share: float, validation_examples: int,
    *, number: int = 1,
) -> list[Point]:  # fmt: skip
    """Return what a round of refinement tries: the best point so far, and its neighbours along every axis.

    A star encloses the best rate from both sides, which the search for the most promising single points does not; its
    arms halve from round to round.

    Args:
        results: what is known; at least one trial finished.
        where: what can be chosen.
        count: how many, at most.
        share: length of the round's runs as a share of the final one's.
        validation_examples: on which trials are judged.
        number: of the round, from 1.
    """
    center = choose(results, where, validation_examples).point
    done = {_identity(each.trial.recipe, each.trial.share) for each in results if each.trial.share >= share}
    points: list[Point] = []
    for point in _star(center, where, _ARM_DECADES / 2 ** (number - 1)):
        if len(points) < count and point not in points and _identity(where.recipe(point, share), share) not in done:
            points.append(point)
    return points


def _star(center: Point, where: Space, arm: float) -> list[Point]:
    """Return the points of a star, the most telling first: the rate's arms, decay's, momentum's, and longer ones."""
    rates = [] if where.fixed_rate else [-arm, arm, -2 * arm, 2 * arm]
    along = [center._replace(rate=center.rate * 10**rate) for rate in rates]
    decays = [center._replace(decay=decay) for decay in _beside(where.decays, center.decay)]
    momenta = [center._replace(momentum=momentum) for momentum in _beside(where.momenta, center.momentum)]
    return [center, *along[:2], *decays, *momenta, *along[2:]]


def _beside(axis: Sequence[Any], value: Any) -> list[Any]:
    """Return the values next to one on an axis, where it has them."""
    at = axis.index(value) if value in axis else len(axis) + 1  # a decay that is not searched is not among them
    return [axis[i] for i in (at - 1, at + 1) if 0 <= i < len(axis)]


def _identity(recipe: Recipe, share: float = 1.0) -> tuple[float, ...]:
    return tuple(round(each, 2) for each in coordinates(recipe, share))


def _spread(covariance: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each candidate's difference to their mean, which the common level is not in."""
    centered = covariance - covariance.mean(axis=0, keepdims=True) - covariance.mean(axis=1, keepdims=True)
    return np.sqrt(np.maximum(np.diag(centered + covariance.mean()), 0.0))


@dataclass(frozen=True)
class Choice:
    """The recipe that was chosen, and how sure that is.

    Attributes:
        point: in decoupled coordinates.
        recipe: chosen, with the final length in steps.
        error: its expected log error at the final length; spread: its standard deviation.
        lr_low, lr_high: the rates that cannot be told from it, its decay and momentum kept.
        alike: recipes that cannot be told from it, the chosen one among them.
        at_border: whether the chosen rate is the smallest that was tried, or the largest in the longest trials.
        decay_open, momentum_open: whether other values were never tried.
    """

    point: Point
    recipe: Recipe
    error: float
    spread: float
    lr_low: float
    lr_high: float
    alike: tuple[Recipe, ...]
    at_border: bool
    decay_open: bool
    momentum_open: bool


@functools.lru_cache(maxsize=32)  # every move of a search asks anew
def choose(results: tuple[TrialResult, ...], where: Space, validation_examples: int) -> Choice:
    """Return the recipe whose error at the final length is expected to be least, with some caution.

    Only momenta that were tried are chosen, and rates and decays between those that were. Decay and momentum are those
    of the least error, the mean over neighbouring rates, so that one beside a cliff does not win; the rate is then the
    middle of where the best one may lie.

    Args:
        results: at least one trial finished.
        where: what can be chosen.
        validation_examples: on which trials were judged.
    """
    response = fitted(results, validation_examples)
    inside = _covered(results, where)
    points = inside.candidates
    recipes = [where.recipe(point, 1.0) for point in points]
    at = np.array([[*coordinates(recipe), 0.0] for recipe in recipes])
    mean, covariance = response.predict(at)
    cautious = mean + _CAUTION * _spread(covariance)
    longest = max(each.trial.share for each in results if each.finished)
    margin = -_MARGIN_DECADES * math.log2(min(1.0, longest))
    best = int(np.argmin(_smoothed(cautious, at, len(inside.rates), margin)))
    tried = [(coordinates(each.trial.recipe)[0], each.trial.share) for each in results if each.finished]
    ends = (min(rate for rate, _ in tried), max(rate for rate, share in tried if share == longest))
    if not where.fixed_rate:
        first = best - best % len(inside.rates)
        row = slice(first, first + len(inside.rates))
        best = first + _middle(mean[row], covariance[row, row], at[row, 0], margin, ends)
    apart = np.diag(covariance) + covariance[best, best] - 2 * covariance[best]
    by_examples = Z_95 * examples_noise(results, validation_examples)
    unsure = np.sqrt(_ALIKE**2 * np.maximum(apart, 0) + by_examples**2)
    near = mean - mean[best] <= np.maximum(unsure, _ALIKE_ERROR)
    near &= apart < response.amplitude**2  # what nothing is known of is not alike, only unknown
    near[best] = True
    low, high = _run(near, best, at)
    rates = at[:, 0]
    return Choice(
        point=points[best],
        recipe=recipes[best],
        error=float(mean[best]),
        spread=float(math.sqrt(max(covariance[best, best], 0.0))),
        lr_low=recipes[low].lr,
        lr_high=recipes[high].lr,
        alike=tuple(recipe for recipe, is_near in zip(recipes, near, strict=True) if is_near),
        at_border=not where.fixed_rate and min(abs(rates[best] - end) for end in ends) < 0.5 / PER_DECADE,
        decay_open=len(where.decays) > 1 and len(inside.decays) == 1,
        momentum_open=len(where.momenta) > 1 and len(inside.momenta) == 1,
    )


def examples_noise(results: Sequence[TrialResult], validation_examples: int) -> float:
    """Return by how much two recipes differ in log error because of the examples that they are judged on.

    The standard deviation of the difference of two log error rates with w wrong answers each of which none is common,
    sqrt(2 / (w + 1/2)), and half of it, since the log error is half of the rate's; all of it where accuracy alone
    chooses. 0 for a regression, and where another number chooses, of which it is not known.

    >>> from surefoot.record.trial import Trial
    >>> made = Trial(stage="refine", recipe=Recipe(steps=10), seed=0, share=1.0)
    >>> came = TrialResult(trial=made, outcome="finished", examples=1, train_loss=1.0, val_loss=1.0, val_accuracy=0.9,
    ...                    seconds=1.0)
    >>> round(examples_noise([came], 1000), 3)
    0.071
    """
    by = results[0].chosen_by if results else None
    right = [each.val_accuracy for each in results if each.finished and each.val_accuracy is not None]
    if not right or by not in (None, ACCURACY):
        return 0.0
    return math.sqrt(2 / ((1 - max(right)) * validation_examples + 0.5)) / (2 if by is None else 1)


def _covered(results: Sequence[TrialResult], where: Space) -> Space:
    """Return the part of the space that trials have been in: choosing beyond would be guessing."""
    momenta = {each.trial.recipe.memory for each in results}
    decays = [coordinates(each.trial.recipe, each.trial.share)[1] for each in results]
    inside: tuple[float | None, ...] = tuple(
        each for each in where.decays
        if each is not None and min(decays) - 0.05 <= math.log10(max(each, LEAST_DECAY)) <= max(decays) + 0.05
    )  # fmt: skip
    if where.keeps_decay and all(each.trial.recipe.weight_decay == where.base.weight_decay for each in results):
        inside = (None,)  # it was asked for, and never searched
    return dataclasses.replace(
        where,
        momenta=tuple(each for each in where.momenta if each in momenta) or where.momenta[:1],
        decays=inside or (where.decays if where.decays == (None,) else (where.usual_decay,)),
    )


def _middle(
    mean: np.ndarray, covariance: np.ndarray, rates: np.ndarray, margin: float, ends: tuple[float, float]
) -> int:
    """Return which rate lies in the middle of where the best one may lie: the median of the best rates of curves drawn.

    The minimum of the mean follows the noise of single trials where the curve is flat; a median over what the curve may
    be does not, and keeps away from a cliff that some of the curves have.

    Args:
        mean, covariance: of the errors at the rates, [R] and [R, R].
        rates: in decades, rising, [R].
        margin: decades to stay under the median.
        ends: lowest rate that was tried, and highest that was tried in the longest runs: beyond would be guessing.
    """
    rng = np.random.Generator(np.random.Philox(0))  # a pure function of its arguments: the same draws every time
    values, vectors = np.linalg.eigh(covariance)
    drawn = mean + rng.standard_normal((_DRAWS, len(mean))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    middle = float(np.median(rates[drawn.argmin(axis=1)])) - margin
    return int(np.abs(rates - np.clip(middle, *ends)).argmin())


def _smoothed(values: np.ndarray, at: np.ndarray, rates: int, margin: float) -> np.ndarray:
    """Return the mean over rates near each candidate, of the same decay and momentum, [Q]. Rates are innermost.

    Near is what lies around the candidate's rate raised by `margin` decades.
    """
    row = at[:rates, 0]
    weights = np.exp(-0.5 * ((row[:, None] + margin - row[None]) / _SMOOTHING_DECADES) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return (values.reshape(-1, rates) @ weights.T).reshape(-1)


def _run(near: np.ndarray, best: int, at: np.ndarray) -> tuple[int, int]:
    """Return the ends of the unbroken row of alike candidates around the best, rates being innermost."""
    low = high = best
    while low > 0 and near[low - 1] and at[low - 1, 0] < at[low, 0]:
        low -= 1
    while high + 1 < len(at) and near[high + 1] and at[high + 1, 0] > at[high, 0]:
        high += 1
    return low, high


def promising(results: Sequence[TrialResult], where: Space, count: int, validation_examples: int) -> list[Recipe]:
    """Return the recipes tried at the final length that are expected to be best, at most `count`.

    Args:
        results, where, validation_examples: as in `choose`.
        count: how many.
    """
    response = fitted(results, validation_examples)
    whole = [each.trial.recipe for each in results if each.finished and each.trial.share == 1]
    recipes = list({_identity(recipe): recipe for recipe in whole}.values())
    if not recipes:
        return []
    mean, _ = response.predict(np.array([[*coordinates(recipe), 0.0] for recipe in recipes]))
    return [recipes[i] for i in np.argsort(mean)[:count]]


def paired_gain(new: Sequence[TrialResult], old: Sequence[TrialResult], validation_examples: int) -> float:
    """Return by how much the log error of one recipe is below that of another, the mean over the seeds both have."""
    pairs = [(a, b) for a in new for b in old if a.trial.seed == b.trial.seed]
    if not pairs:
        return math.nan
    ours, theirs = (errors(list(side), validation_examples) for side in zip(*pairs, strict=True))
    level = min(ours.min(), theirs.min()) + CEILING
    return float((np.minimum(theirs, level) - np.minimum(ours, level)).mean())
