"""Stochastic gradient descent with its three forms of momentum; their formulas are in the text of `optim.update`."""

from __future__ import annotations

from typing import Any, Literal

from surefoot.rules.rule import Program, Slots, UpdateRule, Values, torch_program


def _slots(values: Values) -> dict[str, Literal["weight", "number"]]:
    return {"velocity": "weight"} if values["momentum"] > 0 else {}


def _numbers(values: Values, first: bool) -> dict[str, float]:
    """The velocity begins at 0, and keeps all of the first gradient: so it is in PyTorch.

    With momentum 0 the velocity plays no part there, so dampening has none.
    """
    keep = 1.0 if first or values["momentum"] == 0 else 1 - values["dampening"]
    return {"momentum": values["momentum"], "keep": keep, "weight_decay": values["weight_decay"]}


def _formula(w: Any, g: Any, slots: Slots, values: Values) -> tuple[Any, dict[str, Any]]:
    lr, momentum, form = values["lr"], values["momentum"], values["momentum_form"]
    if values["weight_decay_form"] == "coupled":
        g = g + values["weight_decay"] * w
    else:
        w = w - lr * values["weight_decay"] * w
    if "velocity" not in slots:
        return w - lr * g, {}
    inside = lr if form == "sutskever" else 1.0
    v = momentum * slots["velocity"] + values["keep"] * inside * g
    move = {"pytorch": lr * v, "sutskever": v, "nesterov": lr * (g + momentum * v)}[form]
    return w - move, {"velocity": v}


def _program(values: Values, weights: str) -> Program:
    decay, momentum = values["weight_decay"], values["momentum"]
    decoupled = values["weight_decay_form"] == "decoupled" and decay > 0
    shrink = (
        ["for w in decaying:", "    if w.grad is not None:", f"        w.mul_(1 - lr * {decay!r})"] if decoupled else []
    )
    if values["momentum_form"] == "sutskever" and momentum > 0:
        g = "w.grad" if decoupled or decay == 0 else f"(w.grad + {decay!r} * w if id(w) in decays else w.grad)"
        damped = f" * (1.0 if t == 0 else {1 - values['dampening']!r})" if values["dampening"] else ""
        move = [
            "# The rate is inside the velocity (Sutskever et al. 2013), which torch.optim.SGD does not have.",
            "for w, v in zip(parameters, velocity):",
            "    if w.grad is not None:",
            f"        v.mul_({momentum!r}).add_({g}, alpha=lr{damped})",
            "        w.sub_(v)",
        ]
        begin = ["velocity = [torch.zeros_like(w) for w in parameters]"]
        return begin + (["decays = {id(w) for w in decaying}"] if g != "w.grad" else []), shrink + move
    words = [f"lr={values['lr']!r}"]
    words += [f"momentum={momentum!r}"] if momentum else []
    words += [f"dampening={values['dampening']!r}"] if values["dampening"] and momentum else []
    words += ["nesterov=True"] if values["momentum_form"] == "nesterov" else []
    words += [f"weight_decay={decay!r}"] if decay and not decoupled else []
    setup, step = torch_program(f"torch.optim.SGD({'parameters' if decoupled else weights}, {', '.join(words)})")
    return setup, shrink + step


def _per_rate(values: Values) -> float:
    """The step in the long run is lr (1 - dampening) / (1 - momentum) g (Goh 2017, "Why momentum really works")."""
    damped = 1 - values["dampening"] if values["momentum"] > 0 else 1.0
    return (1 - values["momentum"]) / max(damped, 1e-6)


def _per_shrink(values: Values) -> float:
    return 1.0 if values["weight_decay_form"] == "decoupled" else _per_rate(values)


def _refuses(values: Values) -> tuple[str, str, str] | None:
    if values["momentum_form"] == "nesterov" and (values["momentum"] == 0 or values["dampening"] != 0):
        return (
            f"nesterov with momentum = {values['momentum']} and dampening = {values['dampening']}",
            "Nesterov's form needs momentum above 0 and no dampening",
            "set momentum = 0.9 and dampening = 0",
        )
    return None


RULES = [
    UpdateRule(
        name="sgd",
        text="V <- momentum V + g, W <- W - lr V",
        defaults={
            "lr": 0.1, "momentum": 0.9, "momentum_form": "pytorch", "dampening": 0.0, "weight_decay": 5e-4,
            "weight_decay_form": "coupled",
        },
        slots=_slots,
        numbers=_numbers,
        formula=_formula,
        program=_program,
        lr_range=(1e-4, 1e-1),  # the lecture's "good rates to try"
        batch_exponent=1.0,  # McCandlish et al. 2018 (arXiv 1812.06162), equation 2.6
        per_rate=_per_rate,
        per_shrink=_per_shrink,
        # Published recipes lie at 3 (ResNet on CIFAR-10: He et al. 2015, arXiv 1512.03385, and airbench94: Jordan 2024,
        # arXiv 2404.00498); 0.03 is as good as none, and 10 is there to be the border.
        decays=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        # Within 0.6 points of the best decay on each of eight small tasks, 0.2 on average (docs/log.md, "Regret at two
        # trainings, halved").
        usual_decay=1.0,
        # The usual grids of weight decay and of 1 - momentum are a decade and half a decade wide. Five maps of
        # benchmarks/truth.py, their likelihood under scales of 0.5 to 3 and 0.35 to 5.6: none is likelier for all.
        decay_scale=1.5,
        memory_scale=0.7,
        memory="momentum",
        # CS231n notes, neural-networks-3: "[0.5, 0.9, 0.95, 0.99]", here evenly spaced in log(1 - momentum).
        memories=(0.0, 0.8, 0.9, 0.95, 0.98),
        refuses=_refuses,
    )
]  # fmt: skip
