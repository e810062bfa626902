import dataclasses

import pytest

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.errors import ConfigError
from surefoot.record.decision import Decision
from surefoot.search.budget import (
    AROUND_SECONDS,
    MOST_EPOCHS,
    RESERVE,
    Budget,
    FinalRun,
    Ledger,
    Request,
    StepTime,
    Terms,
    budget,
    final_run,
)

SHIPPED = Recipe(epochs=10, batch_size=64, schedule=Schedule(kind="linear", warmup_epochs=2.5))
EXAMPLES = 1294
AN_EPOCH = EXAMPLES // 64


@pytest.mark.parametrize(
    ("text", "seconds", "trainings"),
    [("90s", 90, None), ("5m", 300, None), ("1.5h", 5400, None), (" 2x ", None, 2), (".5x", None, 0.5), (20, 20, None)],
)
def test_a_budget_is_a_time_or_a_multiple(text, seconds, trainings):
    assert budget(text) == Budget(seconds=seconds, trainings=trainings)


@pytest.mark.parametrize("text", ["", "5", "5 apples", "-5m", "0x", "m", "1e3s", "nan", "inf", 0, -3.0])
def test_anything_else_is_refused_with_what_is_allowed(text):
    with pytest.raises(ConfigError, match=r"90s, 5m or 1\.5h, or a multiple"):
        budget(text)


def test_the_text_of_a_budget_means_the_same_budget():
    for text in ("5m", "2x", "0.25x", "90s"):
        assert budget(str(budget(text))) == budget(text)


def final(text, base=SHIPPED, fixed=(), decisions=(), epoch_seconds=20.0):
    """The final training on a machine on which an epoch of digits takes so long."""
    terms = Terms(budget=budget(text), fixed=frozenset({"batch_size", *fixed}))
    request = Request(terms=terms, base=base, examples=EXAMPLES, validation_examples=143, check_examples={})
    timings = {size: StepTime(epoch_seconds / AN_EPOCH, 0.0) for size in (32, 64, 128)}
    return final_run(request, decisions, timings)


@pytest.mark.parametrize(("text", "epochs"), [("240s", 4), ("10m", 10), ("1h", 10), ("40s", 1)])
def test_a_length_that_nobody_fixed_takes_a_third_of_the_time_and_its_schedule_shrinks_with_it(text, epochs):
    found = final(text)
    assert found.recipe.epochs == epochs
    assert found.recipe.schedule.warmup_epochs == pytest.approx(2.5 * epochs / 10)
    assert found.seconds == pytest.approx(20 * epochs)
    surefoot.plan(found.recipe, EXAMPLES)  # the schedule fits into it


def test_a_recipe_without_a_length_gets_what_the_time_allows_but_not_for_ever():
    for text, epochs in (("240s", 4), ("10h", MOST_EPOCHS)):
        assert final(text, dataclasses.replace(SHIPPED, epochs=None)).recipe.epochs == epochs


def test_steps_are_a_length_too():
    found = final("240s", dataclasses.replace(SHIPPED, epochs=None, steps=10 * AN_EPOCH))
    assert (found.recipe.epochs, found.recipe.steps) == (4, None)


def test_a_length_that_was_fixed_stays():
    assert final("300s", fixed=("epochs",)).recipe.epochs == 10


def test_a_budget_in_examples_keeps_the_recipes_length_and_asks_no_clock():
    found = final("2x")
    assert (found.recipe, found.seconds) == (SHIPPED, 0.0)
    assert (found.steps, found.examples) == (10 * AN_EPOCH, 10 * AN_EPOCH * 64)


def test_a_batch_that_nobody_has_timed_must_be():
    assert final("240s", dataclasses.replace(SHIPPED, batch_size=256)).seconds is None


def made(name="grid", examples=0, seconds=0.0, value=None):
    return Decision(
        step=4, name=name, claim="c", verdict="pass", reason="r", value=value, seconds=seconds,
        evidence={"cost_examples": examples},
    )  # fmt: skip


def test_another_batch_keeps_the_length():
    found = final("240s", decisions=[made("batch-size", value={"batch_size": 128})])
    assert found.recipe.epochs == 4
    assert (found.batch_size, found.examples) == (128, 4 * (EXAMPLES // 128) * 128)
    assert final("240s", decisions=[made("batch-size")]) == final("240s")  # none was chosen


def test_examples_are_counted_against_the_final_training():
    decisions = [made("grid", 500, 3.0), made("grid", 250, 1.0), made("refine", 250, 9.0)]
    ledger = Ledger(budget("2x"), FinalRun(SHIPPED, 64, 10, 1000, 0.0), decisions)
    assert (ledger.left, ledger.cost) == (1.0, 1.0)
    assert ledger.to_dict()["steps"] == {
        "grid": {"examples": 750, "seconds": 4.0}, "refine": {"examples": 250, "seconds": 9.0},
    }  # fmt: skip


def test_time_is_kept_back_for_the_final_training_and_a_reserve():
    run = FinalRun(SHIPPED, 64, 1, 10, 20.0)
    ledger = Ledger(budget("100s"), run, [made(seconds=35.0)])
    assert ledger.left == pytest.approx((100 * (1 - RESERVE) - AROUND_SECONDS - 35 - 20) / 20)
    assert Ledger(budget("100s"), run, [made(seconds=135.0)]).left < 0


@pytest.mark.parametrize(
    "text", ["1.11111h", "300h", "2.50000001x", "0.0000001x", "123456789.125s", "5m", "2x", ".1h", "1x"]
)
def test_a_budget_comes_back_from_its_text(text):
    assert budget(str(budget(text))) == budget(text)


def test_a_budget_s_text_is_as_short_as_it_can_be():
    assert [str(budget(text)) for text in ("5m", "2x", "1.5x", 0.25)] == ["300s", "2x", "1.5x", "0.25s"]
