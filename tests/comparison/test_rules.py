"""The words in which rules are given, and every mistake in them."""

import pytest

from surefoot.comparison.rules import NAMED, RULES, parse_rules
from surefoot.errors import ConfigError


def test_each_name_is_the_rule_of_that_name():
    found = dict(zip(RULES, parse_rules(RULES), strict=True))
    assert found["gradient-descent"].recipe.batch_size == "full"
    assert (found["sgd"].recipe.batch_size, found["sgd"].recipe.momentum) == (1, 0)
    assert (found["mini-batch"].recipe.batch_size, found["mini-batch"].recipe.momentum) == ("auto", 0)
    forms = [found[name].recipe.momentum_form for name in ("momentum", "sutskever", "nesterov")]
    assert forms == ["pytorch", "sutskever", "nesterov"]
    assert not any(rule.given for rule in found.values())
    assert {rule.recipe.schedule.kind for rule in found.values()} == {"constant"}


def test_common_settings_hold_where_a_rule_says_nothing_else():
    common = {"batch_size": 8, "momentum": 0.5, "weight_decay": 0.1, "schedule": "linear"}
    full, small, own = parse_rules(["gradient-descent", "nesterov", "momentum batch_size=4 schedule=cosine"], common)
    assert (full.recipe.batch_size, full.recipe.momentum, full.recipe.weight_decay) == ("full", 0, 0.1)
    assert (small.recipe.batch_size, small.recipe.momentum, small.recipe.schedule.kind) == (8, 0.5, "linear")
    assert (own.recipe.batch_size, own.recipe.schedule.kind) == (4, "cosine")


def test_words_are_settings_of_recipe_and_schedule():
    rule = parse_rules(["momentum lr=0.2 schedule=step milestones_epochs=2,4 decay_on=weights weight-decay=1e-3"])[0]
    assert rule.given
    assert rule.recipe.lr == 0.2
    assert rule.recipe.schedule.milestones_epochs == (2.0, 4.0)
    assert (rule.recipe.decay_on, rule.recipe.weight_decay) == ("weights", 1e-3)


def test_one_milestone_is_a_list_too():
    assert parse_rules(["sgd schedule=step milestones_epochs=3"])[0].recipe.schedule.milestones_epochs == (3.0,)


def test_a_label_is_what_a_rule_is_called():
    assert [rule.name for rule in parse_rules(["sgd label='one by one'", "momentum preset=bert"])] == [
        "one by one",
        "momentum preset=bert",
    ]


def test_a_common_rate_is_a_given_rate():
    assert all(rule.given and rule.recipe.lr == 0.3 for rule in parse_rules(["sgd", "momentum"], {"lr": 0.3}))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("momentm", "did you mean 'momentum'"), ("", "NAME"), ("sgd 'x", "quotation"), ("sgd lr", "'lr'"),
        ("sgd lr=", "'lr='"), ("momentum lr=1 lr=2", "twice"), ("sgd batch_size=4", "batch_size = 1"),
        ("momentum epochs=3", "--epochs"), ("momentum steps=3", "budget"), ("momentum lrr=3", "did you mean 'lr'"),
        ("momentum lr=-1", "above 0"), ("momentum lr=abc", "a number"), ("nesterov momentum=0", "momentum above 0"),
        ("momentum schedule=cosin", "did you mean 'cosine'"), ("momentum milestones_epochs=3", "step"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(text, named):
    with pytest.raises(ConfigError) as error:
        parse_rules([text])
    assert named.lower() in str(error.value).lower()


def test_no_rules_and_two_of_one_name_are_errors():
    with pytest.raises(ConfigError, match="at least one"):
        parse_rules([])
    with pytest.raises(ConfigError, match="label"):
        parse_rules(["sgd", "sgd"])


def test_every_rule_is_told_from_the_others_by_what_it_fixes():
    assert len({tuple(sorted(map(str, fixed.items()))) for fixed in NAMED.values()}) == len(NAMED)
