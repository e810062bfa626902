"""How a group of members is computed: as `strategy` says, if a stack proves to compute what its members do alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from surefoot.record.run import Row
from surefoot.training.loop import advance
from surefoot.training.population.advance import StepFn, advance_stack, eager_step
from surefoot.training.population.compiled import CompiledStep
from surefoot.training.population.member import Member
from surefoot.training.population.spread import advance_spread, with_one_thread
from surefoot.training.population.strategy import FIGURES, LOOP, Figures, Way, Work, forks_pay, strategy
from surefoot.training.population.trust import refusal
from surefoot.training.population.workload import work_of
from surefoot.training.state import State

_LEAST_STEPS = 30
"""Steps of single members below which nothing pays for looking how they are computed. Chosen by hand."""


@dataclass
class _Choice:
    """How a group is computed, why not better, what was compiled for it; `first` keeps alive what its kind names."""

    first: Member
    way: Way = LOOP
    work: Work | None = None
    reason: str = ""
    compiled: dict[int, CompiledStep] = field(default_factory=dict)

    @property
    def figures(self) -> Figures:
        return FIGURES[self.first.task.machine.device.type]

    def without(self, reason: str, **changes: bool) -> None:
        """Choose anew, since something cannot be done."""
        assert self.work is not None
        self.work = dataclasses.replace(self.work, **changes)
        self.way, self.reason = strategy(self.work, self.figures), f"; {reason}"


@dataclass
class Engine:
    """Computes groups of members, and remembers for each how, and what it has compiled.

    A choice depends on task, plan, number of members and machine alone: the same call is computed the same way
    tomorrow, and in any division into calls.

    Attributes:
        way: compute everything so. None: as `strategy` says.
        computed: how the last group was computed, as `Record.computed` has it.
    """

    way: Way | None = None
    computed: str = "loop"
    _choices: dict[tuple[Hashable, int], _Choice] = field(default_factory=dict, repr=False)

    def advance(
        self, kind: Hashable, members: Sequence[Member], states: Sequence[State], until_step: int
    ) -> list[list[Row]]:
        """Advance members of one kind, those that can go on, changing their states, and return the new rows.

        Args:
            kind: from `groups`.
            members, states: all of the group, also those that have ended: the stacks are made of all.
            until_step: as in `advance`.
        """
        last = min(until_step, members[0].plan.steps)
        if (kind, len(members)) not in self._choices:
            self._choices[kind, len(members)] = self._chosen(members)
        choice = self._choices[kind, len(members)]
        rows = self._advance(choice, members, states, last)
        self.computed = f"{choice.way}{choice.reason}"
        return rows

    def _chosen(self, members: Sequence[Member]) -> _Choice:
        choice = _Choice(members[0], self.way or LOOP)
        if self.way is None and len(members) > 1 and len(members) * members[0].plan.steps >= _LEAST_STEPS:
            choice.work = work_of(members[0], len(members))
            choice.way = strategy(choice.work, choice.figures)
            if choice.way.form != "loop" and (fault := refusal(members)) is not None:
                choice.without(f"not stacked: {fault}", stackable=False)
        return choice

    def _advance(
        self, choice: _Choice, members: Sequence[Member], states: Sequence[State], last: int
    ) -> list[list[Row]]:
        way = choice.way
        shares = [list(range(k, len(members), way.processes)) for k in range(min(way.processes, len(members)))]
        if way.processes > 1:
            members = [with_one_thread(member) for member in members]
        left = [0 if state.outcome is not None else max(0, last - state.step) for state in states]
        busy = [own for own in shares if any(left[i] for i in own)]
        if way.form == "compiled":
            self._compile(choice, members, states, shares)
            if choice.way != way:
                return self._advance(choice, members, states, last)
        rows: list[list[Row]] = [[] for _ in members]
        given = [([members[i] for i in own], [states[i] for i in own]) for own in busy]
        work, figures = choice.work, choice.figures
        if len(busy) > 1 and (work is None or forks_pay(way, work, figures, sum(left))):
            found: Iterator[list[list[Row]]] = iter(
                advance_spread(given, last, lambda mine, theirs, until: self._here(choice, mine, theirs, until))
            )
        else:
            found = (self._here(choice, mine, theirs, last) for mine, theirs in given)
        for own, new in zip(busy, found, strict=True):
            for i, more in zip(own, new, strict=True):
                rows[i] = more
        return rows

    def _here(
        self, choice: _Choice, members: Sequence[Member], states: Sequence[State], until_step: int
    ) -> list[list[Row]]:
        """Advance a share of the members in this process."""
        rows: list[list[Row]] = [[] for _ in members]
        width = choice.way.width
        for piece in (range(first, min(first + width, len(members))) for first in range(0, len(members), width)):
            going: dict[int, list[int]] = {}
            for i in piece:
                if states[i].outcome is None and states[i].step < until_step:
                    going.setdefault(states[i].step, []).append(i)
            for own in going.values():
                some, theirs = [members[i] for i in own], [states[i] for i in own]
                if choice.way.form == "loop":
                    found = [advance(m.task, m.plan, s, until_step)[1] for m, s in zip(some, theirs, strict=True)]
                else:
                    step = self._step(choice, len(own))
                    found = advance_stack(some, theirs, until_step, step, compact=step is eager_step)
                for i, new in zip(own, found, strict=True):
                    rows[i] = new
        return rows

    def _step(self, choice: _Choice, width: int) -> StepFn:
        return eager_step if choice.way.form == "stacked" else choice.compiled.setdefault(width, CompiledStep())

    def _compile(
        self, choice: _Choice, members: Sequence[Member], states: Sequence[State], shares: Sequence[Sequence[int]]
    ) -> None:
        """Compile in this process what the forks will call, on copies: they inherit it."""
        width = choice.way.width
        for own in shares:
            for piece in (own[first : first + width] for first in range(0, len(own), width)):
                live = [i for i in piece if states[i].outcome is None and states[i].step < members[i].plan.steps]
                if not live or getattr(self._step(choice, len(live)), "ready", False):
                    continue
                some, copies = [members[i] for i in live], [states[i].clone() for i in live]
                try:
                    advance_stack(some, copies, copies[0].step + 1, self._step(choice, len(live)), compact=False)
                except Exception as error:  # no compiler that works here, or none for this model
                    if self.way is not None:
                        raise
                    choice.without(f"not compiled: {type(error).__name__}", compilable=False)
                    return
