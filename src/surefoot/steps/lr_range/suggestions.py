"""The usual rules that read one rate off a range test's curve, each as published.

They are shown beside what was measured at constant rates, not used: none of them knows the noise of its curve, and
`benchmarks/find_lr.py` measures how far off each one is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    average, best, kept = 0.0, np.inf, []
    for t, loss in enumerate(np.asarray(losses, dtype=np.float64)):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        shown = average / (1 - SMOOTHING ** (t + 1))
        if not np.isfinite(shown) or (t > 0 and shown > STOP_FACTOR * best):
            break
        best = min(best, shown)
        kept.append(shown)
    return np.array(kept)


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
    kept = slice(points // 10, max(points // 10, len(curve) - SKIPPED_LAST))
    return {
        "steep": _steep(rates[kept], curve[kept]),
        "minimum/10": _tenth_of_minimum(rates[kept], curve[kept]),
        "valley": _valley(rates[kept], curve[kept]),
        "slide": _slide(rates[kept], curve[kept]),
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
    found = lrs[left]
    while left >= 0 and abs(slope[right] - slope[left]) > SLIDE_LEVEL:
        found = lrs[left]
        right, left = right - 1, left - 1
    return float(found)


def _lightning(lrs: np.ndarray, losses: np.ndarray) -> float | None:
    """The rate of the steepest descent d loss / d lr, in the raw rate (Lightning, `_LRFinder.suggestion`).

    Rates are evenly spaced in their logarithm, so the factor 1 / lr draws the answer to the smallest ones, since 2.5.3:
    Lightning-AI/pytorch-lightning#21141. Kept to be shown beside the others.
    """
    first, last = LIGHTNING_SKIPPED
    rates, curve = lrs[first : len(lrs) - last], losses[first : len(losses) - last]
    return float(rates[np.argmin(np.gradient(curve, rates))]) if len(rates) > 1 else None
