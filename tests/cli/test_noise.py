"""`surefoot noise` shows sizes and noise as tables or as JSON, and `train --measure-noise` keeps the run as it is."""

import json
import shlex

import pytest

from surefoot.cli.app import run
from surefoot.record.lines import read_lines

QUICK = ("--model", "linear", "--sizes", "16", "64", "--probe-steps", "10", "--points", "2", "--micro-batches", "8",
         "--threads", "1", "--lr", "0.05")  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def answer(capsys, command, *words):
    code = run([command, *map(str, words)])
    return code, capsys.readouterr()


def test_the_tables_the_answer_and_the_next_command(capsys, tmp_path):
    code, seen = answer(capsys, "noise", "digits", *QUICK, "--name", "it", "--quiet")
    assert code == 0
    lines = seen.out.splitlines()
    assert "10 steps of 64 at rate 0.05" in lines[0]
    assert [line.split()[0] for line in lines[3:5]] == ["16", "64"]
    assert "Suggested: batch size " in seen.out
    assert "Merrill et al. 2025" in seen.out
    words = shlex.split(next(line for line in lines if line.startswith("  surefoot find-lr")))
    assert words[:5] == ["surefoot", "find-lr", "digits", "--model", "linear"]
    assert words[words.index("--batch-size") + 1] in ("16", "64")
    assert "--lr" not in words
    page = tmp_path / "runs" / "it" / "report.html"
    assert lines[-1].split() == ["report", "runs/it/report.html"]
    text = page.read_text(encoding="utf-8")
    suggested = next(line for line in lines if line.startswith("Suggested: "))
    assert suggested.removeprefix("Suggested: ")[:40] in text, "the page says what the terminal says"
    assert "Batch size against predicted time" in text
    again = answer(capsys, "noise", "digits", *QUICK, "--name", "it")
    assert again[0] == 2
    assert "is there already" in again[1].err


def test_json_holds_the_decision_and_nothing_else_is_on_stdout(capsys, tmp_path):
    code, seen = answer(capsys, "noise", "digits", *QUICK, "--json", "--quiet", "--no-report")
    decision = json.loads(seen.out)
    assert code == 0
    assert seen.err == ""
    assert decision["name"] == "batch-size"
    assert decision["evidence"]["noise"][0]["layers"][0]["name"] == "head"
    folder = tmp_path / decision.pop("folder")
    assert {path.name for path in folder.iterdir()} == {"decisions.jsonl", "command.txt"}, "and no report"
    assert read_lines(folder / "decisions.jsonl", dict, "a decision") == [decision]


def test_a_rate_that_diverges_is_an_answer_with_exit_code_3(capsys, tmp_path):
    words = [*QUICK[:-1], "1e30", "--quiet"]
    code, seen = answer(capsys, "noise", "digits", *words)
    assert code == 3
    assert "diverged" in seen.out
    assert len(list((tmp_path / "runs").glob("*/report.html"))) == 1, "what failed has its page too"


@pytest.mark.parametrize(
    "words", [("--epochs", "3"), ("--schedule", "cosine"), ("--micro-batches", "4"), ("--sizes", "9999")]
)
def test_what_has_no_effect_or_no_meaning_is_refused(capsys, words):
    code, seen = answer(capsys, "noise", "digits", *QUICK[:2], *words, "--quiet")
    assert code == 2
    assert words[0].strip("-") in seen.err or words[1] in seen.err


def test_train_measures_noise_and_ends_with_the_same_weights(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("surefoot.steps.batch_size.along_run.SHARE", 1.0)
    train = ("digits", "--model", "linear", "--epochs", "2", "--threads", "1", "--runs-dir", tmp_path)
    code, seen = answer(capsys, "train", *train, "--name", "with", "--measure-noise")
    assert code == 0
    assert "noise    measured at 2 rows" in seen.err
    assert answer(capsys, "train", *train, "--name", "without", "--quiet")[0] == 0
    assert len((tmp_path / "with" / "noise.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "without" / "noise.jsonl").exists()
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("with", "without")]
    assert weights[0] == weights[1]


def test_a_run_too_short_for_it_says_so(capsys, tmp_path):
    words = ("digits", "--model", "linear", "--epochs", "1", "--threads", "1", "--runs-dir", tmp_path)
    _, seen = answer(capsys, "train", *words, "--measure-noise")
    assert "never measured" in seen.err
