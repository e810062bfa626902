import dataclasses
import json

import pytest

import surefoot
from surefoot.config import Config, Recipe, Schedule
from surefoot.errors import CheckpointError
from surefoot.record.progress import read_progress
from surefoot.record.store import TIMINGS, read_sealed, write_sealed
from surefoot.search import search as module
from surefoot.search.budget import StepTime, Terms, budget
from surefoot.search.journal import History
from surefoot.search.response import coordinates
from surefoot.search.search import open_search
from surefoot.training.population.engine import Engine
from surefoot.training.population.strategy import FIGURES, LOOP

START = Recipe(epochs=3, batch_size=64, schedule=Schedule(kind="linear"))


def opened(text="4x", start=START, fixed=(), folder=None):
    """A search on digits, in a folder or in memory."""
    config = Config(data="digits", model="linear", recipe=start, threads=1, precision="fp32")
    terms = Terms(budget=budget(text), fixed=frozenset({"batch_size", *fixed}))
    place = {"runs_dir": None} if folder is None else {"runs_dir": folder, "name": "a"}
    return open_search(config, terms, engine=Engine(LOOP), **place)


def ended(search):
    with search:
        while not search.done:
            search.advance()
    return search


def without_clock(search):
    found = []
    for decision in search.decisions:
        values = decision.to_dict()
        for name in ("seconds", "untouched"):
            values.pop(name)
        (values["evidence"].get("dependence") or {}).pop("seconds", None)
        found.append(values)
    return json.dumps(found, sort_keys=True)


@pytest.fixture(scope="module")
def undisturbed():
    return ended(opened())


@pytest.mark.parametrize("text", ["0.5x", "1x", "2x", "6x"])
def test_a_budget_in_examples_is_kept(text):
    search = ended(opened(text))
    assert search.ledger.cost <= budget(text).trainings
    assert search.ledger.cost > budget(text).trainings * 0.5 or text == "0.5x"  # too little for two short runs
    assert search.recipe.epochs == 3
    assert search.recipe.steps is None


def test_what_is_chosen_trains_well(undisturbed):
    task = surefoot.task(surefoot.load("digits"), "linear", threads=1, precision="fp32")
    _, record = surefoot.fit(task, surefoot.plan(undisturbed.recipe, task.data.examples))
    assert record.last.val_accuracy > 0.9


def test_the_same_seed_gives_the_same_decisions(undisturbed):
    again = ended(opened())
    assert again.recipe == undisturbed.recipe
    assert without_clock(again) == without_clock(undisturbed)


@pytest.fixture
def short_pieces(monkeypatch):
    """Pieces of ten steps, where the smallest models would have thousands: a search is then stopped within a trial."""
    monkeypatch.setattr("surefoot.steps.follow.steps_at_once", lambda members: 10)


def test_a_search_that_is_stopped_anywhere_ends_with_the_same_decisions(undisturbed, tmp_path, short_pieces):
    """It is dropped after 1, 2, 3, ... signs of life, each time opened anew from its folder."""
    for patience in range(1, 60):
        with opened(folder=tmp_path) as search:
            for _ in range(patience):
                search.advance()
        if search.done:
            break
    else:
        pytest.fail("the search never ended")
    assert search.recipe == undisturbed.recipe
    assert without_clock(search) == without_clock(undisturbed)
    keys = [json.loads(line)["key"] for line in (tmp_path / "a" / "members.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys))
    assert not list((tmp_path / "a" / "members").glob("*"))


def test_how_far_a_search_is_lies_in_its_folder_until_it_is_done(tmp_path):
    with opened(folder=tmp_path) as search:
        now = search.advance()
        seen, _ = read_progress(tmp_path / "a")
        assert (seen.doing, seen.budget) == (now.doing, "4x")
        ended(search)
    assert read_progress(tmp_path / "a") is None


def test_what_it_cost_is_the_sum_of_its_decisions(undisturbed):
    found = undisturbed.ledger.to_dict()
    assert sum(step["examples"] for step in found["steps"].values()) == found["search_examples"]
    assert found["trainings"] == found["search_examples"] / found["final_examples"]
    assert list(found["steps"]) == list(dict.fromkeys(each.name for each in undisturbed.decisions))


@pytest.mark.parametrize("text", ["3x", "40x"])
def test_decay_and_momentum_are_searched_in_a_small_budget_too(text):
    search = ended(opened(text, fixed=("schedule",)))
    trials = [result.trial for result in search.journal.history.results.values()]
    whole = {(each.recipe.momentum, round(coordinates(each.recipe, each.share)[1], 1)) for each in trials}
    assert len({decay for _, decay in whole}) > 1
    assert len({momentum for momentum, _ in whole}) > 1


def test_batches_of_several_sizes_are_trained_for_as_many_examples():
    config = Config(data="digits", model="linear", recipe=Recipe(epochs=4), threads=1, precision="fp32")
    terms = Terms(budget=budget("3x"), fixed=frozenset({"schedule"}))
    search = ended(open_search(config, terms, engine=Engine(LOOP), runs_dir=None))
    results = search.journal.history.results.values()
    assert len({each.trial.recipe.batch_size for each in results}) > 1
    final = search.ledger.final.examples
    assert all(each.examples <= each.trial.share * final for each in results if each.finished)
    assert all(each.examples > each.trial.share * final - 2 * each.trial.recipe.batch_size for each in results)
    assert "batch_size" in search.searched
    assert search.recipe.epochs == 4


def test_what_is_fixed_stays():
    start = dataclasses.replace(START, lr=0.05, momentum=0.5, weight_decay=0.01)
    assert ended(opened("2x", start, ("lr", "momentum", "weight_decay", "schedule"))).recipe == start
    recipe = ended(opened("4x", start, ("momentum", "weight_decay"))).recipe
    assert (recipe.momentum, recipe.weight_decay) == (0.5, 0.01)
    assert recipe.lr != 0.05


def test_a_large_budget_compares_schedules_and_leaves_little_unchecked():
    search = ended(opened("16x"))
    names = [decision.name for decision in search.decisions]
    assert names[:4] == ["wiring", "initial-loss", "learning-rate", "coarse-grid"] or "overfit-sample" in names
    assert "schedule" in names
    assert not any("schedule" in text for text in search.end.unchecked)


def test_with_a_budget_in_time_the_batch_size_is_chosen_and_all_that_hangs_on_it():
    quick = StepTime(5e-4, 1e-3)  # as if this had been timed on a quiet machine
    config = Config(data="digits", model="linear", recipe=dataclasses.replace(START, epochs=2), threads=1)
    terms = Terms(budget=budget("30s"), fixed=frozenset({"schedule"}))
    search = open_search(config, terms, runs_dir=None, engine=Engine(LOOP))
    search.journal.history = History(timings={2**power: quick for power in range(12)})
    ended(search)
    chosen = next(each for each in search.decisions if each.name == "batch-size").value["batch_size"]
    assert search.recipe.batch_size == chosen
    assert {result.trial.recipe.batch_size for result in search.journal.history.results.values()} == {chosen}
    assert search.ledger.final.examples == 2 * (search.request.examples // chosen) * chosen


def test_decisions_that_another_search_made_are_refused(tmp_path):
    with opened(folder=tmp_path) as search:
        ended(search)
    path = tmp_path / "a" / "decisions.jsonl"
    first, second, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([second, first, *rest]))
    with (
        opened(folder=tmp_path) as search,
        pytest.raises(CheckpointError, match="decision 1 of the search is 'initial-loss', where it comes to 'wiring'"),
    ):
        search.advance()


def test_a_search_goes_on_by_the_figures_that_it_was_begun_with(tmp_path, monkeypatch):
    config = Config(data="digits", model="linear", recipe=START, threads=1, precision="fp32")
    terms = Terms(budget=budget("4x"), fixed=frozenset({"batch_size"}))

    def figures():
        with open_search(config, terms, runs_dir=tmp_path, name="a") as search:
            return search.executor.engine.figures

    first, later = (dataclasses.replace(FIGURES["cpu"], call_seconds=seconds) for seconds in (1e-6, 2e-6))
    monkeypatch.setattr(module, "rule_figures", lambda device: first)
    assert figures() == first
    monkeypatch.setattr(module, "rule_figures", lambda device: later)
    assert figures() == first


def test_a_search_begun_before_there_were_figures_goes_on_by_those_that_were_fitted(tmp_path):
    config = Config(data="digits", model="linear", recipe=START, threads=1, precision="fp32")
    terms = Terms(budget=budget("4x"), fixed=frozenset({"batch_size"}))
    with open_search(config, terms, runs_dir=tmp_path, name="a") as search:
        folder = search.folder
    about = read_sealed(folder / TIMINGS)
    del about["figures"]
    write_sealed(folder / TIMINGS, about)
    with open_search(config, terms, runs_dir=tmp_path, name="a") as search:
        assert search.executor.engine.figures == FIGURES["cpu"]
