"""The classic range test, and the usual rules that read one rate off its curve, each as published.

They are drawn beside what was measured at constant rates and not used: none of them knows the noise of its curve, and
`benchmarks/find_lr.py` measures how far off each one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from surefoot.config import Recipe
from surefoot.steps.follow import losses_of, rate_plan, without_validation
from surefoot.training.loop import advance, start
from surefoot.training.task import Task

RAMP = (1e-7, 10.0)
"""First and last rate of the range test: fastai's defaults, for which its rules were made."""
SMOOTHING = 0.98
"""Weight of the past in the smoothed loss: the default of fastai's Recorder and of Lightning's lr_find (`beta`)."""
STOP_FACTOR = 4.0
"""The test ends where the smoothed loss exceeds its best by this factor: fastai's `stop_div`, Lightning's
`early_stop_threshold`."""
SLIDE_GAP = 15
"""Points between the two ends of fastai's slide (`lr_diff`)."""
SLIDE_LEVEL = 0.005
"""Difference of slopes at which fastai's slide stops (`thresh`)."""
SKIPPED_LAST = 5
"""Points that fastai leaves out at the end; at the start it leaves out a tenth. Lightning: 10 and 1."""
LIGHTNING_SKIPPED = (10, 1)
"""Points that Lightning's suggestion leaves out at the start and the end."""


def range_test(task: Task, recipe: Recipe, steps: int) -> tuple[dict[str, Any], int]:
    """Return what is drawn of a range test, and its updates: rates and losses up to its end, and what each rule reads.

    Args:
        task, recipe, steps: as in `ramp`.
    """
    lrs, losses = ramp(task, recipe, *RAMP, steps)
    curve = smoothed(losses)
    drawn = {"lrs": lrs[: len(curve)].tolist(), "losses": losses[: len(curve)].tolist(), "smoothed": curve.tolist(),
             "suggestions": suggestions(lrs, losses)}  # fmt: skip
    return drawn, int(np.isfinite(losses).sum())


def ramp(task: Task, recipe: Recipe, low: float, high: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rates and losses, both [T], of a range test: one run whose rate rises from low to high, exponentially.

    Smith 2017 (arXiv 1506.01186), section 3.3, there with a linear rise; exponential in Gugger 2018 ("How do you find
    a good learning rate") and in fastai.

    Args:
        task: what is trained.
        recipe: the other hyperparameters.
        low, high: the first and the last rate.
        steps: T.
    """
    bare = without_validation(task)
    lrs = np.geomspace(low, high, steps)
    table = rate_plan(recipe, bare.data.examples, lrs)
    state, rows = advance(bare, table, start(bare, table), steps)
    return lrs, losses_of(state, rows, steps)


def smoothed(losses: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the bias-corrected exponential moving average of a curve, up to where the range test would have stopped.

    s_t = beta s_(t-1) + (1 - beta) l_t, shown as s_t / (1 - beta^(t+1)).

    Args:
        losses: [T]; those of a run that diverged end in infinities.

    Returns:
        [T'], T' at most T: finite, and at most 4 times the best before.

    >>> smoothed([2.0, 2.0, 1.0]).round(3).tolist()
    [2.0, 2.0, 1.66]
    """
    average, best, curve = 0.0, np.inf, []
    for t, loss in enumerate(np.asarray(losses, dtype=np.float64)):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        shown = average / (1 - SMOOTHING ** (t + 1))
        if not np.isfinite(shown) or (t > 0 and shown > STOP_FACTOR * best):
            break
        best = min(best, shown)
        curve.append(shown)
    return np.array(curve)


def suggestions(lrs: Sequence[float] | np.ndarray, losses: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """Return what each rule suggests, by its name; None where too little of the curve is left.

    Args:
        lrs, losses: of a range test, both [T], evenly spaced in log rate.

    >>> lrs = np.geomspace(1e-5, 10, 100)
    >>> falls = 2.3 - 1.5 / (1 + (0.01 / lrs) ** 2) + (lrs / 2) ** 2
    >>> {name: round(lr, 4) for name, lr in suggestions(lrs, falls).items()}
    {'steep': 0.0248, 'minimum/10': 0.1417, 'valley': 0.0061, 'slide': 0.0187, 'lightning': 0.0081}
    """
    rates, curve = np.asarray(lrs, dtype=np.float64), smoothed(losses)
    points = len(rates)
    read = slice(points // 10, max(points // 10, len(curve) - SKIPPED_LAST))
    return {
        "steep": _steep(rates[read], curve[read]),
        "minimum/10": _tenth_of_minimum(rates[read], curve[read]),
        "valley": _valley(rates[read], curve[read]),
        "slide": _slide(rates[read], curve[read]),
        "lightning": _lightning(rates[: len(curve)], curve),
    }


def _steep(lrs: np.ndarray, losses: np.ndarray) -> float | None:
    """The rate of the steepest descent d loss / d log lr (fastai, `callback/schedule.py`, `steep`)."""
    return float(lrs[np.argmin(np.diff(losses) / np.diff(np.log(lrs)))]) if len(lrs) > 1 else None


def _tenth_of_minimum(lrs: np.ndarray, losses: np.ndarray) -> float | None:
    """A tenth of the rate of the least loss (fastai, `callback/schedule.py`, `minimum`)."""
    return float(lrs[np.argmin(losses)]) / 10 if len(lrs) else None


def _valley(lrs: np.ndarray, losses: np.ndarray) -> float | None:
    """Half through the longest falling subsequence (fastai, `callback/schedule.py`, `valley`, after ESRI).

    fastai takes the subsequence to start as many points before its end as it has points, and goes into it a third of
    these and half of that third again; both divisions are rounded down. This is so kept.
    """
    points = len(lrs)
    if points == 0:
        return None
    length, end = np.ones(points, dtype=int), 0
    for i in range(1, points):
        above = losses[:i] > losses[i]
        length[i] = 1 + (length[:i][above].max() if above.any() else 0)
        end = i if length[i] > length[end] else end
    third = length[end] / 3
    return float(lrs[end - length[end] + int(third) + int(third / 2)]) if length[end] > 1 else float(lrs[0])


def _slide(lrs: np.ndarray, losses: np.ndarray) -> float | None:
    """Slide a window from the right until its ends slope alike (fastai, `callback/schedule.py`, `slide`, Novetta).

    Slopes are per point, as in fastai: the points are evenly spaced in log rate.
    """
    if len(lrs) <= SLIDE_GAP:
        return None
    slope = np.gradient(losses)
    right, left = len(lrs) - 1, len(lrs) - 1 - SLIDE_GAP
    lr = lrs[left]
    while left >= 0 and abs(slope[right] - slope[left]) > SLIDE_LEVEL:
        lr = lrs[left]
        right, left = right - 1, left - 1
    return float(lr)


def _lightning(lrs: np.ndarray, losses: np.ndarray) -> float | None:
    """The rate of the steepest descent d loss / d lr, in the raw rate (Lightning, `_LRFinder.suggestion`).

    Rates are evenly spaced in their logarithm, so the factor 1 / lr draws the answer to the smallest ones, since 2.5.3:
    Lightning-AI/pytorch-lightning#21141. Kept to be shown beside the others.
    """
    first, last = LIGHTNING_SKIPPED
    rates, curve = lrs[first : len(lrs) - last], losses[first : len(losses) - last]
    return float(rates[np.argmin(np.gradient(curve, rates))]) if len(rates) > 1 else None
