"""The field test sees what it is there for: scores, paired differences, refusals, tracebacks and half-done work."""

import json

import numpy as np
import pytest

pytest.importorskip("pandas", reason="a need of this soak alone")

import field
import field_methods
import pandas as pd
from field_sets import FieldSet, field_sets


def table() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 3)).round(4)
    return pd.DataFrame(x, columns=list("abc")).assign(kind=np.where(x[:, 0] > 0, "up", "down"))


SMALL = FieldSet(name="invented-small", package="numpy", make=table, target="classes", label="kind")


def lines(tmp_path, of=SMALL, methods=("dummy", "linear", "train")):
    return {line["method"]: line for line in field.worked(of, methods, tmp_path, "source", set())}


def test_a_set_is_split_trained_predicted_and_scored(tmp_path):
    found = lines(tmp_path)
    assert [found[name]["flags"] for name in found] == [[], [], []]
    assert found["dummy"]["score"] < 0.6 < 0.9 < found["train"]["score"]
    low, high = found["train"]["interval"]
    assert low < found["train"]["score"] <= high
    assert (found["train"]["train_examples"], found["train"]["test_examples"]) == (150, 50)
    assert list(tmp_path.iterdir()) == [], "the files of a set are gone when it is done"


def test_what_is_there_is_not_computed_again_unless_the_source_of_surefoot_is_another(tmp_path):
    done = {line["key"] for line in field.worked(SMALL, ["dummy"], tmp_path, "one", set())}
    assert field.worked(SMALL, ["dummy"], tmp_path, "two", done) == []
    done |= {
        line["key"].replace("dummy", "train").replace(line["key"].split()[-1], "one")
        for line in lines(tmp_path, methods=["dummy"]).values()
    }
    assert field.worked(SMALL, ["train"], tmp_path, "one", done) == []


@pytest.mark.parametrize(
    ("raised", "flag"), [(KeyError("x"), "traceback"), (None, "refused"), (TimeoutError(), "too slow")]
)
def test_a_traceback_a_refusal_and_a_run_without_an_end_are_flags(raised, flag, tmp_path, monkeypatch):
    def run(words):
        if raised is not None:
            raise raised
        return 2

    monkeypatch.setattr("surefoot.cli.app.run", run)
    assert lines(tmp_path, methods=["train"])["train"]["flags"] == [flag]


def test_predictions_that_evaluate_does_not_agree_with_are_a_flag(tmp_path, monkeypatch):
    monkeypatch.setattr(field_methods, "_same", lambda a, b: False)
    assert lines(tmp_path, methods=["train"])["train"]["flags"] == ["evaluate and predict differ"]


def test_the_paired_interval_of_classes_is_exact_and_of_numbers_is_students():
    wrong, right = np.array([1.0] * 6 + [0.0] * 14), np.zeros(20)
    gain, low, high = field.paired("classes", wrong, right)
    assert gain == -0.3
    assert low == -0.3
    assert high == pytest.approx(0.3 * (2 * (1 - 0.025 ** (1 / 6)) - 1))  # Clopper and Pearson, 0 of 6
    assert field.paired("classes", right, right) == (0.0, 0.0, 0.0)
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        ours, theirs = draw.normal(1.0, 1, 12), draw.normal(1.3, 1, 12)
        _, low, high = field.paired("numbers", ours, theirs)
        covered += low <= 0.3 <= high
    assert 0.92 < covered / 400 < 0.98  # 95 %, within three standard errors


def test_under_the_linear_model_is_flagged_only_beyond_the_interval():
    def row(command, losses):
        return {
            "key": "k",
            "set": "s",
            "method": command,
            "target": "numbers",
            "score": 0.0,
            "flags": [],
            "losses": losses,
        }

    even = [0.1, 0.3] * 20
    worse = [each + 0.5 + 0.01 * (i % 3) for i, each in enumerate(even)]
    for ours, flags in ((worse, ["under linear"]), (even[::-1], []), ([0.0] * 40, [])):
        found = field.judged([row("train", ours), row("linear", even)])
        assert found[0]["methods"]["train"]["flags"] == flags


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    (tmp_path / "lines.jsonl").write_text(json.dumps({"set": "a"}) + '\n{"set": "b", ')
    assert list(field.read_lines(tmp_path / "lines.jsonl")) == [{"set": "a"}]


def test_the_sets_have_names_of_their_own_and_inventions_are_the_same_each_time():
    sets = field_sets()
    assert len({of.name for of in sets}) == len(sets) >= 45
    for of in (of for of in sets if of.name.startswith("invented-") and of.suffix == ".csv"):
        if "thousand" not in of.name and "hundred" not in of.name:
            assert of.make().equals(of.make()), of.name
