"""From the losses of short runs at constant rates to a bracket of learning rates, with intervals, and its findings.

R rates, S seeds, T steps. A loss is infinite from the step at which its run diverged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from surefoot.errors import ConfigError
from surefoot.record.decision import Finding
from surefoot.record.intervals import student

WINDOW_STEPS = 20
"""The last steps over which the loss of a short run is averaged: a fifth of 100. Chosen by hand."""
SHARE_OF_BEST = 0.5
"""A rate counts as one at which the loss still drops if it drops by this share of the best rate's drop. Measured
(`benchmarks/find_lr.py`, ten tasks): shares of 0.25 to 0.75 hold the best rate of ten epochs equally often, 0.9 less
often; at 0.25 ten epochs at the high end lose up to 16 points. The middle of those that hold."""
ONE_SIDED = 0.9
"""Level of the interval by Student's t whose one end a drop must clear, and by which a loss is more than the least one:
5 % on that side. With 3 seeds that is 2.9 standard errors. With 2 it would be 6.3, at which tables of 60 rows that can
be learned were said not to drop at any rate, so it is 2.9 there too, and 11 % on that side."""
_LEAST_DEGREES = 2
MARGIN = 10**0.25
"""The suggestion stays under the high end by this factor, a step of the grid: the edge is known no better, and comes
down with longer exposure. It matters in brackets of under half a decade, which are those of networks without norm:
at the middle ten epochs lost 4.2 points, so 1.6. Chosen by hand."""
NO_DROP = 0.01
"""A best drop under this share of the initial loss is none: of many rates one clears its interval by
chance. Chosen by hand."""
LEAST_DROP = 0.05
"""A drop under this share of the initial loss is real, but too little to read rates or noise from. Chosen by hand."""
WIDE_DECADES = 1.0
"""Seeds whose edges lie further apart than this disagree. Chosen by hand."""
LIMITS = (1e-7, 1e2)
"""No rates are tried beyond; published recipes for SGD lie within 1e-4 to 1e1."""
_SAME = 1 + 1e-9


@dataclass(frozen=True, eq=False)
class ShortRuns:
    """The facts of step 3: short runs at constant rates, and how they ended.

    Attributes:
        lrs: the rates, rising, [R].
        losses: mini-batch losses, [R, S, T].
        untrained: losses of the initial weights on the last batches of each seed, [S, W]. W is the window.
        cut: the grid was not widened, or seeds were left out, because no more updates were granted.

    >>> runs = ShortRuns(np.array([0.01, 0.1, 1.0]), np.array([[[2.3, 2.2]], [[2.3, 1.0]], [[2.3, np.inf]]]),
    ...                  np.array([[2.3]]))
    >>> runs.drops.tolist(), runs.best, runs.steps
    ([False, True, False], 1, 2)
    """

    lrs: np.ndarray
    losses: np.ndarray
    untrained: np.ndarray
    cut: bool = False

    @property
    def steps(self) -> int:
        """T, of each run."""
        return self.losses.shape[2]

    @property
    def _last(self) -> np.ndarray:
        return self.losses[:, :, -self.untrained.shape[1] :]

    @cached_property
    def initial(self) -> np.ndarray:
        """Mean loss of the initial weights on the same batches, [S]."""
        return self.untrained.mean(axis=1)

    @cached_property
    def final(self) -> np.ndarray:
        """Mean loss of the last steps, [R, S]; infinite where a run diverged."""
        final = self._last.mean(axis=2)
        return np.where(np.isfinite(final), final, np.inf)

    @cached_property
    def drop(self) -> np.ndarray:
        """Initial - final, [R, S]."""
        return self.initial[None] - self.final

    @cached_property
    def mean_drop(self) -> np.ndarray:
        """Over seeds, [R]."""
        return self.drop.mean(axis=1)

    @cached_property
    def error(self) -> np.ndarray:
        """The standard error of `mean_drop` over seeds, [R]; with one seed over the batches of the window, which leaves
        out what seeds differ by. Infinite where a run diverged.
        """
        sample = self.drop if self.drop.shape[1] > 1 else self.untrained - self._last[:, 0]
        bad = np.asarray(~np.isfinite(sample).all(axis=1))
        if sample.shape[1] == 1:
            return np.where(bad, np.inf, 0.0)
        spread = np.where(bad[:, None], 0.0, sample)
        return np.where(bad, np.inf, spread.std(axis=1, ddof=1) / math.sqrt(sample.shape[1]))

    @cached_property
    def half(self) -> np.ndarray:
        """How far `mean_drop` must lie from 0 to be sure on that side, [R]; see `ONE_SIDED`."""
        values = self.drop.shape[1] if self.drop.shape[1] > 1 else self.untrained.shape[1]
        return _quantile(values) * self.error if values > 1 else self.error

    @cached_property
    def drops(self) -> np.ndarray:
        """Whether the loss drops significantly at each rate, [R]."""
        sure = self.mean_drop > self.half
        # The share is of the best drop that is sure: where seeds differ on the best rate, lower ones can still be sure.
        best = float(self.mean_drop[sure].max()) if sure.any() else -math.inf
        return sure & (self.mean_drop >= SHARE_OF_BEST * best) & (best > NO_DROP * abs(self.initial.mean()))

    @property
    def best(self) -> int:
        """Position of the rate with the least mean loss."""
        return int(np.argmax(self.mean_drop))


@dataclass(frozen=True)
class Bracket:
    """The rates between which a long run's best one is looked for.

    Attributes:
        lr: their geometric mean, or less: at most a step of the grid under `high`. To go on with.
        low: the lowest rate whose loss after the short run is, seed by seed, not significantly above the least.
        high: the largest tried rate at which the loss still drops significantly, and by half of what it drops at best.
        low_interval: from the lowest to the largest rate of the least loss of a single seed, and `low`.
        high_interval: from the least `high` of a single seed to the largest first rate that no longer works, since the
            edge lies between the two.
    """

    lr: float
    low: float
    high: float
    low_interval: tuple[float, float]
    high_interval: tuple[float, float]


def rate_grid(low: float, high: float, points_per_decade: int) -> list[float]:
    """Return rates from low to high, evenly spaced in their logarithm, at least two.

    >>> [round(lr, 4) for lr in rate_grid(0.01, 0.1, 2)]
    [0.01, 0.0316, 0.1]
    """
    points = round(math.log10(high / low) * points_per_decade) + 1
    return np.geomspace(low, high, max(2, points)).tolist()


def check_grid(low: float, high: float, limits: tuple[float, float] = LIMITS) -> None:
    """Raise ConfigError unless low is below high, and both lie within the limits."""
    if not limits[0] <= low < high <= limits[1]:
        raise ConfigError(
            f"low = {low:g} and high = {high:g}", f"low is below high, both in [{limits[0]:g}, {limits[1]:g}]",
            "leave them out: the grid is widened by itself",
        )  # fmt: skip


def beyond(runs: ShortRuns, points_per_decade: int) -> tuple[float, ...]:
    """Return the rates to try besides, a decade more where the answer lies on the border of the grid; none if inside.

    >>> falling = ShortRuns(np.array([0.01, 0.1]), np.array([[[2.3, 2.2]], [[2.3, 1.0]]]), np.array([[2.3]]))
    >>> [round(lr, 3) for lr in beyond(falling, 2)]
    [0.316, 1.0]
    """
    steps = 10.0 ** (np.arange(1, points_per_decade + 1) / points_per_decade)
    harmed = runs.mean_drop < -np.where(np.isfinite(runs.half), runs.half, 0.0)
    some = bool(runs.drops.any())
    found: list[float] = []
    if (some and runs.best == 0) or (not some and harmed[0]):
        found += [float(lr) for lr in runs.lrs[0] / steps if lr >= LIMITS[0] / _SAME]
    if (some and runs.drops[-1]) or (not some and not harmed[-1]):
        found += [float(lr) for lr in runs.lrs[-1] * steps if lr <= LIMITS[1] * _SAME]
    return tuple(found)


def bracket(runs: ShortRuns) -> Bracket | None:
    """Return the bracket; None where the loss drops at no rate.

    Seeds are too few for quantiles, so the intervals are ranges over seeds.

    >>> losses = np.array([[[2.3, 2.2]], [[2.3, 1.0]], [[2.3, 1.1]], [[2.3, np.inf]]])
    >>> found = bracket(ShortRuns(np.array([0.01, 0.1, 1.0, 10.0]), losses, np.array([[2.3]])))
    >>> round(found.low, 2), found.high, found.high_interval
    (0.1, 1.0, (1.0, 10.0))
    """
    if not runs.drops.any():
        return None
    high = _edge(runs.drops, runs.best)
    low = float(runs.lrs[_lowest(runs)])
    after = np.append(runs.lrs[1:], runs.lrs[-1])  # the next rate up, or the last
    lows, tops, firsts = [low], [float(runs.lrs[high])], [float(after[high])]
    for drop in runs.drop.T:
        works = drop >= SHARE_OF_BEST * max(drop.max(), 0.0)
        edge = _edge(works & (drop > 0), int(np.argmax(drop)))
        lows.append(float(runs.lrs[np.argmax(drop)]))
        tops.append(float(runs.lrs[edge]))
        firsts.append(float(after[edge]))
    top = float(runs.lrs[high])
    lr = max(low, min(math.sqrt(low * top), top / MARGIN))
    return Bracket(lr, low, top, (min(lows), max(lows)), (min(tops), max(firsts)))


def _lowest(runs: ShortRuns) -> int:
    """The lowest rate, from the best one down without a gap, not significantly above the least, seed by seed.

    One seed alone cannot say what is significant: then it is the best one.
    """
    at, best = runs.best, runs.drop[runs.best]
    while len(best) > 1 and at > 0 and np.isfinite(runs.drop[at - 1]).all():
        lost = best - runs.drop[at - 1]
        if lost.mean() > _quantile(len(best)) * lost.std(ddof=1) / math.sqrt(len(best)):
            break
        at -= 1
    return at


def _quantile(values: int) -> float:
    """Of Student's t for the mean of so many values, see `ONE_SIDED`."""
    return student(max(values - 1, _LEAST_DEGREES), ONE_SIDED)


def _edge(works: np.ndarray, best: int) -> int:
    """The last rate from the best one on, without a gap, that works."""
    edge = best
    while edge + 1 < len(works) and works[edge + 1]:
        edge += 1
    return edge


def judge(runs: ShortRuns, found: Bracket | None) -> tuple[Finding, ...]:
    """Return the findings of step 3: whether the loss drops, whether the grid held the answer, whether seeds agree.

    Args:
        runs: the facts.
        found: from `bracket`.
    """
    return (_no_drop(runs),) if found is None else (_drop(runs), _inside(runs), _agreement(runs, found))


def _no_drop(runs: ShortRuns) -> Finding:
    lost = int(np.isinf(runs.final).any(axis=1).sum())
    return Finding(
        name="loss-drops", verdict="fail",
        reason=f"at none of {len(runs.lrs)} rates from {runs.lrs[0]:.2g} to {runs.lrs[-1]:.2g} does the loss drop from "
        f"{float(runs.initial.mean()):.4g} within {runs.steps} steps; {lost} of them diverged",
        advice="a model that learns drops its loss here: run overfit_sample first, then look at initialisation, data "
        "and labels",
    )  # fmt: skip


def _drop(runs: ShortRuns) -> Finding:
    at, start = runs.best, float(runs.initial.mean())
    drop, error = float(runs.mean_drop[at]), float(runs.error[at])
    small = drop < LEAST_DROP * abs(start)
    return Finding(
        name="loss-drops", verdict="suspect" if small else "pass",
        reason=f"at rate {runs.lrs[at]:.2g} the loss drops from {start:.4g} to {start - drop:.4g} in {runs.steps} "
        f"steps ({drop:.3g}, standard error {error:.2g})",
        advice=f"a drop of {drop / abs(start):.1%} is little to read rates from: give more steps" if small else None,
    )  # fmt: skip


def _inside(runs: ShortRuns) -> Finding:
    side = "above" if runs.drops[-1] else "below" if runs.best == 0 else None
    advice = "look at the scale of inputs and loss: rates this far out are not usual"
    if runs.cut:
        advice = "no more updates were granted: a larger budget looks further"
    return Finding(
        name="inside-the-grid", verdict="suspect" if side else "pass",
        reason=f"the rates tried, {runs.lrs[0]:.2g} to {runs.lrs[-1]:.2g}, "
        + (f"do not hold the answer: it may lie {side}" if side else "hold the bracket inside them"),
        advice=advice if side else None,
    )  # fmt: skip


def _agreement(runs: ShortRuns, found: Bracket) -> Finding:
    seeds, (low, high) = runs.final.shape[1], found.high_interval
    if seeds == 1:
        return Finding(
            name="seeds-agree", verdict="suspect", reason="one seed says nothing about the next", advice="use 3 seeds"
        )
    apart = math.log10(high / low)
    wide = apart > WIDE_DECADES
    return Finding(
        name="seeds-agree", verdict="suspect" if wide else "pass",
        reason=f"over {seeds} seeds the upper edge lies within {low:.2g} to {high:.2g}, {apart:.2f} decades",
        advice="give more seeds, or go on with the lower half of the bracket" if wide else None,
    )  # fmt: skip


NEITHER_END = (
    "neither end is the answer for a long run: short runs choose too small a rate (Wu et al. 2018, arXiv 1803.02021), "
    "and at the edge training turns unstable with longer exposure; compare runs of a few epochs at lr / 3, lr and 3 lr"
)
"""Measured here too (`benchmarks/find_lr.py`): the best rate of ten epochs was 0.6 to 4 times that of the least loss in
100 steps; on a CNN for CIFAR-10 without norm the rate at which one epoch did best lost 28 points in ten."""


def answer(found: Bracket, steps: int) -> str:
    """Return the bracket in one sentence.

    >>> answer(Bracket(0.3, 0.1, 0.9, (0.1, 0.2), (0.9, 1.6)), steps=100)
    'lr 0.3, between 0.1 [0.1, 0.2] and 0.9 [0.9, 1.6], the first and last rate to drop the loss well in 100 steps'
    """
    (a, b), (c, d) = found.low_interval, found.high_interval
    return (
        f"lr {found.lr:.2g}, between {found.low:.2g} [{a:.2g}, {b:.2g}] and {found.high:.2g} [{c:.2g}, {d:.2g}], the "
        f"first and last rate to drop the loss well in {steps} steps"
    )


def word(lr: float, drop: float, best_drop: float, found: Bracket | None) -> str:
    """Return what a rate did: "drops", "drops little", "too high" or "diverged".

    Args:
        lr: the rate.
        drop: initial - final loss, the mean over seeds; -inf where one diverged.
        best_drop: of the best rate.
        found: the bracket, if there is one.

    >>> word(10.0, -math.inf, 1.0, None), word(1e-4, 0.01, 1.0, None)
    ('diverged', 'drops little')
    """
    if not math.isfinite(drop):
        return "diverged"
    if found is not None and lr > found.high:
        return "too high"
    if best_drop > 0 and drop >= SHARE_OF_BEST * best_drop:
        return "drops"
    return "drops little" if drop > 0 else "does not drop"
