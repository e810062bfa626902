"""One update of K members' weights, stacked as [K, ...], with a value for each member where `kernels.update_` has one.

A rule's formula takes numbers as tensors that broadcast, so it serves here as it is. SGD has its own, in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from surefoot.config import Recipe
from surefoot.rules.groups import Factors
from surefoot.rules.rule import UpdateRule

Slots = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Hyperparameters:
    """One step's hyperparameters of K members.

    Attributes:
        rule: of all of them.
        lr: learning rates, [K] float32.
        numbers: what the rule's formula reads, by name, each [K] float32.
        words: the settings that are no numbers, the same for all members.
        decaying: whether any member has a weight decay.
    """

    rule: UpdateRule
    lr: Tensor
    numbers: Mapping[str, Tensor]
    words: Mapping[str, Any]
    decaying: bool

    def at(self, lr: Tensor) -> Hyperparameters:
        """Return them with other rates, [K]."""
        return replace(self, lr=lr)


def hyperparameters(recipes: Sequence[Recipe], lr: Tensor, *, first: bool) -> Hyperparameters:
    """Return the hyperparameters of one step.

    Args:
        recipes: of the members, [K], alike in their rule and its words.
        lr: learning rates of this step, [K].
        first: whether no update has been done yet.
    """
    rule = recipes[0].update_rule
    each = [rule.numbers(recipe.rule_values, first) for recipe in recipes]
    numbers = {
        name: torch.tensor([of_one[name] for of_one in each], dtype=torch.float32, device=lr.device)
        for name in each[0] if name != "lr"
    }  # fmt: skip
    words = rule.words(recipes[0].rule_values)
    return Hyperparameters(rule, lr, numbers, words, any(recipe.decay > 0 for recipe in recipes))


def slot_names(recipes: Sequence[Recipe]) -> dict[str, str]:
    """Return the state that any of these recipes needs, by name: "weight" or "number", as `UpdateRule.slots` has it."""
    return {name: shape for recipe in recipes for name, shape in recipe.update_rule.slots(recipe.rule_values).items()}


@torch.no_grad()
def stacked_(
    params: list[Tensor], grads: list[Tensor], slots: Slots, given: Hyperparameters, factors: Sequence[Factors]
) -> None:
    """Do one update of K members in place; the gradients are used up.

    Args:
        params: the weights, each [K, ...].
        grads: their gradients.
        slots: the rule's state in their order, each [K, ...] or [K], zeros before the first step.
        given: the hyperparameters of this step.
        factors: of rate and weight decay of each of `params`, the same for all members.

    >>> from surefoot.config import Recipe
    >>> w, rates = [torch.ones(2, 1)], torch.tensor([0.1, 0.2])
    >>> recipe = Recipe(momentum=0, weight_decay=0)
    >>> stacked_(w, [torch.ones(2, 1)], {}, hyperparameters([recipe] * 2, rates, first=True), [Factors()])
    >>> w[0].flatten().tolist()
    [0.8999999761581421, 0.800000011920929]
    """
    if given.rule.name == "sgd":
        _sgd_(params, grads, slots.get("velocity"), given, factors)
        return
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        moved, new = formula(given.rule, w, g, {name: each[i] for name, each in slots.items()}, values_for(given, w),
                             factors[i])  # fmt: skip
        w.copy_(moved)
        for name, value in new.items():
            slots[name][i].copy_(value)


def values_for(given: Hyperparameters, w: Tensor) -> dict[str, Any]:
    """Return what a formula is told of a stacked weight, numbers as [K, 1, ...]."""
    numbers = {name: _wide(value, w) for name, value in given.numbers.items()}
    return {**given.words, "stacked": True, "lr": _wide(given.lr, w), **numbers}


def formula(
    rule: UpdateRule, w: Tensor, g: Tensor, slots: Mapping[str, Tensor], values: Mapping[str, Any], factors: Factors
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return new weights and slots by the rule's formula; slots that are one number for each member as [K]."""
    told = {**values, **{name: _times(values[name], getattr(factors, name)) for name in ("lr", "weight_decay")}}
    moved, new = rule.formula(w, g, {name: _wide(s, w) if s.dim() < w.dim() else s for name, s in slots.items()}, told)
    return moved, {name: value.reshape(slots[name].shape) for name, value in new.items()}


def _times(value: Any, factor: float) -> Any:
    return value if factor == 1 else value * factor if factor else 0.0


def _wide(value: Tensor, like: Tensor) -> Tensor:
    return value.view((-1,) + (1,) * (like.dim() - 1))


def _sgd_(
    params: list[Tensor], grads: list[Tensor], velocity: list[Tensor] | None, given: Hyperparameters,
    factors: Sequence[Factors],
) -> None:  # fmt: skip
    form, coupled = given.words["momentum_form"], given.words["weight_decay_form"] == "coupled"
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        lr, momentum, keep, decay = (
            _wide(value, w)
            for value in (given.lr, given.numbers["momentum"], given.numbers["keep"], given.numbers["weight_decay"])
        )
        lr, decay = _times(lr, factors[i].lr), _times(decay, factors[i].weight_decay)
        if given.decaying and factors[i].weight_decay:
            if coupled:
                g.addcmul_(w, decay)
            else:
                w.mul_(1 - lr * decay)
        if velocity is None:
            w.addcmul_(g, lr, value=-1)
            continue
        v = velocity[i]
        v.mul_(momentum).addcmul_(g, keep * lr if form == "sutskever" else keep)
        if form == "sutskever":
            w.sub_(v)
        elif form == "nesterov":
            w.addcmul_(g.addcmul_(v, momentum), lr, value=-1)
        else:
            w.addcmul_(v, lr, value=-1)
