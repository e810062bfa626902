import dataclasses

import pytest

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.record.decision import Decision
from surefoot.search import execute
from surefoot.search.budget import StepTime
from surefoot.search.execute import Executor, step_time, train_trials
from surefoot.search.journal import Journal, open_journal
from surefoot.search.moves import Check, TimeStep
from surefoot.search.space import trial_of
from surefoot.training.population.engine import Engine
from surefoot.training.population.strategy import LOOP

START = Recipe(epochs=3, batch_size=64, schedule=Schedule(kind="linear"))


@pytest.fixture(scope="module")
def task():
    return surefoot.task(surefoot.load("digits"), "linear", threads=1, precision="fp32")


def trained(task, trials, journal):
    """What came of trials, without the clock."""
    for _ in train_trials(task, trials, journal, Engine(LOOP)):
        pass
    return [dataclasses.replace(journal.history.results[trial.key], seconds=0) for trial in trials]


@pytest.fixture
def short_pieces(monkeypatch):
    """Pieces of ten steps, where the smallest models would have thousands: a search is then stopped within a trial."""
    monkeypatch.setattr("surefoot.steps.follow.steps_at_once", lambda members: 10)


def test_a_trial_in_progress_is_saved_when_the_search_is_stopped(task, tmp_path, short_pieces):
    journal = open_journal(tmp_path, "data")
    trial = trial_of("refine", START, Recipe(lr=0.1, steps=200, batch_size=64), 0, 1.0)
    running = train_trials(task, [trial], journal, Engine(LOOP))
    next(running)
    running.close()
    assert (tmp_path / "members" / trial.key / "checkpoints").is_dir()
    assert trained(task, [trial], open_journal(tmp_path, "data")) == trained(task, [trial], Journal())
    assert not list((tmp_path / "members").iterdir())


def test_a_long_trial_is_saved_on_the_way(task, tmp_path, monkeypatch, short_pieces):
    monkeypatch.setattr(execute, "SAVE_SECONDS", 0.0)
    trial = trial_of("refine", START, Recipe(lr=0.1, steps=200, batch_size=64), 0, 1.0)
    running = train_trials(task, [trial], open_journal(tmp_path, "data"), Engine(LOOP))
    next(running)
    next(running)
    assert list((tmp_path / "members" / trial.key / "checkpoints").iterdir())
    running.close()


def test_trials_of_one_length_in_other_batches_are_trained_once_each_and_as_alone(task):
    recipes = [Recipe(lr=0.1, steps=40, batch_size=size) for size in (64, 16, 64)]
    trials = [trial_of("refine", START, dataclasses.replace(each, lr=0.1 + i / 10), 0, 1.0)
              for i, each in enumerate(recipes)]  # fmt: skip
    journal = Journal()
    *_, last = train_trials(task, trials, journal, Engine(LOOP))
    assert last.steps_done == last.steps_planned == 120
    results = [dataclasses.replace(journal.history.results[trial.key], seconds=0) for trial in trials]
    assert results == [alone for trial in trials for alone in trained(task, [trial], Journal())]
    assert [each.examples for each in results] == [40 * 64, 40 * 16, 40 * 64]


def test_a_trial_that_diverged_is_a_record(task):
    (result,) = trained(task, [trial_of("refine", START, Recipe(lr=1e12, steps=40, batch_size=64), 0, 1.0)], Journal())
    assert result.outcome == "diverged"
    assert not result.finished
    assert result.val_loss is None
    assert result.examples < 40 * 64


def executor(task):
    return Executor(task, "linear", Journal(), Engine(LOOP))


@pytest.mark.parametrize(("most", "light"), [(2000, True), (30_000, False)])
def test_step_0_is_done_lightly_where_it_would_take_too_large_a_part(task, most, light):
    here = executor(task)
    for _ in here.carry_out(Check("wiring", START, most)):
        pass
    (wiring,) = here.journal.history.decisions
    assert (wiring.name, wiring.verdict) == ("wiring", "pass")
    assert ("dependence" not in wiring.evidence) == light


def test_a_step_is_timed_whatever_the_schedule_and_nothing_is_changed(task):
    here = executor(task)
    for _ in here.carry_out(TimeStep(START)):
        pass
    timed = here.journal.history.timings[64]
    assert isinstance(timed, StepTime)
    assert min(timed.step_seconds, timed.validation_seconds) > 0
    assert timed.seconds(10, 2) == pytest.approx(10 * timed.step_seconds + 2 * timed.validation_seconds)
    assert step_time(task, dataclasses.replace(START, batch_size=32)).step_seconds > 0


@pytest.mark.parametrize(
    ("name", "evidence", "expected"),
    [
        ("wiring", {"trained_examples": 1920, "evaluated_examples": 600}, 1920 + 200),
        ("initial-loss", {}, 0),
        ("batch-size",
         {"steps": 200, "batch_size": 64, "sizes": [{"batch_size": 128, "step_seconds": [0.1, 0.1]}],
          "races": [{"batch_size": 128, "reached": None, "limit": 50}, {"batch_size": 96, "reached": 7, "limit": 60}]},
         2 * 200 * 64 + 2 * 128 + 128 * 50 + 96 * 7),
    ],
)  # fmt: skip
def test_a_step_costs_what_its_evidence_says(name, evidence, expected):
    made = Decision(step=0, name=name, claim="any", verdict="pass", reason="any", evidence=evidence)
    assert execute._cost(made) == expected
