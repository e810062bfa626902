import contextlib
import dataclasses
import fcntl
import functools
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small import bits, image_arrays, images
from torch import nn

import surefoot
from surefoot.cli import app as cli
from surefoot.config import Config, Recipe
from surefoot.errors import CheckpointError, ConfigError, DataError
from surefoot.record import store
from surefoot.record.run import read_rows
from surefoot.training.configure import Objects, resolve
from surefoot.training.open import open_run
from surefoot.training.open import train as train_to_the_end

DIGITS = resolve({"data": "digits", "model": "linear", "recipe": {"epochs": 1, "lr": 0.1}})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def with_(config: Config, **changes: object) -> Config:
    recipe = {k: changes.pop(k) for k in list(changes) if k in {f.name for f in dataclasses.fields(Recipe)}}
    return dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, **recipe), **changes)


def test_a_new_run_writes_down_what_it_is(tmp_path):
    with open_run(DIGITS, name="a", runs_dir=tmp_path / "deep" / "runs", command="surefoot train digits") as run:
        folder = run.folder
    assert names(folder) == {"config.toml", "command.txt", "environment.json", "metrics.jsonl", "lock"}
    assert (folder / "command.txt").read_text() == "surefoot train digits\n"
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["data_fingerprint"] == run.task.data.fingerprint
    assert environment["torch"] == torch.__version__
    written = store.run_folder("a", tmp_path / "deep" / "runs")
    assert written == folder
    assert run.config.device == "cpu", "what was resolved stands in the file, and not auto"
    assert run.config.threads == 1


def test_runs_without_a_name_never_share_a_folder(tmp_path):
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(open_run(DIGITS, runs_dir=tmp_path)) for _ in range(3)]
        assert len({run.folder for run in runs}) == 3


def test_a_run_goes_on_where_its_checkpoint_is(tmp_path):
    with open_run(DIGITS, name="a", runs_dir=tmp_path) as run:
        run.advance(3)
        run.save()
        run.advance(2)
        expected = bits(run.state.model.head.weight)
    with open_run(DIGITS, name="a", runs_dir=tmp_path) as run:
        assert run.state.step == 3
        run.advance(2)
        assert bits(run.state.model.head.weight) == expected


def test_what_was_left_to_the_machine_agrees_with_what_it_was_resolved_to(tmp_path):
    with open_run(DIGITS, name="a", runs_dir=tmp_path):
        pass
    same = [DIGITS, with_(DIGITS, device="cpu"), with_(DIGITS, threads=1), with_(DIGITS, checkpoint_seconds=1.0)]
    for config in same:
        with open_run(config, name="a", runs_dir=tmp_path):
            pass


def test_other_settings_are_refused_and_every_difference_is_named(tmp_path):
    with open_run(DIGITS, name="a", runs_dir=tmp_path):
        pass
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(ConfigError) as caught:
        open_run(with_(DIGITS, lr=0.3, seed=5, threads=2, model="mlp"), name="a", runs_dir=tmp_path)
    for phrase in ("lr (0.1 there, 0.3 here)", "seed (0 there, 5 here)", "threads (1 there, 2 here)", "model (linear"):
        assert phrase in caught.value.given
    assert "momentum" not in caught.value.given
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_other_data_under_the_same_settings_is_refused(tmp_path):
    short = {"epochs": 1, "batch_size": 10, "name": "a", "runs_dir": tmp_path}
    train_to_the_end(image_arrays(60), "linear", **short)
    with pytest.raises(ConfigError, match=r"data of .* has changed"):
        train_to_the_end(image_arrays(60, seed=9), "linear", **short)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        open_run(DIGITS, name="a", runs_dir=tmp_path)
    assert names(tmp_path / "a") == {"thesis.tex"}


@pytest.mark.parametrize("written", range(4))
def test_a_run_killed_while_it_writes_what_it_is_begins_anew(written, tmp_path, monkeypatch):
    """A kill before each of the three files, and one in the middle of the last."""
    real, done = store.write_bytes, []

    def killed(path: Path, content: bytes) -> None:
        if len(done) == min(written, 2):
            if written == 3:
                path.with_name(f".{path.name}.tmp-1-ab").write_bytes(content[:5])
            os._exit(9)
        done.append(path)
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_bytes", killed)
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                open_run(DIGITS, name="a", runs_dir=tmp_path)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with open_run(DIGITS, name="a", runs_dir=tmp_path):
        assert names(tmp_path / "a") == {"config.toml", "command.txt", "environment.json", "metrics.jsonl", "lock"}


@pytest.mark.parametrize(
    ("config", "error"),
    [
        (with_(DIGITS, data="nowhere/at/all"), (ConfigError, DataError)),
        (with_(DIGITS, batch_size=10**6), ConfigError),
        (with_(DIGITS, model="nosuch:model"), ConfigError),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(config, error, tmp_path):
    for name in ("a", None):
        with pytest.raises(error):
            open_run(config, name=name, runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_runs_dir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("a", None):
        with pytest.raises(ConfigError, match="must be a folder that can be written to"):
            open_run(DIGITS, name=name, runs_dir=tmp_path / "file")


def test_rows_after_the_checkpoint_are_written_again_and_lost_rows_are_noticed(tmp_path):
    config = with_(DIGITS, epochs=4.0)
    with open_run(config, name="a", runs_dir=tmp_path) as run:
        per_epoch = run.plan.steps_per_epoch
        run.advance(2 * per_epoch)
        run.save()
        run.advance(per_epoch)
    assert [row.step for row in read_rows(run.folder)] == [per_epoch, 2 * per_epoch, 3 * per_epoch]
    with open_run(config, name="a", runs_dir=tmp_path) as run:
        assert run.notes == []
        assert [row.step for row in run.rows] == [per_epoch, 2 * per_epoch]
        assert len(read_rows(run.folder)) == 2
    metrics = run.folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[1])
    with open_run(config, name="a", runs_dir=tmp_path) as run:
        (note,) = run.notes
        assert re.fullmatch(
            r"metrics\.jsonl has lost 1 of its rows, of step \d+; the weights are not touched by it", note
        )


def test_a_damaged_environment_or_config_is_a_checkpoint_error(tmp_path):
    for name in ("environment.json", "config.toml"):
        with open_run(DIGITS, name=name, runs_dir=tmp_path):
            pass
        (tmp_path / name / name).write_text("{")
        with pytest.raises(CheckpointError, match=name):
            open_run(DIGITS, name=name, runs_dir=tmp_path)


def test_a_second_process_on_a_run_is_refused_and_told_by_whom(tmp_path):
    with open_run(DIGITS, name="a", runs_dir=tmp_path):
        with pytest.raises(CheckpointError, match=f"in use by process {os.getpid()}"):
            open_run(DIGITS, name="a", runs_dir=tmp_path)
        # And from a real second process: the lock is the kernel's, not ours.
        code = f"import fcntl; fcntl.flock(open({str(tmp_path / 'a' / 'lock')!r}), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "BlockingIOError" in other.stderr


def test_a_run_held_by_another_process_is_refused_until_that_process_dies(tmp_path):
    with open_run(DIGITS, name="a", runs_dir=tmp_path) as run:
        lock = run.folder / "lock"
    code = (
        "import fcntl, os, sys, time\n"
        f"file = open({str(lock)!r}, 'r+'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "file.truncate(); file.write(str(os.getpid())); file.flush(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(CheckpointError, match=f"in use by process {holder.pid}"):
            open_run(DIGITS, name="a", runs_dir=tmp_path)
        holder.kill()
    with open_run(DIGITS, name="a", runs_dir=tmp_path):
        with open(lock) as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert lock.read_text() == str(os.getpid())


# surefoot.train


def test_train_takes_arrays_a_module_a_loss_and_settings(tmp_path):
    calls = []

    def loss(outputs, targets):
        calls.append(len(targets))
        return nn.functional.cross_entropy(outputs, targets)

    with torch.random.fork_rng():
        module = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    result = train_to_the_end(
        image_arrays(60), module, loss=loss, runs_dir=tmp_path, name="a", epochs=2, lr=0.05, batch_size=9, seed=4
    )
    assert calls
    assert result.config.recipe.batch_size == 9
    assert (result.config.data, result.config.model, result.config.seed) == ("in-memory", "in-memory", 4)
    assert result.summary["outcome"] == "finished"
    assert result.summary["test_accuracy"] is None, "these arrays have no test part"
    assert not result.model.training


def test_train_of_a_finished_run_gives_its_result_again(tmp_path):
    short = {"epochs": 1, "batch_size": 10, "name": "a", "runs_dir": tmp_path}
    first = train_to_the_end(images(), "mlp", **short)
    files = {p.name: p.read_bytes() for p in first.folder.iterdir() if p.is_file()}
    second = train_to_the_end(images(), "mlp", **short)
    assert second.summary == first.summary
    assert second.record == first.record
    assert {p.name: p.read_bytes() for p in first.folder.iterdir() if p.is_file()} == files


def test_settings_lie_over_the_file_and_the_file_over_the_defaults(tmp_path):
    (tmp_path / "c.toml").write_text("seed = 7\n[recipe]\nlr = 0.25\nepochs = 9.0\nmomentum = 0.5\n")
    result = train_to_the_end(
        images(), "linear", config=tmp_path / "c.toml", runs_dir=tmp_path, steps=3, lr=0.5, batch_size=10
    )
    recipe = result.config.recipe
    assert (recipe.lr, recipe.momentum, recipe.steps, recipe.epochs, result.config.seed) == (0.5, 0.5, 3, None, 7)


@pytest.mark.parametrize(
    ("settings", "message"), [({"learn_rate": 1}, "learn_rate"), ({"epochs": 1, "steps": 2}, "one length")]
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_made(settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train_to_the_end(images(), "linear", runs_dir=tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_resolve_chooses_a_model_for_the_kind_of_data():
    assert resolve({}).model == "cnn"
    assert resolve({"data": "table.csv"}).model == "mlp"
    assert resolve({"data": "table.npz", "model": "linear"}).model == "linear"


def test_given_objects_stand_in_for_the_text(tmp_path):
    config = Config(data="in-memory", model="in-memory", recipe=Recipe(epochs=1, batch_size=10))
    given = Objects(data=images(), model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))
    with open_run(config, name="a", runs_dir=tmp_path, objects=given) as run:
        assert run.task.data.train.x.shape == (60, 3, 8, 8)
        assert isinstance(run.task.template, nn.Sequential)


def test_the_public_names_are_these_functions():
    assert surefoot.open_run is open_run
    assert surefoot.train is train_to_the_end


def test_a_source_tree_without_the_metadata_of_a_package_is_enough(tmp_path, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with open_run(DIGITS, name="a", runs_dir=tmp_path) as run:
        assert store.read_json(run.folder / store.ENVIRONMENT)["surefoot"] == surefoot.__version__


def test_a_shipped_schedule_shrinks_with_fewer_epochs_and_what_is_given_stays():
    cifar = {"data": "cifar10", "model": "cnn"}
    whole = resolve(cifar).recipe.schedule
    assert resolve(cifar | {"recipe": {"epochs": 2}}).recipe.schedule == dataclasses.replace(whole, warmup_epochs=0.46)
    assert resolve(cifar | {"recipe": {"epochs": 20}}).recipe.schedule == whole
    given = resolve(cifar | {"recipe": {"epochs": 2, "schedule": {"warmup_epochs": 1.5}}})
    assert given.recipe.schedule.warmup_epochs == 1.5


@pytest.mark.parametrize("verb", [train_to_the_end, functools.partial(surefoot.open_run, DIGITS)])
def test_a_run_without_a_place_is_refused_in_words(verb):
    with pytest.raises(ConfigError, match="runs_dir = None"):
        verb(runs_dir=None)


@pytest.mark.parametrize(("examples", "size", "told"), [(60, 16, 2), (12, 11, 1), (360, 16, 1), (3600, 128, 0)])
def test_a_batch_that_nobody_gave_fits_the_data_and_that_is_said(examples, size, told, tmp_path):
    x, y = image_arrays(examples)
    result = train_to_the_end((x, y), "linear", epochs=1, name="a", runs_dir=tmp_path)
    assert result.config.recipe.batch_size == size
    assert f"batch_size = {size}" in (result.folder / "config.toml").read_text()
    assert len(result.notes) == told, result.notes
    again = train_to_the_end((x, y), "linear", epochs=1, name="a", runs_dir=tmp_path)
    assert again.summary == result.summary
    if size != 128:
        assert f"the batch is {size} and not 128" in result.notes[0]
        with pytest.raises(ConfigError, match=rf"batch_size \({size} there, 8 here\)"):
            train_to_the_end((x, y), "linear", epochs=1, batch_size=8, name="a", runs_dir=tmp_path)


def test_a_batch_that_was_given_stays_and_is_another_run_than_one_that_fits(tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size = 128 for 54 training examples.*Leave it out for 16"):
        train_to_the_end(image_arrays(60), "linear", batch_size=128, runs_dir=tmp_path)
    result = train_to_the_end(image_arrays(60), "linear", epochs=1, batch_size=32, name="a", runs_dir=tmp_path)
    assert result.notes == (
        "22 of 54 training examples are left out of each epoch, others each time: they do not fill a batch of 32",
    )
    with pytest.raises(ConfigError, match=r"batch_size \(32 there, auto here\)"):
        train_to_the_end(image_arrays(60), "linear", epochs=1, name="a", runs_dir=tmp_path)


def test_a_run_of_an_older_version_goes_on_with_its_default_batch(tmp_path):
    with open_run(with_(DIGITS, batch_size=128), name="a", runs_dir=tmp_path) as run:
        folder = run.folder
    environment = store.read_sealed(folder / store.ENVIRONMENT)
    del environment["fitted"]
    store.write_sealed(folder / store.ENVIRONMENT, environment)
    with open_run(DIGITS, name="a", runs_dir=tmp_path) as run:
        assert run.plan.batch_size == 128


def test_every_verb_takes_small_data_and_a_batch_that_was_given_is_not_made_to_fit():
    x, y = image_arrays(60)
    assert surefoot.find_lr("linear", (x, y), steps=10, seeds=1, range_test=False).evidence["batch_size"] == 16
    found = surefoot.compare(
        "linear", (x, y), rules=["mini-batch"], epochs=1, seeds=1, slice_points=None, surfaces=False
    )
    assert found.rules[0].batch_size == 16
    tuned = surefoot.tune((x, y), "linear", budget="2x", epochs=3, final=False, force=True)
    assert tuned.recipe is None or tuned.recipe.batch_size == 16
    with pytest.raises(ConfigError, match="batch_size = 100 for 54 training examples"):
        surefoot.tune((x, y), "linear", budget="2x", batch_size=100, final=False)


@pytest.fixture
def table(tmp_path):
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(80, 3)).round(3).tolist()
    lines = [f"{a},{b},{c},{'up' if a > b else 'down'}" for a, b, c in rows]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["a,b,c,kind", *lines]) + "\n")
    return path


def test_a_table_has_a_recipe_of_its_own_with_a_weight_decay_that_fits_it(table, tmp_path):
    shipped = resolve({"data": str(table)})
    assert (shipped.recipe.clip_norm, shipped.recipe.weight_decay) == (1.0, "auto")
    assert resolve({"data": str(table), "model": "nets:make"}).recipe == Recipe(), "others' models are not known"
    assert resolve({"data": "digits", "model": "mlp"}).recipe == Recipe()
    with open_run(shipped, name="a", runs_dir=tmp_path) as run:
        assert run.plan.recipe.weight_decay == run.config.recipe.weight_decay == pytest.approx(3 / 72, rel=1e-2)
        assert run.plan.steps == 200 * run.plan.steps_per_epoch


def test_a_weight_decay_that_nobody_gave_goes_on_and_one_that_was_given_must_be_given_again(table, tmp_path):
    settings = {"data": str(table), "recipe": {"epochs": 1}}
    for _ in range(2):
        with open_run(resolve(settings), name="a", runs_dir=tmp_path) as run:
            assert run.config.recipe.weight_decay == 0.0417
    given = {"data": str(table), "recipe": {"epochs": 1, "weight_decay": 0.5}}
    with open_run(resolve(given), name="b", runs_dir=tmp_path):
        pass
    with pytest.raises(ConfigError, match=r"weight_decay \(0.5 there, auto here\)"):
        open_run(resolve(settings), name="b", runs_dir=tmp_path)


@pytest.mark.parametrize("verb", ["check", "find-lr", "noise", "tune", "compare"])
def test_every_verb_takes_a_weight_decay_that_fits_the_data(verb, table, tmp_path, capsys):
    runs = ["--runs-dir", str(tmp_path)]
    short = {
        "check": [], "find-lr": ["--steps", "10", "--seeds", "1"],
        "noise": ["--probe-steps", "20", "--no-report", *runs], "tune": ["--budget", "2x", "--no-report", *runs],
        "compare": ["--epochs", "1", "--seeds", "1", *runs],
    }[verb]  # fmt: skip
    assert cli.run([verb, str(table), "--model", "linear", "--threads", "1", "--quiet", *short]) in (0, 3), (
        capsys.readouterr().err
    )
