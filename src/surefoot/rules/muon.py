"""Muon, momentum whose step for a matrix is orthogonalised: Jordan et al. 2024, "Muon: an optimizer for hidden layers
in neural networks" (kellerjordan.github.io/posts/muon).

   V <- momentum V + (1 - momentum) g;  D = (1 - momentum) g + momentum V, Nesterov's direction;  W <- W - lr wd W; then
   a matrix:       W <- W - lr sqrt(max(1, rows / columns)) O(D)
   anything else:  W <- W - lr D / (1 - momentum), which is torch.optim.SGD(nesterov=True)

A matrix is a weight of at least two dimensions as [rows, all others flattened]: a convolution's too, as in the author's
own; torch.optim.Muon, which this is for two dimensions, takes no others. O(D) has the singular vectors of D, and
singular values of about 1, whatever D's were: five steps of Newton and Schulz's iteration on D / max(||D||_F, 1e-7),

   A = X X^T;  X <- 3.4445 X + (-4.7750 A + 2.0315 A^2) X, of the transpose where rows are more than columns,

with the post's coefficients, which take a singular value above 0.002 to between 0.68 and 1.21 and a smaller one to at
most 485 times. So lr is the length of a matrix's step in the spectral norm, and for other weights what it is for SGD:
`groups` give these another one. The products are in the precision of the weights (16-bit ones: bfloat16), and of the
run where that is bfloat16: on one core that has it in hardware this takes half of the time for [128, 1152] (2.2 for 4.2
ms) and [256, 2304] (15 for 32), and four times as long for [16, 144] (0.21 for 0.05).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from surefoot.rules.rule import Program, Slots, UpdateRule, Values

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NS_STEPS = 5
"""As in the post and in PyTorch. airbench94_muon.py does three, which leave more of what is small."""
EPS = 1e-7
"""What a direction is divided by at least: of both."""


def is_matrix(w: Any, stacked: bool = False) -> bool:
    """Return whether a weight's step is orthogonalised; `stacked`: its first dimension is that of members."""
    return w.dim() - stacked > 1 and w.numel() > 0


def orthogonalised(d: Any) -> Any:
    """Return the step of directions: O(D) sqrt(max(1, rows / columns)), [K, rows, columns], as they are."""
    rows, columns = d.shape[-2:]
    x = d.bfloat16() if d.dtype.itemsize == 2 else d
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=EPS)
    x = x.mT if rows > columns else x
    first, third, fifth = COEFFICIENTS
    for _ in range(NS_STEPS):
        a = x @ x.mT
        x = x.baddbmm(a.baddbmm(a, a, beta=third, alpha=fifth), x, beta=first)
    x = x.mT if rows > columns else x
    return (x * max(1.0, rows / columns) ** 0.5).to(d.dtype)


def _numbers(values: Values, first: bool) -> dict[str, float]:
    momentum = values["momentum"]
    return {"momentum": momentum, "rest": 1 - momentum, "weight_decay": values["weight_decay"]}


def _formula(w: Any, g: Any, slots: Slots, values: Values) -> tuple[Any, dict[str, Any]]:
    lr, momentum, rest = values["lr"], values["momentum"], values["rest"]
    stacked = values.get("stacked", False)
    v = momentum * slots["velocity"] + rest * g
    d = rest * g + momentum * v
    w = w - lr * values["weight_decay"] * w
    if not is_matrix(w, stacked):
        return w - lr * d / rest, {"velocity": v}
    members, rows = w.shape[:2] if stacked else (1, w.shape[0])
    return w - lr * orthogonalised(d.reshape(members, rows, -1)).reshape(w.shape), {"velocity": v}


def _program(values: Values, weights: str) -> Program:
    decay, momentum = values["weight_decay"], values["momentum"]
    first, third, fifth = COEFFICIENTS
    begin = [
        "def orthogonalised(d):",
        "    # Muon (Jordan et al. 2024); torch.optim.Muon takes weights of two dimensions alone.",
        "    tall = d.shape[0] > d.shape[1]",
        f"    x = (d / d.norm().clamp(min={EPS!r}))[None]",
        "    x = x.mT if tall else x",
        f"    for _ in range({NS_STEPS}):",
        "        a = x @ x.mT",
        f"        x = x.baddbmm(a.baddbmm(a, a, beta={third!r}, alpha={fifth!r}), x, beta={first!r})",
        "    x = x.mT if tall else x",
        "    return (x[0] * max(1.0, d.shape[0] / d.shape[1]) ** 0.5).to(d.dtype)",
        "",
        "velocity = [torch.zeros_like(w) for w in parameters]",
    ]
    shrink = (
        ["for w in decaying:", "    if w.grad is not None:", f"        w.mul_(1 - lr * {decay!r})"] if decay > 0 else []
    )
    return begin, [
        *shrink,
        "for w, v in zip(parameters, velocity):",
        "    if w.grad is not None:",
        f"        v.lerp_(w.grad, {1 - momentum!r})",
        f"        d = w.grad.lerp(v, {momentum!r})",
        "        matrix = w.dim() > 1 and w.numel() > 0",
        f"        w.sub_(lr * (orthogonalised(d.flatten(1)).view(w.shape) if matrix else d / {1 - momentum!r}))",
    ]


def _refuses(values: Values) -> tuple[str, str, str] | None:
    if values["momentum"] >= 1:
        return f"momentum = {values['momentum']} of muon", "it is the weight of a mean, below 1", "set momentum = 0.95"
    return None


def _refuses_weights(weights: Sequence[Any]) -> tuple[str, str, str] | None:
    for w in weights:
        if w.is_complex():
            return (
                f"rule muon for a complex weight of shape {list(w.shape)}", "its step is that of a real matrix",
                "choose sgd",
            )  # fmt: skip
    if not any(is_matrix(w) for w in weights):
        return (
            "rule muon for a model none of whose trained weights is a matrix",
            "it is for weights of at least two dimensions, and the same as sgd for others",
            "choose sgd with momentum_form = nesterov",
        )
    return None


def _slots(values: Values) -> dict[str, Literal["weight", "number"]]:
    return {"velocity": "weight"}


RULES = [
    UpdateRule(
        name="muon",
        text="momentum whose step for a matrix is orthogonalised; weight decay beside it: W <- W - lr wd W",
        # Momentum is the post's and PyTorch's, weight decay PyTorch's. The rate is the author's own (github.com/
        # KellerJordan/Muon, and airbench94_muon.py has 0.24): at PyTorch's 0.001 six epochs of digits end at a loss of
        # 2.0 to 2.1 (linear, mlp, cnn), at 0.02 at 0.11 to 0.53, and at the best of ten rates at 0.03 to 0.11.
        defaults={"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1},
        slots=_slots,
        numbers=_numbers,
        formula=_formula,
        program=_program,
        multiplies=True,
        refuses=_refuses,
        refuses_weights=_refuses_weights,
        # Best of those ten: 0.04 (mlp), 0.2 (cnn), 0.4 (linear, where all from 0.1 are within 0.01).
        lr_range=(3e-4, 3e-1),
        # As Adam's (Malladi et al. 2022, arXiv 2205.10287, section 5): a step's length is not that of the gradient.
        batch_exponent=0.5,
        decays=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0),  # adamw's, beside the step as well: not measured for this rule
        usual_decay=1.0,
        decay_scale=1.0,
        memory="momentum",
        # 0.95 is the post's, 0.6 that of airbench94_muon.py; the others lie between and beyond.
        memories=(0.6, 0.8, 0.9, 0.95, 0.98),
        memory_scale=0.7,  # SGD's: not measured for this rule
    )
]
