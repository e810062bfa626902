"""What an example may be, and how all of them become arrays."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

from surefoot.data import tree
from surefoot.data.check import Problems
from surefoot.data.examples import Collected, first_line, parted

Pair = namedtuple("Pair", "x y")
X = np.arange(3, dtype=np.float32)


@pytest.mark.parametrize(
    "example",
    [
        (X, 1), [X, 1], Pair(X, 1), (torch.from_numpy(X), torch.tensor(1)), (X.tolist(), 1.0),
        (torch.from_numpy(X).bfloat16(), np.int64(1)), (X, torch.tensor(1, requires_grad=False)),
    ],
)  # fmt: skip
def test_a_pair_in_every_form(example):
    x, y = parted(example)
    assert np.array_equal(x, X)
    assert y.shape == ()
    assert y == 1


def test_several_inputs_and_mappings_are_trees():
    assert tree.shapes(parted((X[None], {"a": X[None]}, 1))[0]) == ((3,), {"a": (3,)})
    x, y = parted({"input_ids": [1, 2], "attention_mask": [1, 1], "labels": [0, 1]})
    assert x["input_ids"].tolist() == [1, 2]
    assert y.tolist() == [0, 1]
    assert parted((Image.new("L", (3, 2)), 0))[0].shape == (2, 3)


@pytest.mark.parametrize("example", [X, torch.zeros(3), torch.zeros(2, 2), 5, None, (X,), {"a": X}, "ab", b"abc"])
def test_what_has_no_target_is_refused(example):
    with pytest.raises((TypeError, ValueError)):
        parted(example)


def collected(examples):
    problems = Problems("x")
    found = Collected("the source", "row ", problems)
    for i, example in enumerate(examples):
        if not found.take(i, lambda example=example: example() if callable(example) else example):
            break
    return found.arrays("make them alike"), found, problems


def test_all_examples_become_arrays():
    (x, y), found, problems = collected([(X + i, i) for i in range(5000)])
    assert (x.shape, y.tolist()[:3], problems.count) == ((5000, 3), [0, 1, 2], 0)
    assert found.form is not None
    assert np.array_equal(x[4999], X + 4999)


def test_targets_of_two_types_become_one():
    (_, y), _, _ = collected([(X, 1), (X, 2.5)])
    assert y.tolist() == [1.0, 2.5]
    (_, y), _, _ = collected([(X, "a"), (X, "longer")])
    assert y.tolist() == ["a", "longer"]


def fails():
    raise OSError("gone\nand more")


def test_what_cannot_be_read_is_noted_and_too_much_of_it_ends_the_reading():
    (x, _), _, problems = collected([(X, 0), fails, (X[:2], 0), (X, 1), (X[:1], 1)])
    assert len(x) == 2
    assert [(each.where, each.what) for each in problems.items] == [
        ("row 1", "cannot be read (OSError: gone)"),
        ("row 2", "has x (2,) float32, y (); the first has x (3,) float32, y () (and 1 more are unlike it)"),
    ]
    assert collected([fails] * 100)[2].count == 20
    assert collected([])[0][0].shape == (0, 1)


def test_an_error_in_a_line():
    assert first_line(ValueError("a\nb")) == "ValueError: a"
    assert first_line(ValueError()) == "ValueError: "
