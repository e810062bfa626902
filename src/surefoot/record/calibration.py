"""Whether probabilities are right: of the answers given with 80 % confidence, are 80 % right?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CALIBRATION_BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017, section 3."""


def calibration_error(confidence: ArrayLike, right: ArrayLike) -> float:
    """Return the expected calibration error: how far confidence and accuracy lie apart, on average.

        sum_m |B_m| / N  |accuracy(B_m) - mean confidence(B_m)|,  B_m: confidence in ((m-1)/M, m/M], M = 15

    The estimate is biased upwards when bins hold few examples.

    Args:
        confidence: [N], probability of the predicted class.
        right: [N], whether the prediction was right.

    Reference: Guo et al. 2017, "On calibration of modern neural networks", equation 3.

    >>> round(calibration_error([0.9, 0.9, 0.9, 0.9], [True, True, True, False]), 4)
    0.15
    """
    p, hit = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    bins = _bin_of(p)
    gap = np.bincount(bins, weights=hit, minlength=1) - np.bincount(bins, weights=p, minlength=1)
    return float(np.abs(gap).sum() / len(p))


def _bin_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)


def calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Mean confidence and accuracy in bins of equal width, those that hold examples; see `calibration_error`."""
    bins = _bin_of(confidence)
    return [
        {
            "low": at / CALIBRATION_BINS,
            "high": (at + 1) / CALIBRATION_BINS,
            "examples": int((bins == at).sum()),
            "confidence": float(confidence[bins == at].mean()),
            "accuracy": float(right[bins == at].mean()),
        }
        for at in np.unique(bins).tolist()
    ]
