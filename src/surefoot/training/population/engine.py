"""How a group of members is computed: the ways are tried on real steps, and the fastest goes on.

The steps of a trial are steps of the runs, so a trial costs no work, only that some steps are not the fastest.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from surefoot.models.extra_state import has_extra_state
from surefoot.record.run import Row
from surefoot.training.loop import advance
from surefoot.training.population.advance import StepFn, advance_stack, eager_step
from surefoot.training.population.choose import LOOP, Trial, Way, fastest, judged, next_way
from surefoot.training.population.compiled import CompiledStep
from surefoot.training.population.member import Member
from surefoot.training.population.memory import most_members
from surefoot.training.population.spread import advance_spread, possible, with_one_thread
from surefoot.training.population.stack import has_rules
from surefoot.training.state import State

_TRIAL_SECONDS = 0.2
"""A way is timed for about this long, or for one step if that takes longer. Chosen by hand."""
_PROMISING = 1.3
"""A way whose first timed step is this much slower than the best is not timed further. Chosen by hand."""
_WIDTHS = (8,)
"""Widths of stacks that are tried besides all members: the best for convolutions was 4 to 8 members (first trials in
torch 2.13 on an AMD Zen 4)."""


@dataclass
class Engine:
    """Chooses how groups of members are computed, and remembers what it has chosen and compiled.

    Attributes:
        way: compute everything so, and try nothing: the same bits every time. None chooses by timing.
        trials: what was timed.
        last: the way that the last group went.
    """

    way: Way | None = None
    trials: list[Trial] = field(default_factory=list)
    last: Way = LOOP
    _choices: dict[object, tuple[int, Way]] = field(default_factory=dict, repr=False)
    _compiled: dict[object, CompiledStep] = field(default_factory=dict, repr=False)
    _failed: set[object] = field(default_factory=set, repr=False)

    def advance(self, members: Sequence[Member], states: Sequence[State], until_step: int) -> list[list[Row]]:
        """Advance members that `groups` found alike, changing their states, and return the new rows."""
        rows: list[list[Row]] = [[] for _ in members]
        last = min(until_step, members[0].plan.steps)
        if self.way is not None:
            self.last = self.way
            return self._go(self.way, members, states, last)
        best = self._remembered(members) or self._chosen_by_trial(members, states, last, rows)
        left = [i for i, state in enumerate(states) if state.outcome is None and state.step < last]
        if left:
            _collect(rows, left, self._go(best, [members[i] for i in left], [states[i] for i in left], last))
        self.last = best
        return rows

    def _remembered(self, members: Sequence[Member]) -> Way | None:
        """Return what was chosen for as many members like these, within a factor of two."""
        count, way = self._choices.get(_kind(members[0]), (0, LOOP))
        return way if count and count / 2 <= len(members) <= 2 * count else None

    def _chosen_by_trial(
        self, members: Sequence[Member], states: Sequence[State], last: int, rows: list[list[Row]]
    ) -> Way:
        """Do steps in each way that is worth trying, and return the way that would be done first with all the rest."""
        untried, trials, lost = self._ways(members)[1:], list[Trial](), 0.0
        way: Way | None = LOOP
        best = fastest(trials, 1)
        images = has_rules(members[0].task.template)
        slow = members[0].task.machine.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
        while way is not None:
            left = [i for i, state in enumerate(states) if state.outcome is None]
            at = min((states[i].step for i in left), default=last)
            if at >= last or len(left) < 2:
                return fastest(trials, 1).way  # nothing is left to choose for
            began = time.perf_counter()
            trials.append(self._try(way, members, states, left, last, rows, fastest(trials, 1).step_seconds))
            done = sum(states[i].step - at for i in left)
            steps_left = members[0].plan.steps - max(states[i].step for i in left)
            best = fastest(trials, len(left) * steps_left)
            lost += max(0.0, time.perf_counter() - began - best.step_seconds * done)
            loaded = "torch._dynamo" in sys.modules  # vmap brings it, and forks inherit it
            way = next_way(untried, trials, len(left), steps_left, lost, images=images, loaded=loaded, slow_groups=slow)
            untried = [each for each in untried if each != way]
        if len(trials) > 1 or not untried:  # what was not tried for want of work may be worth it in another call
            self._choices[_kind(members[0])] = (len(members), best.way)
        return best.way

    def _try(
        self, way: Way, members: Sequence[Member], states: Sequence[State], left: list[int], last: int,
        rows: list[list[Row]], best_seconds: float,
    ) -> Trial:  # fmt: skip
        """Do a few steps in a way and time them, without those of warming up."""
        chosen, own = [members[i] for i in left], [states[i] for i in left]
        at, steps, trial = own[0].step, 1, Trial(way, math.inf, math.inf)
        if (way.form, _kind(members[0])) in self._failed:
            return trial
        try:
            if way.form != "loop" and way.processes > 1:
                torch.func.grad(torch.sum)(torch.zeros(1))  # what it loads is loaded here once, not in each fork
            calls: list[tuple[int, float]] = []
            for number in range(4):  # warm up; a step; as many as make a fair timing; where that disappoints, once more
                until = min(last, at + steps)
                if until <= at or any(state.outcome is not None for state in own):
                    break
                if number == 3 and (way.processes == 1 or trial.step_seconds <= best_seconds):
                    break
                began = time.perf_counter()
                _collect(rows, left, self._go(way, chosen, own, until))
                if number or way == LOOP:
                    calls.append((until - at, time.perf_counter() - began))
                    seen = judged(way, [calls[0], calls[-1]][-len(calls) :], len(left))
                    trial = min(trial, seen, key=lambda each: each.step_seconds) if number == 3 else seen
                    if way.processes == 1 and trial.step_seconds > _PROMISING * best_seconds:
                        break
                    steps = max(3, min(100, round(_TRIAL_SECONDS / max(trial.step_seconds * len(left), 1e-6))))
                at = until
        except Exception:  # the model may be anyone's: vmap and the compiler refuse many, each in its own words
            if way.form == "loop":
                raise
            self._failed.add((way.form, _kind(members[0])))
            return Trial(way, math.inf, math.inf)
        self.trials.append(trial)
        return trial

    def _ways(self, members: Sequence[Member]) -> list[Way]:
        """Return what is worth trying, the plain loop first."""
        count = len(members)
        most = min(count, most_members(members[0]))
        processes = min(members[0].task.machine.threads, count, os.cpu_count() or 1) if possible(members[0]) else 1
        widths = sorted({most, *(width for width in _WIDTHS if width < most)})
        ways = [LOOP] + [Way("loop", processes=processes)] * (processes > 1)
        for width in [width for width in widths if width > 1]:
            ways.append(Way("stacked", width))
            share = min(width, -(-count // processes))
            if processes > 1 and share > 1:
                ways.append(Way("stacked", share, processes))
        task, recipe = members[0].task, members[0].plan.recipe
        plain = not any(True for _ in task.template.buffers()) and members[0].plan.batch_size <= recipe.micro_batch_size
        if plain and not has_rules(task.template) and count // processes > 1:
            ways.append(Way("compiled", min(most, -(-count // processes)), processes))
        return list(dict.fromkeys(ways))

    def _go(self, way: Way, members: Sequence[Member], states: Sequence[State], until_step: int) -> list[list[Row]]:
        alive = [i for i, state in enumerate(states) if state.outcome is None]
        chosen, own = [members[i] for i in alive], [states[i] for i in alive]
        rows: list[list[Row]] = [[] for _ in members]
        if way.form == "compiled":
            self._warm(chosen, own, way)
        if way.processes > 1 and len(alive) > 1 and possible(chosen[0]):
            found = advance_spread(
                chosen, own, until_step, min(way.processes, len(alive)),
                lambda mine, theirs, until: self._here(way, mine, theirs, until),
            )  # fmt: skip
        else:
            found = self._here(way, chosen, own, until_step)
        _collect(rows, alive, found)
        return rows

    def _here(self, way: Way, members: Sequence[Member], states: Sequence[State], until_step: int) -> list[list[Row]]:
        """Advance members in this process."""
        if way.form == "loop" or has_extra_state(members[0].task.template):
            return [advance(m.task, m.plan, state, until_step)[1] for m, state in zip(members, states, strict=True)]
        rows: list[list[Row]] = []
        for first in range(0, len(members), way.width):
            piece = slice(first, first + way.width)
            step, compact = self._step(way, members[piece])
            rows += advance_stack(members[piece], states[piece], until_step, step, compact=compact)
        return rows

    def _step(self, way: Way, members: Sequence[Member]) -> tuple[StepFn, bool]:
        if way.form != "compiled":
            return eager_step, True
        key = (len(members), members[0].plan.batch_size, id(members[0].task.data.train.x), id(members[0].task.loss))
        return self._compiled.setdefault(key, CompiledStep()), False

    def _warm(self, members: Sequence[Member], states: Sequence[State], way: Way) -> None:
        """Compile in this process what the forks will call, on copies: they inherit it."""
        share = -(-len(members) // way.processes)
        for size in {min(way.width, share), (len(members) // way.processes) % way.width} - {0}:
            # The number of threads is part of what is compiled.
            piece = [with_one_thread(m) if way.processes > 1 else m for m in members[:size]]
            step, _ = self._step(way, piece)
            if not getattr(step, "ready", False):
                advance_stack(
                    piece, [state.clone() for state in states[:size]], states[0].step + 1, step, compact=False
                )
                step.ready = True  # pyright: ignore[reportFunctionMemberAccess]


def _kind(member: Member) -> object:
    """What decides the speed of a member's step: model, data, batch and machine."""
    task, plan = member.task, member.plan
    origin = task.model if isinstance(task.model, str) else id(task.template if task.model is None else task.model)
    return origin, task.data.input_shape, plan.batch_size, plan.recipe.micro_batch_size, task.machine


def _collect(rows: list[list[Row]], positions: Sequence[int], found: Sequence[list[Row]]) -> None:
    for i, new in zip(positions, found, strict=True):
        rows[i] += new
