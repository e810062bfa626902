"""`surefoot evaluate` prints the scores, as text and as JSON."""

import json
import re

import numpy as np
import pytest

from surefoot.cli import evaluate as module
from surefoot.cli.app import run
from surefoot.record.scores import class_scores
from surefoot.training.open import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs: digits, a classifier; line, a regression on a .csv."""
    runs = tmp_path_factory.mktemp("runs")
    train("digits", "linear", epochs=2, lr=0.1, runs_dir=runs, name="digits")
    x = np.random.default_rng(0).normal(size=(60, 2))
    (runs / "line.csv").write_text("".join(f"{a},{b},{a - 2 * b}\n" for a, b in x))
    train(str(runs / "line.csv"), "linear", target="numbers", epochs=20, batch_size=8, runs_dir=runs, name="line")
    return runs


def answer(capsys, runs, *words):
    code = run(["evaluate", *map(str, words), "--runs-dir", str(runs)])
    return code, capsys.readouterr()


def test_the_text_has_the_interval_each_class_and_the_confusions(runs, capsys):
    code, captured = answer(capsys, runs, "digits")
    lines = captured.out.splitlines()
    assert code == 0
    assert re.search(r"accuracy +\d\d\.\d\d% \(95 % interval \d\d\.\d\d% to \d\d\.\d\d%\)", captured.out)
    assert "digits, test part, 359 examples" in captured.out
    assert re.search(r"top-5 +\d+\.\d\d%", captured.out)
    header = next(i for i, line in enumerate(lines) if line.startswith("class  precision"))
    assert [line.split()[0] for line in lines[header + 1 : header + 11]] == list("0123456789")
    matrix = np.array([line.split()[2:] for line in lines[-10:]], int)
    assert matrix.shape == (10, 10)
    assert matrix.sum() == 359


def test_json_has_all_scores(runs, capsys):
    code, captured = answer(capsys, runs, "digits", "--json")
    plain = json.loads(captured.out)
    result = json.loads((runs / "digits" / "result.json").read_text())
    assert code == 0
    assert plain["accuracy"] == result["test_accuracy"]
    assert (plain["run"], plain["examples"], len(plain["per_class"])) == ("digits", 359, 10)
    assert np.trace(plain["confusion"]) == round(plain["accuracy"] * 359)


def test_other_parts_and_other_data_can_be_scored(runs, capsys, tmp_path):
    _, captured = answer(capsys, runs, "digits", "--part", "validation", "--json")
    assert json.loads(captured.out)["of"] == "digits, validation part (choices may have been made on it)"
    np.savez(tmp_path / "few.npz", x=np.zeros((2, 8, 8), np.uint8), y=[3, 3])
    code, captured = answer(capsys, runs, "digits", "--data", tmp_path / "few.npz", "--json")
    assert code == 0
    assert json.loads(captured.out)["per_class"][3]["support"] == 2


def test_a_regression_has_its_own_scores(runs, capsys):
    code, captured = answer(capsys, runs, "line", "--part", "validation")
    assert code == 0
    assert re.search(r"R2 +(0\.99|1\.00)", captured.out)
    _, captured = answer(capsys, runs, "line", "--part", "train", "--json")
    assert set(json.loads(captured.out)) == {
        "run",
        "of",
        "examples",
        "mse",
        "mae",
        "r2",
        "rmse",
        "tta",
        *(f"{score}_{end}" for score in ("rmse", "mae", "r2") for end in ("low", "high")),
    }


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["absent"], 1, "is not a run"),
        (["line", "--part", "test"], 1, "has no test part"),
        (["digits", "--part", "tset"], 2, "tset"),
        (["digits", "--data", "nowhere.npz"], 1, "nowhere.npz"),
        (["digits", "--device", "tpu"], 2, "tpu"),
        ([], 2, "run"),
    ],
)
def test_every_mistake_is_one_line_and_a_code(runs, capsys, words, code, message):
    found, captured = answer(capsys, runs, *words)
    assert (found, captured.out) == (code, "")
    assert message in captured.err.lower()
    assert len(captured.err.splitlines()) == 1


def test_many_classes_are_cut_to_the_worst(capsys):
    c = 50
    logits = np.eye(c)[np.arange(c).repeat(3)]
    logits[:2] = np.eye(c)[[49, 49]]  # class 0 is taken for class 49, twice
    module._print_classes(class_scores(logits, np.arange(c).repeat(3), tuple(f"class-{i}" for i in range(c))))
    text = capsys.readouterr().out
    assert "the 40 classes of 50 with the lowest F1" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith("class-")][:2] == ["class-0", "class-49"]
    assert text.splitlines()[-1].split() == ["2", "class-0", "class-49"]


def test_names_of_classes_cannot_command_the_terminal(capsys):
    module._print_classes(class_scores([[1.0, 0.0]], [0], ("\x1b[2Jcat", "dog\x07")))
    assert "\x1b" not in (text := capsys.readouterr().out)
    assert "\x07" not in text


def test_one_example_of_a_regression_has_errors_and_no_r2(capsys, tmp_path):
    x = np.random.default_rng(0).normal(size=(12, 2))
    (tmp_path / "few.csv").write_text("".join(f"{a},{b},{a - 2 * b}\n" for a, b in x))
    train(str(tmp_path / "few.csv"), "linear", target="numbers", epochs=2, runs_dir=tmp_path, name="few")
    code, captured = answer(capsys, tmp_path, "few")
    assert code == 0
    assert re.search(
        r"1 examples\nroot mean squared error +\S+\nmean absolute error +\S+\nR2 +not defined", captured.out
    )
