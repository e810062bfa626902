"""Which parameters the loss reaches: no gradient, a gradient of exactly zero, and what is frozen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from surefoot.measure.wiring import batch, forward
from surefoot.training.task import Task

_BATCHES = 3
"""Batches that a parameter may stay without gradient before it counts: some networks skip layers at random."""
_STEPS = 8
"""Small updates before a gradient of zero counts: a head or a branch that starts at zero, one in the other, lets the
gradient through after one update each. Chosen by hand."""
_RELATIVE = 1e-2
"""Length of those updates over that of the weights. Chosen by hand."""
_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class Reach:
    """How the loss reaches the parameters.

    Attributes:
        trainable: names of the parameters with requires_grad, in order.
        absent: those of them that got no gradient in any batch.
        zero: those weights (of two dimensions or more) whose gradient was exactly zero in every batch, also after a few
            updates.
        frozen_after: frozen weights of linear and convolutional layers that come after a trainable one.
        frozen_share: share of all weights, by count, that is frozen.
        frozen: number of frozen parameters.
        batches: whose gradients were taken.
    """

    trainable: tuple[str, ...]
    absent: tuple[str, ...]
    zero: tuple[str, ...]
    frozen_after: tuple[str, ...]
    frozen_share: float
    frozen: int
    batches: int


def reach(task: Task) -> Reach:
    """Return which parameters get a gradient, measured on a copy in training mode."""
    model = task.fresh_model().train()
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    absent, zero = set(named), {name for name, parameter in named.items() if parameter.dim() >= 2}
    batches = 0
    for number in range(_BATCHES + _STEPS):
        batches += 1
        grads = _gradients(task, model, list(named.values()), number)
        seen = {name: grad for name, grad in zip(named, grads, strict=True) if grad is not None}
        absent -= seen.keys()
        zero -= {name for name, grad in seen.items() if bool((grad != 0).any())}
        if not zero and not absent:
            break
        if number >= _BATCHES - 1:
            if not zero - absent:
                break
            _update(named, seen)
    frozen_after, share, frozen = _frozen(model)
    return Reach(
        trainable=tuple(named),
        absent=tuple(name for name in named if name in absent),
        zero=tuple(name for name in named if name in zero and name not in absent),
        frozen_after=frozen_after,
        frozen_share=share,
        frozen=frozen,
        batches=batches,
    )


def _gradients(task: Task, model: nn.Module, parameters: list[nn.Parameter], number: int) -> list[torch.Tensor | None]:
    x, y = batch(task, number)
    loss = task.mean_loss(forward(task, model, x), y)
    return list(torch.autograd.grad(loss, parameters, allow_unused=True))


def _update(named: dict[str, nn.Parameter], grads: dict[str, torch.Tensor]) -> None:
    """Step along -g by a hundredth of the weights' length, so that what waits for an update gets one."""
    with torch.no_grad():
        length = torch.stack([g.double().norm() for g in grads.values()]).norm()
        size = torch.stack([p.double().norm() for p in named.values()]).norm()
        if length > 0 and torch.isfinite(length):
            scale = float(_RELATIVE * torch.clamp(size, min=1.0) / length)
            for name, grad in grads.items():
                named[name].sub_(scale * grad)


def _frozen(model: nn.Module) -> tuple[tuple[str, ...], float, int]:
    trainable_seen, after = False, []
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                trainable_seen = trainable_seen or parameter.dim() >= 2
            elif trainable_seen and own == "weight" and isinstance(module, _WEIGHTED):
                after.append(f"{name}.{own}" if name else own)
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    total = sum(parameter.numel() for parameter in model.parameters())
    return tuple(after), sum(p.numel() for p in frozen) / max(1, total), len(frozen)
