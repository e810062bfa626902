"""How long the final training is, and what it takes."""

from __future__ import annotations

import dataclasses
import math

from surefoot.config import Recipe, Schedule
from surefoot.errors import ConfigError
from surefoot.optim.plan import DEFAULT_EPOCHS, plan
from surefoot.search import decide as judge
from surefoot.search.budget import FINAL_SHARE
from surefoot.search.step_time import StepTime, step_time
from surefoot.search.trials import shrunk
from surefoot.search.work import Work

MOST_EPOCHS = 30.0
"""Of a final training whose length is free and whose recipe gives none: what the time allows, but not more. Chosen by
hand: enough for more than 90 % on CIFAR-10 (Jordan 2024, arXiv 2404.00498, section 3), and a start for others."""


def sized(own: Work) -> Recipe:
    """Return the base recipe with a batch that leaves enough updates in an epoch, and a length if it is not free."""
    base, examples = own.base, own.task.data.examples
    size = examples if base.batch_size == "full" else min(base.batch_size, examples)
    if "batch_size" not in own.search.fixed:
        size = judge.batch_size(size, examples)
    if base.epochs is None and base.steps is None and own.exact:
        base = dataclasses.replace(base, epochs=DEFAULT_EPOCHS)
    return dataclasses.replace(base, batch_size=size, ema_decay=None)


def measure_length(own: Work, *, anew: bool = False) -> None:
    """Fill in how long the final training is and takes.

    In a budget of time, a length that the user has not fixed takes a third of it at most: whole epochs, no more than
    the base recipe's own; its schedule shrinks with it.

    Args:
        own: the work; its base recipe and its ledger are changed.
        anew: measure what the length takes after a change of the batch size, and keep it.

    Raises:
        ConfigError: the final training alone takes longer than the budget.
    """
    base, ledger, examples = own.base, own.ledger, own.task.data.examples
    timed = StepTime(0.0, 0.0)
    if not own.exact:
        timed = StepTime(
            **own.journal.timed(
                f"step at batch {base.batch_size}", lambda: dataclasses.asdict(step_time(own.task, base))
            )
        )
    if not own.exact and not anew and own.search.fixed.isdisjoint({"epochs", "steps"}):
        base = own.base = _shortened(base, timed, ledger.budget.seconds or 0.0, examples)
    made = plan(base, examples)
    ledger.final_examples = made.steps * made.batch_size
    ledger.final_seconds = timed.seconds(made.steps, len(made.row_steps))
    ledger.seconds_per_example = timed.step_seconds / made.batch_size
    if ledger.budget.seconds is not None and not anew and ledger.final_seconds > ledger.budget.seconds:
        length = f"{made.steps / made.steps_per_epoch:.3g} epochs"
        raise ConfigError(
            f"budget = {ledger.budget} for a final training of {length} on {own.task.machine.device}",
            f"that training alone takes about {ledger.final_seconds:.0f} s",
            "give a larger budget, fewer epochs or less data",
        )


def _shortened(base: Recipe, timed: StepTime, seconds: float, examples: int) -> Recipe:
    """Return the recipe with as many whole epochs as a third of the time allows, but no more than it has."""
    per_epoch = plan(dataclasses.replace(base, epochs=1.0, steps=None, schedule=Schedule()), examples).steps
    affordable = max(1, math.floor(seconds * FINAL_SHARE / max(timed.seconds(per_epoch, 1), 1e-9)))
    own = base.steps / per_epoch if base.steps is not None else base.epochs
    if own is not None and own <= affordable:
        return base
    epochs = float(min(affordable, MOST_EPOCHS))
    schedule = base.schedule if own is None else shrunk(base.schedule, epochs / own)
    return dataclasses.replace(base, epochs=epochs, steps=None, schedule=schedule)
