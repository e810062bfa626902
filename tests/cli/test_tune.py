"""`surefoot tune` shows its decisions, its answer and its cost, and goes on where it was stopped."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from surefoot.cli.app import run

QUICK = ("--model", "linear", "--epochs", "3", "--batch-size", "64", "--budget", "4x", "--threads", "1")


@pytest.fixture
def tune(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = run(["tune", *map(str, words)])
        return code, capsys.readouterr()

    return call


def test_decisions_answer_cost_and_code_are_shown(tune, tmp_path):
    code, seen = tune("digits", *QUICK, "--name", "a")
    assert code == 0
    lines = seen.out.splitlines()
    assert lines[0].split() == ["step", "name", "verdict", "took", "reason"]
    assert [line.split()[1] for line in lines[1:5]][:2] == ["wiring", "initial-loss"]
    for words in (
        "Chosen: lr ",
        "Cost of the search: ",
        "Not checked: ",
        "torch.optim.SGD(",
        "% accuracy (95 % interval",
        "on the part by which the search chose",
        "Not checked: augmentation: there is none",
        "always answering '",
    ):
        assert words in seen.out
    page = lines[-1].split()
    assert page[0] == "report"
    assert "wiring" in (tmp_path / page[1]).read_text(encoding="utf-8"), "the page lies where the last line says"
    assert "step 5   refine" in seen.err, "progress goes to stderr"
    assert "step 5   refine" not in seen.out
    again, seen_again = tune("digits", *QUICK, "--name", "a")
    assert again == 0
    assert "is finished; this is its result" in seen_again.err
    assert seen_again.out == seen.out


def test_what_is_suspect_is_explained_and_a_decay_that_fits_the_data_is_said_to(tune, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    rows = "".join(",".join(f"{v:.4g}" for v in (*each, each[0] - each[1] ** 2)) + "\n" for each in x)
    (tmp_path / "line.csv").write_text("a,b,c,d,y\n" + rows)
    words = ("--target", "numbers", "--epochs", "3", "--budget", "2x", "--threads", "1", "--no-report")
    code, seen = tune("line.csv", *words, "--name", "r")
    assert code == 0
    assert "weight decay fits the number of examples; " in seen.out
    doubts = [
        finding for made in json.loads((tmp_path / "runs" / "r" / "result.json").read_text())["decisions"]
        if made["name"] != "curves" for finding in made["findings"] if finding["verdict"] != "pass"
    ]  # fmt: skip
    assert doubts
    for finding in doubts:
        assert finding["reason"] in seen.out
    assert "0 of 4 members" not in seen.err


def test_json_has_what_train_gives_and_recipe_decisions_and_cost(tune):
    code, seen = tune("digits", *QUICK, "--json", "--quiet", "--no-report")
    found = json.loads(seen.out)
    assert code == 0
    assert seen.err == ""
    assert {"test_accuracy", "val_accuracy", "steps", "recipe", "decisions", "cost", "unchecked"} <= found.keys()
    assert found["cost"]["trainings"] <= 4.1
    assert found["recipe"]["batch_size"] == 64
    assert [each["step"] for each in found["decisions"]] == sorted(each["step"] for each in found["decisions"])


def test_a_run_that_was_tuned_is_a_run_like_any_other(tune, capsys):
    tune("digits", *QUICK, "--name", "a")
    assert run(["show", "a"]) == 0
    assert run(["evaluate", "a"]) == 0
    assert run(["train", "digits", "--config", "runs/a/config.toml", "--name", "b", "--quiet"]) == 0
    capsys.readouterr()


def test_a_model_that_is_wired_wrongly_ends_with_exit_code_3_and_advice(tune, tmp_path):
    (tmp_path / "softened.py").write_text(
        "from torch import nn\n"
        "def make(input_shape, outputs):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs), nn.Softmax(1))\n"
    )
    words = ("--model", "softened:make", "--budget", "8x", "--epochs", "3", "--name", "a", "--threads", "1")
    code, seen = tune("digits", *words)
    assert code == 3
    assert "Step 0, wiring, fails" in seen.out
    assert "Nothing was trained" in seen.out
    assert not (tmp_path / "runs" / "a" / "config.toml").exists()


def test_stopped_by_a_signal_it_goes_on_with_resume(tmp_path):
    """Wherever the signal falls, in the search or in the final training, the answer is that of never stopping."""
    command = [sys.executable, "-m", "surefoot"]
    words = [*command, "tune", "digits", *QUICK[:-2], "--budget", "6x", "--threads", "1", "--quiet", "--json"]
    words = [
        word for i, word in enumerate(words) if not (word == "4x" or (word == "--budget" and words[i + 1] == "4x"))
    ]
    settings = {"env": {**os.environ, "NO_COLOR": "1"}, "cwd": tmp_path, "capture_output": True, "text": True}
    whole = json.loads(subprocess.run([*words, "--name", "whole"], **settings, check=True).stdout)
    first = subprocess.Popen(
        [*words, "--name", "cut"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal = tmp_path / "runs" / "cut" / "decisions.jsonl"
    deadline = time.monotonic() + 60
    while first.poll() is None and not journal.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode in (0, 130), said
    resumed = subprocess.run([*command, "resume", "cut", "--quiet", "--json"], **settings, check=True)
    again = json.loads(resumed.stdout)
    assert again["recipe"] == whole["recipe"]
    assert again["test_accuracy"] == whole["test_accuracy"]
    assert again["cost"]["search_examples"] == whole["cost"]["search_examples"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "soon"), "a budget is a time such as 90s"),
        (("--lr", "fast"), "lr must be a number"),
        (("--validation", "0"), "held-out examples"),
        (("--loss", "bce"), "for 10 classes"),
    ],
)
def test_mistakes_have_one_clear_message_and_leave_nothing(tune, tmp_path, words, said):
    code, seen = tune("digits", "--model", "linear", *words)
    assert code == 2
    assert said in seen.err
    assert seen.out == ""
    assert not list((tmp_path / "runs").glob("*")) if (tmp_path / "runs").exists() else True


def _table(path, label):
    draw = np.random.default_rng(0)
    rows = ((a, b, label(a)) for a, b in draw.normal(size=(100, 2)))
    path.write_text("a,b,y\n" + "".join(f"{a:.4f},{b:.4f},{y}\n" for a, b, y in rows))


def test_smoothed_numbers_are_refused_before_there_is_a_folder(tune, tmp_path):
    _table(tmp_path / "t.csv", lambda a: f"{a:.3f}")
    code, seen = tune("t.csv", "--label-smoothing", "0.1", "--name", "a")
    assert (code, seen.out) == (2, "")
    assert "label_smoothing = 0.1 with loss = mse" in seen.err
    assert not (tmp_path / "runs" / "a").exists()


def test_weighted_classes_of_a_table_are_in_the_program_and_each_thing_is_said_once(tune, tmp_path):
    _table(tmp_path / "t.csv", lambda a: "rare" if a > 1 else "common")
    code, seen = tune("t.csv", "--class-weights", "balanced", "--epochs", "3", "--name", "a", "--no-report")
    assert code == 0
    assert "* weight_of[y]" in seen.out
    assert "weight decay follows" not in seen.out, "one that fits the data stays"
    notes = [line for line in seen.err.splitlines() if line.startswith("note: ")]
    assert len(notes) == len(set(notes)) > 0
