"""The space of a search: decoupled coordinates come back, what is fixed stays, and a grid covers what is free."""

import itertools
import math

import pytest

from surefoot.config import Recipe, Schedule
from surefoot.rules import update_rule, update_rules
from surefoot.search.response import coordinates
from surefoot.search.space import coarse_grid, only_rates, shrunk, space_around, trial_of, usual, without_momentum

BASE = Recipe(lr=0.1, momentum=0.9, weight_decay=0.002, epochs=5)


def around(*fixed):
    return space_around(BASE, 1000, 0.01, 1.0, frozenset(fixed))


@pytest.mark.parametrize("form", ["coupled", "decoupled"])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_recipe_has_the_rate_and_the_total_decay_of_its_point(form, share):
    where = space_around(Recipe(momentum=0.9, weight_decay_form=form), 1000, 0.01, 1.0, frozenset())
    for point in where.candidates[::37]:
        recipe = where.recipe(point, share)
        assert recipe.steps == round(share * 1000)
        rate, decay = coordinates(recipe, share)[:2]
        assert rate == pytest.approx(math.log10(point.rate), abs=1e-3)
        assert decay == pytest.approx(math.log10(point.decay), abs=5e-3)


@pytest.mark.parametrize("rule", update_rules())
def test_the_space_follows_from_the_rule(rule):
    of_rule = update_rule(rule)
    where = space_around(Recipe(rule=rule), 1000, *of_rule.lr_range, frozenset())
    assert where.decays == (of_rule.decays or (None,))
    assert set(where.momenta) == {*of_rule.memories, of_rule.defaults[of_rule.memory]}
    point = usual(where, where.rates[5])
    recipe = where.recipe(point, 1.0)
    assert recipe.rule == rule
    if rule in ("adamw", "muon"):  # lr wd T, the timescale of Wang & Aitchison 2024
        assert recipe.lr * recipe.weight_decay * 1000 == pytest.approx(of_rule.usual_decay, rel=0.01)
    if rule in ("adam", "rmsprop"):
        assert recipe.weight_decay == of_rule.defaults["weight_decay"]


def test_what_is_fixed_stays_and_the_rest_is_free():
    free = around()
    assert 0.9 in free.momenta
    assert min(len(free.momenta), len(free.decays)) > 3
    assert around("momentum").momenta == (0.9,)
    assert around("weight_decay").decays == (None,)
    kept = around("lr").recipe(around("lr").candidates[0], 1.0)
    assert (kept.lr, kept.momentum) == (BASE.lr, BASE.momentum)
    assert around("weight_decay").recipe(usual(around("weight_decay"), 1.0), 1.0).weight_decay == BASE.weight_decay


def test_a_recipe_that_has_its_own_decay_keeps_it_as_the_usual_one():
    where = around()
    assert where.recipe(usual(where, BASE.lr / 0.1), 1.0).weight_decay == pytest.approx(BASE.weight_decay, rel=0.02)


@pytest.mark.parametrize("count", [3, 12, 40])
def test_a_coarse_grid_covers_every_free_axis_within_the_bracket(count):
    where = around()
    grid = coarse_grid(where, count)
    assert len(set(grid)) == len(grid) == count
    assert max(point.rate for point in grid) <= where.high * 1.0001
    if count >= 12:
        assert {point.momentum for point in grid} == set(where.momenta)
        assert {point.decay for point in grid} == set(where.decays)
    line = coarse_grid(only_rates(where), count)
    steps = {round(math.log10(b.rate / a.rate), 6) for a, b in itertools.pairwise(line)}
    assert len(steps) == 1
    assert {(point.decay, point.momentum) for point in line} == {(where.usual_decay, 0.9)}
    assert without_momentum(where).momenta == (0.9,)


def test_a_trial_is_a_complete_small_run():
    base = Recipe(epochs=10, schedule=Schedule(kind="step", milestones_epochs=[4, 8], warmup_epochs=1))
    trial = trial_of("refine", base, Recipe(steps=50), 2, 0.5)
    assert trial.recipe.schedule.milestones_epochs == (2.0, 4.0)
    assert (trial.recipe.schedule.warmup_epochs, trial.seed, trial.share) == (0.5, 2, 0.5)
    assert shrunk(base.schedule, 1.0) == base.schedule
