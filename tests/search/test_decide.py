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
    where = space.space_around(Recipe(), 1000, (0.01, 0.1), frozenset())
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


def repeated(spread, lr=0.2):
    """Three seeds of a recipe of the final length whose log errors have this deviation."""
    return [came_to(trial(lr, seed=seed), -2.0 + spread * apart) for seed, apart in enumerate((-1, 0, 1))]


def test_a_schedule_must_be_shown_to_be_better_to_replace_the_present_one():
    results = shapes(linear=-2.0, cosine=-2.3, wsd=-1.5)
    alone = decide.schedule(results, 100)
    assert alone.value["kind"] == "linear", "nothing is known of what seeds do"
    assert "none was run with several seeds" in alone.reason
    noisy = decide.schedule(results, 100, repeated(0.2))
    assert noisy.value["kind"] == "linear"
    assert "linear stays" in noisy.reason
    assert "seeds differ by 22 %" in noisy.reason
    quiet = decide.schedule(results, 100, repeated(0.02))
    assert quiet.value["kind"] == quiet.value["schedule"]["kind"] == "cosine"
    assert "cosine is better than linear" in quiet.reason


def judged_by(right, examples, **errors):
    """Schedules with so many right answers."""
    return [
        dataclasses.replace(each, val_accuracy=right[each.trial.recipe.schedule.kind] / examples)
        for each in shapes(**errors)
    ]


@pytest.mark.parametrize(
    ("right", "examples", "chosen"),
    [
        ({"linear": 142, "cosine": 144}, 144, "linear"),
        ({"linear": 140, "cosine": 144}, 144, "linear"),
        ({"linear": 4700, "cosine": 4850}, 5000, "cosine"),
    ],
)
def test_few_validation_examples_show_nothing_however_quiet_the_seeds(right, examples, chosen):
    results = judged_by(right, examples, linear=-2.0, cosine=-3.0)
    quiet = [dataclasses.replace(each, val_accuracy=0.95) for each in repeated(0.02)]
    found = decide.schedule(results, examples, quiet)
    assert found.value["kind"] == chosen
    assert f"right of {examples:,}: linear {right['linear']:,}" in found.findings[0].reason


def test_a_schedule_beside_one_that_diverged_needs_no_examples():
    ended, lost = judged_by({"linear": 5, "cosine": 9}, 10, linear=-2.0, cosine=-2.0)
    lost = dataclasses.replace(lost, outcome="diverged", val_loss=None, val_accuracy=None)
    assert decide.examples_show(ended, lost, 10)
    assert not decide.examples_show(lost, ended, 10)


def test_schedules_that_all_diverged_cannot_be_compared():
    found = decide.schedule(shapes(linear=math.inf, cosine=math.inf, wsd=-1.0), 100)
    said = found.findings[0].reason
    assert "cosine" in said
    assert "nan" not in said
    assert found.value["kind"] == "linear"
    found = decide.schedule(shapes(linear=math.inf, cosine=math.inf), 100)
    assert "cosine cannot be compared" in found.findings[0].reason


def test_the_picture_and_the_sentence_of_schedules_have_one_quantity():
    results = judged_by({"linear": 90, "cosine": 95}, 100, linear=-2.0, cosine=-1.9)
    found = decide.schedule(results, 100)
    drawn = found.evidence["errors"]
    linear, cosine = (drawn[each.trial.key] for each in results)
    assert f"cosine {100 * (cosine / linear - 1):+.0f} %" in found.reason
    assert found.evidence["measure"] in found.findings[0].reason


def test_a_rate_far_from_that_of_step_3_is_explained_and_one_near_is_not():
    where = space.space_around(Recipe(), 1000, (0.01, 0.1), frozenset())
    first, more = grid([-1.0, -2.0, -1.5, -1.0]), grid([-1.2, -2.0, -2.6, math.inf], share=1.0)
    earlier, now = choose(tuple(first), where, 100), choose((*first, *more), where, 100)

    def said(lr):
        step_3 = bracket([2.3, 1.0], value={"lr": lr, "low": lr / 3, "high": lr * 3}, steps=100)
        return {each.name: each.reason for each in decide.refined(1, earlier, now, more, step_3).findings}

    assert "beside-step-3" not in said(now.recipe.lr * 2)
    far = said(now.recipe.lr * 28)["beside-step-3"]
    assert f"step 3 suggested {now.recipe.lr * 28:.3g}, this is {now.recipe.lr:.3g}" in far
    assert "within 100 updates" in far


def test_what_is_never_searched_is_said_with_what_it_might_gain():
    assert "--augment flip" in decide.never_searched("images", ())[0]
    assert len(decide.never_searched("images", ("flip",))) == len(decide.never_searched("numbers", ())) == 1


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


def with_metric(errors, f1, **more):
    tried = grid(errors, share=1.0)
    return [dataclasses.replace(each, val_accuracy=0.5, metrics={"f1": value, "mine": value, "cost": -value}, **more)
            for each, value in zip(tried, f1, strict=True)]  # fmt: skip


@pytest.mark.parametrize(
    ("chosen_by", "best"),
    [(None, 0.02), ("loss", 0.02), ("f1", 0.04), ("mine", 0.04), ("mine:min", 0.01), ("cost:min", 0.04)],
)
def test_what_was_asked_for_chooses_the_best_of_a_grid(chosen_by, best):
    decision = decide.coarse(with_metric([-1.0, -2.0, -1.5], [0.2, 0.5, 0.9], chosen_by=chosen_by), 100)
    assert decision.value["lr"] == best
    assert ("f1 90.00%" in decision.reason) == (chosen_by == "f1")


def test_a_grid_without_the_number_that_chooses_fails_and_one_run_without_it_is_no_candidate():
    nothing = decide.coarse(with_metric([-1.0, -2.0, -1.5], [math.nan] * 3, chosen_by="f1"), 100)
    assert nothing.verdict == "fail"
    assert "all 3 runs have no number for f1 of the validation part" in nothing.reason
    some = decide.coarse(with_metric([-1.0, -2.0, -1.5], [0.3, math.nan, 0.2], chosen_by="f1"), 100)
    assert some.value["lr"] == 0.01


def test_a_schedule_is_better_by_a_metric_only_where_seeds_say_so():
    def run(kind, f1, seed):
        made = trial(0.1, seed=seed)
        recipe = dataclasses.replace(made.recipe, schedule=Schedule(kind=kind))
        came = came_to(dataclasses.replace(made, recipe=recipe), -1.0)
        return dataclasses.replace(came, val_accuracy=0.5, metrics={"f1": f1}, chosen_by="f1")

    results = [run("cosine", 0.5, 0), run("linear", 0.9, 0)]
    alone = decide.schedule(results, 100)
    assert alone.value["kind"] == "cosine", "how much seeds differ is not known"
    assert alone.evidence["measure"] == "1 - f1"
    repeated = [run("cosine", 0.5 + 0.002 * seed, seed) for seed in range(1, 5)]
    assert decide.schedule(results, 100, repeated).value["kind"] == "linear"
    spread = [run("cosine", 0.1 + 0.2 * seed, seed) for seed in range(1, 5)]
    assert decide.schedule(results, 100, spread).value["kind"] == "cosine"
