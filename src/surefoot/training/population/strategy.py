"""The rule for how K members are computed: a pure function of counted work, without a clock and without torch.

The unit is one operator call of a small model. A step of a member alone costs C + N / n units: C calls that write N
numbers, of which a thread writes n in one unit. A stack of w members makes three times the calls, but once for all w,
and moves the members' numbers and W weights besides. So it wins where calls are small, whatever the layers are:

    loop       C + N / (n t)                             t: how much faster several threads move numbers
    forks      (C + N / n) / P                           P processes of one thread
    stacked    3 C / w + (1.25 N + 4 W) / (n t)
    compiled   (0.8 C / w + 0.6 (1.25 N + 4 W) / n) / P

On a card a step is a CUDA graph. It costs the host nothing, but each kernel takes its time however small it is, and one
after the other: so the same terms with other constants, one unit being a call in a graph. A graph is there only after
some steps whose calls are launched one by one, of each member that goes alone, and of a stack once.

The coefficients were fitted to process times of eleven networks (linear to ResNet-20) at batches of 8 to 512 and stacks
of 2 to 32 on one thread of an AMD Zen 4, with AVX-512 and held to AVX2 (torch 2.13): docs/log.md, 2026-11-28. Between
the two no choice differed. Where `surefoot doctor` has measured a CPU, its figures are in proportion to that machine's
(`measured`); else they know only CPU and card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["loop", "stacked", "compiled"]

_STACK_CALLS, _COMPILED_CALLS = 3.0, 0.8
"""Calls of a stacked step per call of a step alone. Fitted."""
_STACK_NUMBERS = 1.25
"""Numbers that a stack moves per number of a step alone. Fitted."""
_COMPILED_NUMBERS = 0.6
"""Share of the numbers that a compiled step still moves: neighbouring operations become one. Fitted."""
_WEIGHT_NUMBERS = 4.0
"""Numbers moved for each weight of a member by the update of a stack. Fitted."""
_THREAD_SHARE = 0.85
"""Share of its threads by which the loop moves numbers faster: two processes were 1.4 times it for the digits cnn."""
_FORK_SECONDS = 0.2
"""A fork, its shared memory and its first, slow steps: 0.07 to 0.3 s on two cores of an AMD EPYC."""
_COMPILE_SECONDS = 8.0
"""What compiling a step takes: 4 to 10 s for linear models and perceptrons, 28 s on a busy machine."""
_SAVED_CALLS = 0.18
"""Calls that a compiled step of one run saves, per call of a step. On one thread of an AMD Zen 4, a call taking 22 us:
0.14 in place of 0.24 ms (linear on digits, batch 32), 0.18 of 0.33 and 0.21 of 0.37 (mlp, 32 and 64), which is 0.22 to
0.17 of their 22 and 39 calls. Of convolutional nets forward and backward pass alone compile: 4.4 of 5.0 ms (cnn, batch
64), 17.3 of 19.9 (resnet20), after up to 20 s; so they are not compiled."""
_CHECK_STEPS = 10
"""Steps of one member that comparing a stack with members alone costs, see `Engine`."""
_GRAPH_STEPS = 6
"""Steps that a graph costs before it is there, launched call by call: the first, four of its trial, and its capture.
Derived from `graph.tried`, not measured."""
MARGIN = 1.2
"""A way must be so many times as fast as the loop, for estimates err. Chosen by hand."""
SETUP_WEIGHT = 3.0
"""Setting a way up must save so many times what it costs. Chosen by hand."""


@dataclass(frozen=True)
class Way:
    """How members are computed.

    Attributes:
        form: "loop": one after the other; "stacked": as one; "compiled": as one, the whole step compiled.
        width: members in a stack, at most; 1 for a loop.
        processes: over how many processes, with one thread each, the members are spread; 1 is this one alone, with
            all its threads.
    """

    form: Form
    width: int = 1
    processes: int = 1

    def __str__(self) -> str:
        where = f" in {self.processes} processes" if self.processes > 1 else ""
        return (f"{self.form} by {self.width}" if self.width > 1 else self.form) + where


LOOP = Way("loop")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is known of a kind of machine.

    Attributes:
        call_seconds: of one operator call of a small model, the unit.
        numbers_per_call: n, numbers that one thread writes in that time.
        stack_numbers: numbers of a stack that its caches hold; None: caches do not matter.
        launch_seconds: of one call that is not in a graph; None where there are no graphs.
    """

    call_seconds: float
    numbers_per_call: float
    stack_numbers: float | None
    launch_seconds: float | None = None


FIGURES = {
    "cpu": Figures(call_seconds=10e-6, numbers_per_call=5500, stack_numbers=6e6),
    "cuda": Figures(call_seconds=2.5e-6, numbers_per_call=625e3, stack_numbers=None, launch_seconds=25e-6),
}
"""By the type of device. For the CPU fitted, see above; six million numbers are 24 MB, beyond which wider stacks were
slower on a machine with 32 MB of last cache.

For the card from one H200 (torch 2.11, 2026-11-28). A step of one member as a graph took 0.061, 1.63 and 2.26 ms for
39, 161 and 415 calls that write 0.05, 302 and 187 million numbers (mlp, batch 64; cnn 512 and resnet20 128 in bf16);
these figures say 0.10, 1.61 and 1.79. Call by call it took 0.83, 3.63 and 8.9 ms, 21 to 23 us a call; a stack of 8 took
31 to 47 us for each of three times as many. That a stack as a graph makes as many calls, and moves as many numbers, as
on a CPU is derived and was not measured; one of 32 cnns, call by call, took 1.7 ms a member, and this says 1.5.
"""


_CALL_SECONDS, _NUMBERS_PER_SECOND = 3.44e-6, 0.81e9
"""What `surefoot doctor` measures of the machine to which the figures of the CPU were fitted: median of 4, AVX-512."""
_CACHE_BYTES = 32 * 2**20
"""Of its last cache."""


def measured(call_seconds: float, numbers_per_second: float, cache_bytes: int | None) -> Figures:
    """Return the figures of a CPU that was measured: those that were fitted, in proportion to the machine of the fit.

    Args:
        call_seconds, numbers_per_second, cache_bytes: as in `MachineFigures`.

    >>> slow = measured(call_seconds=6.88e-6, numbers_per_second=0.81e9, cache_bytes=16 * 2**20)  # a call takes twice
    >>> slow.call_seconds, slow.numbers_per_call, slow.stack_numbers
    (2e-05, 11000.0, 3000000.0)
    """
    fitted = FIGURES["cpu"]
    call = call_seconds / _CALL_SECONDS
    numbers = numbers_per_second / _NUMBERS_PER_SECOND
    assert fitted.stack_numbers is not None
    return Figures(
        call_seconds=fitted.call_seconds * call,
        numbers_per_call=fitted.numbers_per_call * call * numbers,
        stack_numbers=fitted.stack_numbers * (cache_bytes or _CACHE_BYTES) / _CACHE_BYTES,
    )


@dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to compute.

    Attributes:
        members: K.
        steps: T of the whole plan, not of a call, so that the choice does not depend on how a run is divided.
        calls: operator calls of a step of one member, forward and backward.
        numbers: that these calls write.
        weights: trained parameters of one member.
        fitting: members whose step fits into memory as a stack.
        threads: of this process.
        processes: over which members may be spread; 1 where they may not.
        stackable, compilable: whether the model, and this machine, can.
    """

    members: int
    steps: int
    calls: int
    numbers: float
    weights: int
    fitting: int
    threads: int = 1
    processes: int = 1
    stackable: bool = True
    compilable: bool = False


def strategy(work: Work, figures: Figures = FIGURES["cpu"]) -> Way:
    """Return the way that is expected to be done first, the loop where none is clearly faster.

    >>> perceptron = Work(members=16, steps=1000, calls=58, numbers=36e3, weights=9610, fitting=1000)
    >>> strategy(perceptron)
    Way(form='stacked', width=16, processes=1)
    >>> cnn = Work(members=16, steps=1000, calls=109, numbers=2e6, weights=197_448, fitting=99, processes=2, threads=2)
    >>> strategy(cnn)  # its operations are too large for a stack to win
    Way(form='loop', width=1, processes=2)
    """
    return min(ways(work, figures), key=lambda way: cost_seconds(way, work, figures))


def ways(work: Work, figures: Figures) -> list[Way]:
    """Return the ways that are possible, the plain loop first."""
    if work.members < 2:
        return [LOOP]
    processes = min(work.processes, work.members)
    found = [LOOP] + [Way("loop", processes=processes)] * (processes > 1)
    most = work.fitting
    if figures.stack_numbers is not None:  # six numbers a weight: itself, gradient, velocity, average, two of passage
        most = min(most, int(figures.stack_numbers / (work.numbers + 6 * work.weights)))
    if work.stackable and (width := _width(work.members, most)) > 1:
        found.append(Way("stacked", width))
    compiles = work.stackable and work.compilable and figures.launch_seconds is None  # on a card never measured
    if compiles and (width := _width(-(-work.members // processes), most)) > 1:
        found.append(Way("compiled", width, processes))
    return found


def _width(members: int, most: int) -> int:
    """Return the width of stacks of nearly equal size that hold at most `most` members."""
    return -(-members // -(-members // max(1, most)))


def cost_seconds(way: Way, work: Work, figures: Figures) -> float:
    """Return what a way is taken to cost: its steps, with a margin, and its setting up, with more of one."""
    first = 0 if figures.launch_seconds is None else min(work.steps, _GRAPH_STEPS)
    later = figures.call_seconds * step_calls(way, work, figures) * (work.steps - first)
    steps = work.members * (_launched_seconds(way, work, figures) * first + later)
    if way == LOOP:
        return steps
    setup = _FORK_SECONDS if way.processes > 1 else 0.0
    if way.form != "loop":
        setup += _launched_seconds(LOOP, work, figures) * _CHECK_STEPS
    if way.form == "compiled":  # the last stack of a process is often smaller, and then compiled by itself
        setup += _COMPILE_SECONDS * (1 if work.members % (way.processes * way.width) == 0 else 2)
    return MARGIN * steps + SETUP_WEIGHT * setup


def _launched_seconds(way: Way, work: Work, figures: Figures) -> float:
    """Return the seconds of a step of one member that is not in a graph: on a card what is slower, host or card."""
    calls = work.calls * (1.0 if way.form == "loop" else _STACK_CALLS / way.width)
    return max((figures.launch_seconds or 0.0) * calls, figures.call_seconds * step_calls(way, work, figures))


def step_calls(way: Way, work: Work, figures: Figures) -> float:
    """Return the units that a step of one member takes; see the module's text."""
    moved, threads = work.numbers / figures.numbers_per_call, max(1.0, _THREAD_SHARE * work.threads)
    stacked = _STACK_NUMBERS * moved + _WEIGHT_NUMBERS * work.weights / figures.numbers_per_call
    if way.form == "stacked":
        return _STACK_CALLS * work.calls / way.width + stacked / threads
    if way.form == "compiled":
        alone = _COMPILED_CALLS * work.calls / way.width + _COMPILED_NUMBERS * stacked
        return alone / way.processes
    return work.calls + moved / threads if way.processes == 1 else (work.calls + moved) / way.processes


def compiling_pays(work: Work, figures: Figures = FIGURES["cpu"]) -> bool:
    """Return whether a run that goes alone is so long that compiling its step saves many times what it takes.

    >>> from dataclasses import replace
    >>> perceptron = Work(members=1, steps=10_000, calls=39, numbers=29e3, weights=9610, fitting=1000, compilable=True)
    >>> compiling_pays(perceptron), compiling_pays(replace(perceptron, steps=1_000_000))
    (False, True)
    """
    saved = figures.call_seconds * _SAVED_CALLS * work.calls * work.steps
    return work.compilable and figures.launch_seconds is None and saved > SETUP_WEIGHT * _COMPILE_SECONDS


def forks_pay(way: Way, work: Work, figures: Figures, member_steps: int) -> bool:
    """Return whether so many steps of single members are worth forks; else they are done here, with one thread."""
    together = figures.call_seconds * step_calls(way, work, figures) * member_steps
    return together * (way.processes - 1) > SETUP_WEIGHT * _FORK_SECONDS
