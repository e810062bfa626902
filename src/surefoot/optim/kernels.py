"""An update of one member's weights by any rule: PyTorch's kernels where it has them, else the rule's own formula."""
# torch._foreach_* are what torch.optim is built on; they have no public name.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop

from surefoot.config import Recipe
from surefoot.optim.update import fusible, sgd_
from surefoot.rules.groups import Factors
from surefoot.rules.muon import is_matrix, orthogonalised
from surefoot.rules.rule import UpdateRule

Slots = dict[str, list[Tensor]]
"""State of a rule by name, a tensor for each weight; empty before the first update."""
Kernel = Callable[[list[Tensor], list[Tensor], Slots, float, dict[str, Any], bool], None]
"""(weights, gradients, slots, lr, values, whether it is the first update) in place."""


def new_slots(recipe: Recipe, params: Sequence[Tensor]) -> Slots:
    """Return the state of a recipe's rule before its first update: zeros.

    >>> list(new_slots(Recipe(rule="adam"), [torch.ones(2)]))
    ['mean', 'square', 'updates']
    """
    return {
        name: [torch.zeros_like(w) if kind == "weight" else new_number(w.device) for w in params]
        for name, kind in recipe.update_rule.slots(recipe.rule_values).items()
    }


def new_number(device: torch.device | str) -> Tensor:
    """Return a number of a weight's state, 0: in float32 whatever torch's default is, as the kernels want it."""
    return torch.zeros((), dtype=torch.float32, device=device)


@torch.no_grad()
def update_(
    recipe: Recipe, params: list[Tensor], grads: list[Tensor], slots: Slots, lr: float, factors: Sequence[Factors]
) -> Slots:
    """Do one update in place and return the rule's state. The gradients may be used up.

    Args:
        recipe: names the rule and its settings; its rate is not used.
        params: the weights, any shapes.
        grads: their gradients, dense.
        slots: what the last update returned, changed in place; empty before the first.
        lr: of this update.
        factors: of rate and weight decay of each of `params`.

    >>> w = [torch.tensor([1.0])]
    >>> slots = update_(Recipe(rule="adam"), w, [torch.tensor([0.5])], {}, 0.1, [Factors()])
    >>> round(w[0].item(), 4), slots["updates"][0].item()
    (0.9, 1.0)
    """
    values, first = recipe.rule_values, not slots
    slots = slots or new_slots(recipe, params)
    for places, factor in alike(factors, values["weight_decay"] != 0):
        some = {name: [each[i] for i in places] for name, each in slots.items()}
        of_some = {**values, "weight_decay": values["weight_decay"] * factor.weight_decay}
        weights, of_weights = [params[i] for i in places], [grads[i] for i in places]
        move_(recipe.update_rule, of_some, weights, of_weights, some, lr * factor.lr, first)
        for name, each in some.items():
            for i, value in zip(places, each, strict=True):
                slots[name][i] = value
    return slots


def move_(
    rule: UpdateRule, values: dict[str, Any], params: list[Tensor], grads: list[Tensor], slots: Slots, lr: float,
    first: bool,
) -> None:  # fmt: skip
    """Do one update, in place, of weights that have one rate and one weight decay: `update_` of some of a run's.

    Args:
        rule: the rule.
        values: its settings.
        params: the weights, any shapes.
        grads: their gradients, dense.
        slots: the rule's state.
        lr: of this update.
        first: whether the state is new.
    """
    if rule.name in KERNELS:
        KERNELS[rule.name](params, grads, slots, lr, values, first)
        return
    told = {**rule.words(values), **rule.numbers(values, first), "lr": lr}
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        moved, new = rule.formula(w, g, {name: each[i] for name, each in slots.items()}, told)
        w.copy_(moved)
        for name, value in new.items():
            slots[name][i].copy_(value)


def alike(factors: Sequence[Factors], decaying: bool) -> list[tuple[list[int], Factors]]:
    """Return the positions that have the same factors: a kernel takes one rate and one weight decay."""
    found: dict[Factors, list[int]] = {}
    for i, factor in enumerate(factors):
        found.setdefault(Factors(factor.lr, factor.weight_decay if decaying else 1.0), []).append(i)
    return [(places, factor) for factor, places in found.items()]


def by_shape(params: Sequence[Tensor]) -> list[list[int]]:
    """Return the positions of the weights that have the same shape and precision."""
    found: dict[Any, list[int]] = {}
    for i, w in enumerate(params):
        found.setdefault((w.shape, w.dtype, w.device), []).append(i)
    return list(found.values())


def _sgd(params: list[Tensor], grads: list[Tensor], slots: Slots, lr: float, values: dict[str, Any], first: bool
         ) -> None:  # fmt: skip
    velocity = sgd_(params, grads, None if first else slots.get("velocity"), **{**values, "lr": lr})
    if velocity is not None:
        slots["velocity"] = velocity


def _adam(params: list[Tensor], grads: list[Tensor], slots: Slots, lr: float, values: dict[str, Any], first: bool,
          *, decoupled: bool) -> None:  # fmt: skip
    fused = fusible(params, grads, slots["mean"], slots["square"])
    adam(
        params, grads, slots["mean"], slots["square"], [], slots["updates"], foreach=not fused, fused=fused,
        decoupled_weight_decay=decoupled, amsgrad=False, beta1=values["beta1"], beta2=values["beta2"], lr=lr,
        weight_decay=values["weight_decay"], eps=values["eps"], maximize=False,
    )  # fmt: skip


def _rmsprop(params: list[Tensor], grads: list[Tensor], slots: Slots, lr: float, values: dict[str, Any], first: bool
             ) -> None:  # fmt: skip
    steps = [torch.zeros(()) for _ in params]  # PyTorch's counts, which its formula does not read
    rmsprop(
        params, grads, slots["square"], [], slots.get("velocity", []), steps, foreach=True, lr=lr,
        alpha=values["alpha"], eps=values["eps"], weight_decay=values["weight_decay"], momentum=values["momentum"],
        centered=False,
    )  # fmt: skip


def _muon(params: list[Tensor], grads: list[Tensor], slots: Slots, lr: float, values: dict[str, Any], first: bool
          ) -> None:  # fmt: skip
    """All weights of a shape are orthogonalised as one: seven of [16, 144] in 0.14 ms, and not 0.36 (one core)."""
    velocity, momentum = slots["velocity"], values["momentum"]
    torch._foreach_lerp_(velocity, grads, 1 - momentum)
    moves = torch._foreach_lerp(grads, velocity, momentum)
    if values["weight_decay"] != 0:
        torch._foreach_mul_(params, 1 - lr * values["weight_decay"])
    for places in by_shape(params):
        weights, some = [params[i] for i in places], [moves[i] for i in places]
        if is_matrix(weights[0]):
            whole = orthogonalised(torch.stack([move.flatten(1) for move in some]))
            torch._foreach_add_(weights, [one.view(weights[0].shape) for one in whole], alpha=-lr)
        else:
            torch._foreach_add_(weights, some, alpha=-lr / (1 - momentum))


KERNELS: dict[str, Kernel] = {
    "sgd": _sgd,
    "adam": lambda *given: _adam(*given, decoupled=False),
    "adamw": lambda *given: _adam(*given, decoupled=True),
    "muon": _muon,
    "rmsprop": _rmsprop,
}
"""PyTorch's kernels by the name of the rule; Muon's is made of several."""
