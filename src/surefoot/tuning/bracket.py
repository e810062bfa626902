"""Step 3 inside a search, and the choice of the batch size that belongs before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

from surefoot.config import Schedule
from surefoot.diagnose import choosing as judge
from surefoot.diagnose import costs, space
from surefoot.record.decision import Decision
from surefoot.sgd.plan import plan
from surefoot.tuning.batch_size import BatchSizeSearch, choosing_batch_size
from surefoot.tuning.find_lr import searching
from surefoot.tuning.length import measure_length
from surefoot.tuning.lr_runs import LrSearch
from surefoot.tuning.progress import Progress
from surefoot.tuning.work import Work

BRACKET_SHARE, MOST_BRACKET_SHARE = 0.1, 0.2
"""Shares of what is left: step 3 is planned for the first, and may cost the second where the search is small or the
grid is widened. Chosen by hand: it only has to tell the coarse grid where to look."""
BATCH_SHARE = 0.15
"""Share of what is left that choosing the batch size may cost. Chosen by hand."""
_BATCH_STEPS = 200
"""Updates of the run along which noise is measured; measuring, timing and at most two races take as long each."""


def choose_batch_size(own: Work) -> Generator[Progress, None, None]:
    """Choose the batch size by predicted time to a loss, where time is the budget and it is free.

    It needs a rate that trains, so it comes after a first bracket, which is measured anew where the batch changes.
    """
    free = "batch_size" not in own.search.fixed
    if own.exact or not free:
        if free:
            own.left_out(f"the batch size: {own.base.batch_size} stands; only a budget in time has it chosen")
        return
    step = own.ledger.final_seconds / max(1, own.final_steps)
    bracket = own.value_of("learning-rate")
    if bracket is None or 5 * _BATCH_STEPS * step > BATCH_SHARE * own.ledger.left * own.ledger.final_seconds:
        own.left_out(f"the batch size: measuring the noise would take too large a part of this budget; "
                     f"{own.base.batch_size} stands")  # fmt: skip
        return
    recipe = dataclasses.replace(own.base, lr=bracket["low"])
    decision = yield from own.decision(
        lambda: choosing_batch_size(own.task, recipe, BatchSizeSearch(probe_steps=_BATCH_STEPS)),
        costs.batch_size,
    )
    if decision.value is None or decision.value["batch_size"] == own.base.batch_size:
        return
    own.base = dataclasses.replace(own.base, batch_size=decision.value["batch_size"])
    measure_length(own, anew=True)
    yield from bracket_rates(own)


def bracket_rates(own: Work) -> Generator[Progress, None, bool]:
    """Do step 3, as thoroughly as can be paid for, and return whether no rate works."""
    if "lr" in own.search.fixed:
        own.left_out("step 3, the bracket of learning rates: the rate is fixed")
        return False
    size = plan(own.base, own.task.data.examples).batch_size
    left = own.ledger.left * own.ledger.final_examples / size
    settings = judge.bracket_size(BRACKET_SHARE * left, own.final_steps)
    if judge.BRACKET_RUNS * settings.steps > MOST_BRACKET_SHARE * left:
        own.left_out("step 3, the bracket of learning rates: too large a part of this budget; surefoot find-lr does it")
        return False
    wanted = LrSearch(
        low=1e-4 if settings.points_per_decade > 2 else 1e-3, high=1e-1 if settings.points_per_decade > 2 else 1.0,
        points_per_decade=settings.points_per_decade, steps=settings.steps, seeds=settings.seeds,
        range_test=settings.seeds > 1, most_updates=int(MOST_BRACKET_SHARE * left),
    )  # fmt: skip
    recipe = dataclasses.replace(own.base, schedule=Schedule(kind="constant"))

    def bracketing() -> Generator[Progress, None, Decision]:
        made = yield from searching(own.task, recipe, wanted, own.engine)
        return judge.bracket_of_short_runs(made)

    decision = yield from own.decision(bracketing, costs.counted)
    return decision.value is None


def space_around(own: Work) -> space.Space:
    """Return the recipes around the bracket; where there is none, around the rates that the lecture tries."""
    value = own.value_of("learning-rate")
    low, high = (value["low"], value["high"]) if value else (own.base.lr, own.base.lr)
    if not value and "lr" not in own.search.fixed:
        low, high = 1e-3, 1e-1
    return space.space(own.base, own.final_steps, low, high, own.search.fixed)
