"""A run is read back as it was written, in whatever state it was left."""

import os

import pytest

from surefoot.config import Config, Recipe, Schedule
from surefoot.errors import CheckpointError
from surefoot.record import store
from surefoot.record.lock import locked
from surefoot.record.run import Row, append_rows
from surefoot.record.stored import changed_settings, read_run, run_folders
from surefoot.settings import to_toml

ROW = Row(
    step=10, epoch=1.0, examples=640, lr=0.1, train_loss=2.0, train_accuracy=0.3, val_loss=1.9, val_accuracy=0.4,
    grad_norm=1.5, update_ratio=1e-3, losses=(2.1, 1.9), seconds=0.5, examples_per_second=1280.0,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / store.CONFIG).write_text(to_toml(Config(model="mlp", recipe=Recipe(lr=0.2))))
    (folder / store.LOCK).touch()
    return folder


def test_a_run_killed_at_its_first_moment_is_unfinished(folder):
    stored = read_run(folder)
    assert (stored.state, stored.rows, stored.result, stored.environment) == ("unfinished", (), None, {})
    assert stored.config == Config(model="mlp", recipe=Recipe(lr=0.2))


def test_rows_come_back(folder):
    append_rows(folder, [ROW])
    assert read_run(folder).rows == (ROW,)


@pytest.mark.parametrize(("outcome", "state"), [("finished", "finished"), ("diverged", "diverged")])
def test_a_result_says_how_it_ended(folder, outcome, state):
    store.write_json(folder / store.RESULT, {"outcome": outcome, "reason": "all steps were done"})
    assert read_run(folder).state == state


def test_a_run_that_is_held_is_training_and_reading_does_not_take_it(folder):
    with locked(folder):
        assert read_run(folder).state == "training"
    assert read_run(folder).state == "unfinished"
    with locked(folder):  # still to be had
        pass


def test_reading_changes_nothing(folder):
    append_rows(folder, [ROW])
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    read_run(folder)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (store.RESULT, "{"),
        (store.RESULT, "[]"),
        (store.ENVIRONMENT, "3"),
        (store.CONFIG, "lr = "),
        (store.CONFIG, "no = 1"),
    ],
)
def test_a_damaged_file_is_named(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=name):
        read_run(folder)


def test_runs_are_listed_from_the_oldest(tmp_path):
    for age, name in enumerate(("b", "a", "c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / store.CONFIG).touch()
        os.utime(tmp_path / name / store.CONFIG, (1000 - age, 1000 - age))
    (tmp_path / "no run").mkdir()
    assert [path.name for path in run_folders(tmp_path)] == ["c", "a", "b"]
    assert run_folders(tmp_path / "absent") == []


def test_changed_settings_are_flat_and_without_the_machine():
    config = Config(
        device="cpu", threads=2, recipe=Recipe(epochs=3, schedule=Schedule(kind="linear")), augment=("flip",)
    )
    assert changed_settings(config) == {"augment": ["flip"], "epochs": 3.0, "schedule": "linear"}
    assert changed_settings(Config()) == {}


def test_what_follows_from_another_rule_is_no_change():
    assert changed_settings(Config(recipe=Recipe(rule="adamw"))) == {"rule": "adamw"}
    assert changed_settings(Config(recipe=Recipe(rule="adam", lr=0.1))) == {"rule": "adam", "lr": 0.1}
