"""An update whose rate is a number on the device, and which a flag there turns into none: nothing is read back.

So a step whose loss is not finite leaves the weights as they are without the host knowing, and a step can be captured.
"""
# The kernels torch._foreach_* and torch._fused_sgd_ are what torch.optim is built on; they have no public name.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from surefoot.config import Recipe
from surefoot.optim.kernels import Slots, alike, by_shape
from surefoot.optim.stacked import formula
from surefoot.optim.update import fusible
from surefoot.rules.groups import Factors


@torch.no_grad()
def flagged_(
    recipe: Recipe, params: list[Tensor], grads: list[Tensor], slots: Slots, lr: Tensor, factors: Sequence[Factors],
    skip: Tensor, *, first: bool,
) -> None:  # fmt: skip
    """Do one update in place, as `kernels.update_` does, unless `skip` holds. The gradients may be used up.

    Args:
        recipe: names the rule and its settings; its rate is not used.
        params: the weights, any shapes, on one device.
        grads: their gradients, dense.
        slots: the rule's state, zeros before the first update; in place.
        lr: of this update, a float64 scalar on the device.
        factors: of rate and weight decay of each of `params`.
        skip: whether nothing is to be done, a bool scalar on the device.
        first: whether it is the first update of these weights.

    >>> w, skip = [torch.tensor([1.0])], torch.tensor(False)
    >>> recipe, g = Recipe(momentum=0, weight_decay=0), [torch.tensor([0.5])]
    >>> lr = torch.tensor(0.1, dtype=torch.float64)
    >>> flagged_(recipe, w, g, {}, lr, [Factors()], skip, first=True)
    >>> flagged_(recipe, w, g, {}, lr, [Factors()], ~skip, first=False)
    >>> w
    [tensor([0.9500])]
    """
    values = recipe.rule_values
    for places, factor in alike(factors, values["weight_decay"] != 0):
        some = {name: [tensors[i] for i in places] for name, tensors in slots.items()}
        of_some = {**values, "weight_decay": values["weight_decay"] * factor.weight_decay}
        weights, of_weights = [params[i] for i in places], [grads[i] for i in places]
        rate = lr * factor.lr if factor.lr != 1 else lr
        fused = fusible(weights, of_weights, *(state for state in some.values() if state[0].shape == weights[0].shape))
        if recipe.rule == "sgd" and fused and of_some["momentum_form"] != "sutskever":
            _fused_sgd_(weights, of_weights, some.get("velocity", []), rate, of_some, skip, first=first)
        elif recipe.rule in ("adam", "adamw") and fused:
            _fused_adam_(weights, of_weights, some, rate, of_some, skip, decoupled=recipe.rule == "adamw")
        else:
            _by_formula(recipe, weights, of_weights, some, rate, of_some, skip, first=first)


def _number(rate: Tensor) -> Any:
    """Return a rate as the fused kernels take it: from the device on a card, where they read float32."""
    return rate.float() if rate.device.type == "cuda" else float(rate)


def _fused_sgd_(
    params: list[Tensor], grads: list[Tensor], velocity: list[Tensor], lr: Tensor, values: dict[str, Any],
    skip: Tensor, *, first: bool,
) -> None:  # fmt: skip
    decay, momentum = values["weight_decay"], values["momentum"]
    if decay != 0 and values["weight_decay_form"] == "decoupled":
        left = torch.where(skip, torch.ones_like(lr), 1 - lr * decay)
        torch._foreach_mul_(params, left.to(params[0].dtype))
        decay = 0.0
    torch._fused_sgd_(
        params, grads, velocity, weight_decay=decay, momentum=momentum, lr=_number(lr),
        dampening=values["dampening"], nesterov=values["momentum_form"] == "nesterov" and momentum != 0,
        maximize=False, is_first_step=first and momentum != 0, grad_scale=None, found_inf=skip.float(),
    )  # fmt: skip


def _fused_adam_(
    params: list[Tensor], grads: list[Tensor], slots: Slots, lr: Tensor, values: dict[str, Any], skip: Tensor, *,
    decoupled: bool,
) -> None:  # fmt: skip
    adam(
        params, grads, slots["mean"], slots["square"], [], slots["updates"], foreach=False, fused=True,
        decoupled_weight_decay=decoupled, amsgrad=False, beta1=values["beta1"], beta2=values["beta2"], lr=_number(lr),
        weight_decay=values["weight_decay"], eps=values["eps"], maximize=False, found_inf=skip.float(),
    )  # fmt: skip


def _by_formula(
    recipe: Recipe, params: list[Tensor], grads: list[Tensor], slots: Slots, lr: Tensor, values: dict[str, Any],
    skip: Tensor, *, first: bool,
) -> None:  # fmt: skip
    """All weights of a shape as one, [K, ...]: where they are many and small, calls are what a step costs."""
    rule = recipe.update_rule
    for places in by_shape(params):
        w, g = (_as_one(tensors, places) for tensors in (params, grads))
        of_some = {name: _as_one(tensors, places) for name, tensors in slots.items()}
        told = {**rule.words(values), **rule.numbers(values, first), "stacked": True, "lr": lr.to(w.dtype)}
        moved, new = formula(rule, w, g, of_some, told, Factors())
        for k, i in enumerate(places):
            params[i].copy_(torch.where(skip, params[i], moved[k]))
            for name, value in new.items():
                slots[name][i].copy_(torch.where(skip, slots[name][i], value[k]))


def _as_one(tensors: Sequence[Tensor], places: Sequence[int]) -> Tensor:
    some = [tensors[i] for i in places]
    return some[0][None] if len(some) == 1 else torch.stack(some)
