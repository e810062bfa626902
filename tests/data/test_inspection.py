"""Looking at data finds what loading would refuse, and what is only worth a warning."""

import numpy as np

from surefoot.data.inspection import inspect

X = np.random.default_rng(0).normal(size=(30, 4))
Y = np.arange(30) % 3


def test_counts_by_class_and_part():
    found = inspect({"train": (X, Y), "test": (X[:5] + 1, Y[:5])})
    assert not found.problems.count
    assert found.problems.warnings == []
    assert found.counts("train") == {"0": 10, "1": 10, "2": 10}
    assert found.counts("test") == {"0": 2, "1": 2, "2": 1}


def test_examples_in_two_parts_are_named():
    found = inspect({"train": (X, Y), "test": (np.concatenate([X[7:9], X[:4] + 1]), Y[:6])})
    assert found.problems.warnings == [
        "2 examples of test are also in train: test row 0 = train row 7, test row 1 = train row 8"
    ]


def test_equal_examples_with_different_labels_are_named():
    x, y = X.copy(), Y.copy()
    x[4] = x[2]
    assert "1 equal examples have different labels: row 4 = row 2" in inspect((x, y)).problems.warnings


def test_a_strong_imbalance_and_a_lone_example_are_warned_of():
    x = np.random.default_rng(1).normal(size=(201, 2))
    warnings = inspect((x, np.array([0] * 200 + [1]))).problems.warnings
    assert any("200 times" in text for text in warnings)
    assert any("'1' has 1 example" in text for text in warnings)


def test_a_regression_has_no_counts():
    found = inspect((X, X[:, 0]), target="numbers")
    assert found.counts("train") == {}
    assert not found.problems.count


def test_wrong_labels_and_wrong_values_are_found_together():
    x, y = X.copy(), Y.copy()
    x[3, 1], y[5] = np.inf, -1
    found = inspect((x, y))
    assert [each.where for each in found.problems.items] == ["row 3", "row 5"]
