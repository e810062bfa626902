"""RMSProp, a gradient over the root of its mean square: Tieleman & Hinton 2012, "Lecture 6.5", in PyTorch's form.

   S <- alpha S + (1 - alpha) g^2;  V <- momentum V + g / (sqrt(S) + eps);  W <- W - lr V

Weight decay adds wd W to g. S is not centered, as in the lecture.
"""

from __future__ import annotations

from typing import Any, Literal

from surefoot.rules.rule import Program, Slots, UpdateRule, Values, torch_program


def _slots(values: Values) -> dict[str, Literal["weight", "number"]]:
    return {"square": "weight", "velocity": "weight"} if values["momentum"] > 0 else {"square": "weight"}


def _numbers(values: Values, first: bool) -> dict[str, float]:
    alpha = values["alpha"]
    others = {name: values[name] for name in ("momentum", "eps", "weight_decay")}
    return {"alpha": alpha, "rest": 1 - alpha, **others}


def _formula(w: Any, g: Any, slots: Slots, values: Values) -> tuple[Any, dict[str, Any]]:
    g = g + values["weight_decay"] * w
    square = values["alpha"] * slots["square"] + values["rest"] * g * g
    v = g / (square.sqrt() + values["eps"])
    if "velocity" not in slots:
        return w - values["lr"] * v, {"square": square}
    v = values["momentum"] * slots["velocity"] + v
    return w - values["lr"] * v, {"square": square, "velocity": v}


def _program(values: Values, weights: str) -> Program:
    return torch_program(
        f"torch.optim.RMSprop({weights}, lr={values['lr']!r}, alpha={values['alpha']!r}, eps={values['eps']!r}, "
        f"weight_decay={values['weight_decay']!r}, momentum={values['momentum']!r})"
    )


RULES = [
    UpdateRule(
        name="rmsprop",
        text="the gradient over the root of its mean square; weight decay coupled",
        # PyTorch's, but for the rate: 1e-3 is Hinton's, as Ruder 2016 (arXiv 1609.04747), section 4.5, has it.
        defaults={"lr": 1e-3, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
        slots=_slots,
        numbers=_numbers,
        formula=_formula,
        program=_program,
        lr_range=(3e-5, 3e-2),  # as Adam's, whose steps are of the same size
        batch_exponent=0.5,  # Malladi et al. 2022 (arXiv 2205.10287), section 5, as Adam's; and no `decays`, as Adam
        per_rate=lambda values: 1 - values["momentum"],
        memory="momentum",
        memories=(0.0, 0.8, 0.9, 0.95),  # SGD's, but for the last
        memory_scale=0.7,  # SGD's: not measured for this rule
    )
]
