"""`advance_many` and `fit_many`: the loop for K members at once.

A member's state, rows and outcome are those of the run that it would have been alone, up to rounding; how its steps
are computed is the engine's choice. So a member can be dropped, forked, saved or continued alone between two calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surefoot.record.run import Record, Row
from surefoot.sgd.plan import Plan
from surefoot.training.loop import advance, start
from surefoot.training.state import State
from surefoot.training.task import Task


@dataclass(frozen=True)
class Member:
    """One of K: a task and the plan that it is trained by.

    Members of one task see the same batches, which makes them a paired comparison; `reseeded` makes a task with other
    initial weights, and with the same batches or its own.
    """

    task: Task
    plan: Plan


def start_many(members: Sequence[Member]) -> list[State]:
    """Return the state of each member before its first step; raises as `start`."""
    return [start(member.task, member.plan) for member in members]


def advance_many(
    members: Sequence[Member], states: Sequence[State], until_step: int
) -> tuple[list[State], list[list[Row]]]:
    """Train every member until `until_step` updates are done, or its run ends before; return states and new rows.

    The given states are used up; go on with those that come back. A member that diverges ends with its own outcome and
    leaves the others as they would have been.

    Args:
        members: the tasks and plans, [K].
        states: one for each, from `start_many`, `advance_many`, `advance` or a checkpoint.
        until_step: as in `advance`; a member whose plan is shorter ends at its own end.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> recipes = [surefoot.Recipe(lr=lr, epochs=1) for lr in (0.01, 0.1)]
    >>> members = [Member(digits, surefoot.plan(recipe, digits.data.examples)) for recipe in recipes]
    >>> states, rows = advance_many(members, start_many(members), until_step=5)
    >>> [state.step for state in states]
    [5, 5]
    """
    moved = [advance(m.task, m.plan, state, until_step) for m, state in zip(members, states, strict=True)]
    return [state for state, _ in moved], [rows for _, rows in moved]


def fit_many(members: Sequence[Member]) -> tuple[list[State], list[Record]]:
    """Train every member from its start to its end and return the last states and the records, as `fit` does for one.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> plans = [surefoot.plan(surefoot.Recipe(lr=lr, epochs=2), digits.data.examples) for lr in (0.1, 1e12)]
    >>> _, records = fit_many([Member(digits, plan) for plan in plans])
    >>> [record.outcome.kind for record in records]
    ['finished', 'diverged']
    """
    longest = max((member.plan.steps for member in members), default=0)
    states, rows = advance_many(members, start_many(members), longest)
    return states, [
        Record(rows=tuple(own), outcome=state.outcome)
        for state, own in zip(states, rows, strict=True)
        if state.outcome is not None
    ]
