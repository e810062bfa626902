"""Steps 0 to 2 inside a search, as far as its budget allows."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from surefoot.diagnose import costs
from surefoot.record.decision import Decision
from surefoot.tuning.initial_loss import check_initial_loss, initial_loss_examples
from surefoot.tuning.overfit import overfit_examples, overfitting_sample
from surefoot.tuning.progress import Progress, within
from surefoot.tuning.wiring import check_wiring, light_examples
from surefoot.tuning.work import Work

CHECK_SHARE = {"wiring": 0.1, "initial-loss": 0.1, "overfit-sample": 0.15}
"""Shares of what is left that these steps may cost, in training examples. A step is left out where its smallest form
costs more; else it ends before it would. By hand: a quarter for step 0 took the rates of a search of two trainings a
fifth of their runs."""


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

    def granted(name: str) -> int:
        return max(0, int(CHECK_SHARE[name] * own.ledger.left * own.ledger.final_examples))

    def wiring() -> Generator[Progress, None, Decision]:
        yield Progress(0, 1, "step 0: wiring")
        return check_wiring(model, data, loss, most_examples=granted("wiring"), engine=own.engine, **where)

    def initial() -> Generator[Progress, None, Decision]:
        yield Progress(0, 1, "step 1: initial loss")
        most = granted("initial-loss")
        return check_initial_loss(model, data, loss, weight_decay=own.base.weight_decay, most_examples=most, **where)

    def overfit() -> Generator[Progress, None, Decision]:
        work = overfitting_sample(own.task, most_examples=granted("overfit-sample"), engine=own.engine)
        return (yield from within("step 2: overfit a sample", work))

    steps = (
        ("wiring", "step 0, wiring", wiring, light_examples(own.task)),
        ("initial-loss", "step 1, initial loss", initial, initial_loss_examples(own.task)),
        ("overfit-sample", "step 2, overfitting a small sample", overfit, overfit_examples(own.task)),
    )
    for name, words, make, least in steps:
        if least > granted(name):
            own.left_out(f"{words}: too large a part of this budget; surefoot check does it")
            continue
        decision = yield from own.decision(make, costs.counted)
        if decision.verdict == "fail" and not own.search.force:
            return True
        if name == "wiring" and decision.verdict != "fail" and "dependence" not in decision.evidence:
            own.left_out(f"{words}, whether labels depend on inputs: too large a part of this budget; surefoot check "
                         "does it")  # fmt: skip
        if any(finding.name == "unfinished" for finding in decision.findings):
            own.left_out(f"{words}: not decided within its part of this budget; surefoot check does it")
    return False
