import dataclasses
import json

import pytest
import torch
from torch import nn

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.diagnose import space
from surefoot.diagnose.response import coordinates
from surefoot.errors import ConfigError
from surefoot.measure import rates
from surefoot.training.population.engine import Engine
from surefoot.training.population.strategy import LOOP
from surefoot.tuning import trials
from surefoot.tuning.budget import budget
from surefoot.tuning.coarse import TELLING_SHARE
from surefoot.tuning.journal import Journal, open_journal
from surefoot.tuning.progress import finished
from surefoot.tuning.trials import trial_of, trying
from surefoot.tuning.tuner import tuning
from surefoot.tuning.work import Search

START = Recipe(epochs=3, batch_size=64, schedule=Schedule(kind="linear"))
KEPT = {"epochs": 3, "batch_size": 64, "schedule": "linear"}
PLACE = {"threads": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def task():
    return surefoot.task(surefoot.load("digits"), "linear", **PLACE)


def search(task, journal, text="4x", start=START, fixed=(), engine=None):
    wanted = Search(budget=budget(text), fixed=frozenset({"batch_size", *fixed}))
    return tuning(task, start, wanted, journal, given=("linear", task.data, None), engine=engine or Engine(LOOP))


def plain(found):
    return [dataclasses.replace(each, seconds=0.0, untouched=None) for each in found.decisions]


def without_clock(decision):
    values = decision.to_dict()
    for name in ("seconds", "untouched"):
        values.pop(name)
    (values["evidence"].get("dependence") or {}).pop("seconds", None)
    return json.dumps(values, sort_keys=True)


@pytest.fixture(scope="module")
def undisturbed(task):
    return finished(search(task, Journal()))


@pytest.mark.parametrize("text", ["0.5x", "1x", "2x", "6x"])
def test_a_budget_in_examples_is_kept(task, text):
    found = finished(search(task, Journal(), text))
    assert found.ledger.cost <= budget(text).trainings
    assert found.ledger.cost > budget(text).trainings * 0.5 or text == "0.5x"  # too little for two short runs
    assert found.recipe.epochs == 3
    assert found.recipe.steps is None


def test_what_is_chosen_trains_well(task, undisturbed):
    _, record = surefoot.fit(task, surefoot.plan(undisturbed.recipe, task.data.examples))
    assert record.last.val_accuracy > 0.9


def test_the_same_seed_gives_the_same_decisions(task, undisturbed):
    again = finished(search(task, Journal()))
    assert again.recipe == undisturbed.recipe
    assert [without_clock(each) for each in again.decisions] == [without_clock(each) for each in undisturbed.decisions]


@pytest.fixture
def short_pieces(monkeypatch):
    """Pieces of ten steps, where the smallest models would have thousands: a search is then stopped within a trial."""
    for room in (rates, trials):
        monkeypatch.setattr(room, "steps_at_once", lambda members: 10)


def test_a_search_that_is_stopped_anywhere_ends_with_the_same_decisions(task, undisturbed, tmp_path, short_pieces):
    """It is dropped after 1, 2, 3, ... signs of life, each time with a new journal from the folder."""
    for patience in range(1, 60):
        running = search(task, open_journal(tmp_path))
        try:
            for _ in range(patience):
                next(running)
        except StopIteration as end:
            found = end.value
            break
        running.close()
    else:
        pytest.fail("the search never ended")
    assert found.recipe == undisturbed.recipe
    assert [without_clock(each) for each in found.decisions] == [without_clock(each) for each in undisturbed.decisions]
    keys = [json.loads(line)["key"] for line in (tmp_path / "members.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys))
    assert not list((tmp_path / "members").glob("*"))


def test_a_trial_in_progress_is_saved_when_the_search_is_stopped(task, tmp_path, short_pieces):
    journal = open_journal(tmp_path)
    recipe = Recipe(lr=0.1, steps=200, batch_size=64)
    trial = trial_of("refine", START, recipe, 0, 1.0)
    running = trying(task, [trial], journal, Engine(LOOP))
    next(running)
    running.close()
    assert (tmp_path / "members" / trial.key / "checkpoints").is_dir()
    resumed = finished(trying(task, [trial], open_journal(tmp_path), Engine(LOOP)))
    whole = finished(trying(task, [trial], Journal(), Engine(LOOP)))
    assert [dataclasses.replace(each, seconds=0) for each in resumed] == [
        dataclasses.replace(each, seconds=0) for each in whole
    ]


@pytest.mark.parametrize(("text", "wide"), [("3x", False), ("40x", True)])
def test_only_runs_of_half_the_length_and_more_are_asked_for_decay_and_momentum(task, text, wide):
    journal = Journal()
    finished(search(task, journal, text, fixed=("schedule",)))
    trials = [each.trial for each in journal.tried.values()]
    short = {(each.recipe.momentum, round(coordinates(each.recipe, each.share)[1], 1))
             for each in trials if each.share < TELLING_SHARE}  # fmt: skip
    whole = {(each.recipe.momentum, round(coordinates(each.recipe, each.share)[1], 1)) for each in trials}
    assert len(short) <= 1
    assert (len({decay for _, decay in whole}) > 2) == wide
    assert (len({momentum for momentum, _ in whole}) > 2) == wide


@pytest.mark.parametrize(("text", "light"), [("4x", True), ("40x", False)])
def test_step_0_is_done_lightly_where_it_would_take_too_large_a_part(task, text, light):
    running = search(task, journal := Journal(), text)
    while not journal.decisions:
        next(running)
    running.close()
    (wiring,) = journal.decisions
    assert (wiring.name, wiring.verdict) == ("wiring", "pass")
    assert ("dependence" not in wiring.evidence) == light


def test_a_trial_that_diverged_is_a_record(task):
    recipe = Recipe(lr=1e12, steps=40, batch_size=64)
    (tried,) = finished(trying(task, [trial_of("refine", START, recipe, 0, 1.0)], Journal(), Engine(LOOP)))
    assert tried.outcome == "diverged"
    assert not tried.finished
    assert tried.val_loss is None
    assert tried.examples < 40 * 64


def test_what_is_fixed_stays(task):
    start = dataclasses.replace(START, lr=0.05, momentum=0.5, weight_decay=0.01)
    found = finished(search(task, Journal(), "2x", start, ("lr", "momentum", "weight_decay", "schedule")))
    assert found.recipe == start
    found = finished(search(task, Journal(), "4x", start, ("momentum", "weight_decay")))
    assert (found.recipe.momentum, found.recipe.weight_decay) == (0.5, 0.01)
    assert found.recipe.lr != 0.05


def test_a_large_budget_compares_schedules_and_leaves_little_unchecked(task):
    found = finished(search(task, Journal(), "16x"))
    names = [each.name for each in found.decisions]
    assert names[:4] == ["wiring", "initial-loss", "learning-rate", "coarse-grid"] or "overfit-sample" in names
    assert "schedule" in names
    assert not any("schedule" in text for text in found.unchecked)


def test_a_step_that_fails_ends_the_search_unless_forced():
    class Dead(nn.Module):
        """No logit depends on the input."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            return self.head(x.flatten(1) * 0)

    found = surefoot.tune("digits", Dead(), budget="6x", final=False, **KEPT, **PLACE)
    assert found.recipe is None
    assert found.decisions[-1].verdict == "fail"
    forced = surefoot.tune("digits", Dead(), budget="6x", final=False, force=True, **KEPT, **PLACE)
    assert forced.recipe is not None


def test_a_grid_in_which_nothing_finishes_ends_the_search_unless_forced(task, monkeypatch):
    from surefoot.tuning import tuner

    def far_too_high(own):
        return space.space(own.base, own.final_steps, 1e10, 1e12, own.search.fixed)

    monkeypatch.setattr(tuner, "space_around", far_too_high)
    found = finished(search(task, Journal(), "2x"))
    assert found.recipe is None
    assert (found.failed.name, found.failed.advice is None) == ("coarse-grid", False)
    wanted = Search(budget=budget("2x"), fixed=frozenset({"batch_size"}), force=True)
    given = ("linear", task.data, None)
    forced = finished(tuning(task, START, wanted, Journal(), given=given, engine=Engine(LOOP)))
    assert forced.recipe is not None


def test_a_model_that_is_trained_already_is_tuned_further(tmp_path):
    """A head that knows its classes begins far under chance: no step takes that for a fault."""
    trained = surefoot.train("digits", "mlp", epochs=4, name="before", runs_dir=tmp_path, **PLACE)
    tuned = surefoot.tune("digits", trained.model, budget="3x", name="after", runs_dir=tmp_path, **KEPT, **PLACE)
    assert tuned.result is not None, [each.reason for each in tuned.decisions]
    assert tuned.result.summary["test_accuracy"] >= trained.summary["test_accuracy"] - 0.01


def test_a_loss_of_ones_own_is_what_is_minimised(tmp_path):
    def squared(outputs, targets):
        return ((outputs - nn.functional.one_hot(targets, 10)) ** 2).sum(1)

    tuned = surefoot.tune("digits", "mlp", loss=squared, budget="3x", name="a", runs_dir=tmp_path, **KEPT, **PLACE)
    assert tuned.result is not None, [each.reason for each in tuned.decisions]
    assert tuned.result.summary["test_accuracy"] > 0.85
    assert tuned.result.summary["test_loss"] < 0.5  # of the squared distance, which is 1 where nothing is said


def test_with_a_budget_in_time_the_batch_size_is_chosen_and_all_that_hangs_on_it(task):
    quick = {"step_seconds": 5e-4, "validation_seconds": 1e-3}  # as if this had been timed on a quiet machine
    journal = Journal(timings={f"step at batch {2**power}": quick for power in range(12)})
    wanted = Search(budget=budget("30s"), fixed=frozenset({"schedule"}))
    start = dataclasses.replace(START, epochs=2)
    found = finished(tuning(task, start, wanted, journal, given=("linear", task.data, None), engine=Engine(LOOP)))
    chosen = next(each for each in found.decisions if each.name == "batch-size").value["batch_size"]
    assert found.recipe.batch_size == chosen
    assert {each.trial.recipe.batch_size for each in journal.tried.values()} == {chosen}
    assert found.ledger.final_examples == 2 * (task.data.examples // chosen) * chosen


def test_a_module_is_left_as_it_was():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    torch_state = torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    surefoot.tune("digits", model, budget="1x", final=False, **KEPT, **PLACE)
    assert all(bool((value == before[name]).all()) for name, value in model.state_dict().items())
    assert model.training
    assert bool((torch.get_rng_state() == torch_state).all())


def test_a_regression_is_tuned():
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    y = x @ torch.arange(5.0) + 1
    found = surefoot.tune(
        (x, y), "linear", budget="4x", final=False, target="numbers", epochs=4, batch_size=32, **PLACE
    )
    assert found.recipe is not None
    assert found.cost["trainings"] <= 4.1


def test_without_a_validation_part_nothing_can_be_chosen():
    with pytest.raises(ConfigError, match="validation"):
        surefoot.tune("digits", "linear", final=False, validation=0.0)


def test_the_final_training_is_a_run_with_recipe_decisions_and_cost(tmp_path):
    tuned = surefoot.tune("digits", "linear", budget="2x", name="a", runs_dir=tmp_path, **KEPT, **PLACE)
    saved = json.loads((tmp_path / "a" / "result.json").read_text())
    assert saved == tuned.result.summary
    assert {"recipe", "decisions", "cost", "unchecked", "test_accuracy"} <= saved.keys()
    assert saved["recipe"]["lr"] == tuned.recipe.lr
    again = surefoot.train("digits", config=tmp_path / "a" / "config.toml", name="b", runs_dir=tmp_path)
    assert again.summary["test_accuracy"] == saved["test_accuracy"]


def test_a_search_keeps_its_settings(tmp_path):
    surefoot.tune("digits", "linear", budget="1x", name="a", runs_dir=tmp_path, **KEPT, **PLACE)
    with pytest.raises(ConfigError, match="started with other settings"):
        surefoot.tune("digits", "linear", budget="2x", name="a", runs_dir=tmp_path, **KEPT, **PLACE)
    with pytest.raises(ConfigError, match="seed"):
        surefoot.tune("digits", "linear", budget="1x", name="a", runs_dir=tmp_path, seed=1, **KEPT, **PLACE)
    surefoot.train("digits", "linear", epochs=1, name="b", runs_dir=tmp_path)
    with pytest.raises(ConfigError, match="not tuned"):
        surefoot.tune("digits", "linear", budget="1x", name="b", runs_dir=tmp_path, **KEPT, **PLACE)
