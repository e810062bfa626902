"""From the inner products of micro-batch gradients to estimates of gradient noise with intervals: pure arithmetic.

K groups, independent micro-batches of b examples each; g_k their gradients; M[i, j] = g_i . g_j the Gram matrix of a
layer, L of them. Gram matrices add up over layers, and hold all that the estimates need of a model of any size.

Write Q = ||mean_k g_k||^2 and T, U for the unbiased estimates of tr(Sigma) / b and ||grad F||^2:

    T = (sum_k M[k, k] - K Q) / (K - 1),    U = (K^2 Q - sum_k M[k, k]) / (K (K - 1))

(McCandlish et al. 2018, arXiv 1812.06162, appendix A.1, with batches of b and K b.) Both, and E||g_i||^2 = b T + U, are
unbiased whatever the distribution, if the examples are drawn independently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from surefoot.record.noise import Estimate, LayerNoise

CONFIDENCE = 0.95
LEAST_MICRO_BATCHES = 8
"""With fewer, intervals of a few effective dimensions cover under 90 % (tests/laws/test_noise.py plants them)."""
_RATIOS = np.geomspace(1e-9, 1e9, 721)
"""Ratios ||grad F||^2 / (tr(Sigma) / b) among which the ends of intervals are looked for, 6 % apart; what lies between
two is interpolated. Chosen by hand."""
_LEAST_SIGNAL = 0.25
"""No interval excludes a signal of this many standard errors of U. Chosen by hand; more would cover over 97 %."""

_MOST_BIAS = 0.15
"""The bias of a logarithm is taken off up to here, which is that of one effective dimension in 8 groups: beyond, it is
heavy tails that make the variance, and half of it is not the bias. Chosen by hand."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Moments:
    """What Gram matrices say, [L] each: U, T, Q; the variance of log T and of log (b T + U) by the jackknife;
    estimates of tr(S^2) and tr(S^3), S = Sigma / b; and of kappa = G' S G / ||G||^2, the noise along the gradient.
    """

    groups: int
    U: Array
    T: Array
    Q: Array
    log_T: Array
    log_second: Array
    square: Array
    cube: Array
    kappa: Array


def estimated(
    grams: Array, names: Sequence[str], parameters: Sequence[int], micro_batch_size: int, batch_size: int
) -> tuple[LayerNoise, ...]:
    """Return the noise of each layer from its Gram matrix.

    The intervals cover 93 to 97 % where 95 % is meant, and more where noise hides the gradient and is spread unevenly
    over directions (tests/laws/test_noise.py). Their ways:

    - trace, second moment: Student's t with K - 1 degrees of freedom on the logarithm, with the jackknife's variance
      (Efron & Stein 1981), which sees heavy tails, and without the logarithm's bias, which is minus half of it.
    - ||grad F||^2 and its ratios: the values that a test would not reject. Q is a quadratic form of nearly normal
      variables, whose distribution is brought to a normal one by the power of Jensen & Solomon 1972 (JASA 67, 898-902);
      its cumulants are those of the hypothesis, with the covariance's moments as estimated. So an interval of the noise
      scale is open above where ||grad F||^2 = 0 is not rejected.

    Args:
        grams: [L, K, K], K at least 8.
        names, parameters: of each layer, [L].
        micro_batch_size: b.
        batch_size: B.

    Raises:
        ValueError: too few groups.

    >>> g = 1.0 + np.random.default_rng(0).normal(size=(32, 10))  # ||G||^2 = 10, tr(S) = 10: a noise scale of b
    >>> total, = estimated((g @ g.T)[None], ["total"], [10], micro_batch_size=64, batch_size=128)
    >>> round(total.noise_scale.value), total.noise_scale.low < 64 < total.noise_scale.high
    (69, True)
    """
    if grams.ndim != 3 or grams.shape[1] != grams.shape[2] or grams.shape[1] < LEAST_MICRO_BATCHES:
        raise ValueError(f"Gram matrices {grams.shape}: they are [L, K, K] with K at least {LEAST_MICRO_BATCHES}")
    moments = _moments(np.asarray(grams, dtype=np.float64), micro_batch_size)
    t = float(stdtrit(moments.groups - 1, 0.5 + CONFIDENCE / 2))
    alive = moments.T > 0
    safe = np.where(alive, moments.T, 1.0)
    low_U, high_U = (end * safe for end in _accepted(moments, safe, t, fixed_ratio=False))
    low_R, high_R = _accepted(moments, safe, t, fixed_ratio=True)
    b, layers = float(micro_batch_size), []
    for i, (name, count) in enumerate(zip(names, parameters, strict=True)):
        trace = _on_log(b * moments.T[i], moments.log_T[i], t)
        ratio = moments.U[i] / safe[i]
        undefined = not alive[i]
        layers.append(LayerNoise(
            name=name, parameters=count,
            second_moment=_on_log(b * moments.T[i] + moments.U[i], moments.log_second[i], t),
            grad_norm_sq=_exactly(moments.U[i]) if undefined else _estimate(moments.U[i], low_U[i], high_U[i]),
            trace=trace,
            batch_variance=trace.scaled(1 / batch_size),
            signal_to_noise=_unknown() if undefined else _estimate(ratio, low_R[i], high_R[i]).scaled(batch_size / b),
            noise_scale=_unknown() if undefined else _estimate(
                b / ratio if ratio > 0 else math.inf, b / high_R[i], b / low_R[i] if low_R[i] > 0 else math.inf
            ),
        ))  # fmt: skip
    return tuple(layers)


def _moments(M: Array, b: int) -> _Moments:
    K = M.shape[1]
    m = K - 1
    diagonal, rows, total = np.einsum("lkk->lk", M), M.sum(2), M.sum((1, 2))
    T, U, Q = _unbiased(diagonal.sum(1), total, K)
    # Without one group, for each of them.
    out_T, out_U, _ = _unbiased(diagonal.sum(1)[:, None] - diagonal, total[:, None] - 2 * rows + diagonal, m)
    centred = M - rows[:, :, None] / K - rows[:, None, :] / K + total[:, None, None] / K**2
    power2 = (centred**2).sum((1, 2))
    power3 = np.einsum("lij,ljk,lki->l", centred, centred, centred, optimize=True)
    # `centred` has the traces of a Wishart matrix with m degrees of freedom, whose moments are known: E tr(W^2) =
    # m (m + 1) tr(S^2) + m tr(S)^2, E tr(W^3) = m ((m^2 + 3 m + 4) tr(S^3) + 3 (m + 1) tr(S) tr(S^2) + tr(S)^3).
    # (Letac & Massam 2004). Solved for tr(S^2), tr(S^3), and kept to what the eigenvalues of a covariance can do.
    safe = np.where(T > 0, T, 1.0)
    square = np.clip((power2 - m * T**2) / (m * (m + 1) - 2), safe**2 * 1e-6, safe**2)
    cube = (power3 / m - 3 * (m + 1) * safe * square - safe**3) / (m**2 + 3 * m + 4)
    cube = np.clip(cube, square**2 / safe, square**1.5)
    # The products of each group with the mean of the others vary by G' S G + tr(S^2) / m. Where noise hides G, kappa
    # tends to what it is for a G that lies as the noise does.
    along = ((rows - diagonal) / m).var(axis=1, ddof=1) - square / m
    prior = safe / K
    kappa = (np.maximum(along, 0) + prior * square / safe) / (np.maximum(U, 0) + prior)
    kappa = np.clip(kappa, 0, np.sqrt(square))
    return _Moments(K, U, T, Q, _jackknife_of_log(out_T), _jackknife_of_log(b * out_T + out_U), square, cube, kappa)


def _unbiased(squares: Array, total: Array, K: int) -> tuple[Array, Array, Array]:
    """Return T, U and Q from the sum of a Gram matrix's diagonal and the sum of all its entries."""
    Q = total / K**2
    return (squares - K * Q) / (K - 1), (total - squares) / (K * (K - 1)), Q


def _jackknife_of_log(values: Array) -> Array:
    """Return the jackknife's variance of a logarithm from its values with each group left out, [L, K]."""
    K = values.shape[1]
    logs = np.log(np.where(values > 0, values, 1.0))
    return (K - 1) / K * ((logs - logs.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)


def _accepted(moments: _Moments, T: Array, t: float, *, fixed_ratio: bool) -> tuple[Array, Array]:
    """Return the ends of the ratios ||G||^2 / tr(S) that the test does not reject, [L].

    Args:
        moments, T: the moments, and tr(S) where there is any.
        t: the quantile.
        fixed_ratio: the ratio is the hypothesis; else ||G||^2 is, and tr(S) matters less the larger the signal.
    """
    at = _deviation(moments, T, np.concatenate([[0.0], _RATIOS])[:, None], fixed_ratio=fixed_ratio)
    nothing, rest = at[0], at[1:]
    low = np.where(nothing <= t, 0.0, _crossing(rest - t))
    high = np.where(nothing < -t, 0.0, _crossing(rest + t))
    # Where Q is by chance smaller than noise alone would have it, no signal is accepted. An interval that ends there
    # would claim too much, so it reaches a little further.
    return low, np.maximum(high, _LEAST_SIGNAL * np.sqrt(2 * moments.square) / (moments.groups * T))


def _deviation(moments: _Moments, T: Array, ratio: Array, *, fixed_ratio: bool) -> Array:
    """Return how many standard deviations Q lies above what it would be if ||G||^2 were `ratio` tr(S); falling.

    Ratios are [R, 1], the answer [R, L].
    """
    K, signal = moments.groups, ratio * T
    a = T / K + signal
    b = moments.square / K**2 + 2 * signal * moments.kappa / K
    c = moments.cube / K**3 + 3 * signal * moments.kappa**2 / K**2
    h = np.clip(1 - 2 * a * c / (3 * b**2), 0.05, 1.0)
    share = 1.0 if fixed_ratio else T / K / a
    spread = np.sqrt(2 * b * h**2 / a**2 + h**2 * moments.log_T * share**2)
    return ((np.maximum(moments.Q, 0) / a) ** h - 1 - b * h * (h - 1) / a**2) / spread


def _crossing(falling: Array) -> Array:
    """Return the ratio at which each column of a table over `_RATIOS`, [R, L], falls through 0, interpolated."""
    after = np.clip((falling > 0).sum(axis=0), 1, len(_RATIOS) - 1)
    columns = np.arange(falling.shape[1])
    above, below = falling[after - 1, columns], falling[after, columns]
    share = np.clip(above / np.where(above != below, above - below, 1.0), 0.0, 1.0)
    logs = np.log(_RATIOS)
    return np.exp(logs[after - 1] + share * (logs[after] - logs[after - 1]))


def _on_log(value: float, variance: float, t: float) -> Estimate:
    if value <= 0:
        return _exactly(value)
    width, bias = t * math.sqrt(variance), min(variance / 2, _MOST_BIAS)
    return _estimate(value, value * math.exp(bias - width), value * math.exp(bias + width))


def _estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=float(value), low=float(low), high=float(high))


def _exactly(value: float) -> Estimate:
    """A layer whose gradient is the same in every group, most often 0: nothing is uncertain."""
    return _estimate(value, value, value)


def _unknown() -> Estimate:
    return _estimate(math.nan, 0.0, math.inf)
