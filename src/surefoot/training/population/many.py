"""`advance_many` and `fit_many`: the loop for K members at once.

A member's state, rows and outcome are those of the run that it would have been alone, up to rounding; how its steps
are computed is the engine's choice. So a member can be dropped, forked, saved or continued alone between two calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from surefoot.record.run import Record, Row
from surefoot.switches import usual_switches
from surefoot.training.loop import start
from surefoot.training.population.engine import Engine
from surefoot.training.population.member import Member
from surefoot.training.state import State


@usual_switches
def start_many(members: Sequence[Member]) -> list[State]:
    """Return the state of each member before its first step, [K]; raises as `start`.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> member = Member(digits, surefoot.plan(surefoot.Recipe(epochs=1), digits.data.examples))
    >>> [state.step for state in start_many([member, member])]
    [0, 0]
    """
    return [start(member.task, member.plan) for member in members]


@usual_switches
def advance_many(
    members: Sequence[Member], states: Sequence[State], until_step: int, engine: Engine | None = None
) -> tuple[list[State], list[list[Row]]]:
    """Train every member until `until_step` updates are done, or its run ends before; return states and new rows.

    The given states are used up; go on with those that come back. A member that diverges ends with its own outcome and
    leaves the others as they would have been.

    Args:
        members: the tasks and plans, [K].
        states: one for each, from `start_many`, `advance_many`, `advance` or a checkpoint.
        until_step: as in `advance`; a member whose plan is shorter ends at its own end.
        engine: computes the steps; give the same one to every call, and it need not choose anew. None makes one.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> recipes = [surefoot.Recipe(lr=lr, epochs=1) for lr in (0.01, 0.1)]
    >>> members = [Member(digits, surefoot.plan(recipe, digits.data.examples)) for recipe in recipes]
    >>> states, rows = advance_many(members, start_many(members), until_step=5)
    >>> [state.step for state in states]
    [5, 5]
    """
    moved = list(states)
    return moved, (engine or Engine()).advance(members, moved, until_step)


@usual_switches
def fit_many(members: Sequence[Member], engine: Engine | None = None) -> tuple[list[State], list[Record]]:
    """Train every member from its start to its end and return the last states and the records, as `fit` does for one.

    Each record says in `computed` how the engine computed the run.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> plans = [surefoot.plan(surefoot.Recipe(lr=lr, epochs=2), digits.data.examples) for lr in (0.1, 1e12)]
    >>> _, records = fit_many([Member(digits, plan) for plan in plans])
    >>> [record.outcome.kind for record in records]
    ['finished', 'diverged']
    """
    engine, states = engine or Engine(), start_many(members)
    found = engine.advance(members, states, max((member.plan.steps for member in members), default=0))
    records = []
    for rows, state, computed in zip(found, states, engine.computed(members), strict=True):
        assert state.outcome is not None  # `advance` to the last step ends every run
        records.append(Record(rows=tuple(rows), outcome=state.outcome, computed=computed))
    return states, records
