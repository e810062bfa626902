"""What is worth a second look is said, by data check and by every loading alike."""

import numpy as np
import pytest

from surefoot.data.load import inspect, load

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(80, 2))
Y = DRAW.integers(2, size=80)


def said(tmp_path, column, labels, name="c"):
    lines = [f"{a:.4f},{b:.4f},{c},{y}" for (a, b), c, y in zip(X, column, labels, strict=True)]
    (tmp_path / "t.csv").write_text(f"a,b,{name},y\n" + "\n".join(lines) + "\n")
    data, found = load(tmp_path / "t.csv"), inspect(tmp_path / "t.csv")
    assert set(found.problems.warnings) <= set(data.notes)
    return found.problems.warnings


@pytest.mark.parametrize(
    "column",
    [
        ["ab"[y] for y in Y],
        ["abcd"[y + 2 * (i % 2)] for i, y in enumerate(Y)],
        [y * 5 + abs(a) for (a, _), y in zip(X, Y, strict=True)],
    ],
    ids=["category", "finer category", "number"],
)
def test_a_column_that_decides_the_label_is_pointed_at(column, tmp_path):
    assert any("'c' decides the label alone" in text for text in said(tmp_path, column, Y))


def test_a_column_that_decides_all_but_one_label_is_not(tmp_path):
    column = ["ab"[y] for y in Y]
    column[3] = "ab"[1 - Y[3]]
    assert said(tmp_path, column, Y) == []
    assert said(tmp_path, X[:, 0] * 2, Y) == []


def test_the_target_in_another_unit_is_pointed_at(tmp_path):
    target = 3 * X[:, 0] + DRAW.normal(size=80)
    assert any("'c' is the target itself" in text for text in said(tmp_path, 2.54 * target + 7, target))
    assert not any("target itself" in text for text in said(tmp_path, target + DRAW.normal(size=80), target))


def test_names_of_classes_that_differ_in_case_or_blanks_are_pointed_at(tmp_path):
    labels = [("Yes", "yes", "no", " new york", "newyork")[i % 5] for i in range(80)]
    texts = said(tmp_path, DRAW.normal(size=80), labels)
    assert [text.split(" differ")[0] for text in texts] == ["classes 'Yes', 'yes'", "classes 'new york', 'newyork'"]


def test_rows_that_repeat_are_counted(tmp_path):
    lines = [f"{a:.4f},{b:.4f},{y}" for (a, b), y in zip(X, Y, strict=True)]
    torn = lines[0][:-1] + str(1 - Y[0])
    (tmp_path / "t.csv").write_text("a,b,y\n" + "\n".join([*lines, lines[5], lines[7], torn]) + "\n")
    texts = load(tmp_path / "t.csv").notes
    assert "2 rows repeat another, label and all; one may be held out while its twin is trained on" in texts
    assert "1 equal examples have different labels: row 84 = row 2" in texts


@pytest.mark.parametrize(("last", "words"), [(7.25, "1 rows repeat another, label and all"), (9.5, "different labels")])
def test_equal_rows_of_a_regression_repeat_only_with_their_target(tmp_path, last, words):
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "".join(f"{i},{i * i},{i + 0.25}\n" for i in range(1, 30)) + f"7,49,{last}\n")
    said = [note for note in load(path).notes if "repeat" in note or "equal" in note]
    assert len(said) == 1
    assert words in said[0]
