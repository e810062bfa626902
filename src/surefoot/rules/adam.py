"""Adam, whose step is the mean of the gradients over the root of their mean square: Kingma & Ba 2014 (arXiv 1412.6980),
algorithm 1; and AdamW, in which weight decay does not go through that quotient: Loshchilov & Hutter 2017
(arXiv 1711.05101), algorithm 2.

   M <- beta1 M + (1 - beta1) g;  S <- beta2 S + (1 - beta2) g^2;
   W <- W - lr M / (1 - beta1^t) / (sqrt(S / (1 - beta2^t)) + eps), t the updates of this weight, this one among them

"adam" adds wd W to g, "adamw" takes lr wd W off W before; both are those of torch.optim.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

from surefoot.rules.rule import Program, Slots, UpdateRule, Values, torch_program


def _slots(values: Values) -> dict[str, Literal["weight", "number"]]:
    return {"mean": "weight", "square": "weight", "updates": "number"}


def _numbers(values: Values, first: bool) -> dict[str, float]:
    """The logarithms are taken here, in double precision: 1 - 0.999^t of a float32 0.999 is off in its fifth digit."""
    beta1, beta2 = values["beta1"], values["beta2"]
    return {
        "beta1": beta1, "rest1": 1 - beta1, "log1": math.log(beta1) if beta1 else -math.inf,
        "beta2": beta2, "rest2": 1 - beta2, "log2": math.log(beta2) if beta2 else -math.inf,
        "eps": values["eps"], "weight_decay": values["weight_decay"],
    }  # fmt: skip


def _moved(w: Any, g: Any, slots: Slots, values: Values) -> tuple[Any, dict[str, Any]]:
    t = slots["updates"] + 1
    mean = values["beta1"] * slots["mean"] + values["rest1"] * g
    square = values["beta2"] * slots["square"] + values["rest2"] * g * g
    whole1, whole2 = -(values["log1"] * t).expm1(), -(values["log2"] * t).expm1()  # 1 - beta^t
    move = mean / whole1 / ((square / whole2).sqrt() + values["eps"])
    return w - values["lr"] * move, {"mean": mean, "square": square, "updates": t}


def _coupled(w: Any, g: Any, slots: Slots, values: Values) -> tuple[Any, dict[str, Any]]:
    return _moved(w, g + values["weight_decay"] * w, slots, values)


def _decoupled(w: Any, g: Any, slots: Slots, values: Values) -> tuple[Any, dict[str, Any]]:
    return _moved(w - values["lr"] * values["weight_decay"] * w, g, slots, values)


def _program(name: str, values: Values, weights: str) -> Program:
    return torch_program(
        f"torch.optim.{name}({weights}, lr={values['lr']!r}, betas=({values['beta1']!r}, {values['beta2']!r}), "
        f"eps={values['eps']!r}, weight_decay={values['weight_decay']!r})"
    )


_ADAM = UpdateRule(
    name="adam",
    text="the mean gradient over the root of the mean squared one; weight decay coupled",
    # Kingma & Ba, section 2: "Good default settings for the tested machine learning problems"; no decay, as PyTorch.
    defaults={"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    slots=_slots,
    numbers=_numbers,
    formula=_coupled,
    program=lambda values, weights: _program("Adam", values, weights),
    # A step moves a weight by about lr, whatever the gradient. Published peaks lie at 1e-4 to 2.5e-3 (`optim.presets`;
    # Vaswani et al. 2017, arXiv 1706.03762); the best of six small tasks at 0.005 to 0.05 (`benchmarks/truth.py --rule
    # adamw`). The grid is widened where the answer lies on its border.
    lr_range=(3e-5, 3e-2),
    # Malladi et al. 2022 (arXiv 2205.10287), section 5: as the root of the batch, while noise is most of a gradient.
    batch_exponent=0.5,
    # No `decays`: the decay goes through the quotient, and what it takes of a weight depends on the gradients.
    memory="beta2",
    # Published: 0.999 (Kingma & Ba), 0.98 (Vaswani et al. 2017, arXiv 1706.03762; RoBERTa), 0.95 (Brown et al. 2020,
    # arXiv 2005.14165); 0.99 lies between.
    memories=(0.95, 0.98, 0.99, 0.999),
    # Of 0.35 to 5.6 the likeliest of adamw's on six maps of benchmarks/truth.py: beta2 hardly matters there.
    memory_scale=5.6,
)

RULES = [
    _ADAM,
    replace(
        _ADAM,
        name="adamw",
        text="adam with its weight decay beside it: W <- W - lr wd W",
        defaults={**_ADAM.defaults, "weight_decay": 0.01},  # PyTorch's
        formula=_decoupled,
        program=lambda values, weights: _program("AdamW", values, weights),
        # The timescale of Wang & Aitchison 2024 (arXiv 2405.13698), 1 / (lr wd), in runs: they find its best value
        # between one pass and the whole run, which are total decays of 1 to the epochs. On six maps of
        # benchmarks/truth.py 0.3, 1 and 3 are within 0.9 points of the best on each, 0.28, 0.23 and 0.21 on average.
        decays=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        usual_decay=1.0,
        decay_scale=1.0,  # of 0.5 to 3 the likeliest on those maps
    ),
]
