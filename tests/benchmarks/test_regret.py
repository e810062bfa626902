"""Methods played on an invented map: what they cost, that they find a valley, and what is said of them."""

import dataclasses
import importlib.util
import json

import pytest

from surefoot.config import Schedule

NAMES = ("cancer, mlp", "flipped digits, tanh mlp")
METHODS = ("surefoot", "random", "halving", "hyperband", "default", "single recipe")


@pytest.fixture
def maps(invented_truth, tmp_path):
    truth, _ = invented_truth
    truth.main(["--out", str(tmp_path / "maps"), "--tasks", *NAMES])
    return tmp_path / "maps"


@pytest.fixture
def regret(scripts, monkeypatch):
    module = scripts("regret")
    monkeypatch.setattr(module, "draw", lambda *words: [])
    monkeypatch.setattr(module, "BUDGETS", (0.5, 2.0, 8.0))
    return module


def result(regret, maps, *words):
    out = maps.parent / "regret.json"
    regret.main(["--maps", str(maps), "--out", str(out), "--repetitions", "2", "--methods", *METHODS, *words])
    return json.loads(out.read_text())


def test_every_method_answers_at_every_budget_and_none_costs_more(regret, maps):
    found = result(regret, maps)
    assert set(found["summary"]) == {"development"}
    figures = found["summary"]["development"]
    assert set(figures) == set(METHODS)
    for by_budget in figures.values():
        assert list(by_budget) == ["0.5", "2", "8"]
        for budget, of in by_budget.items():
            assert of["cost"] <= float(budget) + 1e-6
            assert of["interval"][0] <= of["mean_regret"] <= of["interval"][1]
            assert of["mean_regret"] <= of["worst_regret"] <= of["worst_run"]
            assert 1 <= of["rank"] <= len(METHODS)
    assert figures["random"]["8"]["mean_regret"] < figures["random"]["2"]["mean_regret"]
    assert figures["surefoot"]["8"]["mean_regret"] < 1
    assert "surefoot" not in found, "the test half was not looked at"


def test_a_second_call_plays_nothing_and_gives_the_same(regret, maps, monkeypatch):
    first = result(regret, maps)
    monkeypatch.setattr(regret, "run", None)
    assert result(regret, maps)["summary"] == first["summary"]


def test_a_method_can_be_played_anew(regret, maps, monkeypatch):
    result(regret, maps)
    played, run = [], regret.run
    monkeypatch.setattr(regret, "run", lambda name, *rest: played.append(name) or run(name, *rest))
    result(regret, maps, "--anew", "surefoot")
    assert played == ["surefoot"] * 4


def test_the_test_half_is_scored_when_it_is_asked_for_and_says_what_the_product_does(regret, maps):
    path = maps / "cancer_mlp.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"half": "test"}))
    assert set(result(regret, maps)["summary"]) == {"development"}
    found = result(regret, maps, "--half", "test")
    assert set(found["summary"]) == {"development", "test"}
    assert set(found["surefoot"]) == {"mean_regret", "worst_regret", "cost"}
    assert found["surefoot"]["cost"] <= 2


def test_the_best_cell_has_no_regret_and_the_default_recipe_its_measured_one(scripts, maps):
    played, of = scripts("played"), scripts("maps").read_maps(maps)[NAMES[0]]
    table = played.Table(of, 0, 1)
    subject = scripts("tasks").subjects(None)[NAMES[0]]
    cell, points = of.best
    assert table.points(subject.recipe(cell)) == pytest.approx(of.fresh[cell])
    assert abs(points - of.fresh[cell]) < 0.5
    assert table.points(table.default) == of.default


def test_a_repetition_shifts_the_rates_by_less_than_half_a_cell(scripts, maps):
    played, of = scripts("played"), scripts("maps").read_maps(maps)[NAMES[0]]
    subject = scripts("tasks").subjects(None)[NAMES[0]]
    cell = of.best[0]
    tables = [played.Table(of, i, 5) for i in range(5)]
    assert [round(table.shift, 3) for table in tables] == [-0.4, -0.2, 0, 0.2, 0.4]
    assert {table.cell(subject.recipe(cell)) for table in tables} == {cell}
    recipe = subject.recipe(cell)
    between = dataclasses.replace(recipe, lr=recipe.lr * 10 ** (0.5 / 4))  # half a cell of a quarter decade
    steps = [table.cell(between).step for table in tables]
    assert steps[0] == cell.step
    assert steps[-1] == cell.step + 1


def test_another_schedule_differs_as_it_does_at_the_best_cell(scripts, maps):
    played, of = scripts("played"), scripts("maps").read_maps(maps)[NAMES[0]]
    subject, table = scripts("tasks").subjects(None)[NAMES[0]], played.Table(of)
    plain = subject.recipe(of.best[0])
    linear = dataclasses.replace(plain, schedule=Schedule(kind="linear"))
    assert table.points(linear) == pytest.approx(table.points(plain)), "the invented trainings know no schedule"
    rows = next(iter(of.about["variants"].values()))
    rows["linear"]["1"] = [[row[0] / 2, row[1], row[2], row[3] + 1] for row in rows["plain"]["1"]]
    assert table.points(linear) == pytest.approx(table.points(plain) + 1)
    assert table.run(linear).val_loss == pytest.approx(table.run(plain).val_loss / 2)


def test_halving_spends_what_it_may(scripts):
    peers = scripts("peers")
    assert peers._cost(8, (0.125, 0.25, 0.5, 1.0)) == pytest.approx(8 / 8 + 4 / 8 + 2 / 4 + 1 / 2)


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="a dependency of the benchmark alone")
@pytest.mark.parametrize("method", ["tpe", "tpe, pruned"])
def test_optuna_is_told_its_trials(scripts, maps, method):
    played, of = scripts("played"), scripts("maps").read_maps(maps)[NAMES[0]]
    answers = scripts("peers").PEERS[method](played.Table(of), (2.0, 8.0), 0)
    assert all(0 < choice.cost <= budget for budget, choice in answers.items())


def test_pictures_are_drawn_of_the_figures(scripts, regret, maps, tmp_path):
    figures = result(regret, maps)["summary"]["development"]
    files = scripts("regret_pictures").draw(figures, tmp_path / "regret_development", regret.BUDGETS)
    assert [file.name for file in files] == ["regret_development_mean.svg", "regret_development_tasks.svg"]
    for file in files:
        assert "<svg" in file.read_text()[:200]
    assert "cancer, mlp" in files[1].read_text()
