"""Schedules made of schedules: a warmup before one, several in a row, one read only every so often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from surefoot.optim.function import ScheduleFn, as_steps, like, need, need_length

Seam = Literal["shift", "jump", "meet", "multiply"]
"""How warmup joins what follows it; see `warmup`."""


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

    >>> from surefoot.optim.schedules import linear
    >>> ramp = warmup(linear(1.0, 90), 10)
    >>> [round(ramp(t), 4) for t in (0, 5, 10, 55, 100)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    >>> round(warmup(linear(1.0, 100), 10, seam="jump")(10), 4)
    0.9
    """
    if steps == 0:
        return schedule
    need_length(steps)
    first, at_seam = schedule(0), schedule(steps)

    def ramped(t: Any) -> Any:
        now = as_steps(t)
        share = start + (1 - start) * now / steps
        if seam == "meet":
            ramp = start * first + (at_seam - start * first) * now / steps
        else:
            ramp = share * (schedule(now) if seam == "multiply" else first)
        after = schedule(np.maximum(now - steps, 0) if seam == "shift" else now)
        return like(t, np.where(now < steps, ramp, after))

    return ramped


def join(
    schedules: Sequence[ScheduleFn], seams: Sequence[float], count: Literal["from-seam", "from-start"]
) -> ScheduleFn:
    """Return one schedule made of several: piece i acts from seam i - 1 (inclusive) to seam i.

    Args:
        schedules: the pieces, one more than there are seams.
        seams: rising steps.
        count: whether each piece counts its steps from its own seam, or from step 0 of the run.

    >>> from surefoot.optim.schedules import constant
    >>> joined = join([constant(0.01), constant(0.1)], [400], count="from-start")
    >>> joined(399), joined(400)
    (0.01, 0.1)
    """
    at = [float(seam) for seam in seams]
    need(
        len(schedules) == len(at) + 1 and at == sorted(at), f"{len(schedules)} schedules and seams {at}",
        "the seams must rise and be one fewer than the schedules", "give one seam between each two schedules",
    )  # fmt: skip

    def joined(t: Any) -> Any:
        now = as_steps(t)
        result = np.asarray(schedules[0](now))
        for seam, piece in zip(at, schedules[1:], strict=True):
            result = np.where(now < seam, result, piece(np.maximum(now - seam, 0) if count == "from-seam" else now))
        return like(t, result)

    return joined


def held(schedule: ScheduleFn, every: float) -> ScheduleFn:
    """Return the schedule read only every so many steps: a(every floor(t / every)), a staircase.

    This is what a loop does that sets the rate once per epoch, as pycls (`train_epoch` in its `trainer.py`).

    >>> from surefoot.optim.schedules import linear
    >>> [held(linear(1.0, 100), 50)(t) for t in (0, 49, 50)]
    [1.0, 1.0, 0.5]
    """
    need_length(every)
    return lambda t: schedule(like(t, every * np.floor(as_steps(t) / every)))
