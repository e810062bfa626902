from dataclasses import dataclass

import pytest

from surefoot.errors import ConfigError
from surefoot.fields import ABOVE_0, AT_LEAST_1, Checked, fraction, is_path, positive, rising, setting


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    rate: float = setting(0.1, "a rate", **ABOVE_0)
    count: int | None = setting(None, "a count", **AT_LEAST_1)
    marks: tuple[float, ...] | None = setting(None, "marks", range="a rising list", ok=rising)


def test_values_are_brought_to_their_types():
    made = Settings(rate=1, marks=[1, 2])
    assert (made.rate, type(made.rate), made.marks, made.count) == (1.0, float, (1.0, 2.0), None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0}, r"rate = 0.0: rate must be above 0. The default is 0.1"),
        ({"rate": float("nan")}, "rate must be above 0"),
        ({"count": 0}, "count must be at least 1. Leave count out for the default"),
        ({"count": 1.5}, "count = 1.5"),
        ({"count": True}, "count = True"),
        ({"marks": [2, 1]}, "marks must be a rising list"),
        ({"rate": "fast"}, "rate = 'fast'"),
    ],
)
def test_what_is_out_of_its_range_or_type_is_said(given, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**given)


def test_ranges():
    assert [positive(value) for value in (1e-9, 0, float("inf"))] == [True, False, False]
    assert [fraction(value) for value in (0, 0.99, 1)] == [True, True, False]
    assert [rising(values) for values in ((1.0, 2.0), (), (0.0, 1.0), (1.0, 1.0))] == [True, False, False, False]
    assert [is_path(value) for value in ("losses:focal", "mse", len)] == [True, False, False]
