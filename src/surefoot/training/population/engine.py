"""How a group of members is computed: as `strategy` says, if a stack proves to compute what its members do alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from surefoot.errors import ConfigError
from surefoot.record.run import Row
from surefoot.training.alone import out_of_memory
from surefoot.training.figures import rule_figures
from surefoot.training.loop import advance
from surefoot.training.population.compiled import CompiledStep, shape
from surefoot.training.population.member import Member, groups
from surefoot.training.population.spread import advance_spread, with_one_thread
from surefoot.training.population.stack import Stack, advance_stack
from surefoot.training.population.strategy import LOOP, Figures, Way, Work, forks_pay, strategy
from surefoot.training.population.workload import refusal, work_of
from surefoot.training.state import State, has_extra_state

_AS_GRAPHS = " as graphs"
"""What is said of members whose steps are a CUDA graph, each alone or all as one."""
LEAST_STEPS = 100
"""Steps of single members below which nothing is counted: the counting takes as long as three or four."""
_MOST_SHARE = 2.0
"""Stacks that stay with their graphs, in stacks that are as wide as memory allows: a quarter of it each, see
`work_of`. Chosen by hand."""


@dataclass
class _Recent:
    """Stacks whose steps are graphs, for the calls to come: those used last, and the share of memory of each."""

    stacks: list[tuple[Stack, float]] = field(default_factory=list)

    def take(self, members: Sequence[Member], states: Sequence[State], going: Sequence[int]) -> Stack | None:
        """Return the stack of these members, with the values of these states; None where there is none."""
        stack = next((stack for stack, _ in self.stacks if stack.is_of(members, states, going)), None)
        if stack is not None:
            stack.load(states, going)
        return stack

    def put(self, stack: Stack, share: float) -> None:
        others = [(other, of_other) for other, of_other in self.stacks if other is not stack]
        while others and sum(of_other for _, of_other in others) + share > _MOST_SHARE:
            others.pop(0)
        self.stacks = [*others, (stack, share)]


@dataclass
class _Choice:
    """How a group is computed, why not better, what was compiled for it; `first` keeps alive what its kind names.

    `graph` is what came of graphs on a card, in words.
    """

    first: Member
    figures: Figures
    recent: _Recent
    way: Way = LOOP
    work: Work | None = None
    reason: str = ""
    graph: str = ""
    compiled: dict[Hashable, CompiledStep] = field(default_factory=dict)

    def choose(self, work: Work, reason: str = "") -> None:
        """Follow the rule, again where it turned out that something cannot be done."""
        self.work, self.way, self.reason = work, strategy(work, self.figures), reason

    def narrow(self, members: int) -> None:
        """Compute from now on in stacks of half the width at most, for memory was too small for so many members."""
        wide = min(self.way.width, members)
        half, reason = max(1, wide // 2), f"; not {dataclasses.replace(self.way, width=wide)}: out of memory"
        self.recent.stacks.clear()
        if self.first.task.machine.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.work is not None:
            self.choose(dataclasses.replace(self.work, fitting=half, compilable=False), reason)
        else:
            form = "stacked" if half > 1 else "loop"
            self.way, self.reason = dataclasses.replace(self.way, form=form, width=half), reason


@dataclass
class Engine:
    """Computes groups of members, and remembers for each how, and what it has compiled.

    A choice depends on task, plan, number of members, machine and its figures alone: the same call is computed the same
    way tomorrow, and in any division into calls.

    Attributes:
        way: compute everything so; an error where members cannot be stacked. None: as `strategy` says.
        figures: by which `strategy` goes; None: what `surefoot doctor` measured of this machine, or what was fitted to
            another.
    """

    way: Way | None = None
    figures: Figures | None = None
    _choices: dict[tuple[Hashable, int], _Choice] = field(default_factory=dict, repr=False)
    _recent: _Recent = field(default_factory=_Recent, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.way, Way | None):
            raise ConfigError(f"Engine(way={self.way!r})", "a way is a Way, as Way('stacked', 8)", "leave it out")

    def advance(self, members: Sequence[Member], states: Sequence[State], until_step: int) -> list[list[Row]]:
        """Advance the members that can go on, changing their states, and return the new rows of each.

        Args:
            members, states: all, also those that have ended: stacks are made of all that are alike.
            until_step: as in `advance`.
        """
        rows: list[list[Row]] = [[] for _ in members]
        for kind, positions in groups(members).items():
            some, theirs = [members[i] for i in positions], [states[i] for i in positions]
            last = min(until_step, some[0].plan.steps)
            if all(state.outcome is not None or state.step >= last for state in theirs):
                continue
            if (kind, len(some)) not in self._choices:
                self._choices[kind, len(some)] = self._chosen(some)
            for i, new in zip(
                positions, self._advance(self._choices[kind, len(some)], some, theirs, last), strict=True
            ):
                rows[i] = new
        return rows

    def computed(self, members: Sequence[Member]) -> list[str]:
        """Return how this engine has computed each member of a call, as `Record.computed` has it."""
        found = {i: self._choices.get((kind, len(at))) for kind, at in groups(members).items() for i in at}
        return [
            f"{one.way}{one.graph}{one.reason}" if (one := found[i]) is not None else "loop"
            for i in range(len(members))
        ]

    def _chosen(self, members: Sequence[Member]) -> _Choice:
        figures = self.figures or rule_figures(members[0].task.machine.device)
        choice = _Choice(members[0], figures, self._recent, self.way or LOOP)
        if choice.way.form != "loop" and len(members) > 1 and (fault := refusal(members)) is not None:
            raise ConfigError(
                f"Engine(way={self.way!r}) for members that cannot be stacked: {fault}",
                "a stack must compute what its members do alone",
                "leave way out",
            )
        if self.way is None and len(members) > 1 and len(members) * members[0].plan.steps >= LEAST_STEPS:
            choice.choose(work := work_of(members[0], len(members)))
            if choice.way.form != "loop" and (fault := refusal(members)) is not None:
                choice.choose(dataclasses.replace(work, stackable=False), f"; not stacked: {fault}")
        return choice

    def _advance(
        self, choice: _Choice, members: Sequence[Member], states: Sequence[State], last: int
    ) -> list[list[Row]]:
        processes = min(choice.way.processes, len(members))
        shares = [list(range(k, len(members), processes)) for k in range(processes)]
        alone = [with_one_thread(member) for member in members] if choice.way.processes > 1 else members
        left = [0 if state.outcome is not None else max(0, last - state.step) for state in states]
        busy = [share for share in shares if any(left[i] for i in share)]
        if choice.way.form == "compiled" and not self._compiled(choice, alone, states, busy):
            return self._advance(choice, members, states, last)
        given = [([alone[i] for i in share], [states[i] for i in share]) for share in busy]
        found: list[list[list[Row]] | None] = [None] * len(busy)
        if len(busy) > 1 and (choice.work is None or forks_pay(choice.way, choice.work, choice.figures, sum(left))):
            found = advance_spread(given, last, partial(_here, choice))
        rows: list[list[Row]] = [[] for _ in members]
        for share, new in zip(busy, found, strict=True):
            for i, more in zip(share, new or (), strict=new is not None):
                rows[i] = more
        try:
            for share, (some, theirs), new in zip(busy, given, found, strict=True):
                if new is None:
                    _here(choice, some, theirs, last, [rows[i] for i in share])
            return rows
        except BaseException as error:  # torch's or Python's own; any other is raised again
            if choice.way.form == "loop" or not out_of_memory(error):
                raise
        choice.narrow(len(members))  # here, where nothing holds the tensors any more that were too many
        others = self._advance(choice, members, states, last)
        return [[*old, *more] for old, more in zip(rows, others, strict=True)]

    def _compiled(
        self, choice: _Choice, members: Sequence[Member], states: Sequence[State], shares: Sequence[Sequence[int]]
    ) -> bool:
        """Compile in this process, on copies, what the forks will call: they inherit it. False where that fails."""
        width = choice.way.width
        for piece in (share[at : at + width] for share in shares for at in range(0, len(share), width)):
            some, theirs = [members[i] for i in piece], [states[i] for i in piece]
            step = choice.compiled.setdefault(shape(some), CompiledStep())
            going = [i for i, state in enumerate(theirs) if state.outcome is None and state.step < some[i].plan.steps]
            if step.ready or not going:
                continue
            copies = [state.clone() for state in theirs]
            at = copies[going[0]].step
            try:
                advance_stack(some, copies, at + 1, step, [i for i in going if copies[i].step == at])
            except Exception as error:  # no compiler that works here, or none for this model
                if choice.work is None:
                    raise
                choice.choose(
                    dataclasses.replace(choice.work, compilable=False), f"; not compiled: {type(error).__name__}"
                )
                return False
        return True


def _here(
    choice: _Choice, members: Sequence[Member], states: Sequence[State], until_step: int,
    rows: list[list[Row]] | None = None,
) -> list[list[Row]]:  # fmt: skip
    """Advance a share of the members in this process, in stacks of all of them, so that none depends on who is left.

    The new rows of each are added to `rows`, as in `advance_alike`.
    """
    rows = [[] for _ in members] if rows is None else rows
    for first in range(0, len(members), choice.way.width):
        piece = slice(first, first + choice.way.width)
        some, theirs = members[piece], states[piece]
        going: dict[int, list[int]] = {}
        for i, state in enumerate(theirs):
            if state.outcome is None and state.step < until_step:
                going.setdefault(state.step, []).append(i)
        for alike in going.values():
            if choice.way.form == "loop" or has_extra_state(some[0].task.template):
                for i in alike:
                    rows[first + i] += advance(some[i].task, some[i].plan, theirs[i], until_step)[1]
                computed = theirs[alike[0]].computed
                if choice.work is not None and first >= choice.work.fitting:
                    theirs[0].stepper = None  # a graph holds the memory of a step for as long as it is there
                choice.graph = _AS_GRAPHS if computed == "graph" else computed.removeprefix("loop")
            else:
                _stacked(choice, some, theirs, until_step, alike, rows[piece])
    return rows


def _stacked(
    choice: _Choice, members: Sequence[Member], states: Sequence[State], until_step: int, going: Sequence[int],
    rows: list[list[Row]],
) -> None:  # fmt: skip
    """Advance those that go, of members that are one stack; with its graph it stays for the next call."""
    compute = choice.compiled[shape(members)] if choice.way.form == "compiled" else None
    stack = choice.recent.take(members, states, going) or Stack(members, states, compute, going)
    advance_stack(members, states, until_step, compute, going, stack, rows)
    if stack.graphed:
        choice.graph = f"; not a graph: {stack.eager}" if stack.eager else _AS_GRAPHS
        choice.recent.put(stack, 1.0 if choice.work is None else len(members) / choice.work.fitting)
