"""How long the final training is, and what it takes."""

from __future__ import annotations

import dataclasses
import math

from surefoot.config import Recipe
from surefoot.diagnose import choosing as judge
from surefoot.sgd.plan import DEFAULT_EPOCHS, plan
from surefoot.tuning.budget import FINAL_SHARE
from surefoot.tuning.step_time import StepTime, step_time
from surefoot.tuning.work import Work

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


def measure_length(own: Work) -> None:
    """Fill in how long the final training is and takes; a free length takes a third of the time."""
    base, ledger = own.base, own.ledger
    free = base.epochs is None and base.steps is None
    timed = StepTime(0.0, 0.0)
    if not own.exact:
        timed = StepTime(
            **own.journal.timed(
                f"step at batch {base.batch_size}", lambda: dataclasses.asdict(step_time(own.task, base))
            )
        )
    if free:
        assert ledger.budget.seconds is not None
        an_epoch = timed.seconds(plan(dataclasses.replace(base, epochs=1.0), own.task.data.examples).steps, 1)
        epochs = ledger.budget.seconds * FINAL_SHARE / max(an_epoch, 1e-9)
        base = dataclasses.replace(base, epochs=float(max(1, min(MOST_EPOCHS, math.floor(epochs)))))
    own.base = base
    made = plan(base, own.task.data.examples)
    ledger.final_examples = made.steps * made.batch_size
    ledger.final_seconds = timed.seconds(made.steps, len(made.row_steps))
    ledger.seconds_per_example = timed.step_seconds / made.batch_size
