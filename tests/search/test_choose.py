import dataclasses
import itertools
import math

import numpy as np
import pytest
from invented import STEPS, came_to, outcomes, trial, valley

from surefoot.config import Recipe
from surefoot.search import choose as choosing
from surefoot.search import space
from surefoot.search.choose import examples_noise
from surefoot.search.response import coordinates

BASE = Recipe()
WHERE = space.space_around(BASE, STEPS, 0.01, 0.1, frozenset())
RATES_ONLY = space.space_around(BASE, STEPS, 0.01, 0.1, frozenset({"weight_decay", "momentum"}))


def test_a_point_and_its_recipe_mean_the_same():
    for point in WHERE.candidates[::37]:
        for share in (1.0, 0.25):
            recipe = WHERE.recipe(point, share)
            rate, decay, keep = coordinates(recipe, share)
            assert recipe.steps == share * STEPS
            assert rate == pytest.approx(math.log10(point.rate), abs=1e-3)
            assert decay == pytest.approx(math.log10(point.decay), abs=0.01)
            assert keep == pytest.approx(math.log10(1 - point.momentum))


def test_decoupled_weight_decay_has_the_same_total():
    where = space.space_around(Recipe(weight_decay_form="decoupled"), STEPS, 0.01, 0.1, frozenset())
    recipe = where.recipe(space.Point(1.0, 3.0, 0.9), 1.0)
    assert recipe.weight_decay == pytest.approx(3.0 / (0.1 * STEPS), rel=0.01)


def test_a_short_run_has_the_weight_decay_of_the_final_one():
    point = space.Point(1.0, 3.0, 0.9)
    assert WHERE.recipe(point, 0.25).weight_decay == WHERE.recipe(point, 1.0).weight_decay


def test_a_recipe_that_has_a_decay_of_its_own_keeps_it_where_nothing_is_measured():
    own = space.space_around(Recipe(lr=0.1, weight_decay=6e-3), STEPS, 0.01, 0.1, frozenset())
    assert own.usual_decay == pytest.approx(6.0)
    assert own.usual_decay in own.decays
    assert space.usual(own, 1.0).decay == own.usual_decay
    assert {point.decay for point in space.only_rates(own).candidates} == {own.usual_decay}
    assert WHERE.usual_decay == 1.0


def test_what_is_fixed_stays():
    recipes = [RATES_ONLY.recipe(point, 1.0) for point in RATES_ONLY.candidates]
    assert {(each.weight_decay, each.momentum) for each in recipes} == {(BASE.weight_decay, BASE.momentum)}
    where = space.space_around(Recipe(lr=0.07), STEPS, 0.01, 0.1, frozenset({"lr"}))
    assert {where.recipe(point, 1.0).lr for point in where.candidates} == {0.07}
    assert {point.momentum for point in where.candidates} == {0.9}


def test_nesterov_without_momentum_becomes_plain():
    where = space.space_around(Recipe(momentum_form="nesterov"), STEPS, 0.01, 0.1, frozenset())
    assert where.recipe(space.Point(0.1, 1.0, 0.0), 1.0).momentum_form == "pytorch"


@pytest.mark.parametrize("count", [1, 2, 5, 12, 30])
def test_a_coarse_grid_covers_the_bracket_and_every_axis(count):
    points = space.coarse_grid(WHERE, count)
    rates = sorted(math.log10(point.rate) for point in points)
    low, high = math.log10(0.1) - space.REACH_DECADES[0], 0.0
    assert len(points) == count
    assert low - 1e-9 <= rates[0] <= rates[-1] <= high + 1e-9
    if count >= 12:
        gaps = [b - a for a, b in itertools.pairwise(rates)]
        assert max(gaps) < 3 * (high - low) / count
        assert {point.decay for point in points} == set(WHERE.decays)
        assert {point.momentum for point in points} == set(WHERE.momenta)


def test_rates_alone_are_evenly_spaced_with_the_usual_decay():
    points = space.coarse_grid(space.only_rates(WHERE), 5)
    steps = [math.log10(b.rate / a.rate) for a, b in itertools.pairwise(points)]
    assert steps == pytest.approx([steps[0]] * 4)
    assert {(point.decay, point.momentum) for point in points} == {(1.0, 0.9)}


def tried_grid(error, shares=(0.25,), where=WHERE, count=7, seeds=1):
    points = space.coarse_grid(space.only_rates(where), count)
    trials = [
        dataclasses.replace(trial(0.1, seed=seed), recipe=where.recipe(point, share), share=share)
        for share in shares
        for point in points
        for seed in range(seeds)
    ]
    return tuple(outcomes(trials, error))


@pytest.mark.parametrize("best", [0.1, 0.3, 0.8])
def test_the_choice_lies_at_the_valley(best):
    choice = choosing.choose(tried_grid(valley(best, cliff=9), (0.25, 1.0)), WHERE, 1000)
    assert choice.point.rate == pytest.approx(best, rel=0.5)
    assert choice.lr_low <= choice.recipe.lr <= choice.lr_high
    assert choice.recipe.steps == STEPS
    assert not choice.at_border
    assert choice.decay_open
    assert choice.momentum_open


def test_the_choice_keeps_clear_of_a_cliff():
    """The error falls up to the edge, 0.05 decades above the best tried rate: the choice is below that edge."""
    error = valley(0.5, cliff=0.05)
    choice = choosing.choose(tried_grid(error, (1.0,), count=12), WHERE, 1000)
    assert math.isfinite(error(dataclasses.replace(trial(0.1), recipe=choice.recipe)))


def test_short_trials_are_trusted_with_a_margin_below():
    short = choosing.choose(tried_grid(valley(0.3, cliff=9), (1 / 16,)), WHERE, 1000)
    full = choosing.choose(tried_grid(valley(0.3, cliff=9), (1.0,)), WHERE, 1000)
    lower = math.log10(full.point.rate / short.point.rate)
    assert lower == pytest.approx(4 * 0.1, abs=1 / space.PER_DECADE)  # a tenth of a decade for each of four doublings


def test_no_rate_beyond_those_that_were_tried_is_chosen():
    """The error falls all the way to the last tried rate, so the mean goes on falling beyond it."""
    tried = tried_grid(valley(1e3, cliff=99), (0.25, 0.5))
    highest = max(each.trial.recipe.lr for each in tried)
    assert choosing.choose(tried, WHERE, 1000).recipe.lr <= highest * 1.1
    assert max(WHERE.rates) > 11 * highest  # rates are lr / (1 - 0.9)


def test_no_rate_is_chosen_that_only_short_runs_have_seen():
    tried = tried_grid(valley(1.0, cliff=99), (0.25,))
    longer = [each for each in tried_grid(valley(1.0, cliff=99), (0.5,)) if each.trial.recipe.lr < 0.03]
    highest = max(each.trial.recipe.lr for each in longer)
    assert choosing.choose((*tried, *longer), WHERE, 1000).recipe.lr <= highest * 1.1


def test_the_middle_of_where_the_best_rate_may_lie():
    """Where the curve is known it is the least; where it is flat and unknown, the middle, and not the luckiest rate."""
    rates, mean = np.linspace(-2, 0, 17), np.zeros(17)
    mean[14] = -1e-3
    known, unknown = 1e-12 * np.eye(17), 0.01 * np.eye(17)
    whole = (-2.0, 0.0)
    assert choosing._middle(mean, known, rates, 0.0, whole) == 14
    assert choosing._middle(mean, known, rates, 0.25, whole) == 12
    assert 6 <= choosing._middle(mean, unknown, rates, 0.0, whole) <= 10
    assert choosing._middle(mean, known, rates, 0.0, (-1.5, -1.0)) == 8


def test_noise_makes_the_choice_less_sure():
    quiet = choosing.choose(tried_grid(valley(0.3, cliff=9), (1.0,), seeds=3), WHERE, 1000)
    noisy = choosing.choose(tried_grid(valley(0.3, cliff=9, noise=0.5), (1.0,), seeds=3), WHERE, 1000)
    assert noisy.spread > 2 * quiet.spread
    assert len(noisy.alike) >= len(quiet.alike) >= 1


def test_an_answer_on_the_border_is_said():
    assert choosing.choose(tried_grid(valley(100.0, cliff=9), (1.0,)), WHERE, 1000).at_border


def test_only_what_was_tried_is_chosen_among_momenta_and_decays():
    tried = tried_grid(valley(0.3, cliff=9), (1.0,))
    assert choosing.choose(tried, WHERE, 1000).point[1:] == (1.0, 0.9)
    other = [came_to(trial(0.03, decay=0.1), -4.0), came_to(trial(0.02, decay=0.1, momentum=0.95), -3.0)]
    choice = choosing.choose((*tried, *other), WHERE, 1000)
    assert choice.point.decay < 1.0
    assert not choice.decay_open
    assert not choice.momentum_open


def test_a_round_of_refinement_encloses_the_best_rate_and_halves_its_arms():
    tried = tried_grid(valley(0.3, cliff=9))
    first = choosing.next_points(tried, WHERE, 4, 0.5, 1000, number=1)
    second = choosing.next_points(tried, WHERE, 4, 0.5, 1000, number=2)
    center = first[0].rate
    assert min(point.rate for point in first) < center < max(point.rate for point in first)
    assert len({point.decay for point in first}) == 2
    assert math.log(second[2].rate / second[0].rate) == pytest.approx(math.log(first[2].rate / first[0].rate) / 2)


def test_nothing_is_tried_twice_at_one_length():
    tried = tried_grid(valley(0.3, cliff=9))
    points = choosing.next_points(tried, WHERE, 4, 0.5, 1000)
    done = outcomes(
        [dataclasses.replace(trial(0.1), recipe=WHERE.recipe(p, 0.5), share=0.5) for p in points], lambda _: -2
    )
    again = choosing.next_points((*tried, *done), WHERE, 4, 0.5, 1000)
    assert not {WHERE.recipe(p, 0.5) for p in again} & {each.trial.recipe for each in done}


def test_gains_are_paired_by_seed():
    old = [came_to(trial(0.1, seed=s), e) for s, e in ((0, -1.0), (1, -2.0))]
    new = [came_to(trial(0.2, seed=s), e) for s, e in ((1, -2.3), (2, -9.0))]
    assert choosing.paired_gain(new, old, 100) == pytest.approx(0.3)
    assert math.isnan(choosing.paired_gain(new[1:], old, 100))


def test_promising_are_the_best_of_the_final_length():
    tried = tried_grid(valley(0.3, cliff=9), (0.25, 1.0))
    best = choosing.promising(tried, WHERE, 2, 1000)
    assert [each.steps for each in best] == [STEPS, STEPS]
    assert best[0].lr / 0.1 == pytest.approx(0.3, rel=0.6)
    assert choosing.promising(tried_grid(valley(0.3)), WHERE, 2, 1000) == []


@pytest.mark.parametrize(("by", "share"), [(None, 0.5), ("accuracy", 1.0), ("f1", 0.0), ("loss", 0.0)])
def test_examples_say_how_sure_accuracy_is_and_nothing_of_other_numbers(by, share):
    came = dataclasses.replace(came_to(trial(0.1), -1.0), val_accuracy=0.9, metrics={"f1": 0.9}, chosen_by=by)
    assert examples_noise([came], 1000) == pytest.approx(share * math.sqrt(2 / 100.5))
