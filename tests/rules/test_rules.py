"""Rules are found by their files; what a recipe may say follows from the rule that it names."""

import dataclasses

import pytest

from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.rules import rule_settings, update_rule, update_rules
from surefoot.settings import from_dict, merged, to_dict

RULES = list(update_rules().values())


def test_every_rule_reads_settings_of_a_recipe_and_begins_within_their_ranges():
    names = {field.name for field in dataclasses.fields(Recipe)}
    for rule in RULES:
        assert set(rule.defaults) <= names
        assert {"lr", "weight_decay", rule.memory} <= set(rule.defaults)
        recipe = Recipe(rule=rule.name)
        assert recipe.rule_values == dict(rule.defaults)
        assert rule.lr_range[0] < recipe.lr <= rule.lr_range[1]
        assert all(Recipe(rule=rule.name, **{rule.memory: value}).memory == value for value in rule.memories)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_setting_of_another_rule_is_an_error_that_says_whose_it_is(rule):
    for name in set(rule_settings()) - set(rule.defaults):
        other = next(each for each in RULES if name in each.defaults)
        with pytest.raises(ConfigError, match=rf"{name} = .* with rule {rule.name}: {name} belongs to .*{other.name}"):
            Recipe(rule=rule.name, **{name: other.defaults[name]})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_recipe_comes_back_from_plain_values(rule):
    recipe = Recipe(rule=rule.name, **{rule.memory: rule.memories[-1]})
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    assert dataclasses.replace(recipe, lr=0.5).memory == recipe.memory


@pytest.mark.parametrize("name", ["adamm", "SGD", "", 3, None, ["adam"]])
def test_an_unknown_rule_is_refused(name):
    with pytest.raises(ConfigError, match="must be an update rule"):
        Recipe(rule=name)


def test_another_rule_drops_what_belongs_to_the_one_below():
    shipped = {"recipe": {"lr": 0.75, "momentum": 0.85, "weight_decay": 1e-3, "label_smoothing": 0.2}}
    assert merged(shipped, {"recipe": {"rule": "adamw"}}) == {"recipe": {"label_smoothing": 0.2, "rule": "adamw"}}
    assert merged(shipped, {"recipe": {"rule": "sgd"}})["recipe"]["momentum"] == 0.85
    both = merged({"recipe": {"rule": "adam", "beta2": 0.9}}, {"recipe": {"lr": 0.1}})
    assert both == {"recipe": {"rule": "adam", "beta2": 0.9, "lr": 0.1}}


def test_the_effective_rate_is_the_rules():
    assert Recipe(lr=0.1, momentum=0.9).effective_lr == pytest.approx(1.0)
    assert Recipe(lr=0.1, momentum=0.9, dampening=0.5).effective_lr == pytest.approx(0.5)
    assert Recipe(rule="rmsprop", lr=0.1, momentum=0.9).effective_lr == pytest.approx(1.0)
    assert Recipe(rule="adam", lr=0.1, beta1=0.9).effective_lr == 0.1
    assert update_rule("sgd").per_shrink(Recipe(weight_decay_form="decoupled").rule_values) == 1.0
