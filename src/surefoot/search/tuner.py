"""The seven steps as one loop: from a task to the recipe that its final training should follow, with the evidence.

The search is a generator, so whoever runs it owns the loop: it yields its progress, and may be dropped at any point.
What it has found lies in the journal, and the next search with the same journal goes on from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any

from torch import nn

from surefoot.config import Recipe
from surefoot.models.build import Factory
from surefoot.record.progress import Progress, within
from surefoot.search.bracket import bracket_rates, choose_batch_size, space_around
from surefoot.search.budget import Ledger
from surefoot.search.checks import check_before_training
from surefoot.search.coarse import coarse
from surefoot.search.journal import Journal
from surefoot.search.length import measure_length, sized
from surefoot.search.refine import refine
from surefoot.search.shape import choose_schedule
from surefoot.search.work import Found, Search, Work
from surefoot.training.population.engine import Engine
from surefoot.training.task import Loss, Task


def tuning(
    task: Task,
    base: Recipe,
    search: Search,
    journal: Journal,
    *,
    given: tuple[str | nn.Module | Factory, Any, Loss | None],
    engine: Engine | None = None,
    ledger: Ledger | None = None,
) -> Generator[Progress, None, Found]:
    """Search for a recipe, a piece at a time, and return what was found.

    Args:
        task: what is learned; it needs a validation part.
        base: the recipe to start from. Its length is that of the final training, if it has one.
        search: budget and what is fixed.
        journal: what is known from an earlier call, and where everything is kept.
        given: model, data and loss as the user gave them, for the steps before training.
        engine: computes the trials; None makes one.
        ledger: gets what is spent, for whoever wants to look on; None makes one.
    """
    own = Work(task, base, search, journal, engine or Engine(), ledger or Ledger(search.budget))
    own.base = sized(own)
    measure_length(own)
    failed = yield from check_before_training(own, given)
    if failed and not search.force:
        return Found(None, own.made, own.ledger, own.unchecked)
    failed = yield from within("step 3, learning rate", bracket_rates(own))
    if failed and not search.force:
        return Found(None, own.made, own.ledger, own.unchecked)
    yield from within("step 3, batch size", choose_batch_size(own))
    where = space_around(own)
    failed = yield from within("step 4, coarse grid", coarse(own, where))
    if failed and not search.force:
        return Found(None, own.made, own.ledger, own.unchecked)
    choice = yield from within("step 5, refine", refine(own, where))
    recipe = dataclasses.replace(choice.recipe, epochs=own.base.epochs, steps=own.base.steps)
    recipe = yield from within("step 5, schedule", choose_schedule(own, recipe))
    return Found(dataclasses.replace(recipe, ema_decay=base.ema_decay), own.made, own.ledger, own.unchecked)
