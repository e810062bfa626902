import pytest
import torch
from small import bits

from surefoot.config import Recipe
from surefoot.optim.flagged import flagged_
from surefoot.optim.kernels import new_slots, update_
from surefoot.rules.groups import Factors

FACTORS = [Factors(), Factors(lr=3.0, weight_decay=0.0), Factors(), Factors()]
"""The first and third weight have one shape and one rate: by formula they are moved as one."""
RECIPES = {
    "sgd": Recipe(),
    "no momentum": Recipe(momentum=0.0),
    "dampened": Recipe(dampening=0.5),
    "nesterov": Recipe(momentum_form="nesterov"),
    "decoupled": Recipe(weight_decay=0.1, weight_decay_form="decoupled"),
    "adam": Recipe(rule="adam", weight_decay=0.1),
    "adamw": Recipe(rule="adamw"),
    "sutskever": Recipe(momentum_form="sutskever"),
    "rmsprop": Recipe(rule="rmsprop", momentum=0.5),
    "muon": Recipe(rule="muon"),
}
BY_FORMULA = ("sutskever", "rmsprop", "muon")
"""These round otherwise than the foreach kernels of the host: a unit in the last place a step."""


def values(step):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,), (3, 4), ())]


def flag(up):
    return torch.tensor(up)


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_the_update_of_the_host(name):
    recipe, ours, theirs, of_theirs = RECIPES[name], values(0), values(0), {}
    of_ours = new_slots(recipe, ours)
    for step in range(6):
        lr = 0.1 / (1 + step)
        of_theirs = update_(recipe, theirs, values(step + 1), of_theirs, lr, FACTORS)
        rate = torch.tensor(lr, dtype=torch.float64)
        flagged_(recipe, ours, values(step + 1), of_ours, rate, FACTORS, flag(False), first=step == 0)
    for one, other in zip(ours, theirs, strict=True):
        if name in BY_FORMULA:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        else:
            assert bits(one) == bits(other)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("first", [True, False])
def test_a_raised_flag_leaves_weights_and_state_as_they_are(name, first):
    recipe, weights = RECIPES[name], values(0)
    slots, rate = new_slots(recipe, weights), torch.tensor(0.1, dtype=torch.float64)
    if not first:
        flagged_(recipe, weights, values(1), slots, rate, FACTORS, flag(False), first=True)
    before = [bits(value) for value in (*weights, *(each for state in slots.values() for each in state))]
    bad = [grad * torch.nan for grad in values(2)]
    flagged_(recipe, weights, bad, slots, rate, FACTORS, flag(True), first=first)
    assert [bits(value) for value in (*weights, *(each for state in slots.values() for each in state))] == before
