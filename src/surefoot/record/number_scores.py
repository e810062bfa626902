"""How good predicted numbers are: errors and R2 with their intervals, in the unit of the targets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from surefoot.errors import DataError
from surefoot.record.intervals import factor_of_mean
from surefoot.record.test_time import TestTimeScores


@dataclass(frozen=True, kw_only=True)
class NumberScores:
    """What predicted numbers are worth, over N examples of D values each; in the unit of the targets.

    Attributes:
        of: what was scored, such as "houses.csv, test part".
        examples: N.
        mse: mean squared error, over examples and values.
        rmse: its square root.
        mae: mean absolute error.
        r2: 1 - sum (y - f)^2 / sum (y - mean y)^2, averaged over the D values; 0 is as good as always
            answering the mean. None where a value is the same in all examples.
        rmse_interval, mae_interval, r2_interval: of 95 %, see `factor_of_mean`; None of one example, or without one.
        tta: the same with test-time augmentation, where it was asked for.
    """

    of: str
    examples: int
    mse: float
    rmse: float
    mae: float
    r2: float | None
    rmse_interval: tuple[float, float] | None
    mae_interval: tuple[float, float] | None
    r2_interval: tuple[float, float] | None
    tta: TestTimeScores | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON values; each interval as `rmse_low` and `rmse_high`."""
        plain = dataclasses.asdict(self)
        for name in ("rmse", "mae", "r2"):
            plain[f"{name}_low"], plain[f"{name}_high"] = plain.pop(f"{name}_interval") or (None, None)
        return plain


def number_scores(outputs: ArrayLike, targets: ArrayLike, of: str = "") -> NumberScores:
    """Return the scores of predicted numbers.

    Args:
        outputs: [N] or [N, D], or as many values in another shape.
        targets: [N] or [N, D].
        of: what is scored.

    Raises:
        DataError: no examples, or sizes that differ, or an output that is not finite.

    >>> number_scores([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]).r2
    0.5
    """
    y, f = np.asarray(targets, np.float64), np.asarray(outputs, np.float64)
    if y.size == 0 or f.size != y.size:
        raise DataError(
            f"outputs of shape {f.shape} for targets of shape {y.shape}",
            "scores need at least one example and one output for each value",
            "give outputs and targets of the same examples",
        )
    y, f = y.reshape(len(y), -1), f.reshape(len(y), -1)
    check_finite(f)
    error, apart = f - y, (y - y.mean(0)) ** 2
    squared = error**2
    mse, mae = float(squared.mean()), float(np.abs(error).mean())
    by_mean = factor_of_mean(squared.mean(1), mse)
    r2 = missed = None
    if (apart.sum(0) > 0).all():
        shares = squared.sum(0) / apart.sum(0)
        left = float(shares.mean())
        r2, parts = 1 - left, squared / apart.mean(0) - shares * apart / apart.mean(0)
        missed = factor_of_mean(parts.mean(1) + left, left)
    return NumberScores(
        of=of, examples=len(y), mse=mse, rmse=math.sqrt(mse), mae=mae, r2=r2,
        rmse_interval=None if by_mean is None else (math.sqrt(mse / by_mean), math.sqrt(mse * by_mean)),
        mae_interval=None if (by := factor_of_mean(np.abs(error).mean(1), mae)) is None else (mae / by, mae * by),
        r2_interval=None if missed is None or r2 is None else (1 - (1 - r2) * missed, 1 - (1 - r2) / missed),
    )  # fmt: skip


def check_finite(outputs: NDArray[Any]) -> None:
    """Raise DataError where an output [N, ...] is not finite."""
    bad = int((~np.isfinite(outputs)).reshape(len(outputs), -1).any(1).sum())
    if bad:
        raise DataError(
            f"the model's output is not finite for {bad} of {len(outputs)} examples",
            "scores need finite outputs",
            "check the range of the inputs, and whether the run diverged",
        )
