"""From the losses of short runs at constant rates to a bracket of learning rates, with intervals, and its findings.

R rates, S seeds, T steps. A loss is infinite from the step at which its run diverged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surefoot.record.decision import Finding

WINDOW_STEPS = 20
"""The last steps over which the loss of a short run is averaged: a fifth of 100. Chosen by hand."""
SHARE_OF_BEST = 0.5
"""A rate counts as one at which the loss still drops if it drops by this share of the best rate's drop. Measured
(`benchmarks/find_lr.py`, ten tasks): shares of 0.25 to 0.75 hold the best rate of ten epochs equally often, 0.9 less
often; at 0.25 ten epochs at the high end lose up to 16 points. The middle of those that hold."""
STANDARD_ERRORS = 2.0
"""A drop counts if it exceeds so many standard errors over seeds, and a loss is more than the least one if it is so by
as many: the usual 95 %, coarse with few seeds."""
MARGIN = 10**0.25
"""The suggestion stays under the high end by this factor, a step of the grid: the edge is known no better, and comes
down with longer exposure. It matters in brackets of under half a decade, which are those of networks without norm:
at the middle ten epochs lost 4.2 points, so 1.6. Chosen by hand."""
NO_DROP = 0.01
"""A best drop under this share of the initial loss is none: two standard errors over 2 or 3 seeds are met by chance too
often. Chosen by hand."""
LEAST_DROP = 0.05
"""A best drop under this share of the initial loss is real but too little to read rates from. Chosen by hand."""
WIDE_DECADES = 1.0
"""Seeds whose edges lie further apart than this disagree. Chosen by hand."""
LIMITS = (1e-7, 1e2)
"""No rates are tried beyond; published recipes for SGD lie within 1e-4 to 1e1."""
_SAME = 1 + 1e-9


@dataclass(frozen=True)
class Scores:
    """How short runs ended.

    Attributes:
        lrs: the rates, rising, [R].
        final: mean loss of the last steps, [R, S]; infinite where a run diverged.
        initial: mean loss of the initial weights on the same batches, [S].
        drop: initial - final, [R, S].
        mean_drop: [R], and error: [R], its standard error over seeds.
        drops: whether the loss drops significantly at each rate, [R].
    """

    lrs: np.ndarray
    final: np.ndarray
    initial: np.ndarray
    drop: np.ndarray
    mean_drop: np.ndarray
    error: np.ndarray
    drops: np.ndarray

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


def scored(lrs: Sequence[float] | np.ndarray, losses: np.ndarray, untrained: np.ndarray) -> Scores:
    """Return how short runs ended.

    Args:
        lrs: the rates, rising, [R].
        losses: mini-batch losses, [R, S, T].
        untrained: losses of the initial weights on the last batches of each seed, [S, W]. W is the window.

    >>> runs = np.array([[[2.3, 2.2]], [[2.3, 1.0]], [[2.3, np.inf]]])
    >>> scored([0.01, 0.1, 1.0], runs, np.array([[2.3]])).drops.tolist()
    [False, True, False]
    """
    rates, window = np.asarray(lrs, dtype=np.float64), untrained.shape[1]
    initial = untrained.mean(axis=1)
    final = losses[:, :, -window:].mean(axis=2)
    final[~np.isfinite(final)] = np.inf
    drop = initial[None] - final
    mean = drop.mean(axis=1)
    error = _standard_error(drop, losses[:, :, -window:], untrained)
    sure = mean > STANDARD_ERRORS * error
    # The share is of the best drop that is sure: where seeds differ on the best rate, lower ones can still be sure.
    best = float(mean[sure].max()) if sure.any() else -math.inf
    drops = sure & (mean >= SHARE_OF_BEST * best) & (best > NO_DROP * abs(initial.mean()))
    return Scores(rates, final, initial, drop, mean, error, drops)


def _standard_error(drop: np.ndarray, last: np.ndarray, untrained: np.ndarray) -> np.ndarray:
    """Over seeds; with one seed, over the batches of the window, which leaves out what seeds differ by."""
    seeds = drop.shape[1]
    sample = drop if seeds > 1 else untrained - last[:, 0]
    bad = np.asarray(~np.isfinite(sample).all(axis=1))
    spread = np.where(bad[:, None], 0.0, sample)
    if sample.shape[1] == 1:
        return np.where(bad, np.inf, 0.0)
    return np.where(bad, np.inf, spread.std(axis=1, ddof=1) / math.sqrt(sample.shape[1]))


def beyond(scores: Scores, points_per_decade: int) -> tuple[float, ...]:
    """Return the rates to try besides, a decade more where the answer lies on the border of the grid; none if inside.

    >>> falling = scored([0.01, 0.1], np.array([[[2.3, 2.2]], [[2.3, 1.0]]]), np.array([[2.3]]))
    >>> [round(lr, 3) for lr in beyond(falling, 2)]
    [0.316, 1.0]
    """
    steps = 10.0 ** (np.arange(1, points_per_decade + 1) / points_per_decade)
    harmed = scores.mean_drop < -STANDARD_ERRORS * np.where(np.isfinite(scores.error), scores.error, 0.0)
    some = bool(scores.drops.any())
    found: list[float] = []
    if (some and scores.best == 0) or (not some and harmed[0]):
        found += [float(lr) for lr in scores.lrs[0] / steps if lr >= LIMITS[0] / _SAME]
    if (some and scores.drops[-1]) or (not some and not harmed[-1]):
        found += [float(lr) for lr in scores.lrs[-1] * steps if lr <= LIMITS[1] * _SAME]
    return tuple(found)


def bracket(scores: Scores) -> Bracket | None:
    """Return the bracket; None where the loss drops at no rate.

    Seeds are too few for quantiles, so the intervals are ranges over seeds.

    >>> runs = np.array([[[2.3, 2.2]], [[2.3, 1.0]], [[2.3, 1.1]], [[2.3, np.inf]]])
    >>> found = bracket(scored([0.01, 0.1, 1.0, 10.0], runs, np.array([[2.3]])))
    >>> round(found.low, 2), found.high, found.high_interval
    (0.1, 1.0, (1.0, 10.0))
    """
    if not scores.drops.any():
        return None
    high = _edge(scores.drops, scores.best)
    low = float(scores.lrs[_lowest(scores)])
    after = np.append(scores.lrs[1:], scores.lrs[-1])  # the next rate up, or the last
    lows, tops, firsts = [low], [float(scores.lrs[high])], [float(after[high])]
    for own in scores.drop.T:
        works = own >= SHARE_OF_BEST * max(own.max(), 0.0)
        edge = _edge(works & (own > 0), int(np.argmax(own)))
        lows.append(float(scores.lrs[np.argmax(own)]))
        tops.append(float(scores.lrs[edge]))
        firsts.append(float(after[edge]))
    top = float(scores.lrs[high])
    lr = max(low, min(math.sqrt(low * top), top / MARGIN))
    return Bracket(lr, low, top, (min(lows), max(lows)), (min(tops), max(firsts)))


def _lowest(scores: Scores) -> int:
    """The lowest rate, from the best one down without a gap, not significantly above the least, seed by seed.

    One seed alone cannot say what is significant: then it is the best one.
    """
    at, best = scores.best, scores.drop[scores.best]
    while len(best) > 1 and at > 0 and np.isfinite(scores.drop[at - 1]).all():
        lost = best - scores.drop[at - 1]
        if lost.mean() > STANDARD_ERRORS * lost.std(ddof=1) / math.sqrt(len(best)):
            break
        at -= 1
    return at


def _edge(works: np.ndarray, best: int) -> int:
    """The last rate from the best one on, without a gap, that works."""
    edge = best
    while edge + 1 < len(works) and works[edge + 1]:
        edge += 1
    return edge


def judged(scores: Scores, found: Bracket | None, steps: int, *, cut: bool = False) -> tuple[Finding, ...]:
    """Return the findings of step 3: whether the loss drops, whether the grid held the answer, whether seeds agree.

    Args:
        scores, found: from `scored` and `bracket`.
        steps: of the short runs.
        cut: the grid was not widened, or seeds were left out, because no more updates were granted.
    """
    if found is None:
        return (_no_drop(scores, steps),)
    return (_drop(scores, steps), _inside(scores, cut=cut), _agreement(scores, found))


def _no_drop(scores: Scores, steps: int) -> Finding:
    many, low, high = len(scores.lrs), scores.lrs[0], scores.lrs[-1]
    lost = int(np.isinf(scores.final).any(axis=1).sum())
    start = float(scores.initial.mean())
    return Finding(
        name="loss-drops", verdict="fail",
        reason=f"at none of {many} rates from {low:.2g} to {high:.2g} does the loss drop from {start:.4g} within "
        f"{steps} steps; {lost} of them diverged",
        advice="a model that learns drops its loss here: run overfit_sample first, then look at initialisation, data "
        "and labels",
    )  # fmt: skip


def _drop(scores: Scores, steps: int) -> Finding:
    at, start = scores.best, float(scores.initial.mean())
    drop, error = float(scores.mean_drop[at]), float(scores.error[at])
    small = drop < LEAST_DROP * abs(start)
    return Finding(
        name="loss-drops", verdict="suspect" if small else "pass",
        reason=f"at rate {scores.lrs[at]:.2g} the loss drops from {start:.4g} to {start - drop:.4g} in {steps} steps "
        f"({drop:.3g} +- {error:.2g} over seeds)",
        advice=f"a drop of {drop / abs(start):.1%} is little to read rates from: give more steps" if small else None,
    )  # fmt: skip


def _inside(scores: Scores, *, cut: bool) -> Finding:
    side = "above" if scores.drops[-1] else "below" if scores.best == 0 else None
    return Finding(
        name="inside-the-grid",
        verdict="suspect" if side else "pass",
        reason=f"the rates tried, {scores.lrs[0]:.2g} to {scores.lrs[-1]:.2g}, "
        + (f"do not hold the answer: it may lie {side}" if side else "hold the bracket inside them"),
        advice=None
        if side is None
        else "no more updates were granted: a larger budget looks further"
        if cut
        else "look at the scale of inputs and loss: rates this far out are not usual",
    )


def _agreement(scores: Scores, found: Bracket) -> Finding:
    seeds = scores.final.shape[1]
    apart = math.log10(found.high_interval[1] / found.high_interval[0])
    if seeds == 1:
        return Finding(
            name="seeds-agree", verdict="suspect", reason="one seed says nothing about the next", advice="use 3 seeds"
        )
    wide = apart > WIDE_DECADES
    return Finding(
        name="seeds-agree", verdict="suspect" if wide else "pass",
        reason=f"over {seeds} seeds the upper edge lies within {found.high_interval[0]:.2g} to "
        f"{found.high_interval[1]:.2g}, {apart:.2f} decades",
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
