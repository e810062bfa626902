"""What one step of a rule costs: timed alone, in the plain loop, in turns with the other rules."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from surefoot.config import Recipe
from surefoot.steps.follow import rate_plan
from surefoot.training.loop import advance, start
from surefoot.training.task import Task

ROUNDS = 5
"""Repetitions, of which the median counts. Chosen by hand."""
PIECE_SECONDS = 0.05
"""One repetition lasts about this long, or one step where that is longer. Chosen by hand."""
_MOST_STEPS = 100_000


def step_costs(task: Task, recipes: Sequence[Recipe]) -> Generator[int, None, list[list[float]]]:
    """Return the seconds of one step of each rule, [R][ROUNDS].

    Steps are those of the loop, at rate 0, so that nothing can diverge while it is timed; they cost what others do.
    The rules take turns, so that a machine that slows down slows all of them.

    Args:
        task: what is trained.
        recipes: of the rules.

    Yields:
        steps done.
    """
    bare = replace(task, data=replace(task.data, validation=None, test=None))
    zeros = np.zeros(_MOST_STEPS)
    tables = [rate_plan(recipe, bare.data.examples, zeros) for recipe in recipes]
    plans = [replace(plan, row_steps=(_MOST_STEPS,)) for plan in tables]
    states = [start(bare, plan) for plan in plans]
    pieces = [0] * len(plans)
    costs: list[list[float]] = [[] for _ in plans]
    for turn in range(ROUNDS + 2):  # the first turn warms up, the second finds how many steps make a piece
        for i, plan in enumerate(plans):
            before, steps = states[i].seconds, max(1, pieces[i])
            states[i], _ = advance(bare, plan, states[i], states[i].step + steps)
            each = (states[i].seconds - before) / steps
            if turn == 1:
                pieces[i] = max(1, min(1000, round(PIECE_SECONDS / each)))
            elif turn > 1:
                costs[i].append(each)
            states[i].tally.losses.clear()
            yield steps
    return costs
