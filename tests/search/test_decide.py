import dataclasses
import math

import pytest
from invented import came_to, trial

from surefoot.config import Recipe, Schedule
from surefoot.record.decision import Decision
from surefoot.search import decide, space
from surefoot.search.choose import choose


def grid(errors, share=0.25):
    return [came_to(trial(0.01 * 2**i, share), error) for i, error in enumerate(errors)]


def test_the_best_of_a_grid_is_named_with_its_numbers():
    decision = decide.coarse(grid([-1.0, -2.0, -1.5]), 100)
    assert decision.verdict == "pass"
    assert decision.value["lr"] == 0.02
    assert decision.value["batch_size"] == "auto", "as the grid has it"
    assert len(decision.evidence["members"]) == 3


@pytest.mark.parametrize(("errors", "end"), [([-1, -2, -3], "highest"), ([-3, -2, -1], "lowest")])
def test_a_best_on_the_border_is_suspect(errors, end):
    decision = decide.coarse(grid(errors), 100)
    assert decision.verdict == "suspect"
    assert end in decision.findings[1].reason


def test_a_grid_in_which_everything_diverged_fails():
    decision = decide.coarse(grid([math.inf] * 3), 100)
    assert decision.verdict == "fail"
    assert decision.value is None
    assert "all 3 runs diverged, at rates from 0.01 to 0.04" in decision.reason


def test_a_grid_that_does_not_get_under_the_loss_before_training_is_suspect():
    tried = grid([-1.0, -2.0, -1.5])
    best = min(each.val_loss for each in tried)
    worse, better = (decide.coarse(tried, 100, best * factor) for factor in (0.9, 1.5))
    assert better.verdict == "pass"
    assert worse.verdict == "suspect"
    assert worse.findings[-1].name == "learns"
    ruined = [dataclasses.replace(each, train_loss=50.0 * best) for each in tried]
    assert decide.coarse(ruined, 100, best).verdict == "fail"


def test_a_round_says_how_the_rate_moved_and_what_is_alike():
    where = space.space_around(Recipe(), 1000, 0.01, 0.1, frozenset())
    first, more = grid([-1.0, -2.0, -1.5, -1.0]), grid([-1.2, -2.0, -2.6, math.inf], share=1.0)
    earlier, now = choose(tuple(first), where, 100), choose((*first, *more), where, 100)
    decision = decide.refined(1, earlier, now, more)
    assert decision.value["lr"] == now.recipe.lr
    assert decision.value["lr_low"] <= decision.value["lr"] <= decision.value["lr_high"]
    names = {finding.name for finding in decision.findings}
    assert names == {"rate-with-length", "inside-the-grid", "alike", "stability"}
    assert decision.evidence["round"] == 1


def shapes(**errors):
    kinds = {"linear": Schedule(kind="linear"), "cosine": Schedule(kind="cosine"), "wsd": Schedule(kind="wsd")}
    made = []
    for name, error in errors.items():
        each = trial(0.1)
        made.append(
            came_to(dataclasses.replace(each, recipe=dataclasses.replace(each.recipe, schedule=kinds[name])), error)
        )
    return made


def test_a_schedule_must_be_clearly_better_to_replace_the_present_one():
    stays = decide.schedule(shapes(linear=-2.0, cosine=-2.03, wsd=-1.5), 100)
    assert stays.value["kind"] == "linear"
    assert "linear stays" in stays.reason
    moves = decide.schedule(shapes(linear=-2.0, cosine=-2.3, wsd=-1.5), 100)
    assert moves.value["kind"] == "cosine"
    assert moves.value["schedule"]["kind"] == "cosine"


def bracket(losses, steps=12, value=None, cut=False):
    rates = [{"lr": 10.0**i / 1000, "final_losses": [loss]} for i, loss in enumerate(losses)]
    return Decision(
        step=3, name="learning-rate", claim="c", verdict="fail" if value is None else "pass", reason="r", value=value,
        evidence={"steps": steps, "initial_losses": [2.3], "rates": rates, "cut": cut},
    )  # fmt: skip


def test_a_few_steps_in_which_nothing_drops_still_bound_the_rate():
    decision = decide.bracket_of_short_runs(bracket([2.3, 2.29, 2.31, 2.9, None]))
    assert decision.verdict == "suspect"
    assert (decision.value["low"], decision.value["high"]) == pytest.approx((0.01, 0.1))


def test_a_hundred_steps_in_which_nothing_drops_are_a_failure():
    decision = bracket([2.3, 2.3], steps=100)
    assert decide.bracket_of_short_runs(decision) is decision
    everything_harms = bracket([2.9, None])
    assert decide.bracket_of_short_runs(everything_harms) is everything_harms


def test_a_bracket_that_was_found_is_kept():
    decision = bracket([2.3, 1.0], value={"lr": 0.01})
    assert decide.bracket_of_short_runs(decision) is decision
