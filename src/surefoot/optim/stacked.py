"""One update of K members' weights, stacked as [K, ...]: the formulas of `update`, with a value for each member.

`sgd_` takes one number for each hyperparameter; here each is a tensor [K].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from surefoot.config import Recipe
from surefoot.optim.update import MomentumForm, WeightDecayForm


@dataclass(frozen=True)
class Hyperparameters:
    """One step's hyperparameters of K members; tensors are [K], float32.

    Attributes:
        lr, momentum, weight_decay: as in `sgd_`.
        keep: the share of the gradient that goes into the velocity, 1 - dampening; 1 on a member's first step.
        momentum_form, weight_decay_form: the same for all members.
        decaying: whether any member has a weight decay.
    """

    lr: Tensor
    momentum: Tensor
    keep: Tensor
    weight_decay: Tensor
    momentum_form: MomentumForm
    weight_decay_form: WeightDecayForm
    decaying: bool

    def at(self, lr: Tensor) -> Hyperparameters:
        """Return them with other rates, [K]."""
        return replace(self, lr=lr)


def hyperparameters(recipes: Sequence[Recipe], lr: Tensor, *, first: bool) -> Hyperparameters:
    """Return the hyperparameters of one step.

    Args:
        recipes: of the members, [K], alike in momentum_form and weight_decay_form.
        lr: learning rates of this step, [K].
        first: whether no update has been done yet.
    """

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=lr.device)

    return Hyperparameters(
        lr=lr,
        momentum=column([recipe.momentum for recipe in recipes]),
        # With momentum 0 the velocity plays no part in `sgd_`, so dampening has none; so it is in PyTorch.
        keep=column([1.0 if first or recipe.momentum == 0 else 1 - recipe.dampening for recipe in recipes]),
        weight_decay=column([recipe.decay for recipe in recipes]),
        momentum_form=recipes[0].momentum_form if any(recipe.momentum > 0 for recipe in recipes) else "pytorch",
        weight_decay_form=recipes[0].weight_decay_form,
        decaying=any(recipe.decay > 0 for recipe in recipes),
    )


@torch.no_grad()
def stacked_(
    params: list[Tensor], grads: list[Tensor], velocity: list[Tensor] | None, rule: Hyperparameters,
    decays: Sequence[bool],
) -> None:  # fmt: skip
    """Do one update of K members in place; the gradients are used up.

    Args:
        params: the weights, each [K, ...].
        grads: their gradients.
        velocity: in their order, zeros before the first step; None where no member has momentum.
        rule: the hyperparameters of this step.
        decays: for each of `params` whether it decays.

    >>> from surefoot.config import Recipe
    >>> w, rates = [torch.ones(2, 1)], torch.tensor([0.1, 0.2])
    >>> recipe = Recipe(momentum=0, weight_decay=0)
    >>> stacked_(w, [torch.ones(2, 1)], None, hyperparameters([recipe] * 2, rates, first=True), [True])
    >>> w[0].flatten().tolist()
    [0.8999999761581421, 0.800000011920929]
    """
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        shape = (-1,) + (1,) * (w.dim() - 1)
        lr, momentum, keep, decay = (
            value.view(shape) for value in (rule.lr, rule.momentum, rule.keep, rule.weight_decay)
        )
        if rule.decaying and decays[i]:
            if rule.weight_decay_form == "coupled":
                g.addcmul_(w, decay)
            else:
                w.mul_(1 - lr * decay)
        if velocity is None:
            w.addcmul_(g, lr, value=-1)
            continue
        v = velocity[i]
        inside = keep * lr if rule.momentum_form == "sutskever" else keep
        v.mul_(momentum).addcmul_(g, inside)
        if rule.momentum_form == "sutskever":
            w.sub_(v)
        elif rule.momentum_form == "nesterov":
            w.addcmul_(g.addcmul_(v, momentum), lr, value=-1)
        else:
            w.addcmul_(v, lr, value=-1)
