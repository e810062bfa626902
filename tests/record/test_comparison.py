"""A comparison is JSON and back, whatever diverged in it."""

import json

from compared import comparison

from surefoot.record.comparison import VERSION, Comparison


def test_it_comes_back_from_json_as_it_was():
    text = json.dumps(comparison().to_dict(), allow_nan=False)
    assert Comparison.from_dict(json.loads(text)) == comparison()


def test_it_comes_back_without_its_pictures():
    values = comparison().to_dict() | {"slice": None, "averaging": None, "surfaces": []}
    back = Comparison.from_dict(values)
    assert (back.slice, back.averaging, back.surfaces) == (None, None, ())


def test_one_of_version_1_is_read_without_the_rates_that_it_drew():
    values = comparison().to_dict() | {"rates_of": "momentum", "rates": [{"kind": "good", "lr": 0.1}], "version": 1}
    assert Comparison.from_dict(values).rules == comparison().rules


def test_it_says_its_version():
    assert comparison().to_dict()["version"] == VERSION
