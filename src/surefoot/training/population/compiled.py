"""A whole step of a stack, gradient and update, as one compiled function: many small layers become a few loops."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from surefoot.optim.update import reference_step
from surefoot.training.population.member import Member
from surefoot.training.population.stack import Found, Stack, norms_of, wide


class CompiledStep:
    """A `Compute` that is compiled at its first call, for one `shape` of stack.

    A member whose numbers are not finite is masked inside: nothing is decided on the way, and nothing is compiled anew
    for the others. Where this machine or this model has no compiler that works, the call raises what that one raises.

    Args:
        backend: of `torch.compile`.

    Attributes:
        ready: whether it has been compiled.
    """

    def __init__(self, backend: str = "inductor") -> None:
        self.ready = False
        # The compiler counts what it has compiled of one code object, and refuses the ninth shape: each has its own.
        own = FunctionType(_compute.__code__.replace(), _compute.__globals__)
        self._compute: Any = torch.compile(own, dynamic=False, fullgraph=True, backend=backend)

    def __call__(self, stack: Stack, step: int, lr: Tensor) -> Found:
        pieces, _ = stack.batch(step)
        (x, y), *others = pieces
        if others:
            raise ValueError("a compiled step takes its batch in one piece")
        rule = stack.rule_at(step, lr)
        settings = (rule.momentum_form, rule.weight_decay_form, rule.decaying, stack.decays)
        given = (lr, rule.momentum, rule.keep, rule.weight_decay, stack.smoothing, stack.clip)
        with warnings.catch_warnings():
            if not self.ready:  # the compiler warns of its own parts
                warnings.simplefilter("ignore")
            weights, velocity, found = self._compute(
                stack.network, stack.weights, stack.buffers, stack.velocity, x, y, given, settings
            )
        self.ready = True
        stack.weights.update(zip(stack.weights, weights, strict=True))
        stack.velocity = velocity if stack.velocity is not None else None
        return found


def shape(members: Sequence[Member]) -> Hashable:
    """Return what decides, within a kind, what is compiled: how many members, and which parts of the rule they use."""
    recipes = [member.plan.recipe for member in members]
    parts = (
        any(recipe.momentum > 0 for recipe in recipes), any(recipe.decay > 0 for recipe in recipes),
        any(recipe.label_smoothing for recipe in recipes), any(recipe.clip_norm is not None for recipe in recipes),
    )  # fmt: skip
    return len(members), len({member.task.seed for member in members}) == 1, parts


def _compute(
    network: Any, weights: dict[str, Tensor], buffers: dict[str, Tensor], velocity: list[Tensor] | None, x: Tensor,
    y: Tensor, given: tuple[Any, ...], settings: tuple[Any, ...],
) -> tuple[list[Tensor], list[Tensor], Found]:  # fmt: skip
    """Return new weights and velocity, and what was seen: `Network.total` and `reference_step` in one graph."""
    lr, momentum, keep, weight_decay, smoothing, clip = given
    momentum_form, weight_decay_form, decaying, decays = settings
    by_name, (_, (loss, correct)) = grad_and_value(network.total, has_aux=True)(weights, buffers, x, y, smoothing)
    grads, params = list(by_name.values()), list(weights.values())
    norms = norms_of(grads)
    norm = torch.linalg.vector_norm(norms, dim=0)
    all_finite = loss.isfinite() & norm.isfinite()
    if clip is not None:
        scale = torch.clamp(clip / norm, max=1.0)
        grads = [grad * wide(scale, grad) for grad in grads]
    new_weights, new_velocity = [], []
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        moved, v = reference_step(
            [w], [g], None if velocity is None else [velocity[i]],
            lr=wide(lr, w), momentum=0.0 if velocity is None else wide(momentum, w), momentum_form=momentum_form,
            dampening=1 - wide(keep, w), weight_decay=wide(weight_decay, w) if decaying else 0.0,
            weight_decay_form=weight_decay_form, decays=[decays[i]],
        )  # fmt: skip
        finite = wide(all_finite, w)
        new_weights.append(torch.where(finite, moved[0], w))
        new_velocity.append(torch.where(finite, v[0], velocity[i]) if velocity is not None else v[0])
    return new_weights, new_velocity, (loss, correct, norms)
