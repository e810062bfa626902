"""What groups say of parameters by their names, and what is wrong with those that somebody describes."""

import math

import pytest

from surefoot.config import Config, Recipe
from surefoot.errors import ConfigError
from surefoot.rules.groups import Factors, Group, factors_by_name, groups_of, shortened, texts_of
from surefoot.settings import flattened, from_dict, merged, nested, to_dict

NAMES = (
    ("stem.weight",), ("stem.bias",), ("body.0.norm1.weight",), ("body.0.norm1.bias",), ("body.1.weight",),
    ("head.bias",),
)  # fmt: skip
ISSUE = {"head": {"lr": 10}, "*.bias": {"lr": 64}, "*norm*": {"weight_decay": 0}, "stem": "frozen"}


def of(groups):
    return {name: factors for (name,), factors in zip(NAMES, factors_by_name(groups_of(groups), NAMES), strict=True)}


def test_a_later_pattern_counts_setting_by_setting():
    found = of(ISSUE | {"head": {"lr": 10, "weight_decay": 5}})
    assert found["head.bias"] == Factors(64.0, 5.0)
    assert found["body.0.norm1.bias"] == Factors(64.0, 0.0)
    assert found["body.1.weight"] == Factors()
    assert found["stem.bias"] == Factors(64.0, 1.0, math.inf)


def test_all_but_the_head():
    found = of({"*": "frozen", "head": "trained"})
    assert {name for name, factors in found.items() if factors.frozen_epochs == 0} == {"head.bias"}


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("body", 3), ("body.*", 3), ("body.0", 2), ("*.0", 2), ("*.weight", 3), ("*", 6), ("body.[01]", 3),
        ("body.0.norm1.bias", 1), ("*norm?", 2), ("Body", 0), ("bod", 0), ("weight", 0),
    ],
)  # fmt: skip
def test_a_pattern_is_that_of_a_parameter_or_of_a_module_around_it(pattern, matched):
    assert sum(Group(pattern, lr=2.0).matches(each) for each in NAMES) == matched


def test_any_name_of_a_tied_parameter_counts():
    found = factors_by_name(groups_of(["decoder=frozen"]), (("encoder.weight", "decoder.weight"), ("encoder.bias",)))
    assert [each.frozen_epochs for each in found] == [math.inf, 0]


FORMS = [
    ISSUE,
    ["head.lr=10", "*.bias.lr=64", "*norm*.weight_decay=0", "stem=frozen"],
    ["head.lr=10.0", "*.bias.lr=6.4e1", "*norm*.weight_decay=0", "stem.frozen_epochs=inf"],
    {"head": {"lr": 10.0}, "*.bias": {"lr": 64}, "*norm*": {"weight_decay": 0.0}, "stem": {"frozen_epochs": math.inf}},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_all_forms_say_the_same_and_come_back(form):
    recipe = Recipe(groups=form)
    assert recipe == Recipe(groups=ISSUE)
    assert hash(recipe) == hash(Recipe(groups=ISSUE))
    assert groups_of(texts_of(recipe.groups)) == recipe.groups
    assert from_dict(Recipe, to_dict(recipe)) == recipe


def test_text_keeps_every_digit_and_the_order():
    groups = groups_of({"b": {"lr": 0.1 + 0.2}, "a": {"frozen_epochs": 1 / 3, "weight_decay": 2}})
    assert groups_of(texts_of(groups)) == groups
    assert texts_of(groups_of(["b=frozen", "a=trained", "b.lr=2"])) == ["b.lr=2", "b=frozen", "a=trained"]


def test_a_recipe_without_groups_is_written_as_before():
    assert "groups" not in to_dict(Recipe())
    assert "groups" not in flattened(to_dict(Config()))


def test_groups_of_a_later_layer_take_the_place_of_the_others():
    file = {"recipe": {"groups": {"head": {"lr": 2}, "stem": "frozen"}, "lr": 0.3}}
    found = merged(file, nested({"groups": ["head=trained"]}))["recipe"]
    assert found == {"groups": ["head=trained"], "lr": 0.3}
    assert merged(nested({"groups": ["head=trained"]}), file)["recipe"] == file["recipe"]


def test_a_shorter_run_thaws_sooner():
    groups = shortened(groups_of(["a.frozen_epochs=3", "b=frozen", "c.lr=2", "d=trained"]), 1 / 3)
    assert [each.frozen_epochs for each in groups] == [1, math.inf, None, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("head.lr=2", "groups = 'head.lr=2'"),
        (5, "groups = 5"),
        ([3], "groups: 3:"),
        (["head"], "groups: 'head':"),
        (["=frozen"], "groups: '=frozen':"),
        (["head=3"], "a number without a setting: .*Give head.lr=3"),
        (["head.lr=fast"], "groups: 'head.lr' = 'fast'"),
        (["head.lr=1", "head.lr=1"], "lr of 'head' is there twice"),
        ({"head": "frozn"}, "Did you mean 'frozen'"),
        ({"head": {"rate": 1}}, "'rate' of 'head'"),
        ({"head": {"lr": 2, "frozen": True}}, "'frozen' among the settings of 'head'.* Set head=frozen"),
        ({"head": {}}, "'head' = {}"),
        ({"head": None}, "'head' = None"),
        ({"head": 10}, "'head' = 10"),
        ({3: "frozen"}, "groups with 3 as a pattern"),
        ({"": "frozen"}, "groups with '' as a pattern"),
        ({"head": {"lr": -1}}, "lr = -1 of 'head': lr multiplies the rate and must be above 0"),
        ({"head": {"lr": 0}}, "Set head=frozen"),
        ({"head": {"lr": math.inf}}, "lr = inf"),
        ({"head": {"lr": math.nan}}, "lr = nan"),
        ({"head": {"lr": True}}, "lr must be a number"),
        ({"head": {"lr": "10"}}, "lr must be a number"),
        ({"head": {"weight_decay": -0.1}}, "weight_decay must be at least 0"),
        ({"head": {"weight_decay": math.inf}}, "weight_decay must be at least 0"),
        ({"head": {"frozen_epochs": -1}}, "frozen_epochs must be at least 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(given, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(groups=given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bodi": "frozen"}, "Did you mean 'body'"),
        ({"norm1": "frozen"}, r"Did you mean '\*\.norm1'"),
        ({"zzz": "frozen"}, "Choose among stem, body, head and what lies below"),
        ({"head": {"lr": 2}, "*": {"lr": 1}}, "'head' has no effect"),
        ({"head": {"lr": 2}, "*": "frozen"}, "'head' has no effect"),
        ({"head": "frozen", "*": "trained"}, "'head' has no effect"),
        ({"*": "frozen", "head": {"lr": 2}}, r"frozen by '\*'.*Set head=trained too"),
    ],
)
def test_what_does_not_go_with_the_names_is_said(given, message):
    with pytest.raises(ConfigError, match=message):
        of(given)
