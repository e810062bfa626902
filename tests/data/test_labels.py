"""Text labels are classes as they are spelled; numbers that look like amounts are a regression, which is said."""

import numpy as np
import pytest

from surefoot.data.check import Problems
from surefoot.data.dataset import RawPart, Source
from surefoot.data.labels import coded
from surefoot.data.load import load

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(80, 2))


def labelled(**labels):
    return {name: RawPart(np.zeros((len(y), 1)), np.array(y), Source()) for name, y in labels.items()}


def test_names_are_sorted_numbers_by_value_and_space_does_not_count():
    result, classes = coded(labelled(train=["10", " b ", "2", "b", "2.0"]), Problems("x"))
    assert classes == ("2", "10", "2.0", "b")
    assert result["train"].y.tolist() == [1, 3, 0, 3, 2]


def test_numbers_are_left_alone():
    given = labelled(train=[0, 1])
    assert coded(given, Problems("x")) == (given, None)


@pytest.mark.parametrize(
    "names",
    [
        ["1_0", "1_1", "10", "11"],
        ["07", "7", "007"],
        ["1e1", "10", "1e5"],
        ["inf", "infinity", "1"],
        ["None", "edge", "none", "scratch"],
        ["NA", "NULL", "n/a", "nan"],
        ["-100", "0.5", "a"],
        ["9" * 5000, "a"],
        ["+1", "-1"],
        ["1", "１"],
    ],
)
def test_a_text_label_is_a_class_as_it_is_spelled(names):
    problems = Problems("x")
    result, classes = coded(labelled(train=names * 2), problems)
    assert set(classes) == set(names)
    assert [classes[i] for i in result["train"].y] == names * 2
    assert not problems.count


def test_where_all_labels_are_numbers_a_whole_one_is_written_one_way():
    given = ["1", "1.0", "1.000000000000000000e+00", "-2.", "10"]
    assert coded(labelled(train=given), Problems("x"))[1] == ("-2", "1", "10")


@pytest.mark.parametrize(
    ("label", "others"), [("", "ab"), (" ", "ab"), ("nan", "01"), ("-100", "01"), ("0.5", "01"), ("NaN", "01")]
)
def test_what_is_no_label_is_named(label, others):
    problems = Problems("x")
    coded(labelled(train=[others[0], label, others[1]]), problems)
    assert [each.where for each in problems.items] == ["example 1"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (1000 + DRAW.permutation(400)[:80] * 50, None),
        (np.round(DRAW.normal(size=80), 2), None),
        (DRAW.normal(size=80).astype(np.float32), None),
        (np.arange(80) % 40, 40),
        (1 + np.arange(80) % 30, 30),
        (10 + np.arange(80) % 4 * 10, 4),
        ([f"{i % 40:03d}" for i in range(80)], 40),
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["table", "arrays"])
def test_labels_that_look_like_amounts_are_a_regression_and_said(labels, classes, source, tmp_path):
    if source == "table":
        lines = [f"{a:.4f},{b:.4f},{y}" for (a, b), y in zip(X, labels, strict=True)]
        (tmp_path / "t.csv").write_text("a,b,y\n" + "\n".join(lines) + "\n")
        data = load(tmp_path / "t.csv")
    else:
        data = load((X, np.asarray(labels)))
    assert (None if data.classes is None else len(data.classes)) == classes
    assert any("taken for a regression" in note for note in data.notes) == (classes is None)
