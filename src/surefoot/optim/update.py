"""The update rules of gradient descent as functions of lists of tensors.

With g the gradient, W the weights, V the velocity, beta the momentum, d the dampening, lr the learning rate and wd
the weight decay, one update is

1. weight decay.  coupled: g <- g + wd W (L2 regularisation, as PyTorch's SGD).
   decoupled: W <- W - lr wd W (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 1), g unchanged.
2. the velocity and the step, in one of three forms:
   * "pytorch":   V <- beta V + (1 - d) g;     W <- W - lr V
   * "sutskever": V <- beta V + (1 - d) lr g;  W <- W - V. The learning rate is inside the velocity: Sutskever et
     al. 2013, "On the importance of initialization and momentum", equations 1 and 2, and SGDR's own code.
   * "nesterov":  V <- beta V + g;             W <- W - lr (g + beta V), PyTorch's form of Sutskever et al. 2013,
     equations 3 and 4.
   On the first update V is g (sutskever: lr g), without dampening, as in PyTorch.

With momentum 0 the forms are one: W <- W - lr g; that is gradient descent when g is the mean over all examples,
SGD when over one, mini-batch SGD in between. "pytorch" and "sutskever" are the same while lr is constant. When it
changes from a to b before some update, sutskever's velocity is still scaled by a: its W moves by beta (a - b) V more
on that update, V being PyTorch's velocity before it (Goyal et al. 2017, arXiv 1706.02677, section 3, "momentum
correction").

`sgd_` works in place with PyTorch's fused and foreach kernels. The same in plain arithmetic is in `rules.sgd`.
"""
# The kernels torch._foreach_* and torch._fused_sgd_ are what torch.optim is built on; they have no public name.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from surefoot.rules import update_rule

MomentumForm = Literal["pytorch", "sutskever", "nesterov"]
WeightDecayForm = Literal["coupled", "decoupled"]


@torch.no_grad()
def sgd_(
    params: list[Tensor], grads: list[Tensor], velocity: list[Tensor] | None, *,
    lr: float | Tensor, momentum: float, momentum_form: MomentumForm = "pytorch", dampening: float = 0.0,
    weight_decay: float = 0.0, weight_decay_form: WeightDecayForm = "coupled", maximize: bool = False,
) -> list[Tensor] | None:  # fmt: skip
    """Do one update in place and return the velocity, or None with momentum 0.

    The gradients are not changed. The same inputs give the same bits.

    Args:
        params: the weights W, any shapes, changed in place.
        grads: their gradients g, in the same order and shapes, dense.
        velocity: what the last update returned, changed in place; None before the first.
        lr: learning rate; a one-element tensor is read as a number.
        momentum: beta, in [0, 1).
        momentum_form: see the module's text.
        dampening: d.
        weight_decay: wd.
        weight_decay_form: see the module's text.
        maximize: go up the gradient instead of down.

    >>> w, g = [torch.tensor([1.0])], [torch.tensor([0.5])]
    >>> v = sgd_(w, g, None, lr=0.1, momentum=0.9)
    >>> v = sgd_(w, g, v, lr=0.1, momentum=0.9)
    >>> round(w[0].item(), 4), round(v[0].item(), 4)
    (0.855, 0.95)
    """
    first = velocity is None
    if momentum != 0 and velocity is None:
        velocity = [torch.empty_like(param) for param in params]
    if not params:
        return velocity
    if weight_decay != 0 and weight_decay_form == "decoupled":
        torch._foreach_mul_(params, 1 - float(lr) * weight_decay)
        weight_decay = 0.0
    v = [] if velocity is None or momentum == 0 else velocity
    settings: dict[str, Any] = {
        "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "maximize": maximize,
    }  # fmt: skip
    if momentum_form != "sutskever" and fusible(params, grads, v):
        _fused_(params, grads, v, nesterov=momentum_form == "nesterov" and momentum != 0, first=first, **settings)
    else:
        _foreach_(params, grads, v, form=momentum_form, first=first, **settings)
    return velocity if momentum != 0 else None


def fusible(params: list[Tensor], *others: list[Tensor]) -> bool:
    """Return whether a fused kernel computes the right thing for these weights, and gradients and state like them.

    PyTorch's CPU kernel is wrong in silence for a gradient that is laid out otherwise than its weight (channels_last
    against contiguous) or has gaps, since it walks raw memory (seen with torch 2.13); and for bfloat16 and float16, of
    which it skips whole vectors (pytorch/pytorch#191763, torch 2.12 and 2.13). tests/optim/test_update.py has both.
    """
    device, dtype = params[0].device, params[0].dtype
    precise = dtype in (torch.float32, torch.float64)
    if not (precise if device.type == "cpu" else device.type == "cuda" and dtype.is_floating_point):
        return False
    lists = [each for each in others if each]
    for i, param in enumerate(params):
        strides = param.stride()
        for each in lists:
            other = each[i]
            if other.stride() != strides or other.dtype is not dtype or other.device != device:
                return False
        if not (param.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense.default(param)):
            return False
    return True


def _fused_(
    params: list[Tensor], grads: list[Tensor], velocity: list[Tensor], *,
    lr: float | Tensor, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool,
    first: bool,
) -> None:  # fmt: skip
    torch._fused_sgd_(
        params, grads, velocity, weight_decay=weight_decay, momentum=momentum, dampening=dampening,
        lr=lr if isinstance(lr, Tensor) and lr.device == params[0].device else float(lr),
        nesterov=nesterov, maximize=maximize, is_first_step=first and momentum != 0,
    )  # fmt: skip


def _foreach_(
    params: list[Tensor], grads: list[Tensor], velocity: list[Tensor], *,
    lr: float | Tensor, momentum: float, dampening: float, weight_decay: float, form: MomentumForm, maximize: bool,
    first: bool,
) -> None:  # fmt: skip
    rate = float(lr)
    g: Sequence[Tensor] = torch._foreach_neg(grads) if maximize else grads
    if weight_decay != 0:
        g = torch._foreach_add(g, params, alpha=weight_decay)
    if momentum == 0:
        torch._foreach_add_(params, g, alpha=-rate)
        return
    inside = rate if form == "sutskever" else 1.0
    if first:
        torch._foreach_copy_(velocity, g)
        torch._foreach_mul_(velocity, inside)
    else:
        torch._foreach_mul_(velocity, momentum)
        torch._foreach_add_(velocity, g, alpha=(1 - dampening) * inside)
    if form == "nesterov":
        torch._foreach_add_(params, torch._foreach_add(g, velocity, alpha=momentum), alpha=-rate)
    else:
        torch._foreach_add_(params, velocity, alpha=-1.0 if form == "sutskever" else -rate)


@torch.no_grad()
def reference_step(
    params: list[Tensor], grads: list[Tensor], velocity: list[Tensor] | None, *,
    lr: float | Tensor, momentum: float | Tensor, momentum_form: MomentumForm = "pytorch",
    dampening: float | Tensor = 0.0, weight_decay: float | Tensor = 0.0,
    weight_decay_form: WeightDecayForm = "coupled", maximize: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """Return the new weights and velocity by the formula of `rules.sgd`. The slow twin of `sgd_`.

    Changes nothing. Hyperparameters may be tensors that broadcast against the weights, so that weights stacked as
    [K, ...] take one value per member.

    >>> reference_step([torch.tensor([1.0])], [torch.tensor([0.5])], None, lr=0.1, momentum=0.9)[0]
    [tensor([0.9500])]
    """
    still = not isinstance(momentum, Tensor) and momentum == 0
    words = {"momentum_form": momentum_form, "weight_decay_form": weight_decay_form}
    new_params, new_velocity = [], []
    for i, (w, grad) in enumerate(zip(params, grads, strict=True)):
        keep = 1.0 if velocity is None or still else 1 - dampening
        before = torch.zeros_like(w) if velocity is None else velocity[i]
        values = {"lr": lr, "momentum": momentum, "keep": keep, "weight_decay": weight_decay, **words}
        w, slots = update_rule("sgd").formula(w, -grad if maximize else grad, {"velocity": before}, values)
        new_params.append(w)
        new_velocity.append(slots["velocity"])
    return new_params, new_velocity


def global_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the L2 norm of all elements together, sqrt(sum of squares), a float32 (float64) scalar tensor.

    >>> global_norm([torch.tensor([3.0]), torch.tensor([[4.0]])]).item()
    5.0
    """
    each = list(tensors)
    if not each:
        return torch.zeros(())
    precise = torch.float64 if each[0].dtype in (torch.float64, torch.complex128) else torch.float32
    norms = [norm if norm.dtype is precise else norm.to(precise) for norm in torch._foreach_norm(each)]
    return torch.linalg.vector_norm(torch.stack(norms))


@torch.no_grad()
def clip_(grads: list[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale the gradients in place: g <- g min(1, max_norm / norm). Without a wait for the device.

    Pascanu et al. 2013 (arXiv 1211.5063), algorithm 1. A NaN in the gradients makes all of them NaN: clipping does
    not hide it.

    Args:
        grads: the gradients.
        norm: their `global_norm`.
        max_norm: the longest that they may be, above 0.

    >>> g = [torch.tensor([3.0, 4.0])]
    >>> clip_(g, global_norm(g), 1.0)
    >>> g
    [tensor([0.6000, 0.8000])]
    """
    if grads:
        torch._foreach_mul_(grads, torch.clamp(max_norm / norm, max=1.0))
