"""Which recipes to try next, and which one to choose: pure functions of the trials so far."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from surefoot.config import Recipe
from surefoot.record.intervals import Z_95
from surefoot.record.measures import ACCURACY
from surefoot.record.trial import TrialResult
from surefoot.search.response import CEILING, Response, errors, fitted, unfitted
from surefoot.search.space import PER_DECADE, Point, Space

_CAUTION = 0.5
"""Standard deviations by which the choice avoids what is unknown. Chosen by hand: without, rates were extrapolated over
the cliff."""
_SMOOTHING_DECADES = 0.15
"""A rate is chosen by the mean over its neighbours within about this, so that the answer keeps clear of the cliff on
the side of large rates: half of the factor of 2 that tuning needs."""
_DRAWS = 2000
"""Curves drawn: the median of their best rates is then sure to a tenth of the spacing of the rates."""
_ALIKE = 1.0
"""Recipes within this many standard deviations of the response cannot be told from the best one. Measured
(`soak/coverage.py`): the best rate of an invented valley is then among them in 97 %; with half of it in 93 %, with 1.96
in all cases, over four times the rates."""
_ALIKE_ERROR = 0.02
"""Nor can those that are expected to make at most this share more errors: too little to pay for. Chosen by hand."""
_APART = 0.5
"""Share of the noise of counting right answers that two recipes do not have in common: they are judged on the same
examples, and good ones are wrong on many of the same. Chosen by hand."""
_SHOWN = 32
"""Recipes that cannot be told from the chosen one which are written down."""
_COARSE = 2
"""Of the rates among which new points are looked for, each second one: a quarter of a decade, the half of a factor of
two that tuning needs (`space.PER_DECADE`)."""


def response_of(results: Sequence[TrialResult], where: Space, validation_examples: int) -> Response:
    """Return what the trials say; at least one finished.

    Args:
        results, where, validation_examples: as in `choose`.
    """
    error = errors(results, validation_examples)
    counted = np.array([examples_noise([each], validation_examples) for each in results]) ** 2 / 2
    return fitted(where.at([each.trial for each in results]), error, where.prior, _APART * counted)


@dataclass(frozen=True)
class Proposal:
    """A point to be tried, by the run with this number of the repetition, and by how much it is expected to lower the
    log error of the answer.
    """

    point: Point
    seed: int
    gain: float


def propose(
    results: Sequence[TrialResult], where: Space, count: int, share: float, validation_examples: int
) -> list[Proposal]:
    """Return what to try next: the points whose trial is expected to improve the answer most, one after the other.

    Expected improvement of the error of a complete run (Jones, Schonlau & Welch 1998, "Efficient global optimization");
    of what was proposed before it is believed that it comes out as expected (Ginsbourger, Le Riche & Carraro 2010,
    "Kriging is well-suited to parallelize optimization"). Points that shorter runs have seen are among them, so the
    promising ones are run longer. In complete runs a point may be repeated, with another seed.

    Args:
        results: what is known; none, or at least one that finished.
        where: what can be chosen.
        count: how many, at most.
        share: length of the runs as a share of the final one's.
        validation_examples: on which trials are judged.
    """
    response = response_of(results, where, validation_examples) if results else unfitted(where.prior)
    known = where.at([each.trial for each in results])
    rates, rows = where.rates(known[:, 0].tolist())[::_COARSE], where.all_others()
    first = [where.default] if where.fixed_rate else [where.default, where.safe]
    made = list(dict.fromkeys([*first, *(where.point(each.trial) for each in results)]))
    at = np.vstack([[where.coordinates(point) for point in made], where.grid(rates, rows)])
    wide = (len(at) - len(made)) // len(rows)
    names, taken = _names(at), set(_names(known))
    done = collections.Counter(
        name for name, each in zip(_names(known), results, strict=True) if each.trial.share >= share
    )
    belief = _Belief(response, at, share)
    tried = [i for i, name in enumerate(names) if name in taken]
    found: list[Proposal] = []
    for _ in range(count):
        gains = belief.gains(tried)
        if share < 1:
            gains[[i for i in tried if names[i] in done]] = -1.0
        begins = not results and len(found) < len(first)
        best = len(found) if begins else int(gains.argmax())
        if gains[best] < 0:
            break
        row, rate = divmod(best - len(made), wide)
        point = made[best] if best < len(made) else where.point_at(rates[rate % len(rates)], rows[row])
        found.append(Proposal(point, done[names[best]], float(gains[best])))
        done[names[best]] += 1
        tried.append(best)
        belief.believe(best)
    return found


def _names(at: np.ndarray) -> list[bytes]:
    """Return a name of each place, the same for places that are alike but for rounding and length."""
    return [row.tobytes() for row in np.round(100 * at[:, :-1]).astype(np.int64)]


class _Belief:
    """What is believed of complete runs of candidates while a round is made, Q of them."""

    def __init__(self, response: Response, at: np.ndarray, share: float) -> None:
        self.response, self.at = response, at
        self.short = at.copy()
        self.short[:, -1] = math.log2(share)
        self.mean, self.half = response.half(at)
        _, self.half_short = response.half(self.short)
        self.noise = response.noise**2

    def gains(self, tried: Sequence[int]) -> np.ndarray:
        """Return the expected improvement of each on the best of those that were tried, [Q]."""
        base = self.response.variance(self.at)
        variance = np.maximum(base - (self.half**2).sum(axis=0), 1e-12)
        if not len(tried):
            return np.sqrt(variance) - self.mean
        best = tried[int(self.mean[tried].argmin())]
        place = self.at[best : best + 1]
        shared = self.response.kernel(self.at, place)[:, 0] - self.half.T @ self.half[:, best]
        apart = np.sqrt(np.maximum(variance + variance[best] - 2 * shared, 1e-12))
        lead = self.mean[best] - self.mean
        z = lead / apart
        return lead * ndtr(z) + apart * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)

    def believe(self, which: int) -> None:
        """Take a run of one of them as done, with what is expected."""
        place = self.short[which : which + 1]
        column = self.half_short[:, which]
        left = max(float(self.response.variance(place)[0] - column @ column), 1e-12) + self.noise
        for name, at in (("half", self.at), ("half_short", self.short)):
            half = getattr(self, name)
            row = (self.response.kernel(place, at)[0] - column @ half) / math.sqrt(left)
            setattr(self, name, np.vstack([half, row]))


@dataclass(frozen=True)
class Choice:
    """The recipe that was chosen, and how sure that is.

    Attributes:
        point: in the terms of the space.
        recipe: chosen, with the final length in steps.
        error: its expected log error at the final length; spread: its standard deviation.
        lr_low, lr_high: the rates that cannot be told from it, all else kept.
        alike: recipes that cannot be told from it, the best expected of them.
        alike_count: how many there are among the candidates.
        at_border: whether the chosen rate is the smallest that was tried, or the largest in the longest trials.
        open: names of the axes of which one value alone was tried.
    """

    point: Point
    recipe: Recipe
    error: float
    spread: float
    lr_low: float
    lr_high: float
    alike: tuple[Recipe, ...]
    alike_count: int
    at_border: bool
    open: tuple[str, ...]


def choose(results: Sequence[TrialResult], where: Space, validation_examples: int) -> Choice:
    """Return the recipe whose error at the final length is expected to be least, with some caution.

    Only what was tried is chosen, but for the rate, which lies between those that were. The other values are those of
    the least error, the mean over neighbouring rates, so that one beside a cliff does not win; the rate is then the
    middle of where the best one may lie.

    Args:
        results: at least one trial finished.
        where: what can be chosen.
        validation_examples: on which trials were judged.
    """
    response = response_of(results, where, validation_examples)
    trials = [each.trial for each in results if each.finished]
    rows = list(dict.fromkeys(where.point(trial).others for trial in trials))
    tried, longest = where.at(trials), max(trial.share for trial in trials)
    far = tried[np.array([trial.share == longest for trial in trials]), 0]
    ends = (float(tried[:, 0].min()), float(far.max()))
    wide = 1 if where.fixed_rate else max(1, round((ends[1] - ends[0]) * PER_DECADE)) + 1
    rates = np.linspace(*ends, wide) if wide > 1 else np.array([ends[1]])
    at = where.grid(rates.tolist(), rows)
    mean, covariance = response.predict(at)
    cautious = mean + _CAUTION * _unsure(response, where, at, covariance)
    best = int(np.argmin(_smoothed(cautious, rates)))
    if not where.fixed_rate:
        first = best - best % wide
        row = slice(first, first + wide)
        best = first + _middle(mean[row], covariance[row, row], at[row, 0], ends)
    points = [where.point_at(float(rate), row) for row in rows for rate in rates]
    apart = np.diag(covariance) + covariance[best, best] - 2 * covariance[best]
    by_examples = Z_95 * examples_noise(results, validation_examples)
    unsure = np.sqrt(_ALIKE**2 * np.maximum(apart, 0) + by_examples**2)
    near = mean - mean[best] <= np.maximum(unsure, _ALIKE_ERROR)
    near &= apart < response.amplitude**2  # what nothing is known of is not alike, only unknown
    near[best] = True
    low, high = _run(near, best, at)
    shown = sorted(np.flatnonzero(near).tolist(), key=lambda i: mean[i])[:_SHOWN]
    recipes = {i: where.recipe(points[i], 1.0) for i in {low, high, best, *shown}}
    tried_rates = at[best, 0]
    columns = zip(*rows, strict=True)
    return Choice(
        point=points[best],
        recipe=recipes[best],
        error=float(mean[best]),
        spread=float(math.sqrt(max(covariance[best, best], 0.0))),
        lr_low=recipes[low].lr,
        lr_high=recipes[high].lr,
        alike=tuple(recipes[i] for i in shown),
        alike_count=int(near.sum()),
        at_border=not where.fixed_rate and min(abs(tried_rates - end) for end in ends) < 0.5 / PER_DECADE,
        open=tuple(axis.name for axis, values in zip(where.axes, columns, strict=True) if len(set(values)) == 1),
    )


def _unsure(response: Response, where: Space, at: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each candidate's difference to the default recipe, [Q]."""
    default = np.array([where.coordinates(where.default)])
    joint = np.vstack([at, default])
    _, half = response.half(joint)
    shared = response.kernel(at, default)[:, 0] - half[:, :-1].T @ half[:, -1]
    own = float(response.variance(default)[0] - half[:, -1] @ half[:, -1])
    return np.sqrt(np.maximum(np.diag(covariance) + own - 2 * shared, 0.0))


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


def _middle(mean: np.ndarray, covariance: np.ndarray, rates: np.ndarray, ends: tuple[float, float]) -> int:
    """Return which rate lies in the middle of where the best one may lie: the median of the best rates of curves drawn.

    The minimum of the mean follows the noise of single trials where the curve is flat; a median over what the curve may
    be does not, and keeps away from a cliff that some of the curves have.

    Args:
        mean, covariance: of the errors at the rates, [R] and [R, R].
        rates: in decades, rising, [R].
        ends: lowest rate that was tried, and highest that was tried in the longest runs: beyond would be guessing.
    """
    rng = np.random.Generator(np.random.Philox(0))  # a pure function of its arguments: the same draws every time
    values, vectors = np.linalg.eigh(covariance)
    drawn = mean + rng.standard_normal((_DRAWS, len(mean))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    middle = float(np.median(rates[drawn.argmin(axis=1)]))
    return int(np.abs(rates - np.clip(middle, *ends)).argmin())


def _smoothed(values: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the mean over rates near each candidate, of the same other values, [Q]. Rates are innermost, [R]."""
    weights = np.exp(-0.5 * ((rates[:, None] - rates[None]) / _SMOOTHING_DECADES) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return (values.reshape(-1, len(rates)) @ weights.T).reshape(-1)


def _run(near: np.ndarray, best: int, at: np.ndarray) -> tuple[int, int]:
    """Return the ends of the unbroken row of alike candidates around the best, rates being innermost."""
    low = high = best
    while low > 0 and near[low - 1] and at[low - 1, 0] < at[low, 0]:
        low -= 1
    while high + 1 < len(at) and near[high + 1] and at[high + 1, 0] > at[high, 0]:
        high += 1
    return low, high


def paired_gain(new: Sequence[TrialResult], old: Sequence[TrialResult], validation_examples: int) -> float:
    """Return by how much the log error of one recipe is below that of another, the mean over the seeds both have."""
    pairs = [(a, b) for a in new for b in old if a.trial.seed == b.trial.seed]
    if not pairs:
        return math.nan
    ours, theirs = (errors(list(side), validation_examples) for side in zip(*pairs, strict=True))
    level = min(ours.min(), theirs.min()) + CEILING
    if not math.isfinite(level):  # all of both diverged
        return math.nan
    return float((np.minimum(theirs, level) - np.minimum(ours, level)).mean())
