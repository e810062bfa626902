"""Problems are collected and told together."""

import pytest

from surefoot.data.check import Problems
from surefoot.errors import DataError


def test_no_problem_raises_nothing():
    Problems("x").raise_any()


def test_one_problem_is_an_ordinary_error():
    problems = Problems("x")
    problems.add("row 3", "is odd", "rows are even", "mend it")
    with pytest.raises(DataError) as caught:
        problems.raise_any()
    assert (caught.value.given, caught.value.allowed, caught.value.do) == (
        "x: row 3: is odd",
        "rows are even",
        "mend it",
    )


def test_memory_stays_bounded_and_the_count_is_right():
    problems = Problems("x")
    for row in range(5000):
        problems.add(f"row {row}", "is odd", "rows are even", "mend it")
    assert len(problems.items) == 1000
    with pytest.raises(DataError, match="and 4990 more"):
        problems.raise_any()
