"""Text labels become classes."""

import numpy as np
import pytest

from surefoot.data.dataset import Source
from surefoot.data.labels import coded
from surefoot.data.problems import Problems
from surefoot.data.raw import RawPart


def parts(**labels):
    return {name: RawPart(np.zeros((len(y), 1)), np.array(y), Source()) for name, y in labels.items()}


def test_names_are_sorted_numbers_by_value_and_space_does_not_count():
    result, classes = coded(parts(train=["10", " b ", "2", "b", "2.0"]), Problems("x"))
    assert classes == ("2", "10", "b")
    assert result["train"].y.tolist() == [1, 2, 0, 2, 0]


def test_numbers_are_left_alone():
    given = parts(train=[0, 1])
    assert coded(given, Problems("x")) == (given, None)


@pytest.mark.parametrize("label", ["", "NaN", "null", "-100", "0.5", "nan"])
def test_what_is_no_label_is_named(label):
    problems = Problems("x")
    coded(parts(train=["a", label, "b"]), problems)
    assert [each.where for each in problems.items] == ["example 1"]
