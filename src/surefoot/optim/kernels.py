"""An update of one member's weights by any rule: PyTorch's kernels where it has them, else the rule's own formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop

from surefoot.config import Recipe
from surefoot.optim.update import fusible, parts, sgd_

Slots = dict[str, list[Tensor]]
"""State of a rule by name, a tensor for each weight; empty before the first update."""
Kernel = Callable[[list[Tensor], list[Tensor], Slots, float, dict[str, Any]], None]
"""(weights, gradients, slots, lr, values) in place; all of the weights decay, or weight_decay is 0."""


def new_slots(recipe: Recipe, params: Sequence[Tensor]) -> Slots:
    """Return the state of a recipe's rule before its first update: zeros.

    >>> list(new_slots(Recipe(rule="adam"), [torch.ones(2)]))
    ['mean', 'square', 'updates']
    """
    return {
        name: [torch.zeros_like(w) if shape == "weight" else torch.zeros((), device=w.device) for w in params]
        for name, shape in recipe.update_rule.slots(recipe.rule_values).items()
    }


@torch.no_grad()
def update_(
    recipe: Recipe, params: list[Tensor], grads: list[Tensor], slots: Slots, lr: float, decays: Sequence[bool]
) -> Slots:
    """Do one update in place and return the rule's state. The gradients may be used up.

    Args:
        recipe: names the rule and its settings; its rate is not used.
        params: the weights, any shapes.
        grads: their gradients, dense.
        slots: what the last update returned, changed in place; empty before the first.
        lr: of this update.
        decays: for each of `params` whether it decays.

    >>> w = [torch.tensor([1.0])]
    >>> slots = update_(Recipe(rule="adam"), w, [torch.tensor([0.5])], {}, 0.1, [True])
    >>> round(w[0].item(), 4), slots["updates"][0].item()
    (0.9, 1.0)
    """
    values = recipe.rule_values
    if recipe.rule == "sgd":
        settings = {name: value for name, value in values.items() if name != "lr"}
        velocity = sgd_(params, grads, slots.get("velocity"), lr=lr, decays=decays, **settings)
        return {} if velocity is None else {"velocity": velocity}
    first = not slots
    slots = slots or new_slots(recipe, params)
    for places, decay in parts(len(params), values["weight_decay"], decays):
        some = {name: [each[i] for i in places] for name, each in slots.items()}
        of_part = {**values, "weight_decay": decay}
        weights, of_weights = [params[i] for i in places], [grads[i] for i in places]
        if recipe.rule in KERNELS:
            KERNELS[recipe.rule](weights, of_weights, some, lr, of_part)
            continue
        rule = recipe.update_rule
        told = {**rule.words(values), **rule.numbers(of_part, first), "lr": lr}
        for i, (w, g) in enumerate(zip(weights, of_weights, strict=True)):
            moved, new = rule.formula(w, g, {name: each[i] for name, each in some.items()}, told)
            w.copy_(moved)
            for name, value in new.items():
                some[name][i].copy_(value)
    return slots


def _adam(params: list[Tensor], grads: list[Tensor], slots: Slots, lr: float, values: dict[str, Any], *,
          decoupled: bool) -> None:  # fmt: skip
    fused = fusible(params, grads, slots["mean"], slots["square"])
    adam(
        params, grads, slots["mean"], slots["square"], [], slots["updates"], foreach=not fused, fused=fused,
        decoupled_weight_decay=decoupled, amsgrad=False, beta1=values["beta1"], beta2=values["beta2"], lr=lr,
        weight_decay=values["weight_decay"], eps=values["eps"], maximize=False,
    )  # fmt: skip


def _rmsprop(params: list[Tensor], grads: list[Tensor], slots: Slots, lr: float, values: dict[str, Any]) -> None:
    steps = [torch.zeros(()) for _ in params]  # PyTorch's counts, which its formula does not read
    rmsprop(
        params, grads, slots["square"], [], slots.get("velocity", []), steps, foreach=True, lr=lr,
        alpha=values["alpha"], eps=values["eps"], weight_decay=values["weight_decay"], momentum=values["momentum"],
        centered=False,
    )  # fmt: skip


KERNELS: dict[str, Kernel] = {
    "adam": lambda *given: _adam(*given, decoupled=False),
    "adamw": lambda *given: _adam(*given, decoupled=True),
    "rmsprop": _rmsprop,
}
"""PyTorch's kernels by the name of the rule."""
