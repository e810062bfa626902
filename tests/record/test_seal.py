"""A run folder is sealed: what was changed after the run wrote it is named, and never shown or used."""

import json

import pytest

import surefoot
from surefoot.cli.app import run as command
from surefoot.errors import CheckpointError
from surefoot.inference.evaluate import evaluate
from surefoot.record import store
from surefoot.record.scores import read_scores
from surefoot.record.stored import read_config, read_run
from surefoot.training.configure import resolve
from surefoot.training.open import open_run
from surefoot.training.weights import load_trained

RECIPE = {"epochs": 2, "lr": 0.1, "ema_decay": 0.9}


@pytest.fixture
def finished(tmp_path):
    return surefoot.train("digits", "linear", name="a", runs_dir=tmp_path / "runs", **RECIPE).folder


@pytest.fixture
def unfinished(tmp_path):
    config = resolve({"data": "digits", "model": "linear", "recipe": RECIPE})
    with open_run(config, name="a", runs_dir=tmp_path / "runs") as run:
        run.advance(3)
        run.save()
    return run.folder


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


CHANGES = [
    ("result.json", '"test_examples": 359', '"test_examples": 358'),
    ("environment.json", '"schema": 1', '"schema": 2'),
    ("metrics.jsonl", '"step": 20', '"step": 22'),
    ("config.toml", "seed = 0", "seed = 1"),
    ("config.toml", "lr = 0.1", "lr = 0.2"),
    ("command.txt", "library", "surefoot train"),
]


@pytest.mark.parametrize(("name", "old", "new"), CHANGES)
def test_a_changed_file_of_a_finished_run_is_named(finished, name, old, new, tmp_path, monkeypatch, capsys):
    read_run(finished)
    replace(finished / name, old, new)
    with pytest.raises(CheckpointError, match=name):
        read_run(finished)
    surefoot.train("digits", "linear", name="b", runs_dir=tmp_path / "runs", **RECIPE)
    monkeypatch.chdir(tmp_path)
    assert command(["runs"]) == 0
    out = capsys.readouterr().out
    assert name in out.replace("\n", "")
    assert "finished" in out
    for words in (["show", "a"], ["report", "a"]):
        assert command(words) != 0
        assert name in capsys.readouterr().err


@pytest.mark.parametrize(("key", "value"), [("std", [9.0]), ("mean", [9.0]), ("classes", list("9876543210"))])
def test_a_changed_description_of_the_weights_is_not_used(finished, key, value):
    path = finished / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    for use in (load_trained, evaluate):
        with pytest.raises(CheckpointError, match=r"model\.json was damaged or changed"):
            use(finished)


def test_changed_scores_are_not_drawn(finished):
    replace(finished / "scores.json", '"examples": 359', '"examples": 358')
    with pytest.raises(CheckpointError, match=r"scores\.json"):
        read_scores(finished)


@pytest.mark.parametrize(
    ("cut", "name"), [("ema_decay = 0.9\n", "ema_decay"), ("epochs = 2.0\n", "epochs"), ("seed = 0\n", "seed")]
)
def test_a_run_does_not_go_on_with_other_settings(unfinished, cut, name, tmp_path, monkeypatch, capsys):
    replace(unfinished / "config.toml", cut, "")
    monkeypatch.chdir(tmp_path)
    if name != "seed":  # its default
        assert command(["resume", "a"]) != 0
        err = capsys.readouterr().err
        assert "config.toml was changed after the run began" in err
        assert name in err
    else:
        assert command(["resume", "a", "-q"]) == 0


def test_the_machine_and_the_place_of_the_data_may_change_while_a_run_is_not_done(unfinished, tmp_path):
    config = read_config(unfinished)
    assert config.threads is not None
    replace(unfinished / "config.toml", f"threads = {config.threads}", f"threads = {config.threads + 1}")
    assert read_config(unfinished).threads == config.threads + 1


def test_a_run_of_an_older_version_is_read_and_said_to_be_unsealed(finished, tmp_path, monkeypatch, capsys):
    for name in ("result.json", "environment.json", "model.json", "scores.json"):
        values = json.loads((finished / name).read_text())
        for key in ("seal", "settings", "files"):
            values.pop(key, None)
        store.write_json(finished / name, values)
    assert not read_run(finished).sealed
    assert evaluate(finished).examples == 359
    monkeypatch.chdir(tmp_path)
    assert command(["show", "a"]) == 0
    assert "damage of its files cannot be told" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["environment.json", "result.json", "scores.json"])
@pytest.mark.parametrize("content", ["[]", "null", "3", "{", '{"test_accuracy": "high"}'])
def test_a_file_of_another_shape_is_named_and_other_runs_are_shown(
    name, content, finished, tmp_path, monkeypatch, capsys
):
    surefoot.train("digits", "linear", name="b", runs_dir=tmp_path / "runs", **RECIPE)
    (finished / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    assert command(["runs"]) == 0
    assert "finished" in capsys.readouterr().out
    assert command(["report", "a"]) == 1
    err = capsys.readouterr().err
    assert name in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("key", "value"),
    [("test_accuracy", "NaN"), ("val_accuracy", "7.5"), ("test_loss", "1e999"), ("test_examples", "-3"),
     ("steps", "1" + "0" * 400), ("epochs", "true"), ("train_seconds", "[]"), ("files", "[]")],
)  # fmt: skip
def test_a_number_that_none_can_be_is_named_in_a_result_without_seal(key, value, finished, capsys):
    values = json.loads((finished / "result.json").read_text())
    for name in ("seal", "files"):
        values.pop(name)
    (finished / "result.json").write_text(json.dumps(values | {key: "HERE"}).replace('"HERE"', value))
    with pytest.raises(CheckpointError, match=rf"result\.json: {key} ="):
        read_run(finished)
    assert command(["runs", "--runs-dir", str(finished.parent)]) == 0
    assert key in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("name", ["environment.json", "scores.json", "config.toml", "metrics.jsonl"])
def test_a_file_that_is_gone_is_named(name, finished):
    (finished / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        read_run(finished)


def test_a_figure_changed_in_a_row_of_an_unfinished_run_is_said_and_the_run_goes_on(tmp_path):
    config = resolve({"data": "digits", "model": "linear", "recipe": RECIPE | {"batch_size": 128}})
    with open_run(config, name="a", runs_dir=tmp_path) as run:
        run.advance(run.plan.steps_per_epoch)
        run.save()
        loss = run.rows[0].train_loss
    replace(run.folder / "metrics.jsonl", str(loss), str(loss + 1))
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 1: .*changed after it was written"):
        read_run(run.folder)
    with open_run(config, name="a", runs_dir=tmp_path) as run:
        assert "lost 1 of its rows, of step 10" in run.notes[0]
        while not run.done:
            run.advance()
        assert run.finish().summary["outcome"] == "finished"


def test_a_checkpoint_is_not_used_with_other_settings_than_it_was_made_with(unfinished, tmp_path):
    environment = json.loads((unfinished / "environment.json").read_text())
    environment["settings"]["recipe"]["ema_decay"] = 0.5
    store.write_sealed(unfinished / "environment.json", environment)
    replace(unfinished / "config.toml", "ema_decay = 0.9", "ema_decay = 0.5")
    with pytest.raises(CheckpointError, match=r"made with other settings than environment\.json holds"):
        open_run(read_config(unfinished), name="a", runs_dir=tmp_path / "runs")
