"""`surefoot show` and `surefoot runs` tell what runs are and what to do next, and need no torch for it."""

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys

import pytest

from surefoot.cli import show as showing
from surefoot.cli.app import run
from surefoot.config import Config, Recipe
from surefoot.record import store
from surefoot.record.lock import locked
from surefoot.record.run import Row, append_rows
from surefoot.settings import to_toml

ROW = Row(
    step=10, epoch=1.0, examples=640, lr=0.1, train_loss=2.0, train_accuracy=0.3, val_loss=1.9, val_accuracy=0.4321,
    grad_norm=1.5, update_ratio=1e-3, losses=(2.1, 1.9), seconds=0.5, examples_per_second=1280.0,
)  # fmt: skip
RESULT = {
    "outcome": "finished", "reason": "all 30 steps were done", "test_accuracy": 0.9, "test_loss": 0.31,
    "test_examples": 100, "val_accuracy": 0.4321, "val_loss": 1.9, "train_seconds": 1.5, "epochs": 3.0,
    "parameters": 12345,
}  # fmt: skip


def a_run(runs, name, rows=3, result=None):
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / store.CONFIG).write_text(to_toml(Config(model="mlp", seed=7, recipe=Recipe(lr=0.2, epochs=3))))
    (folder / store.COMMAND).write_text("surefoot train --lr 0.2\n")
    store.write_json(folder / store.ENVIRONMENT, {"torch": "2.99", "data_fingerprint": "ab" * 32, "device_name": ""})
    append_rows(folder, [dataclasses.replace(ROW, step=10 * i, epoch=float(i)) for i in range(1, rows + 1)])
    if result is not None:
        store.write_json(folder / store.RESULT, result)
    return folder


def shown(capsys, *arguments):
    code = run(["show", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_a_finished_run_shows_settings_environment_rows_result_and_next(tmp_path, capsys):
    folder = a_run(tmp_path, "good", result=RESULT)
    code, text = shown(capsys, "good", "--runs-dir", tmp_path)
    assert code == 0
    for part in (
        "finished: all 30 steps were done",
        "surefoot train --lr 0.2",
        "2.99",
        "abababababab",
        "12,345",
        "43.21%",
    ):
        assert part in text
    for name, value in (("lr", "0.2"), ("model", "mlp"), ("seed", "7")):
        assert any(line.split() == [name, value] for line in text.splitlines())
    assert "momentum" not in text, "a setting at its default is not shown"
    assert "90.00% (95 % interval 82.56% to 94.48%, 100 examples)" in text  # Wilson, 90 of 100
    assert f"surefoot evaluate {folder}" in text


def test_an_unfinished_run_says_how_to_go_on(tmp_path, capsys):
    folder = a_run(tmp_path, "cut")
    code, text = shown(capsys, folder)
    assert code == 0
    assert "unfinished, step 30 and epoch 3.00 recorded" in text
    assert f"surefoot resume {folder}" in text


def test_a_run_without_a_row_is_shown(tmp_path, capsys):
    code, text = shown(capsys, a_run(tmp_path, "young", rows=0))
    assert code == 0
    assert "unfinished, no row yet" in text


def test_a_run_in_progress_is_not_to_be_resumed(tmp_path, capsys):
    folder = a_run(tmp_path, "busy")
    with locked(folder):
        _, text = shown(capsys, folder)
    assert "training, step 30" in text
    assert "resume" not in text


def test_a_diverged_run_advises_a_lower_rate(tmp_path, capsys):
    result = RESULT | {"outcome": "diverged", "reason": "the loss was no longer finite at step 4", "test_loss": None}
    folder = a_run(tmp_path, "wild", rows=0, result=result)
    code, text = shown(capsys, folder)
    assert code == 0
    assert "diverged: the loss was no longer finite at step 4" in text
    assert f"surefoot train --config {folder / store.CONFIG} --lr 0.02 --name wild-lr0.02" in text


@pytest.mark.parametrize(
    ("result", "advice"),
    [
        (None, "surefoot.train with the same arguments and name='mine'"),
        (RESULT, "surefoot.evaluate("),
        (RESULT | {"outcome": "diverged"}, "lr=0.02"),
    ],
)
def test_a_run_from_python_is_not_sent_to_the_command_line(tmp_path, capsys, result, advice):
    folder = a_run(tmp_path, "mine", result=result)
    (folder / store.CONFIG).write_text(to_toml(Config(data="in-memory", recipe=Recipe(lr=0.2))))
    _, text = shown(capsys, folder)
    assert advice in text.split("next")[-1]
    assert "surefoot resume" not in text
    assert "surefoot train" not in text.split("next")[-1]


def test_json_has_all_of_it(tmp_path, capsys):
    a_run(tmp_path, "good", rows=40, result=RESULT)
    _, text = shown(capsys, "good", "--runs-dir", tmp_path, "--json")
    plain = json.loads(text)
    assert (plain["state"], len(plain["rows"]), plain["result"]) == ("finished", 40, RESULT)
    assert plain["settings"] == {"model": "mlp", "seed": 7, "lr": 0.2, "epochs": 3.0}
    assert plain["environment"]["data_fingerprint"] == "ab" * 32
    assert plain["curves"]["name"] == "curves"


def test_many_rows_are_thinned_and_it_says_so(tmp_path, capsys):
    folder = a_run(tmp_path, "long", rows=45)
    _, text = shown(capsys, folder, "--rows", "5")
    assert "5 of 45 rows; --rows 45 shows all" in text
    _, text = shown(capsys, folder, "--rows", "45")
    assert "shows all" not in text


def test_runs_are_listed_and_a_damaged_one_hides_no_other(tmp_path, capsys):
    a_run(tmp_path, "good", result=RESULT)
    (a_run(tmp_path, "bad") / store.CONFIG).write_text("lr = ")
    a_run(tmp_path, "cut")
    for at, name in enumerate(("good", "bad", "cut")):
        os.utime(tmp_path / name / store.CONFIG, (at, at))
    code, text = shown(capsys, "--runs-dir", tmp_path)
    lines = text.splitlines()
    assert code == 0
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["good", "finished"],
        ["bad", "damaged"],
        ["cut", "unfinished"],
    ]
    assert "90.00%" in lines[1]
    assert "config.toml" in lines[4]
    _, text = shown(capsys, "--runs-dir", tmp_path, "--json")
    assert [each["state"] for each in json.loads(text)] == ["finished", "damaged", "unfinished"]


def test_a_regression_shows_its_losses_in_any_unit_and_is_sent_to_its_errors(tmp_path, capsys):
    losses = {"val_accuracy": None, "test_accuracy": None, "val_loss": 1365503716.3, "test_loss": 4.3e-16}
    folder = a_run(tmp_path, "houses", result=RESULT | losses)
    row = dataclasses.replace(ROW, step=10, val_loss=1365503716.3, train_accuracy=None, val_accuracy=None)
    (folder / store.METRICS).unlink()
    append_rows(folder, [row])
    (folder / store.CONFIG).write_text(to_toml(Config(target="numbers")))
    _, text = shown(capsys, "houses", "--runs-dir", tmp_path)
    assert text.count("1.366e+09") == 2
    assert "4.3e-16" in text
    assert "0.0000" not in text
    assert "per class" not in text
    _, text = shown(capsys, "--runs-dir", tmp_path)
    assert "1.366e+09" in text


def test_an_accuracy_of_nothing_is_shown_too(tmp_path, capsys):
    a_run(tmp_path, "bad", result=RESULT | {"val_accuracy": 0.0})
    assert "0.00%" in shown(capsys, "bad", "--runs-dir", tmp_path)[1]


def test_no_runs_is_no_error(tmp_path, capsys):
    code, text = shown(capsys, "--runs-dir", tmp_path / "none")
    assert code == 0
    assert "start one with surefoot train" in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["absent"], 1, "is not a run"), (["good", "--rows", "1"], 2, "at least 2"), (["good", "--row", "5"], 2, "--row")],
)
def test_what_cannot_be_shown_is_one_line_and_a_code(tmp_path, capsys, arguments, code, words):
    a_run(tmp_path, "good")
    assert run(["show", *arguments, "--runs-dir", str(tmp_path)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert len(captured.err.splitlines()) == 1


def test_names_from_outside_cannot_command_the_terminal(tmp_path, capsys):
    folder = a_run(tmp_path, "good")
    (folder / store.COMMAND).write_text("surefoot train \x1b]0;owned\x07\x1b[2J digits")
    _, text = shown(capsys, folder)
    assert "\x1b" not in text
    assert "surefoot train  digits" in text


def test_showing_imports_no_torch(tmp_path):
    a_run(tmp_path, "good", result=RESULT)
    program = (
        "import sys; from surefoot.cli.app import run; code = run(sys.argv[1:]);"
        "sys.exit('torch is imported' if 'torch' in sys.modules else code)"
    )
    for words in (["good"], []):
        command = [sys.executable, "-c", program, "show", *words, "--runs-dir", str(tmp_path)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


LISTED = [
    {"run": "a", "state": "finished", "data": "digits", "model": "cnn", "lr": 0.1, "seed": 0, "epochs": 2.0,
     "val_accuracy": 0.9, "test_accuracy": 0.91234567, "test_loss": 0.3},
    {"run": "b", "state": "unfinished", "data": "=cmd()", "model": "mlp", "lr": 1.0, "seed": 1, "epochs": 1.0,
     "val_accuracy": None, "test_accuracy": None, "test_loss": None},
    {"run": "c", "state": "finished", "data": "digits", "model": "mlp", "lr": 0.2, "seed": 0, "epochs": 2.0,
     "val_accuracy": 0.95, "test_accuracy": 0.96, "test_loss": 0.2},
]  # fmt: skip


@pytest.fixture
def _three_runs(monkeypatch):
    monkeypatch.setattr(showing, "run_folders", lambda runs_dir: range(3))
    monkeypatch.setattr(showing, "_listed", LISTED.__getitem__)


def names(capsys, *words):
    assert run(["runs", "--json", *words]) == 0
    return [each["run"] for each in json.loads(capsys.readouterr().out)]


@pytest.mark.usefixtures("_three_runs")
def test_runs_are_filtered_and_sorted_and_those_without_a_value_come_last(capsys):
    assert names(capsys) == ["a", "b", "c"]
    assert names(capsys, "--where", "model=mlp") == ["b", "c"]
    assert names(capsys, "--where", "model=mlp", "--where", "lr=1") == ["b"]
    assert names(capsys, "--sort", "test_accuracy") == ["a", "c", "b"]
    assert names(capsys, "--sort", "test_accuracy", "--descending") == ["c", "a", "b"]


@pytest.mark.usefixtures("_three_runs")
def test_csv_has_every_digit_and_no_formula(capsys):
    assert run(["runs", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[0]["test_accuracy"] == "0.91234567"
    assert rows[1]["data"] == "'=cmd()"
    assert rows[1]["test_loss"] == ""


@pytest.mark.parametrize(
    "words", [["--sort", "accuracy"], ["--where", "model"], ["--where", "x=1"], ["--csv", "--json"]]
)
def test_what_is_wrong_is_one_message(words, capsys):
    assert run(["runs", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
