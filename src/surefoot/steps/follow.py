"""Members advanced to marks, and looked at there: the one runner of every measurement that trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from surefoot.record.run import Row
from surefoot.steps.pace import FIRST_STEPS, steps_at_once
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.state import State


@dataclass(frozen=True)
class Look:
    """Where members stand when they are looked at.

    Attributes:
        mark: the mark that they have reached; None between two marks.
        states: of the members, [K]. They are moved on when the next look is asked for, so keep a clone and not a state.
        rows: of each member from its start on, [K].
        steps: updates of single members since the look before.
    """

    mark: int | None
    states: list[State]
    rows: list[list[Row]]
    steps: int

    @property
    def alive(self) -> int:
        """How many members are still trained, neither diverged nor done."""
        return sum(state.outcome is None for state in self.states)


def follow(
    members: Sequence[Member],
    marks: Sequence[int],
    engine: Engine | None = None,
    states: Sequence[State] | None = None,
) -> Iterator[Look]:
    """Train members from mark to mark and give a look at each, and about once a second between them.

    The caller owns the `for`: to stop early, stop asking. A member that has ended stands where it ended, and every mark
    is looked at, also when nobody is alive.

    Args:
        members: [K].
        marks: steps at which to look, rising; 0 is a look before the first step.
        engine: computes the steps; None makes one.
        states: to go on from, [K]; None starts all members.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> member = Member(digits, surefoot.plan(surefoot.Recipe(epochs=1), digits.data.examples))
    >>> [(look.mark, look.states[0].step) for look in follow([member], [0, 1, 5]) if look.mark is not None]
    [(0, 0), (1, 1), (5, 5)]
    """
    engine = engine or Engine()
    here = list(states) if states is not None else start_many(members)
    rows: list[list[Row]] = [[] for _ in members]
    piece = steps_at_once(members)
    at_once = max(FIRST_STEPS, piece)
    for mark in marks:
        moved = 0
        while behind := [state.step for state in here if state.outcome is None and state.step < mark]:
            before = sum(state.step for state in here)
            until = min(mark, min(behind) + at_once)
            here, new = advance_many(members, here, until, engine)
            for kept, more in zip(rows, new, strict=True):
                kept += more
            moved, at_once = sum(state.step for state in here) - before, piece
            if until < mark:
                yield Look(None, here, rows, moved)
                moved = 0
        yield Look(mark, here, rows, moved)
