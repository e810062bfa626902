"""The rule of a run whose weights are moved by an optimizer of the caller's: `surefoot.train(..., optimizer=...)`.

It is not found among the rules, since there is no formula: the optimizer itself is asked in every step, at the rate
that the schedule gives. All of its settings but the rate are in the function that makes it.
"""

from __future__ import annotations

from typing import Any

from surefoot.rules.rule import OF_OPTIMIZER, Program, Slots, UpdateRule, Values

NAME = "optimizer"


def _formula(w: Any, g: Any, slots: Slots, values: Values) -> tuple[Any, dict[str, Any]]:
    raise NotImplementedError("an optimizer of the caller's has no formula")


def _program(values: Values, weights: str) -> Program:
    made = [
        f"optimizer = make_optimizer({weights})",
        'first = optimizer.param_groups[0]["lr"]',
        OF_OPTIMIZER,
        '    group["share"] = group["lr"] / first',
    ]
    return made, [OF_OPTIMIZER, '    group["lr"] = lr * group["share"]', "optimizer.step()"]


def _refuses(values: Values) -> tuple[str, str, str] | None:
    if values["weight_decay"] != 0:
        return (
            f"weight_decay = {values['weight_decay']} with optimizer=", "the optimizer has a weight decay of its own",
            "leave weight_decay out, and set it where the optimizer is made",
        )  # fmt: skip
    return None


OPTIMIZER = UpdateRule(
    name=NAME,
    text="an optimizer of yours, given in Python",
    defaults={"lr": None, "weight_decay": 0.0},
    slots=lambda values: {},
    formula=_formula,
    program=_program,
    # Where SGD's and Adam's ranges begin and end: nothing is known of it. The grid is widened by itself.
    lr_range=(1e-5, 1e-1),
    batch_exponent=0.5,  # of most that are not SGD: Malladi et al. 2022, arXiv 2205.10287
    memory="weight_decay",  # which is not searched either
    memories=(0.0,),
    memory_scale=1.0,
    refuses=_refuses,
)
