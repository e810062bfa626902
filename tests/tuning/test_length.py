import dataclasses

import pytest

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.errors import ConfigError
from surefoot.training.population.engine import Engine
from surefoot.training.population.strategy import LOOP
from surefoot.tuning.budget import Ledger, budget
from surefoot.tuning.journal import Journal
from surefoot.tuning.length import MOST_EPOCHS, measure_length, sized
from surefoot.tuning.step_time import StepTime, step_time
from surefoot.tuning.work import Search, Work

SHIPPED = Recipe(epochs=10, batch_size=64, schedule=Schedule(kind="linear", warmup_epochs=2.5))


@pytest.fixture(scope="module")
def task():
    return surefoot.task(surefoot.load("digits"), "linear", threads=1)


def work(task, text, base=SHIPPED, fixed=(), epoch_seconds=20.0):
    """A search on a machine on which an epoch of digits takes so long."""
    step = {"step_seconds": epoch_seconds / (task.data.examples // 64), "validation_seconds": 0.0}
    wanted = Search(budget=budget(text), fixed=frozenset({"batch_size", *fixed}))
    journal = Journal(timings={f"step at batch {size}": step for size in (32, 64, 128)})
    own = Work(task, base, wanted, journal, Engine(LOOP), Ledger(wanted.budget))
    own.base = sized(own)
    return own


@pytest.mark.parametrize(("text", "epochs"), [("240s", 4), ("10m", 10), ("1h", 10), ("40s", 1)])
def test_a_length_that_nobody_fixed_takes_a_third_of_the_time_and_its_schedule_shrinks_with_it(task, text, epochs):
    own = work(task, text)
    measure_length(own)
    assert own.base.epochs == epochs
    assert own.base.schedule.warmup_epochs == pytest.approx(2.5 * epochs / 10)
    assert own.ledger.final_seconds == pytest.approx(20 * epochs)
    surefoot.plan(own.base, task.data.examples)  # the schedule fits into it


def test_a_recipe_without_a_length_gets_what_the_time_allows_but_not_for_ever(task):
    for text, epochs in (("240s", 4), ("10h", MOST_EPOCHS)):
        own = work(task, text, dataclasses.replace(SHIPPED, epochs=None))
        measure_length(own)
        assert own.base.epochs == epochs


def test_steps_are_a_length_too(task):
    own = work(task, "240s", dataclasses.replace(SHIPPED, epochs=None, steps=10 * (task.data.examples // 64)))
    measure_length(own)
    assert (own.base.epochs, own.base.steps) == (4, None)


def test_a_length_that_was_fixed_stays_and_must_fit(task):
    own = work(task, "300s", fixed=("epochs",))
    measure_length(own)
    assert own.base.epochs == 10
    with pytest.raises(ConfigError, match=r"10 epochs on cpu: that training alone takes about 200 s\. Give a larger"):
        measure_length(work(task, "150s", fixed=("epochs",)))
    with pytest.raises(ConfigError, match="1 epochs"):
        measure_length(work(task, "10s"))


def test_a_budget_in_examples_keeps_the_recipes_length_and_asks_no_clock(task):
    own = work(task, "2x")
    measure_length(own)
    assert own.base == SHIPPED
    assert (own.ledger.final_seconds, own.journal.replayed) == (0.0, 0)


def test_another_batch_keeps_the_length(task):
    own = work(task, "240s")
    measure_length(own)
    own.base = dataclasses.replace(own.base, batch_size=128)
    measure_length(own, anew=True)
    assert own.base.epochs == 4
    assert own.ledger.final_examples == 4 * (task.data.examples // 128) * 128


def test_a_step_is_timed_whatever_the_schedule_and_nothing_is_changed(task):
    seen = step_time(task, SHIPPED)
    assert isinstance(seen, StepTime)
    assert seen.step_seconds > 0
    assert seen.validation_seconds > 0
    assert seen.seconds(10, 2) == pytest.approx(10 * seen.step_seconds + 2 * seen.validation_seconds)
