"""What groups make of a model: factors, what is frozen, which modules stand still."""

import math

import pytest
import torch
from torch import nn

from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.optim.plan import plan
from surefoot.rules.groups import Factors
from surefoot.training.groups import asleep, check_lengths, factors_of, freeze_, sleeping, thaws


def net():
    return nn.ModuleDict({
        "body": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()), "norm": nn.LayerNorm(4),
        "head": nn.Linear(4, 2),
    })  # fmt: skip


def made(groups, **changes):
    return plan(Recipe(groups=groups, **{"epochs": 4, "batch_size": 10} | changes), 100)


def test_biases_and_norms_are_left_out_of_decay_by_their_dimensions():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(3, 2))
    decays = [each.weight_decay for each in factors_of(model, Recipe(decay_on="weights")).values()]
    assert decays == [1, 0, 0, 0, 1, 0]
    assert set(factors_of(model, Recipe()).values()) == {Factors()}
    grouped = factors_of(model, Recipe(decay_on="weights", groups={"*": {"weight_decay": 3}}))
    assert [each.weight_decay for each in grouped.values()] == [3, 0, 0, 0, 3, 0]


def test_what_is_not_trained_has_no_factors():
    model = freeze_(net(), Recipe(groups={"body": "frozen"}).groups)
    assert [name.partition(".")[0] for name in factors_of(model, Recipe())] == ["norm", "norm", "head", "head"]


def test_modules_with_something_trained_in_them_stay_in_training():
    model = freeze_(net(), Recipe(groups={"body.1": "frozen"}).groups)
    assert {name for name, module in model.named_modules() if not module.training} == {"body.1"}
    whole = freeze_(net(), Recipe(groups={"body": "frozen"}).groups)
    assert {name for name, module in whole.named_modules() if not module.training} == {
        "body",
        "body.0",
        "body.1",
        "body.2",
    }


def test_a_module_that_its_owner_froze_keeps_its_mode():
    model = net()
    model["norm"].requires_grad_(False)
    freeze_(model, Recipe(groups={"body.0": "frozen"}).groups)
    assert model["norm"].training


def test_sleeping_is_undone_after_an_error():
    model = net()
    names = ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]

    def fails():
        with sleeping(model, names):
            assert not any(module.training for module in model["body"].modules())
            assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == names
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_epochs_are_steps_of_the_plan():
    model, of_plan = net(), made({"body": {"frozen_epochs": 1.5}, "norm": {"frozen_epochs": 0}})
    assert set(thaws(model, of_plan).values()) == {15, 0}
    assert len(asleep(model, of_plan, 14)) == 4
    assert asleep(model, of_plan, 15) == []


@pytest.mark.parametrize("epochs", [4, 9.5])
def test_what_never_thaws_is_called_frozen(epochs):
    with pytest.raises(ConfigError, match=r"in a run of 4: it would never be trained.* set body=frozen"):
        check_lengths(made({"body": {"frozen_epochs": epochs}}))
    check_lengths(made({"body": {"frozen_epochs": 3.9}, "norm": {"frozen_epochs": math.inf}}))


def test_a_frozen_batch_norm_leaves_its_statistics():
    model = freeze_(net(), Recipe(groups={"body": "frozen"}).groups)
    model["body"](torch.randn(8, 4))
    assert int(model["body"][1].num_batches_tracked) == 0
