"""Steps 0 to 2 inside a search, as far as its budget allows."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from surefoot.record.decision import Decision
from surefoot.record.progress import Progress, within
from surefoot.search import costs
from surefoot.search.work import Work
from surefoot.steps.initial_loss.check import check_initial_loss
from surefoot.steps.overfit.check import overfitting_sample
from surefoot.steps.wiring.check import check_wiring

USUAL_EXAMPLES = {"wiring": 3000, "overfit-sample": 10_000}
"""What steps 0 and 2 cost where nothing is wrong, in examples: seen on digits and CIFAR-10 with the shipped models. A
step that fails costs more, but it ends the search."""
LIGHT_EXAMPLES = {"wiring": 1000}
"""What a step costs in its light form, without the moment's training that shows whether labels depend on inputs: where
they do not, the coarse grid does not learn, and says so."""
CHECK_SHARE = {"wiring": 0.1, "overfit-sample": 0.15}
"""A step is done lightly, or left out, where that is more than this share of what the search may cost. By hand: a
quarter for step 0 took the rates of a search of two trainings a fifth of their runs."""


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

    def granted(name: str) -> float:
        return CHECK_SHARE.get(name, 1.0) * own.ledger.left * own.ledger.final_examples

    def wiring() -> Generator[Progress, None, Decision]:
        yield Progress(0, 1, "step 0: wiring")
        whole = USUAL_EXAMPLES["wiring"] <= granted("wiring")
        return check_wiring(model, data, loss, carry_over=whole, **where)

    def initial() -> Generator[Progress, None, Decision]:
        yield Progress(0, 1, "step 1: initial loss")
        return check_initial_loss(model, data, loss, weight_decay=own.base.weight_decay, **where)

    def overfit() -> Generator[Progress, None, Decision]:
        return (yield from within("step 2: overfit a sample", overfitting_sample(own.task)))

    steps = (
        ("wiring", "step 0, wiring", wiring, costs.wiring),
        ("initial-loss", "step 1, initial loss", initial, costs.initial_loss),
        ("overfit-sample", "step 2, overfitting a small sample", overfit, costs.overfit),
    )
    for name, words, make, cost in steps:
        if LIGHT_EXAMPLES.get(name, USUAL_EXAMPLES.get(name, 0)) > granted(name):
            own.left_out(f"{words}: too large a part of this budget; surefoot check does it")
            continue
        decision = yield from own.decision(make, cost)
        if decision.verdict == "fail" and not own.search.force:
            return True
    return False
