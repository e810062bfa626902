import csv
import io
import json

import pytest

from surefoot.cli import runs as listing
from surefoot.cli.app import run

LISTED = [
    {"run": "a", "state": "finished", "data": "digits", "model": "cnn", "lr": 0.1, "seed": 0, "epochs": 2.0,
     "val_accuracy": 0.9, "test_accuracy": 0.91234567, "test_loss": 0.3},
    {"run": "b", "state": "unfinished", "data": "=cmd()", "model": "mlp", "lr": 1.0, "seed": 1, "epochs": 1.0,
     "val_accuracy": None, "test_accuracy": None, "test_loss": None},
    {"run": "c", "state": "finished", "data": "digits", "model": "mlp", "lr": 0.2, "seed": 0, "epochs": 2.0,
     "val_accuracy": 0.95, "test_accuracy": 0.96, "test_loss": 0.2},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _three_runs(monkeypatch):
    monkeypatch.setattr(listing, "run_folders", lambda runs_dir: range(3))
    monkeypatch.setattr(listing, "_listed", LISTED.__getitem__)


def names(capsys, *words):
    assert run(["runs", "--json", *words]) == 0
    return [each["run"] for each in json.loads(capsys.readouterr().out)]


def test_runs_are_filtered_and_sorted_and_those_without_a_value_come_last(capsys):
    assert names(capsys) == ["a", "b", "c"]
    assert names(capsys, "--where", "model=mlp") == ["b", "c"]
    assert names(capsys, "--where", "model=mlp", "--where", "lr=1") == ["b"]
    assert names(capsys, "--sort", "test_accuracy") == ["a", "c", "b"]
    assert names(capsys, "--sort", "test_accuracy", "--descending") == ["c", "a", "b"]


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
