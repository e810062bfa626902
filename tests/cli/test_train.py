import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from surefoot.cli.app import run
from surefoot.record import store

SHORT = ["train", "digits", "--model", "linear", "--epochs", "2", "--lr", "0.1"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_train_shows_its_progress_on_stderr_and_its_result_on_stdout(tmp_path, capsys):
    assert run([*SHORT, "--name", "a"]) == 0
    out, err = capsys.readouterr()
    assert "digits: 1,294 training, 144 validation, 359 test examples" in err
    assert "train loss" in err
    assert "outcome    finished" in out
    assert "95 % interval" in out
    assert "surefoot show a" in out
    assert (tmp_path / "runs" / "a" / "model.safetensors").is_file()
    assert (tmp_path / "runs" / "a" / "command.txt").read_text().startswith("surefoot")


def test_json_is_the_result_and_alone_on_stdout(tmp_path, capsys):
    assert run([*SHORT, "--name", "a", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    curves = result.pop("curves")
    assert (curves["step"], curves["name"]) == (6, "curves")
    assert result == json.loads((tmp_path / "runs" / "a" / "result.json").read_text())
    assert {"run", "test_accuracy", "test_loss", "train_seconds", "epochs", "outcome"} <= set(result)
    assert result["epochs"] == 2.0
    assert result["test_accuracy"] > 0.8


def test_the_files_settings_are_under_the_flags(tmp_path, capsys):
    (tmp_path / "c.toml").write_text('data = "digits"\nmodel = "linear"\nseed = 5\n[recipe]\nlr = 0.3\nepochs = 1.0\n')
    assert run(["train", "--config", "c.toml", "--lr", "0.2", "--name", "a", "-q"]) == 0
    written = (tmp_path / "runs" / "a" / "config.toml").read_text()
    assert "lr = 0.2" in written
    assert "seed = 5" in written
    assert run(["train", "--config", "runs/a/config.toml", "--name", "b", "-q"]) == 0
    weights = [(tmp_path / "runs" / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1], "the file of a run makes the run again"


def test_a_diverged_run_says_so_and_exits_with_1(tmp_path, capsys):
    words = [*SHORT[:-1], "1e30", "--name", "a", "--momentum", "0"]
    assert run(words) == 1
    out, err = capsys.readouterr()
    assert "lower the learning rate: surefoot train --config" in out
    assert "surefoot predict" not in out
    assert "outcome    diverged: " in out
    assert "no longer finite" in out
    assert "Traceback" not in err
    assert json.loads((tmp_path / "runs" / "a" / "result.json").read_text())["outcome"] == "diverged"
    tensors = safetensors.torch.load((tmp_path / "runs" / "a" / "model.safetensors").read_bytes())
    assert all(value.isfinite().all() for value in tensors.values())
    assert run(words) == 1, "and again, from its result"
    assert "outcome    diverged: " in capsys.readouterr().out


@pytest.mark.parametrize("key", ["test_loss", "val_loss", "train_loss"])
def test_a_loss_that_is_not_finite_is_shown_as_such(key, tmp_path, capsys):
    assert run([*SHORT, "--name", "a", "-q"]) == 0
    path = tmp_path / "runs" / "a" / "result.json"
    store.write_sealed(path, json.loads(path.read_text()) | {key: None, "outcome": "diverged"})
    capsys.readouterr()
    assert run([*SHORT, "--name", "a"]) == 1
    assert ("not finite" in capsys.readouterr().out) == (key != "train_loss")


def test_resume_takes_a_name_and_a_path_and_the_folder_itself(tmp_path, monkeypatch, capsys):
    assert run([*SHORT, "--name", "a", "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out)
    for word in ("a", "runs/a", str(tmp_path / "runs" / "a")):
        assert run(["resume", word, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == result
    monkeypatch.chdir(tmp_path / "runs" / "a")
    assert run(["resume", ".", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result


def test_resume_names_the_runs_that_there_are(capsys):
    assert run(["resume", "a"]) == 1
    assert "Start one with surefoot train" in capsys.readouterr().err
    assert run([*SHORT, "--name", "b", "-q"]) == 0
    capsys.readouterr()
    assert run(["resume", "a"]) == 1
    assert "Choose one of b" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "-1"], "lr must be above 0"),
        (["--epochs", "1", "--steps", "3"], "a run has one length"),
        (["--batch-size", "999999"], "no larger than the training part"),
        (["--name", "a/b"], "run's name"),
        (["--name", ""], "run's name"),
        (["--config", "absent.toml"], "absent.toml"),
        (["--model", "cn"], "did you mean 'cnn'"),
        (["--model", "nosuch.module:make"], "importable"),
        (["--model", ".x:y"], "not a module's name"),
        (["--model", ":y"], "not a module's name"),
        (["--model", "os:nosuch"], "no 'nosuch'"),
        (["--model", "os:sep"], "must be a function or class"),
        (["--schedule", "step"], "needs the epochs of its drops"),
        (["--milestones-epochs", "1"], "belongs to step"),
        (["--schedule", "step", "--milestones-epochs", "inf"], "milestones_epochs must be"),
        (["--warmup-epochs", "99"], "fit into the run"),
        (["--device", "quantum"], "a device is"),
        (["--augment", "flop"], "flip"),
        (["--threads", "0"], "threads must be at least 1"),
        (["--rows-per-epoch", "500"], "rows_per_epoch"),
    ],
)
def test_settings_that_cannot_be_used_are_one_message_and_leave_nothing(words, message, tmp_path, capsys):
    given = ["train", "digits", "--model", "linear"]
    if words[0] == "--model":
        given = given[:2]
    assert run([*given, *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message.lower() in err.lower()
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("name", ["config.toml", "environment.json", "checkpoints"])
def test_a_damaged_run_is_one_message_that_names_the_file(name, tmp_path, capsys):
    assert run([*SHORT, "--name", "a", "-q"]) == 0
    folder = tmp_path / "runs" / "a"
    os.unlink(folder / store.RESULT)
    if name == "checkpoints":
        for path in folder.glob("checkpoints/*/state.json"):
            path.write_text("")
    else:
        content = (folder / name).read_text()
        (folder / name).write_text("?" + content)
    capsys.readouterr()
    assert run([*SHORT, "--name", "a"]) == 1
    err = capsys.readouterr().err
    assert name in err
    assert "Traceback" not in err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"outcome": "finished"}', "null"])
def test_a_damaged_result_is_one_message(content, tmp_path, capsys):
    assert run([*SHORT, "--name", "a", "-q"]) == 0
    (tmp_path / "runs" / "a" / "result.json").write_text(content)
    capsys.readouterr()
    for words in ([*SHORT, "--name", "a"], ["resume", "a"]):
        assert run(words) == 1
        err = capsys.readouterr().err
        assert "result.json" in err
        assert "Traceback" not in err


def test_a_run_that_lost_its_newest_checkpoint_says_so_and_goes_on(tmp_path, capsys):
    assert run([*SHORT, "--name", "a", "-q", "--checkpoint-seconds", "0"]) == 0
    folder = tmp_path / "runs" / "a"
    weights = (folder / "model.safetensors").read_bytes()
    os.unlink(folder / store.RESULT)
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    (newest / "model.safetensors").write_bytes(b"")
    capsys.readouterr()
    assert run([*SHORT, "--name", "a"]) == 0
    assert f"note: {newest.name} is damaged" in capsys.readouterr().err
    assert (folder / "model.safetensors").read_bytes() == weights


def test_a_model_of_ones_own_is_found_beside_one(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_for_cli.py").write_text(
        "from torch import nn\n\n\n"
        "def make(input_shape, outputs):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], outputs))\n"
    )
    words = ["train", "digits", "--model", "mine_for_cli:make", "--epochs", "1", "--name", "a", "--json", "-q"]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 650


def test_event_files_are_written_on_request_and_a_run_that_goes_on_goes_on_with_them(tmp_path, capsys):
    words = ["train", "digits", "--model", "linear", "--epochs", "2", "--name", "a", "--no-report", "--tensorboard"]
    assert run([*words, "--runs-dir", str(tmp_path), "-q"]) == 0
    assert [path.name.startswith("events.out.tfevents") for path in (tmp_path / "a" / "tensorboard").iterdir()] == [
        True
    ]
    (tmp_path / "a" / "result.json").unlink()
    assert run(["resume", "a", "--runs-dir", str(tmp_path), "-q"]) == 0
    assert len(list((tmp_path / "a" / "tensorboard").iterdir())) == 2
    capsys.readouterr()


@pytest.mark.parametrize("when", ["last step", "finish"])
def test_the_first_signal_takes_effect_also_when_training_is_over_and_resume_ends_the_run(when, capsys, monkeypatch):
    from surefoot.training.run import Run

    assert run([*SHORT, "--name", "whole", "--quiet"]) == 0
    holder, name = (Run, "advance") if when == "last step" else (Run, "save")
    plain = getattr(holder, name)

    def interrupted(self, *arguments):
        found = plain(self, *arguments)
        if self.done:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(holder, name, interrupted)
        assert run([*SHORT, "--name", "a"]) == 130
    assert "resume" in capsys.readouterr().err
    assert not os.path.exists("runs/a/result.json")
    assert run(["resume", "a", "--quiet"]) == 0
    weights = [Path("runs", name, "model.safetensors").read_bytes() for name in ("a", "whole")]
    assert weights[0] == weights[1]


def houses(path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 3))
    y = 350_000 + 80_000 * x[:, 0] - 30_000 * x[:, 1]
    np.savetxt(path, np.c_[x, y], delimiter=",", header="a,b,c,price", comments="", fmt="%.6g")


def test_prices_are_predicted_with_all_defaults_and_by_every_loss_of_numbers(tmp_path, capsys):
    houses(tmp_path / "h.csv")
    words = ["train", "h.csv", "--target", "numbers", "-q", "--no-report"]
    for name, more in {"a": [], "b": ["--loss", "mae"], "c": ["--loss", "huber", "--no-normalise"]}.items():
        assert run([*words, "--name", name, *more]) == 0
        capsys.readouterr()
        assert run(["evaluate", name, "--json"]) == 0
        scores = json.loads(capsys.readouterr().out)
        assert 0.98 < scores["r2_low"] <= scores["r2"] <= scores["r2_high"] < 1
        assert scores["rmse"] ** 2 == pytest.approx(scores["mse"])
    assert "normalise = false" in (tmp_path / "runs" / "c" / "config.toml").read_text()
    assert run(["evaluate", "a"]) == 0
    assert "root mean squared error" in capsys.readouterr().out
    assert run(["check", "h.csv", "--target", "numbers", "--loss", "huber", "-q"]) == 0
    assert "not used" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["h.csv", "--target", "numbers", "--loss", "cross-entropy"], "cross-entropy is for classes"),
        (["h.csv", "--target", "numbers", "--loss", "bce"], "bce takes targets from 0 to 1"),
        (["digits", "--loss", "mse"], "mse is for numbers"),
        (["digits", "--loss", "hinge"], "one of cross-entropy"),
        (
            ["h.csv", "--target", "numbers", "--loss", "mae", "--label-smoothing", "0.1"],
            "label_smoothing = 0.1 with loss",
        ),
    ],
)
def test_a_loss_that_is_not_for_these_targets_is_refused(words, says, tmp_path, capsys):
    houses(tmp_path / "h.csv")
    assert run(["train", *words, "-q"]) == 2
    assert says in capsys.readouterr().err


def test_a_run_says_at_its_start_how_to_go_on_with_it(capsys):
    assert run([*SHORT, "--name", "a", "--no-report"]) == 0
    assert "run      runs/a; if it is stopped: surefoot resume a" in capsys.readouterr().err


def test_resume_without_a_name_goes_on_with_the_newest_that_is_not_finished(tmp_path, capsys):
    import surefoot
    from surefoot.training.configure import resolve

    given = {"data": "digits", "model": "linear", "recipe": {"epochs": 2}}
    for number, name in enumerate(("older", "newer", "done")):
        with surefoot.open_run(resolve(given), name=name) as made:
            made.advance(3)
            made.save()
            while name == "done" and not made.done:
                made.advance()
            if name == "done":
                made.finish()
        os.utime(tmp_path / "runs" / name, (number, number))
    with surefoot.open_run(resolve(given), name="newer"):  # in work here
        assert run(["resume", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "older"
    assert run(["resume", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "newer"
    assert run(["resume"]) == 1
    assert "no unfinished run under runs" in capsys.readouterr().err


def test_a_run_that_was_stopped_is_named_where_the_same_is_begun_anew(tmp_path, capsys):
    import surefoot
    from surefoot.training.configure import resolve

    given = {"data": "digits", "model": "linear", "recipe": {"epochs": 2.0, "lr": 0.1}}
    with surefoot.open_run(resolve(given), name="stopped") as made:
        made.advance(3)
        made.save()
        assert run([*SHORT, "--no-report"]) == 0
        assert "is not finished" not in capsys.readouterr().err, "somebody works on it"
    assert run([*SHORT, "--no-report"]) == 0
    err = capsys.readouterr().err
    assert "note: runs/stopped has the same settings and is not finished: surefoot resume runs/stopped goes on" in err
    for other in (["--seed", "1"], ["--name", "b"]):
        assert run([*SHORT, "--no-report", *other]) == 0
        assert "is not finished" not in capsys.readouterr().err
    assert run(["resume", "stopped", "-q"]) == 0
    assert run([*SHORT, "--no-report"]) == 0
    assert "is not finished" not in capsys.readouterr().err


def test_best_weights_early_stopping_and_starting_from_a_run_on_the_command_line(tmp_path, capsys):
    first = [
        "train",
        "digits",
        "--model",
        "mlp",
        "--lr",
        "1",
        "--schedule",
        "constant",
        "--epochs",
        "40",
        "--no-report",
    ]
    assert run([*first, "--name", "a", "--early-stopping-epochs", "3", "--choose-by", "val_accuracy"]) == 0
    out, err = capsys.readouterr()
    assert "stopped early at step" in out
    assert "on the part by which these weights were chosen" in out
    assert "the best by accuracy" in out
    assert "last.safetensors, of the last step" in out
    assert run(["show", "a"]) == 0
    assert "best, of step" in capsys.readouterr().out
    assert run(["train", "--from", "a", "--name", "b", "--epochs", "2", "--lr", "0.01", "--no-report"]) == 0
    out, err = capsys.readouterr()
    assert "note: training starts from the best weights of runs/a" in err
    settings = (tmp_path / "runs" / "b" / "config.toml").read_text()
    for line in ('from_run = "runs/a"', 'model = "mlp"', "lr = 0.01", 'choose_by = "accuracy"'):
        assert line in settings
    assert run(["show", "b"]) == 0
    assert "started from" in capsys.readouterr().out
    assert run(["train", "--config", "runs/b/config.toml", "--name", "c", "--no-report", "-q"]) == 0
    weights = [(tmp_path / "runs" / name / "model.safetensors").read_bytes() for name in "bc"]
    assert weights[0] == weights[1], "the file of a run makes the run again"
    assert run(["train", "--from", "a", "--name", "b", "--epochs", "2", "--lr", "0.01"]) == 0
    assert "runs/b is finished" in capsys.readouterr().err
    assert run(["train", "--from", "c", "--name", "b", "--epochs", "2", "--lr", "0.01"]) == 2
    assert "from_run (runs/a there, runs/c here)" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["evaluate", "a"], ["predict", "a", "x.npz", "--json"]])
def test_the_weights_that_are_applied_are_those_that_are_named(words, tmp_path, capsys):
    from surefoot.data.load import load

    first = [
        "train",
        "digits",
        "--model",
        "mlp",
        "--lr",
        "1",
        "--schedule",
        "constant",
        "--epochs",
        "12",
        "--no-report",
    ]
    assert run([*first, "--name", "a", "-q"]) == 0
    result = json.loads((tmp_path / "runs" / "a" / "result.json").read_text())
    assert result["best"]["step"] < result["steps"]
    np.savez("x.npz", x=load("digits").test.x.numpy())
    found = {}
    for weights in ([], ["--weights", "last"], ["--weights", "best"]):
        capsys.readouterr()
        assert run([*words, *weights]) == 0
        found[tuple(weights)] = capsys.readouterr().out
    of_last = found["--weights", "last"].replace(f"; the last weights, of step {result['steps']}", "")
    assert of_last == found[()]
    assert found["--weights", "best"] != found[()]
    if words[0] == "evaluate":
        assert f"; the best weights, of step {result['best']['step']}" in found["--weights", "best"]


def test_memory_that_is_too_small_is_said_while_it_trains(tmp_path, monkeypatch, capsys):
    (tmp_path / "large.py").write_text(
        "import torch\nfrom surefoot.models.mlp import Mlp\n\n\nclass Large(Mlp):\n    def forward(self, x):\n"
        "        if self.training and torch.is_grad_enabled() and len(x) > 20:\n"
        "            raise torch.OutOfMemoryError('CUDA out of memory.')\n        return super().forward(x)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(["train", "digits", "--model", "large:Large", "--epochs", "1", "--name", "a", "--no-report"]) == 0
    err = capsys.readouterr().err
    assert err.count("out of memory") == 1
    assert "in pieces of at most 16" in err
    assert json.loads((tmp_path / "runs" / "a" / "result.json").read_text())["micro_batch_size"] == 16


def test_metrics_on_the_command_line_are_in_every_row_and_one_of_them_chooses(tmp_path, capsys):
    first = ["train", "digits", "--model", "linear", "--epochs", "3", "--no-report", "--name", "a"]
    assert run([*first, "--metrics", "f1,auc", "--choose-by", "f1", "--weights", "best"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].split()[-1].endswith("%"), "auc is the last column"
    assert "auc 9" in out
    assert "the best by f1" in out
    settings = (tmp_path / "runs" / "a" / "config.toml").read_text()
    assert 'choose_by = "f1"' in settings
    assert run(["resume", "a"]) == 0
    assert run(["show", "a"]) == 0
    out = capsys.readouterr().out
    assert "validation metrics    f1 9" in out
    assert run([*first[:-1], "b", "--metrics", "accuracy"]) == 0
    capsys.readouterr()
    assert run(["runs", "--sort", "val_f1", "--csv"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.endswith("val_accuracy,val_loss,test_accuracy,test_loss,val_f1,val_auc,test_f1,test_auc")
    assert [row.partition(",")[0] for row in rows] == ["a", "b"]
    assert rows[1].endswith(",,,,"), "b has none of them"


def test_a_function_of_a_module_is_a_metric_and_a_run_goes_on_with_it(tmp_path, capsys):
    (tmp_path / "scores.py").write_text(
        "def half(outputs, y):\n    return (outputs.argmax(1) == y).double().mean() / 2\n"
    )
    asked = ["--metrics", "scores:half", "--choose-by", "scores:half:max"]
    assert run(["train", "digits", "--model", "linear", "--epochs", "1", "--no-report", "--name", "a", *asked]) == 0
    assert "the best by scores:half:max" in capsys.readouterr().out
    assert run(["show", "a"]) == 0
    assert "scores:half 0.4" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["find-lr", "noise", "check"])
def test_a_measurement_says_that_it_reads_no_metrics(command, capsys):
    short = {"find-lr": ["--steps", "20"], "noise": ["--probe-steps", "20"], "check": []}[command]
    run([command, "digits", "--model", "linear", "--metrics", "f1", *short])
    assert "not used by" in capsys.readouterr().err
