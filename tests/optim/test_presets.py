"""Looking presets up, and what each must tell. Their values: tests/laws/test_presets.py."""

import re

import pytest

from surefoot.config import Recipe, Schedule
from surefoot.errors import ConfigError
from surefoot.optim.presets import ALIASES, PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_where_it_comes_from(name):
    each = PRESETS[name]
    assert each.name == name
    assert re.search(r"(19|20)\d\d|@[0-9a-f]{7}", each.citation), "a year or a commit"
    assert re.match(r"SGD|Adam", each.optimizer)
    assert each.steps > 0
    assert each.peak_lr > 0
    if each.optimizer.startswith("SGD"):
        assert each.momentum is not None
        assert each.batch_size is not None
        assert each.weight_decay is not None
    else:
        assert each.momentum is None, "momentum of SGD was not published for another optimizer"


def test_aliases_lead_to_presets_and_hide_none():
    assert all(target in PRESETS and alias not in PRESETS for alias, target in ALIASES.items())
    assert preset("roberta") is PRESETS["roberta-large"]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean 'slowfast'\?|Did you mean 'slowfast'\?"):
        preset("slow-fast")


@pytest.mark.parametrize("name", PRESETS)
def test_its_settings_are_those_of_a_recipe_with_the_optimizer_that_it_was_published_with(name):
    made = PRESETS[name]
    recipe = Recipe(**made.settings, schedule=Schedule(kind="preset", preset=name))
    assert (recipe.lr, recipe.weight_decay) == (made.peak_lr, made.weight_decay or recipe.weight_decay)
    assert (recipe.rule == "adamw") == made.optimizer.startswith("Adam")
    assert (recipe.momentum_form == "nesterov") == (", Nesterov" in made.optimizer)
    if "eps 1e-6" in made.optimizer:
        assert recipe.eps == 1e-6
    assert (recipe.beta2 == 0.98) == ("0.98" in made.optimizer)
