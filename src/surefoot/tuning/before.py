"""Steps 0 to 2 inside a search, as far as its budget allows."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from surefoot.diagnose import choosing as judge
from surefoot.record.decision import Decision
from surefoot.tuning.initial_loss import check_initial_loss
from surefoot.tuning.overfit import LRS, overfitting_sample
from surefoot.tuning.progress import Progress
from surefoot.tuning.wiring import check_wiring
from surefoot.tuning.work import Work

OVERFIT_SHARE = 0.15
"""Step 2 is left out where it could cost more than this share of what the search may cost. Chosen by hand."""


def check_before_training(own: Work, given: tuple[Any, Any, Any]) -> Generator[Progress, None, bool]:
    """Do steps 0, 1 and 2 and return whether one of them fails.

    Args:
        own: the search.
        given: model, data and loss as the user gave them.
    """
    model, data, loss = given
    place = own.task.machine
    where: dict[str, Any] = {
        "seed": own.task.seed, "device": str(place.device), "precision": place.precision, "threads": place.threads
    }  # fmt: skip

    def wiring() -> Generator[Progress, None, Decision]:
        yield Progress(0, 1, "step 0: wiring")
        return check_wiring(model, data, loss, **where)

    def initial() -> Generator[Progress, None, Decision]:
        yield Progress(0, 1, "step 1: initial loss")
        return check_initial_loss(model, data, loss, weight_decay=own.base.weight_decay, **where)

    decision = yield from own.decision(wiring, judge.wiring_examples)
    if decision.verdict == "fail" and not own.search.force:
        return True
    decision = yield from own.decision(initial, judge.initial_loss_examples)
    if decision.verdict == "fail" and not own.search.force:
        return True
    return (yield from _overfit(own))


def _overfit(own: Work) -> Generator[Progress, None, bool]:
    batches, size, most = 8, 16, 800
    worst = len(LRS) * most * size / max(1, own.ledger.final_examples)
    if worst > OVERFIT_SHARE * own.ledger.left:
        most = int(OVERFIT_SHARE * own.ledger.left * own.ledger.final_examples / (len(LRS) * size))
    if most < 150:
        own.left_out("step 2, overfitting a small sample: it could take too large a part of this budget; "
                     "surefoot check does it")  # fmt: skip
        return False
    decision = yield from own.decision(
        lambda: overfitting_sample(own.task, batches=batches, max_steps=most), judge.overfit_examples
    )
    return decision.verdict == "fail"
