"""Every interval that is printed, in one place: 95 % means that 95 of 100 such intervals hold the truth.

`soak/coverage.py` measures by simulation how often each does. Where n is small the quantiles are Student's t, not 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054
"""The 0.975 quantile of the normal distribution, for two-sided intervals of 95 %."""
LEVEL = 0.95
"""Of every interval, and 1 - the rate of false findings that a test by one of them allows on both sides together."""

_MANY_DEGREES = 1e4
"""Above so many a series in 1 / v is exact to 1e-10, and logarithms of the gamma function lose digits."""
_CORRELATED = 8
"""Fewer residuals do not show how neighbours correlate. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better one answer is than another on the same examples: its estimate and 95 % interval.

    Attributes:
        value: the estimate; above 0 the first is better.
        low, high: the interval's ends.
    """

    value: float
    low: float
    high: float

    @classmethod
    def from_dict(cls, values: Mapping[str, float | None]) -> Difference:
        """Return what JSON holds of it; an end that is missing there is endless."""
        low, high = values["low"], values["high"]
        value = values["value"]
        return cls(
            value=math.nan if value is None else value,
            low=-math.inf if low is None else low,
            high=math.inf if high is None else high,
        )

    @property
    def is_better(self) -> bool:
        """Whether the interval lies above 0, so that the first is shown to be better."""
        return self.low > 0

    @property
    def is_worse(self) -> bool:
        """Whether the interval lies below 0."""
        return self.high < 0


def student(degrees: float, level: float = LEVEL) -> float:
    """Return the two-sided quantile of Student's t: |t| is above it in 1 - level of all cases.

        level = 2 C int_0^a cos(u)^(v - 1) du,  t = sqrt(v) tan(a),  C = G((v + 1) / 2) / (sqrt(pi) G(v / 2))

    That is the distribution's integral with t = sqrt(v) tan(u), which Gauss's rule does to the last digit; Newton's
    steps for a rise to it from below. It equals SciPy's `stdtrit` to 1e-8; importing that takes 0.1 s of a command, and
    only a thin tail, or hardly any freedom, needs it.

    Args:
        degrees: v, of freedom; infinite below 1, where nothing is known of the spread.
        level: of the interval.

    >>> [round(student(degrees), 2) for degrees in (2, 10, 1e9)]
    [4.3, 2.23, 1.96]
    """
    if not degrees >= 1:  # NaN too
        return math.inf
    if degrees < 2 or level > 0.999:
        from scipy.special import stdtrit

        return float(stdtrit(degrees, (1 + level) / 2))
    z = NormalDist().inv_cdf((1 + level) / 2)
    if degrees > _MANY_DEGREES:  # Abramowitz & Stegun 1964, 26.7.5
        return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    scale = math.log(2 / math.sqrt(math.pi)) + math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    nodes, weights = _gauss()
    angle, step = math.atan(z / math.sqrt(degrees)), math.inf
    while step > 1e-15 * angle:
        heights = np.exp(scale + (degrees - 1) * np.log(np.cos(angle / 2 * (1 + nodes))))
        missing = level - angle / 2 * float(weights @ heights)
        step = missing / math.exp(scale + (degrees - 1) * math.log(math.cos(angle)))
        angle += max(step, 0.0)
    return math.sqrt(degrees) * math.tan(angle)


@cache
def _gauss() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.polynomial.legendre.leggauss(48)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share: (low, high).

        (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),  p = right / n, z = 1.96

    It is never empty and never leaves [0, 1], also at p = 0 and p = 1, where p -+ z s fails. It holds for
    examples drawn independently; it does not speak of another seed or another data set.

    Args:
        right: examples that were right.
        n: examples, at least 1.

    Reference: E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22(158), 209-212.

    >>> [round(bound, 4) for bound in wilson(81, 263)]  # 0.2553, 0.3662 in Newcombe 1998, table I, method 3
    [0.2553, 0.3662]
    """
    p, z = right / n, Z_95
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def of_mean(values: ArrayLike, level: float = LEVEL) -> Difference:
    """Return the mean of independent values with its interval by Student's t; endless for a single value.

    Args:
        values: [N], N at least 1.
        level: of the interval.

    >>> found = of_mean([1.0, 2.0, 3.0])
    >>> found.value, round(found.low, 2), round(found.high, 2)
    (2.0, -0.48, 4.48)
    """
    x = np.asarray(values, np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return Difference(value=mean, low=-math.inf, high=math.inf)
    half = student(len(x) - 1, level) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Difference(value=mean, low=mean - half, high=mean + half)


def of_ratio(values: ArrayLike, counted: ArrayLike) -> Difference:
    """Return the mean over answers where each of N examples has several, with its interval over examples.

        R = sum v_i / sum n_i,  R -+ t sqrt(N / (N - 1) sum (v_i - R n_i)^2) / sum n_i

    Examples are independent, their answers are not. It is endless for a single example.

    Args:
        values: [N], sums over the answers of each example.
        counted: [N], answers of each example, some above 0.

    Reference: Cochran 1977, "Sampling Techniques", section 2.11.

    >>> found = of_ratio([1, 2, 4], [2, 4, 4])
    >>> found.value, found.low < 0.7 < found.high
    (0.7, True)
    """
    v, n = np.asarray(values, np.float64), np.asarray(counted, np.float64)
    ratio = float(v.sum() / n.sum())
    if len(v) < 2:
        return Difference(value=ratio, low=-math.inf, high=math.inf)
    error = math.sqrt(len(v) / (len(v) - 1) * float(((v - ratio * n) ** 2).sum())) / float(n.sum())
    half = student(len(v) - 1) * error
    return Difference(value=ratio, low=ratio - half, high=ratio + half)


def of_paired_shares(right: ArrayLike, others: ArrayLike) -> Difference:
    """Return by how much the share of right answers is above that of another answerer on the same examples.

        d -+ z sqrt((a + b - (a - b)^2) / (n + 2)),  a = (n_10 + 1) / (n + 2), b = (n_01 + 1) / (n + 2), d = a - b

    with n_10 examples of n that only the first has right, and n_01 that only the other has. Its value is (n_10 - n_01)
    / n. Only examples on which the two differ count, as in McNemar's test.

    Args:
        right: [n], whether the first is right.
        others: [n], whether the other is.

    Reference: Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", Journal of Educational and Behavioral Statistics 37(4), 479-488.

    >>> found = of_paired_shares([True] * 90 + [False] * 10, [True] * 70 + [False] * 30)
    >>> round(found.value, 2), round(found.low, 3), round(found.high, 3)
    (0.2, 0.114, 0.278)
    """
    ours, theirs = np.asarray(right, bool), np.asarray(others, bool)
    n, only_ours, only_theirs = len(ours), int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return of_discordant(only_ours, only_theirs, n)


def of_discordant(only_first: int, only_other: int, n: int) -> Difference:
    """Return `of_paired_shares` from its counts: n_10, n_01 and n."""
    a, b = (only_first + 1) / (n + 2), (only_other + 1) / (n + 2)
    half = Z_95 * math.sqrt(max(0.0, a + b - (a - b) ** 2) / (n + 2))
    return Difference(value=(only_first - only_other) / n, low=max(-1.0, a - b - half), high=min(1.0, a - b + half))


def of_repeats(repeats: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Return the standard deviation of values about their group's mean, pooled, and its degrees of freedom.

        s^2 = sum_g sum_i (x_gi - mean x_g)^2 / sum_g (n_g - 1)

    Args:
        repeats: values of each group, such as one recipe's with several seeds. Groups of one say nothing.

    >>> of_repeats([[1.0, 3.0], [5.0], [2.0, 2.0, 2.0]])
    (0.816496580927726, 3)
    """
    groups = [np.asarray(group, np.float64) for group in repeats if len(group) > 1]
    degrees = sum(len(group) - 1 for group in groups)
    if not degrees:
        return math.inf, 0
    return math.sqrt(sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / degrees), degrees


def is_less(values: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether values above 0 are shown to be less than others: pair by pair, of their logarithms.

    Args:
        values, others: of the same seeds, [S]. One seed shows nothing, and what is not finite is more than all that is.

    >>> is_less([90.0, 110.0, 95.0], [180.0, 230.0, 200.0]), is_less([90.0], [180.0])
    (True, False)
    """
    mine, theirs = (np.maximum(np.asarray(each, np.float64), 1e-300) for each in (values, others))
    if len(mine) < 2 or not np.isfinite(mine).all():
        return False
    return not np.isfinite(theirs).all() or of_mean(np.log(theirs) - np.log(mine)).is_better


def slope_of(values: np.ndarray, at: np.ndarray | None = None) -> tuple[float, float]:
    """Return the least-squares slope of n values and half its 95 % interval, by Student's t with n - 2 degrees.

    Losses of neighbouring rows are alike, so that n of them are worth fewer: where neighbouring residuals correlate by
    r > 0, half the interval is wider by sqrt((1 + r) / (1 - r)) (Bartlett 1935). Infinite for fewer than three values.
    """
    x = np.arange(len(values), dtype=float) if at is None else at
    if len(values) < 3:
        return 0.0, math.inf
    x = x - x.mean()
    slope = float(x @ values / (x @ x))
    rest = values - values.mean() - slope * x
    error = math.sqrt(rest @ rest / (len(values) - 2) / (x @ x))
    return slope, student(len(values) - 2) * error * _widened(rest)


def _widened(rest: np.ndarray) -> float:
    """Return by how much the correlation of neighbours widens an interval; residuals of a line show it too small by
    about 2 / n, which is added.
    """
    square = float(rest @ rest)
    if len(rest) < _CORRELATED or square == 0:
        return 1.0
    r = float(rest[1:] @ rest[:-1]) / square + 2 / len(rest)
    r = min(max(r, 0.0), 0.9)
    return math.sqrt((1 + r) / (1 - r))


def factor_of_mean(of_example: NDArray[np.float64], mean: float) -> float | None:
    """Return by which factor the mean of N errors may be off, at 95 %; None of one example.

        exp(t s / sqrt(N)),  s the deviation of e_i / mean,  t Student's at 2 N / (kurtosis - 1) degrees of freedom

    An error is above 0 and skewed, so its logarithm is nearer to normal than itself; the degrees of freedom are what
    the deviation s has with such tails (Satterthwaite 1946). For r2 the e_i are the terms of its delta method. By
    simulation the intervals of normal, uniform and Laplace errors hold 93 to 96 % from 60 examples, 89 to 95 % at 15.

    >>> round(factor_of_mean(np.array([1.0, 2.0, 3.0, 2.0]), 2.0), 2)
    1.91
    """
    n = len(of_example)
    if n < 2:
        return None
    if mean <= 0:
        return 1.0
    centred = of_example / mean - (of_example / mean).mean()
    power = float((centred**2).mean())
    if power == 0:
        return 1.0
    kurtosis = float((centred**4).mean()) / power**2
    freedom = min(n - 1.0, max(1.0, 2 * n / max(kurtosis - 1, 1e-9)))
    return math.exp(min(student(freedom) * math.sqrt(power / (n - 1)), 700.0))
