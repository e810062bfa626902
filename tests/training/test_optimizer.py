"""An optimizer of the caller's as plain values and back, and what it is asked for."""

import json

import pytest
import torch
from torch import nn, optim

from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.training.groups import freeze_
from surefoot.training.optimizer import check_rule, optimizer_for, own_rate, restore_, state_of, stepped

RECIPE = Recipe(rule="optimizer", lr=0.1)


def make(params):
    return optim.NAdam(params, lr=2e-3, betas=(0.8, 0.9), weight_decay=0.1)


def moved(model, optimizer, steps=3):
    for _ in range(steps):
        stepped(optimizer, {parameter: torch.ones_like(parameter) for parameter in model.parameters()}, 0.01)
    return optimizer


def test_its_state_is_json_and_tensors_and_comes_back():
    model = nn.Linear(3, 2)
    plain, tensors = state_of(moved(model, optimizer_for(make, RECIPE, model)))
    fresh = optimizer_for(make, RECIPE, model)
    copies = {name: value.clone() for name, value in tensors.items()}
    restore_(fresh, json.loads(json.dumps(plain)), copies, torch.device("cpu"))
    again, theirs = state_of(fresh)
    assert again == plain
    assert all(torch.equal(tensors[name], theirs[name]) for name in tensors)
    assert set(copies) == set(tensors), "they are not used up"
    assert fresh.param_groups[0]["betas"] == (0.8, 0.9)


def test_rates_are_the_schedule_s_in_the_ratios_of_its_groups():
    def two(params):
        return optim.SGD([{"params": params[:1], "lr": 0.5}, {"params": params[1:], "lr": 0.05}])

    model = nn.Linear(3, 2)
    optimizer = moved(model, optimizer_for(two, RECIPE, model))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.001])
    assert own_rate(two) == 0.5


def test_factors_make_groups_in_the_order_of_parameters():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2), nn.Linear(2, 2))
    recipe = Recipe(rule="optimizer", lr=0.1, groups={"*": {"lr": 3}, "1.bias": {"weight_decay": 2}, "2": "frozen"})
    optimizer = optimizer_for(make, recipe, freeze_(model, recipe.groups))
    assert [len(group["params"]) for group in optimizer.param_groups] == [3, 1]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.2]
    moved(model, optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.03, 0.03])


def test_a_step_leaves_no_gradient_even_if_it_fails():
    model = nn.Linear(3, 2)
    optimizer = optimizer_for(optim.SparseAdam, RECIPE, model)
    with pytest.raises(RuntimeError):
        moved(model, optimizer)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_rule_and_an_optimizer_go_together_or_not_at_all():
    check_rule(make, RECIPE)
    check_rule(None, Recipe())
    for factory, recipe in ((None, RECIPE), (make, Recipe(rule="adam"))):
        with pytest.raises(ConfigError, match="rule = "):
            check_rule(factory, recipe)


def test_a_tensor_as_a_rate_is_its_number():
    assert own_rate(lambda params: optim.Adam(params, lr=torch.tensor(0.25), capturable=False, foreach=False)) == 0.25


def test_an_optimizer_of_matrices_alone_is_asked_with_matrices():
    def of_matrices(params):  # as Muon, which not every version of PyTorch has
        if any(parameter.dim() != 2 for parameter in params):
            raise ValueError("matrices alone")
        return optim.SGD(params, lr=0.25)

    assert own_rate(of_matrices) == 0.25
    for wrong in (lambda params: None, lambda params: optim.SGD(params, lr=-1.0)):
        with pytest.raises(ConfigError, match="optimizer"):
            own_rate(wrong)
