"""What a column holds follows from its cells; a slip is named, a word that repeats is a gap or makes categories."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from surefoot.data.cells import cells_of


def cells(*texts, **options):
    return cells_of(pa.chunked_array([list(texts)]), **options)


NUMBERS = [str(i) for i in range(50)]


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (("1", " 2", "+3.", ".5", "-1e3"), "number", [1, 2, 3, 0.5, -1000]),
        (("1", "", "NaN", "?", "n/a"), "number", [1, *[np.nan] * 4]),
        (("1,5", "2,25", "-,5"), "number", [1.5, 2.25, -0.5]),
        (("0,125", "1,250"), "number", [0.125, 1.25]),
        (("1,234", "2,345,678.5"), "number", [1234, 2345678.5]),
        (("1.234,5", "2,1"), "number", [1234.5, 2.1]),
        (("12%", "5 %", ""), "number", [12, 5, np.nan]),
        (("$1,200.50", "-$3", "$4"), "number", [1200.5, -3, 4]),
        (("3 €", "2,5€"), "number", [3, 2.5]),
        (("yes", "No", "NA"), "boolean", [1, 0, np.nan]),
        (("True", "FALSE"), "boolean", [1, 0]),
        (("0", "1", "0"), "number", [0, 1, 0]),
        (("1970-01-02", "1970-01-01T00:00:30.25Z", "1970-01-01 01:00:00+01:00"), "date", [86400, 30.25, 0]),
        (("2.1.1970", "31.12.1970"), "date", [86400, 364 * 86400]),
        (("1/2/1970", "12/31/1970"), "date", [86400, 364 * 86400]),
        (("31/12/1970", "2/1/1970", "-"), "date", [364 * 86400, 86400, np.nan]),
        (("Jan 2, 1970", "Dec 31, 1970"), "date", [86400, 364 * 86400]),
        (("1970/01/02 00:01", "1970/01/01 00:00"), "date", [86460, 0]),
        (("none", "some", "", "none"), "category", [0, 1, np.nan, 0]),
        (("ä", "犬", "ä"), "category", [0, 1, 0]),
        (("0", "1", "2", "3+", "3+"), "category", [0, 1, 2, 3, 3]),
        (("12%", "0.5"), "category", [0, 1]),
        (("A1", "12", "B7", "C3", "D4", "1"), "category", [0, 1, 2, 3, 4, 5]),
    ],
    ids=str,
)
def test_a_column_is_what_its_cells_look_like(texts, kind, values):
    found = cells(*texts)
    assert (found.reading.kind, found.faults) == (kind, ())
    np.testing.assert_allclose(found.values, values)


def test_a_column_is_read_again_as_it_was_at_first():
    for first, second, value in (
        (("1,5", "2,5"), ("3,25",), 3.25),
        (("$5", "$7"), ("8",), 8),
        (("yes", "no"), ("1",), 1),
        (("31/12/1970", "1/1/1970"), ("2/1/1970",), 86400),
        ((*NUMBERS, "unknown", "unknown"), ("unknown",), np.nan),
    ):
        found = cells(*second, reading=cells(*first).reading)
        assert found.faults == ()
        np.testing.assert_equal(found.values, [value])
    assert cells("x", reading=cells("1", "2").reading).texts == ("x",)
    assert cells("maybe", reading=cells("yes", "no").reading).faults == (0,)
    assert cells("5", "a", reading=cells("a", "b").reading).levels == ("5", "a")


@pytest.mark.parametrize("slip", ["x", "1_0", "12 kg", "inf", "1e39", "-1e400"])
def test_one_slip_among_numbers_is_a_fault(slip):
    found = cells(*NUMBERS, slip)
    assert (found.reading.kind, found.faults) == ("number", (50,))
    assert np.isnan(found.values[50])


def test_one_slip_among_dates_is_a_fault():
    found = cells(*(f"2020-01-{day:02d}" for day in range(1, 20)), "2020-02-30")
    assert (found.reading.kind, found.faults, found.texts) == ("date", (19,), ("2020-02-30",))


def test_a_word_that_repeats_among_many_numbers_is_a_gap_and_said():
    found = cells(*NUMBERS, "unknown", "unknown")
    assert (found.reading.gaps, found.faults) == (("unknown",), ())
    assert "'unknown', 2 times" in found.reading.note


def test_codes_of_which_most_are_numbers_are_categories_and_said():
    found = cells(*NUMBERS, *(f"V{i}" for i in range(9)))
    assert found.reading.kind == "category"
    assert "9 other words" in found.reading.note


def test_a_comma_and_a_day_that_could_be_either_are_settled_by_a_rule():
    assert cells("1,234", "2,345").values.tolist() == [1234, 2345]
    assert cells("1,234", "2,345", decimal=",").values.tolist() == [1.234, 2.345]
    assert cells("1.234", "", decimal=",").values[0] == 1.234
    found = cells("5/6/2020", "7/8/2020")
    assert datetime.datetime.fromtimestamp(found.values[0], datetime.UTC).month == 5
    assert "they could be" in found.reading.note


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (pa.array([1, None, 3]), "number", [1, np.nan, 3]),
        (pa.array([True, None, False]), "boolean", [1, np.nan, 0]),
        (pa.array(["a", "b", None]).dictionary_encode(), "category", [0, 1, np.nan]),
        (pa.array([None, None]), "number", [np.nan, np.nan]),
        (pa.array([1, 2], pa.timestamp("ns", "UTC")), "date", [0, 0]),
        (pa.array([0, 2], pa.date32()), "date", [0, 172800]),
        (pa.array(["1", "2"], pa.large_string()), "number", [1, 2]),
    ],
    ids=str,
)
def test_a_column_with_a_type_is_what_it_says(column, kind, values):
    found = cells_of(pa.chunked_array([column]))
    assert found.reading.kind == kind
    np.testing.assert_allclose(found.values, values, atol=1e-5)


def test_a_column_of_lists_is_refused():
    with pytest.raises(TypeError, match="list"):
        cells_of(pa.chunked_array([pa.array([[1], [2]])]))


def test_pieces_of_a_column_are_one():
    column = pa.chunked_array([["a", "b"], ["c", "a"], ["", "b"]])
    found = cells_of(column)
    assert [found.levels[int(v)] if v == v else None for v in found.values] == ["a", "b", "c", "a", None, "b"]
