"""Which way of computing members is worth a trial: a small decision problem, without a clock of its own.

A trial's steps are steps of the runs, so what it may lose is only what it takes longer than the best way known. All
trials together may lose a small share of what the plain loop would take, and a part of what was won over it; so a group
is never much slower than the plain loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Form = Literal["loop", "stacked", "compiled"]

TRIAL_SHARE = 0.05
"""Share of the plain loop's time that trials may lose: with it a call is never under 0.95 of the loop's speed, as far
as the estimates hold. The value is the law's (benchmarks/population.py)."""
GAINED_SHARE = 0.5
"""Share of what the best way known wins over the plain loop that trials of others may lose: the call stays faster than
the loop, and a stack may win ten times as much as two processes. Chosen by hand."""
COMPILE_SHARE = 1 / 3
"""Share of what is left that compiling may take: it pays where a step then is 1.5 times as fast; 5 to 10 were seen."""
CLEAR = 0.9
"""A way is tried only if it could do what is left in under this share of the time. Chosen by hand."""
_FORK_SECONDS = 0.15
"""A fork, its shared memory and its first, slow steps: 0.07 to 0.3 s on two cores of an AMD EPYC."""
_COMPILE_SECONDS = 12.0
"""What compiling a step takes: 8 to 28 s for linear models and perceptrons on two cores of an AMD EPYC."""
_LOAD_SECONDS = 1.5
"""What torch.func loads when it is first used in a process, 800 modules: 1 to 1.5 s on two cores of an AMD EPYC."""
_TRIAL_STEPS = 3
"""Steps of each member that a trial does at least, of which some only warm up."""
_COMPILED_GAIN = 1.5
"""How many times as fast as a stack of as many members its compiled step is: 1.5 to 3 were seen."""
_IMAGE_GAINS = {False: 2.0, True: 0.5}
"""How many times as fast as the plain loop stacked convolutions are, by whether groups are slow: 2 in first trials
in torch 2.13 on an AMD Zen 4, 0.5 without AVX-512, where oneDNN's grouped backward pass is a slow one."""


@dataclass(frozen=True)
class Way:
    """How members are computed.

    Attributes:
        form: "loop": one after the other; "stacked": as one; "compiled": as one, the whole step compiled.
        width: members in a stack, at most; 1 for a loop.
        processes: over how many processes the members are spread; 1 is this one alone, with all its threads.
    """

    form: Form
    width: int = 1
    processes: int = 1

    def __str__(self) -> str:
        where = f" in {self.processes} processes" if self.processes > 1 else ""
        return (f"{self.form} by {self.width}" if self.width > 1 else self.form) + where


LOOP = Way("loop")


@dataclass(frozen=True)
class Trial:
    """What a way was seen to cost: seconds of each call, for stacking or forking, and of a step of one member."""

    way: Way
    call_seconds: float
    step_seconds: float

    def of(self, member_steps: int) -> float:
        """Return the seconds that this many steps of single members would take in one call."""
        return self.call_seconds + self.step_seconds * member_steps


def judged(way: Way, calls: Sequence[tuple[int, float]], members: int) -> Trial:
    """Return what calls of (steps, seconds) say of a way, the last two with different numbers of steps.

    What a call costs besides its steps is where the line through the two meets zero steps. A slope of noise is not
    believed: a step takes at least half of the longer call's mean.

    Args:
        way: that was tried.
        calls: at least one, warming up not among them.
        members: that were computed.

    >>> judged(LOOP, [(1, 1.5), (11, 2.5)], members=2)
    Trial(way=Way(form='loop', width=1, processes=1), call_seconds=1.25, step_seconds=0.0568...)
    """
    steps, seconds = calls[-1]
    each = seconds / steps
    if len(calls) > 1 and steps > calls[0][0]:
        each = min(each, max((seconds - calls[0][1]) / (steps - calls[0][0]), each / 2))
    return Trial(way, max(0.0, seconds - each * steps), each / members)


def gain(way: Way, *, images: bool, slow_groups: bool = False) -> float:
    """Return how many times as fast as the plain loop a way may be; trials correct it.

    A stack of w perceptrons was sqrt(w) times as fast: 2.4 to 2.8 for 8, 5.2 for 32. Forks halve the time of a loop
    and of compiled steps, and hardly that of a stack, which begins in them with cold caches (benchmarks/population.py).

    Args:
        way: in question.
        images: whether the model has layers of images.
        slow_groups: whether grouped convolutions are slow on this machine.

    >>> gain(Way("loop", processes=2), images=False), gain(Way("stacked", 16), images=False)
    (2.0, 4.0)
    """
    if way.form == "loop":
        return float(way.processes)
    if images:
        return _IMAGE_GAINS[slow_groups]
    stacked = math.sqrt(way.width)
    return stacked * _COMPILED_GAIN * way.processes if way.form == "compiled" else stacked


def setup_seconds(way: Way, *, loaded: bool = True) -> float:
    """Return what a way costs before its first step; `loaded`: whether this process has used torch.func before."""
    compiling = _COMPILE_SECONDS if way.form == "compiled" else 0.0
    loading = 0.0 if loaded or way.form == "loop" else _LOAD_SECONDS
    return compiling + loading + (_FORK_SECONDS if way.processes > 1 else 0.0)


def next_way(
    ways: Sequence[Way], trials: Sequence[Trial], members: int, steps_left: int, lost: float, *, images: bool,
    loaded: bool = True, slow_groups: bool = False,
) -> Way | None:  # fmt: skip
    """Return the way that should be tried next, or None if going on with the best is better than any trial.

    Args:
        ways: those that were not tried yet.
        trials: what is known, the plain loop's first.
        members: that are left.
        steps_left: of each of them.
        lost: seconds by which earlier trials took longer than the best way known.
        images: whether the model has layers of images.
        loaded: whether this process has used torch.func before.
        slow_groups: whether grouped convolutions are slow on this machine.

    >>> loop = Trial(LOOP, 0.0, 0.001)
    >>> forks = Way("loop", processes=2)
    >>> next_way([forks], [loop], 8, 100, 0.0, images=False) is None  # 0.8 s: forks would cost what they win
    True
    >>> next_way([forks], [loop], 8, 10_000, 0.0, images=False)
    Way(form='loop', width=1, processes=2)
    """
    work = members * steps_left
    loop, best = trials[0], min(trials, key=lambda each: each.of(work))
    left, found, least = best.of(work), None, CLEAR * best.of(work)
    for way in ways:
        setup = setup_seconds(way, loaded=loaded)
        could = setup + loop.step_seconds * work / gain(way, images=images, slow_groups=slow_groups)
        at_risk = setup + loop.step_seconds * members * _TRIAL_STEPS
        if way.form == "compiled":
            allowed = setup <= COMPILE_SHARE * left
        else:
            allowed = lost + at_risk <= TRIAL_SHARE * loop.of(work) + GAINED_SHARE * (loop.of(work) - left)
        if allowed and could < least:
            found, least = way, could
    return found


def fastest(trials: Sequence[Trial], member_steps: int) -> Trial:
    """Return the trial whose way would be done first with what is left; the plain loop where none was timed."""
    return min(trials, key=lambda each: each.of(member_steps), default=Trial(LOOP, math.inf, math.inf))
