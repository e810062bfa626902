"""A whole step of a stack, gradient and update, as one compiled function: many small layers become a few loops."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from surefoot.sgd.update import reference_step
from surefoot.training.population.stack import Seen, Stack, norms


class CompiledStep:
    """A `StepFn` that is compiled at its first call, for one shape of stack.

    A member whose numbers are not finite is masked inside: nothing is decided on the way, and nothing is compiled anew
    for the others.

    Attributes:
        ready: whether it has been compiled.

    Raises, when called:
        Exception: of the compiler, where this machine or this model has none that works.
    """

    def __init__(self) -> None:
        self.ready = False
        self._compute: Any = torch.compile(_compute, dynamic=False, fullgraph=True)

    def __call__(self, stack: Stack, step: int, lr: Tensor) -> Seen:
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
            weights, velocity, seen = self._compute(
                stack.network, stack.weights, stack.buffers, stack.velocity, x, y, given, settings
            )
        self.ready = True
        stack.weights.update(zip(stack.weights, weights, strict=True))
        stack.velocity = velocity if stack.velocity is not None else None
        return Seen(*seen)


def _compute(
    network: Any, weights: dict[str, Tensor], buffers: dict[str, Tensor], velocity: list[Tensor] | None, x: Tensor,
    y: Tensor, given: tuple[Any, ...], settings: tuple[Any, ...],
) -> tuple[list[Tensor], list[Tensor], tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
    """Return new weights and velocity, and what was seen: `Network.gradient` and `reference_step` in one graph."""
    lr, momentum, keep, weight_decay, smoothing, clip = given
    momentum_form, weight_decay_form, decaying, decays = settings
    by_name, (_, (loss, correct)) = grad_and_value(network.total, has_aux=True)(weights, buffers, x, y, smoothing)
    seen = Seen(loss, correct, norms(list(by_name.values())))
    grads, params = list(by_name.values()), list(weights.values())
    if clip is not None:
        scale = torch.clamp(clip / seen.grad_norm, max=1.0)
        grads = [grad * _wide(scale, grad) for grad in grads]
    new_weights, new_velocity = [], []
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        moved, v = reference_step(
            [w], [g], None if velocity is None else [velocity[i]],
            lr=_wide(lr, w), momentum=0.0 if velocity is None else _wide(momentum, w), momentum_form=momentum_form,
            dampening=1 - _wide(keep, w), weight_decay=_wide(weight_decay, w) if decaying else 0.0,
            weight_decay_form=weight_decay_form, decays=[decays[i]],
        )  # fmt: skip
        finite = _wide(seen.finite, w)
        new_weights.append(torch.where(finite, moved[0], w))
        new_velocity.append(torch.where(finite, v[0], velocity[i]) if velocity is not None else v[0])
    return new_weights, new_velocity, (seen.loss, seen.correct, seen.grad_norm)


def _wide(value: Tensor, like: Tensor) -> Tensor:
    return value.view(-1, *[1] * (like.dim() - 1))
