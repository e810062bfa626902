"""What a user gives to `tune` stays unless it is searched: as a file or by name, in Python and on the command line."""

import dataclasses
import json

import pytest

import surefoot
from surefoot.cli.app import run
from surefoot.config import Recipe, Schedule
from surefoot.search.budget import Budget, Request, Terms, budget, final_run
from surefoot.search.journal import History
from surefoot.search.moves import Standing
from surefoot.search.space import space_around, trial_of
from surefoot.search.tune import asked_for

GIVEN = {
    "weight_decay": ("weight_decay = 0.0", 0.0),
    "a weight decay of its own": ("weight_decay = 0.0123", 0.0123),
    "momentum": ("momentum = 0.71", 0.71),
    "batch_size": ("batch_size = 100", 100),
    "clip_norm": ("clip_norm = 0.7", 0.7),
    "label_smoothing": ("label_smoothing = 0.05", 0.05),
    "ema_decay": ("ema_decay = 0.6", 0.6),
    "micro_batch_size": ("micro_batch_size = 90", 90),
    "decay_on": ('decay_on = "weights"', "weights"),
    "momentum_form": ('momentum_form = "nesterov"', "nesterov"),
    "steps": ("steps = 45", 45),
    "beta1": ('rule = "adamw"\nbeta1 = 0.8', 0.8),
    "adamw without decay": ('rule = "adamw"\nweight_decay = 0.0', 0.0),
    "beta2": ('rule = "adam"\nbeta2 = 0.97', 0.97),
    "alpha": ('rule = "rmsprop"\nalpha = 0.95', 0.95),
    "schedule": ('schedule = { kind = "wsd", end = 0.1 }', Schedule(kind="wsd", end=0.1)),
}


def value_of(recipe: Recipe, name: str) -> object:
    return getattr(
        recipe, {"a weight decay of its own": "weight_decay", "adamw without decay": "weight_decay"}.get(name, name)
    )


@pytest.mark.parametrize("name", GIVEN)
def test_a_value_in_a_file_stays_where_it_is_not_searched(name, tmp_path):
    line, value = GIVEN[name]
    path = tmp_path / "given.toml"
    length = "" if "steps" in line else "epochs = 3\n"
    path.write_text(f"[recipe]\n{length}{line}\n")
    found = surefoot.tune("digits", "linear", config=path, budget="2x", final=False, threads=1)
    assert value_of(found.recipe, name) == value
    assert "lr" in found.searched
    assert name.split()[0] not in found.searched


@pytest.mark.parametrize("where", ["file", "flags"])
def test_the_command_line_keeps_it_too_and_says_what_was_searched(where, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.toml").write_text("[recipe]\nweight_decay = 0.0\nepochs = 3\nclip_norm = 0.7\n")
    typed = ["--weight-decay", "0", "--epochs", "3", "--clip-norm", "0.7"]
    flags = ["--config", "given.toml"] if where == "file" else typed
    words = ["tune", "digits", "--model", "linear", "--name", "a", "--no-report", "--quiet", "--threads", "1"]
    assert run([*words, *flags]) == 0
    recipe = json.loads((tmp_path / "runs" / "a" / "result.json").read_text())["recipe"]
    assert (recipe["weight_decay"], recipe["clip_norm"], recipe["epochs"]) == (0.0, 0.7, 3.0)
    assert "Searched: lr, momentum, batch_size; all else is as given" in capsys.readouterr().out


def test_by_name_it_stays_in_any_case():
    found = surefoot.tune("digits", "linear", fixed={"weight_decay": 0.0}, epochs=2, final=False, threads=1)
    assert found.recipe.weight_decay == 0.0


def test_what_was_given_is_searched_in_a_large_budget_alone():
    base = Recipe(weight_decay=0.0, batch_size=32, epochs=5)
    for trainings, decays in ((8.0, None), (20.0, 0.0)):
        terms = Terms(budget=Budget(trainings=trainings), given=frozenset({"weight_decay", "lr"}))
        request = Request(terms=terms, base=base, examples=2000, validation_examples=100, check_examples={})
        axes = {axis.name: axis for axis in Standing(request, History()).space.axes}
        assert ("weight_decay" in axes) == (decays is not None)
        if decays is not None:
            assert (axes["weight_decay"].values[0], axes["weight_decay"].usual) == (0.0, 0.0)
    assert not Standing(request, History()).space.fixed_rate


def test_a_decay_of_zero_that_was_given_is_one_of_those_that_are_looked_at():
    where = space_around(Recipe(weight_decay=0.0), 1000, (0.01, 0.1), frozenset(), frozenset({"weight_decay"}))
    assert where.recipe(where.default, 1.0).weight_decay == 0.0
    trial = trial_of("refine", Recipe(), where.recipe(where.default, 0.5), 0, 0.5)
    assert where.point(trial).others == where.default.others
    assert space_around(Recipe(), 1000, (0.01, 0.1), frozenset()).usual[-1] == 1.0


def test_a_length_and_a_batch_that_were_given_are_those_of_the_final_training(tmp_path):
    path = tmp_path / "given.toml"
    path.write_text("[recipe]\nepochs = 7\nbatch_size = 100\n")
    start, terms = asked_for({"data": "digits", "model": "linear"}, {"weight_decay": None}, path, "2x", force=False)
    assert terms == Terms(budget=budget("2x"), given=frozenset({"epochs", "batch_size"}))
    request = dataclasses.make_dataclass("R", ["terms", "base", "examples", "exact"])(terms, start.recipe, 400, True)
    assert (final_run(request, [], {}).recipe.epochs, final_run(request, [], {}).batch_size) == (7, 100)
    free = dataclasses.replace(request, terms=Terms(budget=budget("2x")))
    assert final_run(free, [], {}).batch_size < 100
