"""One update of K members is each member's own update, in plain arithmetic."""

import pytest
import torch

from surefoot.config import Recipe
from surefoot.optim.stacked import hyperparameters, stacked_
from surefoot.optim.update import reference_step
from surefoot.rules.groups import Factors


@pytest.mark.parametrize("each", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("form", ["pytorch", "sutskever", "nesterov"])
@pytest.mark.parametrize("decay_form", ["coupled", "decoupled"])
def test_each_member_is_updated_as_alone(form, decay_form, each):
    recipes = [
        Recipe(momentum=momentum, momentum_form=form, weight_decay=decay, weight_decay_form=decay_form)
        for momentum, decay in ((0.9, 1e-2), (0.5, 0.0), (0.8, 1e-1))
    ]
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(3, *shape, generator=generator) for shape in ((4, 2), (4,))]
    alone, velocities = [[w[k].clone() for w in params] for k in range(3)], [[None] * 2 for _ in range(3)]
    factors = [Factors(), Factors(lr=0.5, weight_decay=each)]
    velocity = [torch.zeros_like(w) for w in params]
    for step in range(4):
        rates = torch.tensor([0.1, 0.02, 0.3]) / (1 + step)
        grads = [torch.randn(w.shape, generator=generator) for w in params]
        for k, recipe in enumerate(recipes):
            for i, factor in enumerate(factors):
                (alone[k][i],), velocities[k][i] = reference_step(
                    [alone[k][i]], [grads[i][k]], velocities[k][i], lr=float(rates[k]) * factor.lr,
                    momentum=recipe.momentum, momentum_form=form, weight_decay_form=decay_form,
                    weight_decay=recipe.weight_decay * factor.weight_decay,
                )  # fmt: skip
        rule = hyperparameters(recipes, rates, first=step == 0)
        stacked_(params, grads, {"velocity": velocity}, rule, factors)
    for k in range(3):
        for w, one in zip(params, alone[k], strict=True):
            torch.testing.assert_close(w[k], one)
