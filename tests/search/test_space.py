"""The space of a search: decoupled coordinates come back, what is fixed stays, and a grid covers what is free."""

import dataclasses
import math

import pytest

from surefoot.config import Recipe, Schedule
from surefoot.rules import update_rule, update_rules
from surefoot.search.axes import PER_DOUBLING
from surefoot.search.response import coordinates
from surefoot.search.space import Point, shrunk, space_around, trial_of

BASE = Recipe(lr=0.1, momentum=0.9, weight_decay=0.002, epochs=5)


def around(*fixed, **more):
    return space_around(BASE, 1000, (0.01, 1.0), frozenset(fixed), **more)


def names(where):
    return [axis.name for axis in where.axes]


@pytest.mark.parametrize("form", ["coupled", "decoupled"])
@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("batch", [None, 32, 256])
def test_a_recipe_has_the_total_decay_of_its_point_whatever_batch_and_length(form, share, batch):
    base = Recipe(momentum=0.9, weight_decay_form=form, batch_size=64)
    where = space_around(base, 1000, (0.01, 1.0), frozenset(), examples=batch and 50_000)
    for others in where.all_others():
        if batch in (None, *others):
            recipe = where.recipe(Point(0.5, others), share)
            assert recipe.steps == round(share * 1000 * 64 / recipe.batch_size)
            assert coordinates(recipe, share)[1] == pytest.approx(math.log10(others[-1]), abs=5e-3)


@pytest.mark.parametrize("rule", update_rules())
def test_the_space_follows_from_the_rule(rule):
    of_rule = update_rule(rule)
    where = space_around(Recipe(rule=rule), 1000, of_rule.lr_range, frozenset())
    assert names(where) == [of_rule.memory] + ["weight_decay"] * bool(of_rule.decays)
    assert set(where.axes[0].values) == {*of_rule.memories, of_rule.defaults[of_rule.memory]}
    recipe = where.recipe(where.default, 1.0)
    assert recipe.rule == rule
    if rule in ("adamw", "muon"):  # lr wd T, the timescale of Wang & Aitchison 2024
        assert recipe.lr * recipe.weight_decay * 1000 == pytest.approx(of_rule.usual_decay, rel=0.01)
    if rule in ("adam", "rmsprop"):
        assert recipe.weight_decay == of_rule.defaults["weight_decay"]


def test_what_is_fixed_stays_and_the_rest_is_free():
    assert names(around()) == ["momentum", "weight_decay"]
    assert names(around("momentum")) == names(around("momentum_form")) == ["weight_decay"]
    assert names(around("weight_decay")) == ["momentum"]
    kept = around("lr").recipe(around("lr").default, 1.0)
    assert (kept.lr, kept.momentum) == (BASE.lr, BASE.momentum)
    assert around("weight_decay").recipe(around("weight_decay").default, 1.0).weight_decay == BASE.weight_decay


def test_a_batch_size_is_free_where_runs_are_counted_in_examples_and_its_epochs_stay():
    base = dataclasses.replace(BASE, batch_size=64)
    free = space_around(base, 1000, None, frozenset(), examples=2000)
    assert free.axes[1].values == (8, 16, 32, 64)  # a batch of 128 has 15 updates an epoch
    assert free.default.others[1] == 32
    assert "batch_size" not in names(space_around(base, 1000, None, frozenset({"batch_size"}), examples=2000))
    steps = dataclasses.replace(base, epochs=None, steps=1000)
    assert "batch_size" not in names(space_around(steps, 1000, None, frozenset(), examples=2000))


def test_batches_of_twice_the_size_are_expected_to_want_almost_twice_the_rate():
    base = dataclasses.replace(BASE, batch_size=64)
    where = space_around(base, 1000, None, frozenset(), examples=50_000)
    small, large = (where.point_at(0.0, (0.9, size, 1.0)).rate for size in (64, 128))
    assert math.log10(large / small) == pytest.approx(PER_DOUBLING)
    adam = space_around(Recipe(rule="adamw", batch_size=64, epochs=1), 1000, None, frozenset(), examples=50_000)
    small, large = (adam.point_at(0.0, (0.999, size, 1.0)).rate for size in (64, 128))
    assert math.log10(large / small) == pytest.approx(PER_DOUBLING / 2)


def test_the_bracket_moves_where_the_best_rate_is_expected_as_far_as_it_is_narrow():
    free = space_around(BASE, 1000, None, frozenset())
    narrow, wide = (space_around(BASE, 1000, ends, frozenset()) for ends in ((0.01, 0.01), (1e-4, 1.0)))
    assert narrow.center < wide.center < free.center == pytest.approx(0.0)
    assert narrow.sd < wide.sd < free.sd


def test_a_default_that_step_3_found_too_large_is_lowered():
    assert around().default.rate == pytest.approx(BASE.effective_lr)
    low = space_around(BASE, 1000, (1e-4, 1e-4), frozenset())
    assert low.default.rate < 0.1 * BASE.effective_lr


def test_a_recipe_that_has_its_own_decay_keeps_it_as_the_usual_one():
    assert around().recipe(around().default, 1.0).weight_decay == pytest.approx(BASE.weight_decay, rel=0.02)


def test_a_trial_is_a_complete_small_run():
    base = Recipe(epochs=10, schedule=Schedule(kind="step", milestones_epochs=[4, 8], warmup_epochs=1))
    trial = trial_of("refine", base, Recipe(steps=50), 2, 0.5)
    assert trial.recipe.schedule.milestones_epochs == (2.0, 4.0)
    assert (trial.recipe.schedule.warmup_epochs, trial.seed, trial.share) == (0.5, 2, 0.5)
    assert shrunk(base.schedule, 1.0) == base.schedule
