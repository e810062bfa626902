"""Steps 5 and 7: rounds of narrower grids and longer runs."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

from surefoot.record.progress import Progress
from surefoot.search import decide as judge
from surefoot.search import moves as search
from surefoot.search import space
from surefoot.search.coarse import TELLING_SHARE
from surefoot.search.shape import reserve
from surefoot.search.trials import trial_of, trying
from surefoot.search.work import Work

REFINED = 3
"""Members of a round of refinement: fewer do not enclose a best rate."""
MOST_ROUNDS = 6
SETTLED = 0.01
"""A round that lowers the expected log error by less than this was the last. Chosen by hand: 1 % of the errors."""
SEEDS = 3
"""Repetitions of the best recipes where they are close and it can be paid for."""


def refine(own: Work, where: space.Space) -> Generator[Progress, None, search.Choice]:
    """Do rounds of narrower and longer runs, as long as they can be paid for and change anything."""
    if not any(each.finished for each in own.tried):
        return _unsearched(own, where)
    choice = search.choose(own.tried, where, own.validation_examples)
    longest = max(each.trial.share for each in own.tried)
    kept = reserve(own)
    for number in range(1, MOST_ROUNDS + 1):
        left = own.ledger.left - kept
        if left <= 0:
            break
        share = min(1.0, left / REFINED) if left < 2 * REFINED else 1.0
        count = max(0, int(left / share + 1e-9)) if share < 1 else min(max(REFINED, int(left / 2)), 8)
        if share < longest or count < REFINED:
            share, count = longest, int(left / longest)
        if count < 1:
            break
        inside = space.without_momentum(where) if choice.momentum_open else where
        if share < TELLING_SHARE and not where.fixed_rate:
            inside = space.only_rates(where)
        points = search.next_points(own.tried, inside, count, share, own.validation_examples, number=number)
        trials = [trial_of("refine", own.base, where.recipe(point, share), 0, share) for point in points]
        if share == 1.0 and number > 1 and left >= 2 * SEEDS:  # the best ones again, to tell luck from worth
            best = search.promising(own.tried, where, 2, own.validation_examples)
            trials += [trial_of("refine", own.base, recipe, seed, 1.0) for recipe in best for seed in (1, 2)]
            trials = trials[: max(1, int(left))]
        if not trials:
            break
        before = choice

        def make(trials: Any = trials, number: int = number, before: Any = before) -> Any:
            found = yield from trying(own.task, trials, own.journal, own.engine)
            now = search.choose([*own.tried, *found], where, own.validation_examples)
            return judge.refined(number, before, now, found, own.tried, own.validation_examples), found

        yield from own.booked(make)
        choice = search.choose(own.tried, where, own.validation_examples)
        longest = max(longest, share)
        if share == 1.0 and number > 1 and before.error - choice.error < SETTLED and before.recipe == choice.recipe:
            break
    if longest < 1:
        own.left_out(
            f"a run of the final length: the longest trial was {longest:.0%} of it, and the rate is extrapolated"
        )
    if choice.decay_open or choice.momentum_open:
        usual = {"weight decay": (choice.decay_open, choice.recipe.weight_decay),
                 "momentum": (choice.momentum_open, choice.recipe.momentum)}  # fmt: skip
        for name, (is_open, value) in usual.items():
            if is_open:
                own.left_out(f"other values of {name} than {value:g}")
    return choice


def _unsearched(own: Work, where: space.Space) -> search.Choice:
    """The choice where no trial was made: the middle of the bracket, with everything else as it was."""
    value = own.value_of("learning-rate")
    lr = value["lr"] if value else own.base.lr
    point = space.usual(where, lr / (1 - own.base.momentum))
    recipe = where.recipe(point, 1.0)
    low, high = (value["low"], value["high"]) if value else (lr, lr)
    return search.Choice(point, recipe, math.nan, math.nan, low, high, (recipe,), False, True, True)
