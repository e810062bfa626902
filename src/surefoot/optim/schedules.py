"""Learning-rate schedules: pure functions of the step.

Each function here returns a schedule: a function of the step t (a number, or an array of any shape) that gives
the learning rate of update t, counted from 0. A schedule has no state and no clock, so it can be tabulated,
drawn, tested, and read at any step. With `peak=1` it gives the multiplier instead of the rate. Beyond its last
step it keeps its last value. Lengths and seams are in steps and need not be whole numbers.

Symbols: a0 the peak, t the step, T the length in steps, e the end as a share of the peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from surefoot.errors import ConfigError

ScheduleFn = Callable[[Any], Any]
"""A function of the step. A plain number gives a float; an array gives a float64 array of the same shape."""

Seam = Literal["shift", "jump", "meet", "multiply"]
"""How warmup joins what follows it; see `warmup`."""


def constant(peak: float) -> ScheduleFn:
    """Return the schedule a(t) = a0.

    >>> constant(0.1)(7)
    0.1
    """
    _need_finite(peak=peak)
    _need(peak > 0, f"peak = {peak}", "the peak learning rate must be above 0", "try 0.1")
    return lambda t: _like(t, np.full(np.shape(t), float(peak)))


def step(peak: float, milestones: Sequence[float], factor: float = 0.1) -> ScheduleFn:
    """Return the schedule a(t) = a0 factor^k, k the number of milestones at or before t.

    He et al. 2015 (arXiv 1512.03385), section 4.2: 0.1, divided by 10 at 32k and 48k iterations.

    Args:
        peak: a0.
        milestones: rising steps; the drop acts on the update with that number.
        factor: multiplier at each milestone.

    >>> [round(step(0.1, [30, 60])(t), 4) for t in (29, 30, 60)]
    [0.1, 0.01, 0.001]
    """
    _need_finite(peak=peak, factor=factor)
    at = np.asarray(milestones, dtype=np.float64)
    _need(
        at.size > 0 and bool(np.all(np.diff(at) > 0)), f"milestones = {list(milestones)}",
        "milestones must be a rising list of steps", "give for example [30, 60, 90]",
    )  # fmt: skip
    return lambda t: _like(t, peak * _raised(factor, np.searchsorted(at, _as_steps(t), side="right")))


def cosine(peak: float, steps: float, end: float = 0.0) -> ScheduleFn:
    """Return the schedule a(t) = a0 (e + (1 - e) (1 + cos(pi t / T)) / 2); with e = 0, a0/2 (1 + cos(pi t / T)).

    Loshchilov & Hutter 2017 (arXiv 1608.03983), equation 5, with one cycle.

    >>> round(cosine(0.1, 100)(50), 6)
    0.05
    """
    _need_finite(peak=peak, end=end)
    _need_length(steps)
    return lambda t: _like(t, peak * (end + (1 - end) * 0.5 * (1 + np.cos(np.pi * _share(t, steps)))))


def linear(peak: float, steps: float, end: float = 0.0) -> ScheduleFn:
    """Return the schedule a(t) = a0 (1 - (1 - e) t / T); with e = 0, a0 (1 - t / T).

    Devlin et al. 2018 (arXiv 1810.04805), appendix A.2, after warmup.

    >>> round(linear(0.1, 100)(25), 6)
    0.075
    """
    return polynomial(peak, steps, power=1.0, end=end)


def polynomial(peak: float, steps: float, power: float = 2.0, end: float = 0.0) -> ScheduleFn:
    """Return the schedule a(t) = a0 (e + (1 - e) (1 - t / T)^power).

    Chen et al. 2017 (DeepLab, arXiv 1606.00915), section 4.1, "poly", there with power 0.9.

    >>> polynomial(1.0, 100, power=2)(50)
    0.25
    """
    _need_finite(peak=peak, end=end, power=power)
    _need_length(steps)
    return lambda t: _like(t, peak * (end + (1 - end) * _raised(1 - _share(t, steps), power)))


def exponential(peak: float, factor: float, every: float) -> ScheduleFn:
    """Return the schedule a(t) = a0 factor^(t / every): `factor` per `every` steps, smoothly.

    >>> round(exponential(0.1, 0.5, every=100)(200), 6)
    0.025
    """
    _need_finite(peak=peak, factor=factor)
    _need_length(every)
    return lambda t: _like(t, peak * _raised(factor, _as_steps(t) / every))


def inverse_sqrt(peak: float, timescale: float) -> ScheduleFn:
    """Return the schedule a(t) = a0 / sqrt(1 + t / s), s the timescale in steps.

    After a warmup of s steps with seam "shift" this is a0 sqrt(s / t), the curve of Vaswani et al. 2017
    (arXiv 1706.03762), section 5.3, equation 3.

    >>> inverse_sqrt(0.1, timescale=100)(300)
    0.05
    """
    _need_finite(peak=peak)
    _need_length(timescale)
    return lambda t: _like(t, peak / np.sqrt(1 + _as_steps(t) / timescale))


def one_cycle(
    peak: float, steps: float, peak_step: float, start: float = 1 / 25, end: float = 0.0,
    shape: Literal["cosine", "linear"] = "cosine",
) -> ScheduleFn:  # fmt: skip
    """Return the schedule that rises from start a0 to a0 over `peak_step` steps and falls to end a0 at step T.

    Smith & Topin 2017 (arXiv 1708.07120), section 3, there with linear sides; cosine sides and start = 1/25 are
    PyTorch's `OneCycleLR`, whose `total_steps = N`, `pct_start = q` are T = N - 1 and peak_step = q N - 1 here.

    Args:
        peak: a0.
        steps: T.
        peak_step: the step of the peak, above 0 and below T.
        start: first rate as a share of the peak.
        end: last rate as a share of the peak.
        shape: both sides follow half a cosine, or a straight line.

    >>> [round(one_cycle(1.0, 100, 30)(t), 3) for t in (0, 30, 100)]
    [0.04, 1.0, 0.0]
    """
    _need_finite(peak=peak, start=start, end=end)
    _need(
        0 < peak_step < steps, f"peak_step = {peak_step} of {steps} steps", "the peak must lie inside the run",
        f"try {0.3 * steps:g}",
    )  # fmt: skip

    def schedule(t: Any) -> Any:
        up = np.clip(_as_steps(t) / peak_step, 0, 1)
        down = np.clip((_as_steps(t) - peak_step) / (steps - peak_step), 0, 1)
        if shape == "cosine":
            up, down = 0.5 * (1 - np.cos(np.pi * up)), 0.5 * (1 - np.cos(np.pi * down))
        return _like(t, peak * np.where(_as_steps(t) < peak_step, start + (1 - start) * up, 1 - (1 - end) * down))

    return schedule


def wsd(peak: float, steps: float, decay_steps: float, end: float = 0.0) -> ScheduleFn:
    """Return the schedule that stays at a0 and falls in a straight line to end a0 over its last `decay_steps` steps.

    The stable and decay parts of warmup-stable-decay: Hu et al. 2024 (MiniCPM, arXiv 2404.06395), section 4;
    the linear decay is that of Haegele et al. 2024 (arXiv 2405.18392), section 3. Add `warmup`.

    >>> [round(wsd(1.0, 100, 20)(t), 6) for t in (0, 80, 90, 100)]
    [1.0, 1.0, 0.5, 0.0]
    """
    _need(
        0 < decay_steps <= steps, f"decay_steps = {decay_steps} of {steps} steps",
        "the decay must be above 0 and no longer than the run", f"try {0.2 * steps:g}",
    )  # fmt: skip
    return join([constant(peak), linear(peak, decay_steps, end)], [steps - decay_steps], count="from-seam")


def sgdr(peak: float, first: float, mult: float = 1.0, end: float = 0.0) -> ScheduleFn:
    """Return cosine annealing with warm restarts: a(t) = a0 (e + (1 - e) (1 + cos(pi t_cur / T_i)) / 2).

    t_cur is the number of steps since the last restart and T_i = T_0 mult^i the length of cycle i. The restart acts
    on the update with that number. Loshchilov & Hutter 2017 (arXiv 1608.03983), section 3, equation 5.

    Args:
        peak: a0.
        first: T_0, the length of the first cycle in steps.
        mult: T_mult, at least 1.
        end: rate at the end of each cycle as a share of the peak.

    >>> [round(sgdr(1.0, 10, 2)(t), 4) for t in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """
    _need_finite(peak=peak, mult=mult, end=end)
    _need_length(first)
    _need(mult >= 1, f"cycle_mult = {mult}", "each cycle must be at least as long as the one before", "try 2")

    def schedule(t: Any) -> Any:
        now = _as_steps(t)
        starts = np.asarray([0.0, *restarts(first, mult, float(np.max(now, initial=0.0)) + 1)])
        cycle = np.searchsorted(starts, now, side="right") - 1
        share = (now - starts[cycle]) / (first * _raised(mult, cycle))
        return _like(t, peak * (end + (1 - end) * 0.5 * (1 + np.cos(np.pi * share))))

    return schedule


def restarts(first: float, mult: float, steps: float) -> tuple[float, ...]:
    """Return the steps below `steps` at which `sgdr` restarts: T_0, T_0 (1 + m), T_0 (1 + m + m^2), ...

    >>> restarts(10, 2, 200)
    (10.0, 30.0, 70.0, 150.0)
    """
    if mult == 1:
        return tuple(float(first * i) for i in range(1, math.ceil(steps / first)))
    found, length, at = [], float(first), float(first)
    while at < steps:
        found.append(at)
        length *= mult
        at += length
    return tuple(found)


PLATEAU_THRESHOLD = 1e-4
"""Smallest relative improvement that counts: the default of PyTorch's `ReduceLROnPlateau`."""


def plateau(
    values: Sequence[float], factor: float = 0.1, patience: int = 5, threshold: float = PLATEAU_THRESHOLD
) -> float:
    """Return the multiplier that reduce-on-plateau has reached after these validation losses.

    A pure function of the record: it holds no counters, so a resumed run reads the same rate. A loss is better when
    it is below best (1 - threshold). After more than `patience` losses in a row that are not better, the rate is
    multiplied by `factor` and the count starts again. The rule is that of PyTorch's `ReduceLROnPlateau` (mode
    "min", threshold_mode "rel", no cooldown), and threshold 1e-4 is its default; He et al. 2015 (arXiv
    1512.03385), section 3.4, divided by 10 "when the error plateaus".

    Args:
        values: validation losses so far, one per epoch, oldest first. NaN is never better.
        factor: multiplier at each plateau.
        patience: losses in a row without improvement that are borne.
        threshold: smallest relative improvement that counts.

    >>> plateau([1.0, 0.9, 0.9, 0.9, 0.9], factor=0.5, patience=2)
    0.5
    >>> plateau([1.0, 0.9, 0.8, 0.7, 0.6], factor=0.5, patience=2)
    1.0
    """
    best, bad, multiplier = math.inf, 0, 1.0
    for value in values:
        best, bad = (value, 0) if value < best * (1 - threshold) else (best, bad + 1)
        if bad > patience:
            multiplier, bad = multiplier * factor, 0
    return multiplier


def _share(t: Any, steps: float) -> np.ndarray:
    return np.clip(_as_steps(t) / steps, 0.0, 1.0)


def warmup(schedule: ScheduleFn, steps: float, start: float = 0.0, seam: Seam = "shift") -> ScheduleFn:
    """Return the schedule with a linear warmup of w steps before or over it.

    With r(t) = start + (1 - start) t / w and a the schedule, update t < w runs at

    * "shift": r(t) a(0), then a(t - w): the decay counts from the end of warmup. Continuous. (XLNet, RoBERTa)
    * "jump": r(t) a(0), then a(t): the decay counts from step 0, so the rate jumps from a(0) to a(w). (BERT, GPT)
    * "meet": start a(0) + (a(w) - start a(0)) t / w, then a(t): counts from step 0, the ramp ends on the curve.
      Continuous. (SlowFast)
    * "multiply": r(t) a(t), then a(t): counts from step 0, the ramp itself is decayed. Continuous. (GPT's
      fine-tuning, pycls)

    The sources of each seam are in `presets`. With start = 0 update 0 has rate 0, as in all of these.

    >>> ramp = warmup(linear(1.0, 90), 10)
    >>> [round(ramp(t), 4) for t in (0, 5, 10, 55, 100)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    >>> round(warmup(linear(1.0, 100), 10, seam="jump")(10), 4)
    0.9
    """
    if steps == 0:
        return schedule
    _need_length(steps)
    first, at_seam = schedule(0), schedule(steps)

    def ramped(t: Any) -> Any:
        now = _as_steps(t)
        share = start + (1 - start) * now / steps
        if seam == "meet":
            ramp = start * first + (at_seam - start * first) * now / steps
        else:
            ramp = share * (schedule(now) if seam == "multiply" else first)
        after = schedule(np.maximum(now - steps, 0) if seam == "shift" else now)
        return _like(t, np.where(now < steps, ramp, after))

    return ramped


def join(
    schedules: Sequence[ScheduleFn], seams: Sequence[float], count: Literal["from-seam", "from-start"]
) -> ScheduleFn:
    """Return one schedule made of several: piece i acts from seam i - 1 (inclusive) to seam i.

    Args:
        schedules: the pieces, one more than there are seams.
        seams: rising steps.
        count: whether each piece counts its steps from its own seam, or from step 0 of the run.

    >>> joined = join([constant(0.01), constant(0.1)], [400], count="from-start")
    >>> joined(399), joined(400)
    (0.01, 0.1)
    """
    at = [float(seam) for seam in seams]
    _need(
        len(schedules) == len(at) + 1 and at == sorted(at), f"{len(schedules)} schedules and seams {at}",
        "the seams must rise and be one fewer than the schedules", "give one seam between each two schedules",
    )  # fmt: skip

    def joined(t: Any) -> Any:
        now = _as_steps(t)
        result = np.asarray(schedules[0](now))
        for seam, piece in zip(at, schedules[1:], strict=True):
            result = np.where(now < seam, result, piece(np.maximum(now - seam, 0) if count == "from-seam" else now))
        return _like(t, result)

    return joined


def held(schedule: ScheduleFn, every: float) -> ScheduleFn:
    """Return the schedule read only every so many steps: a(every floor(t / every)), a staircase.

    This is what a loop does that sets the rate once per epoch, as pycls (`train_epoch` in its `trainer.py`).

    >>> [held(linear(1.0, 100), 50)(t) for t in (0, 49, 50)]
    [1.0, 1.0, 0.5]
    """
    _need_length(every)
    return lambda t: schedule(_like(t, every * np.floor(_as_steps(t) / every)))


def _as_steps(t: Any) -> np.ndarray:
    """Return steps of any kind as float64."""
    return np.asarray(t, dtype=np.float64)


def _like(t: Any, value: Any) -> Any:
    """Return the value as t came: a float for a plain number, else a float64 array."""
    return float(value) if np.ndim(t) == 0 else np.asarray(value, dtype=np.float64)


def _raised(base: Any, exponent: Any) -> np.ndarray:
    """Return base^exponent, to the same bits for one step as for an array of steps.

    On processors with AVX-512 NumPy has another routine for single numbers, which differs in the last bit.
    """
    shape = np.broadcast_shapes(np.shape(base), np.shape(exponent))
    return np.power(np.atleast_1d(base), np.atleast_1d(exponent)).reshape(shape)


def _need_length(steps: float) -> None:
    """Raise ConfigError unless the length is above 0."""
    _need(steps > 0, f"a length of {steps} steps", "a length must be above 0", "give at least 1 step")


def _need_finite(**values: float) -> None:
    """Raise ConfigError for the first value that is NaN or infinite."""
    for name, value in values.items():
        _need(bool(np.isfinite(value)), f"{name} = {value}", f"{name} must be finite", "give a number")


def _need(ok: bool, given: str, allowed: str, do: str) -> None:
    """Raise ConfigError with these three parts unless ok."""
    if not ok:
        raise ConfigError(given, allowed, do)
