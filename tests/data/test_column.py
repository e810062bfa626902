"""A column says what the training part said of it: dropped, a number, a category, a date."""

import numpy as np
import pyarrow as pa
import pytest

from surefoot.data.load import load

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ([3] * 30, "it has one value, 3, in every row"),
        (["x"] * 30, "it has one value, 'x', in every row"),
        ([None] * 30, "it is empty"),
        ([f"person {i}" for i in range(30)], "its text is another in every row"),
        (["twin", "twin", *(f"person {i}" for i in range(48))], "its text names the rows"),
    ],
    ids=str,
)
def test_a_column_that_says_nothing_is_dropped_and_need_not_be_there_again(column, why):
    n = len(column)
    table = pa.table({"a": DRAW.normal(size=n), "c": column})
    data = load((table, np.arange(n) % 2), validation=0)
    assert (data.columns.columns[1].use, data.columns.columns[1].why) == ("dropped", why)
    assert any(why in note for note in data.notes)
    assert data.input_shape == (1,)
    assert data.columns.read("x", table.select(["a"]), ["a"]).faults == [None] * n


@pytest.mark.parametrize(("name", "dropped"), [("", True), ("Unnamed: 0", True), ("ID", True), ("step", False)])
def test_numbers_of_the_rows_are_dropped_under_a_name_that_says_so_and_else_pointed_at(name, dropped, tmp_path):
    lines = [f"{i},{DRAW.normal():.3f},{'ab'[i > 29]}" for i in range(60)]
    (tmp_path / "t.csv").write_text(f"{name},x,y\n" + "\n".join(lines))
    data = load(tmp_path / "t.csv", validation=0)
    assert data.columns.names == (("x",) if dropped else (name, "x"))
    assert any("number" in note and "the rows" in note for note in data.notes)


def test_a_date_has_its_place_in_the_day_the_week_and_the_year():
    stamps = np.datetime64("2020-01-01T00:00") + np.arange(0, 1200) * np.timedelta64(15, "h")
    table = pa.table({"t": stamps.astype("datetime64[us]"), "b": np.arange(1200) % 5})
    data = load((table, np.arange(1200) % 2), validation=0)
    columns, x = data.columns, data.train.x.numpy()
    assert columns.names[:3] == ("t", "t, sine of day", "t, cosine of day")
    assert x.shape[1] == 8
    np.testing.assert_allclose(x[:, 0], np.arange(1200) * 15 / 24, rtol=1e-6)
    np.testing.assert_allclose(np.hypot(x[:, 1], x[:, 2]), 1, rtol=1e-6)
