import dataclasses
import math
import warnings

import numpy as np
import pytest
from invented import STEPS, came_to, outcomes, trial, valley

from surefoot.config import Recipe
from surefoot.search import choose as choosing
from surefoot.search import space
from surefoot.search.choose import examples_noise
from surefoot.search.response import coordinates

BASE = Recipe()
WHERE = space.space_around(BASE, STEPS, (0.01, 0.1), frozenset())
RATES_ONLY = space.space_around(BASE, STEPS, (0.01, 0.1), frozenset({"weight_decay", "momentum"}))


def at(rate, decay, momentum):
    return space.Point(rate, tuple({"momentum": momentum, "weight_decay": decay}[axis.name] for axis in WHERE.axes))


def test_a_point_and_its_recipe_mean_the_same():
    for others in WHERE.all_others():
        for rate, share in ((0.1, 1.0), (3.0, 0.25)):
            recipe = WHERE.recipe(space.Point(rate, others), share)
            drift = space.DRIFT * math.log2(share)
            found, decay, keep = coordinates(recipe, share)
            momentum, total = others
            assert recipe.steps == share * STEPS
            assert found == pytest.approx(math.log10(rate) + drift, abs=1e-3)
            assert decay == pytest.approx(math.log10(total), abs=0.01)
            assert keep == pytest.approx(math.log10(1 - momentum))
            back = WHERE.point(space.trial_of("refine", BASE, recipe, 0, share))
            assert (back.rate, back.others) == (pytest.approx(rate, rel=1e-3), others)


def test_decoupled_weight_decay_has_the_same_total():
    where = space.space_around(Recipe(weight_decay_form="decoupled"), STEPS, (0.01, 0.1), frozenset())
    recipe = where.recipe(at(1.0, 3.0, 0.9), 1.0)
    assert recipe.weight_decay == pytest.approx(3.0 / (0.1 * STEPS), rel=0.01)


def test_a_step_of_a_short_run_shrinks_weights_as_one_of_the_final_run_does():
    point = at(1.0, 3.0, 0.9)
    short, whole = WHERE.recipe(point, 0.25), WHERE.recipe(point, 1.0)
    assert short.lr * short.weight_decay == pytest.approx(whole.lr * whole.weight_decay, rel=0.01)


def test_a_recipe_that_has_a_decay_of_its_own_keeps_it_where_nothing_is_measured():
    own = space.space_around(Recipe(lr=0.1, weight_decay=6e-3), STEPS, (0.01, 0.1), frozenset())
    assert own.usual == (0.9, pytest.approx(6.0))
    assert own.default.others == own.usual
    assert WHERE.usual == (0.9, 1.0)


def test_what_is_fixed_stays():
    assert RATES_ONLY.axes == ()
    recipe = RATES_ONLY.recipe(space.Point(0.5), 1.0)
    assert (recipe.weight_decay, recipe.momentum) == (BASE.weight_decay, BASE.momentum)
    where = space.space_around(Recipe(lr=0.07), STEPS, (0.01, 0.1), frozenset({"lr"}))
    recipes = [where.recipe(where.point_at(0.0, others), 1.0) for others in where.all_others()]
    assert {each.lr for each in recipes} == {0.07}
    assert {each.momentum for each in recipes} == {0.9}


def test_nesterov_without_momentum_becomes_plain():
    where = space.space_around(Recipe(momentum_form="nesterov"), STEPS, (0.01, 0.1), frozenset())
    assert where.recipe(at(0.1, 1.0, 0.0), 1.0).momentum_form == "pytorch"


def tried_grid(error, shares=(0.25,), where=WHERE, count=7, seeds=1):
    rates = 10 ** np.linspace(-1.75, 0, count)
    trials = [
        space.trial_of("refine", BASE, where.recipe(where.default._replace(rate=float(rate)), share), seed, share)
        for share in shares for rate in rates for seed in range(seeds)
    ]  # fmt: skip
    return tuple(outcomes(trials, error))


@pytest.mark.parametrize("best", [0.1, 0.3, 0.8])
def test_the_choice_lies_at_the_valley(best):
    choice = choosing.choose(tried_grid(valley(best, cliff=9), (0.25, 1.0)), WHERE, 1000)
    assert choice.point.rate == pytest.approx(best, rel=0.5)
    assert choice.lr_low <= choice.recipe.lr <= choice.lr_high
    assert choice.recipe.steps == STEPS
    assert not choice.at_border
    assert choice.open == ("momentum", "weight_decay")


def test_the_choice_keeps_clear_of_a_cliff():
    """The error falls up to the edge, 0.05 decades above the best tried rate: the choice is below that edge."""
    error = valley(0.5, cliff=0.05)
    choice = choosing.choose(tried_grid(error, (1.0,), count=12), WHERE, 1000)
    assert math.isfinite(error(dataclasses.replace(trial(0.1), recipe=choice.recipe)))


def test_the_best_rate_of_a_longer_run_is_expected_to_be_lower():
    short = choosing.choose(tried_grid(valley(0.3, cliff=9), (1 / 16,)), WHERE, 1000)
    full = choosing.choose(tried_grid(valley(0.3, cliff=9), (1.0,)), WHERE, 1000)
    lower = math.log10(full.point.rate / short.point.rate)
    assert lower == pytest.approx(-4 * space.DRIFT, abs=1 / space.PER_DECADE)


def test_no_rate_beyond_those_that_were_tried_is_chosen():
    """The error falls all the way to the last tried rate, so the mean goes on falling beyond it."""
    tried = tried_grid(valley(1e3, cliff=99), (0.25, 0.5))
    highest = max(each.trial.recipe.lr for each in tried)
    assert choosing.choose(tried, WHERE, 1000).recipe.lr <= highest * 1.1
    assert 10 ** max(WHERE.rates()) > 11 * highest  # rates are lr / (1 - 0.9)


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
    assert choosing._middle(mean, known, rates, whole) == 14
    assert 6 <= choosing._middle(mean, unknown, rates, whole) <= 10
    assert choosing._middle(mean, known, rates, (-1.5, -1.0)) == 8


def test_noise_makes_the_choice_less_sure():
    quiet = choosing.choose(tried_grid(valley(0.3, cliff=9), (1.0,), seeds=3), WHERE, 1000)
    noisy = choosing.choose(tried_grid(valley(0.3, cliff=9, noise=0.5), (1.0,), seeds=3), WHERE, 1000)
    assert noisy.spread > 2 * quiet.spread
    assert noisy.alike_count >= quiet.alike_count >= 1


def test_an_answer_on_the_border_is_said():
    assert choosing.choose(tried_grid(valley(100.0, cliff=9), (1.0,)), WHERE, 1000).at_border


def test_only_what_was_tried_is_chosen_among_momenta_and_decays():
    tried = tried_grid(valley(0.3, cliff=9), (1.0,))
    assert choosing.choose(tried, WHERE, 1000).point.others == (0.9, 1.0)
    other = [came_to(trial(0.03, decay=0.1), -4.0), came_to(trial(0.02, decay=0.1, momentum=0.95), -3.0)]
    choice = choosing.choose((*tried, *other), WHERE, 1000)
    assert choice.point.others[1] < 1.0
    assert choice.open == ()


def test_the_first_of_all_is_the_default_and_the_others_spread():
    points = [each.point for each in choosing.propose((), WHERE, 6, 0.125, 1000)]
    assert points[0] == WHERE.default
    assert len(set(points)) == 6
    assert len({round(math.log10(point.rate), 1) for point in points}) > 2


def test_a_round_goes_where_errors_fall():
    tried = tried_grid(valley(0.3, cliff=9))
    points = [each.point for each in choosing.propose(tried, WHERE, 6, 0.5, 1000)]
    assert sum(0.1 < point.rate < 1.0 for point in points) >= 4


def test_nothing_is_tried_twice_at_one_length_but_a_complete_run_with_another_seed():
    tried = tried_grid(valley(0.3, cliff=9))
    points = choosing.propose(tried, WHERE, 4, 0.5, 1000)
    trials = [space.trial_of("refine", BASE, WHERE.recipe(each.point, 0.5), 0, 0.5) for each in points]
    again = choosing.propose((*tried, *outcomes(trials, lambda _: -2.0)), WHERE, 4, 0.5, 1000)
    assert not {each.point for each in points} & {each.point for each in again}
    whole = tried_grid(valley(0.3, cliff=9, noise=0.3), (1.0,), RATES_ONLY, 9)
    proposed = choosing.propose(whole, RATES_ONLY, 30, 1.0, 1000)
    assert {each.seed for each in proposed} >= {0, 1}


def test_a_best_rate_on_the_border_is_looked_for_beyond_it():
    tried = tried_grid(valley(300.0, cliff=9), (1.0,), RATES_ONLY)
    highest = max(each.trial.recipe.effective_lr for each in tried)
    assert choosing.propose(tried, RATES_ONLY, 1, 1.0, 1000)[0].point.rate > highest


def test_gains_are_paired_by_seed():
    old = [came_to(trial(0.1, seed=s), e) for s, e in ((0, -1.0), (1, -2.0))]
    new = [came_to(trial(0.2, seed=s), e) for s, e in ((1, -2.3), (2, -9.0))]
    assert choosing.paired_gain(new, old, 100) == pytest.approx(0.3)
    assert math.isnan(choosing.paired_gain(new[1:], old, 100))


def test_between_two_that_diverged_there_is_no_gain():
    one, other = (came_to(trial(rate), math.inf) for rate in (0.1, 0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(choosing.paired_gain([one], [other], 100))


@pytest.mark.parametrize(("by", "share"), [(None, 0.5), ("accuracy", 1.0), ("f1", 0.0), ("loss", 0.0)])
def test_examples_say_how_sure_accuracy_is_and_nothing_of_other_numbers(by, share):
    came = dataclasses.replace(came_to(trial(0.1), -1.0), val_accuracy=0.9, metrics={"f1": 0.9}, chosen_by=by)
    assert examples_noise([came], 1000) == pytest.approx(share * math.sqrt(2 / 100.5))
