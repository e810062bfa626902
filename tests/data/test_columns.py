"""Columns are fitted on the training part, saved as plain values, and make the same numbers of another table."""

import json

import numpy as np
import pyarrow as pa
import pytest

from surefoot.data.check import Problems
from surefoot.data.column import WIDE
from surefoot.data.columns import Columns, raw_columns, unembedded
from surefoot.data.dataset import Source
from surefoot.data.load import inspect, load
from surefoot.errors import DataError

DRAW = np.random.default_rng(0)


def fitted(table, rows=None):
    problems = Problems("t")
    raw, x = raw_columns("t", table, table.column_names, Source(), problems)
    assert not problems.count
    columns = Columns.fit(raw, x if rows is None else x[rows])
    return columns, columns.encode(raw, x)


def mixed(n=60):
    return pa.table({
        "size": [None if i % 7 == 0 else float(i) for i in range(n)],
        "hue": [("red", "blue", "green", "")[i % 4] for i in range(n)],
        "day": [f"2020-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(n)],
        "ok": [("yes", "no")[i % 2] for i in range(n)],
        "town": [f"town {i % 29}" if i % 2 else f"hamlet {i % 27}" for i in range(n)],
    })  # fmt: skip


def test_what_was_fitted_is_plain_and_makes_the_same_numbers_again():
    columns, x = fitted(mixed())
    again = Columns.from_dict(json.loads(json.dumps(columns.to_dict())))
    assert again == columns
    for order in (slice(None), slice(None, None, -1)):
        names = mixed().column_names[order]
        reread = again.read("other", mixed().select(names), names)
        np.testing.assert_array_equal(reread.x, x)
        assert set(reread.faults) == {None}
    assert len(columns.names) == x.shape[1] == len(columns.plain)


def test_nothing_but_the_training_part_is_fitted():
    table = pa.table({"a": [1.0, 3.0, None, 100.0], "c": ["x", "y", "x", "z"], "one": [5, 5, 5, 6]})
    columns, x = fitted(table, rows=[0, 1, 2])
    size, kind, one = columns.columns
    assert (size.fill, size.gaps, kind.levels, one.use) == (2.0, 1, ("x", "y"), "dropped")
    assert x.tolist() == [[1, 0, 1, 0], [3, 0, 0, 1], [2, 1, 1, 0], [100, 0, 0, 0]]


def test_numbers_without_gaps_are_as_they_were(tmp_path):
    x = DRAW.normal(size=(40, 3))
    columns, made = fitted(pa.table({name: x[:, i] for i, name in enumerate("abc")}))
    assert columns.names == ("a", "b", "c")
    assert np.array_equal(made, x)
    np.savetxt(
        tmp_path / "t.csv", np.column_stack([x, np.arange(40) % 2]), delimiter=",", header="a,b,c,y", comments=""
    )
    data = load(tmp_path / "t.csv", validation=0)
    assert np.array_equal(data.train.x.numpy(), x.astype(np.float32))
    assert data.features == ("a", "b", "c")


def test_numbers_that_float32_would_lose_stay_float64():
    seconds = 1.7e9 + 20 * DRAW.normal(size=50)
    data = load((pa.table({"t": seconds, "b": DRAW.normal(size=50)}), np.arange(50) % 2), validation=0)
    assert np.array_equal(data.train.x[:, 0].numpy(), seconds)


def test_a_wide_category_is_codes_for_a_model_that_embeds_and_else_its_frequent_levels():
    levels = [f"level {i % 60}" for i in range(200)] + [f"rare {i}" for i in range(9)]
    table = pa.table({"a": DRAW.normal(size=209), "c": levels, "b": DRAW.normal(size=209)})
    data = load((table, np.arange(209) % 2), validation=0)
    assert (data.input_shape, data.categories) == ((3,), ((1, 61),))
    assert (data.mean[1].item(), data.std[1].item()) == (0, 1)
    codes = data.train.x[:, 1]
    assert codes.unique().tolist() == [float(code) for code in range(61)]
    assert (codes[200:] == 0).all()
    spread = unembedded(data)
    assert (spread.input_shape, spread.categories) == ((2 + WIDE,), ())
    kept = codes <= WIDE
    assert (spread.train.x[:, 1:-1].sum(1) == (kept & (codes > 0)).float()).all()
    assert np.array_equal(spread.columns.read("x", table, table.column_names).x.astype(np.float32), spread.train.x)
    assert np.array_equal(data.columns.read("x", table, table.column_names).x.astype(np.float32), data.train.x)
    assert len(spread.mean) == len(spread.std) == len(spread.columns.names) == 2 + WIDE
    assert unembedded(spread) is spread


def test_another_table_is_refused_by_name_and_its_rows_have_faults_of_their_own():
    columns, _ = fitted(mixed())
    part = mixed(3)
    with pytest.raises(DataError, match="has no column 'hue'"):
        columns.read("t", part.drop(["hue"]), part.drop(["hue"]).column_names)
    with pytest.raises(DataError, match="unknown column 'more'"):
        columns.read("t", part.append_column("more", pa.array([1, 2, 3])), [*part.column_names, "more"])
    with pytest.raises(DataError, match="has 4 columns"):
        columns.read("t", part.drop(["hue"]), None)
    other = pa.table({
        "size": ["", "tall", "2"], "hue": ["pink", "red", ""], "day": ["2021-05-05", "2020-02-02", "soon"],
        "ok": ["no", "yes", ""], "town": [columns.columns[4].levels[0], "Rome", columns.columns[4].levels[1]],
    })  # fmt: skip
    reread = columns.read("t", other, other.column_names)
    assert reread.faults[0] is None
    assert reread.faults[1] == "column 'size' holds text, 'tall'"
    assert reread.faults[2] == "column 'day' holds text, 'soon', which is no date"
    assert reread.others == {"hue": 1, "town": 1}
    assert "1 of 'hue', 1 of 'town'" in reread.note()


def test_a_gap_where_the_training_part_had_none_is_imputed_and_said():
    columns, _ = fitted(pa.table({"a": [1.0, 2.0, 9.0], "c": ["x", "y", "y"]}))
    found = columns.read("t", pa.table({"a": [None, 2.0], "c": ["x", ""]}), ["a", "c"])
    assert found.faults == [None, None]
    assert found.x[:, 0].tolist() == [2.0, 2.0], "the median"
    assert sorted(found.x[:, 1:].sum(axis=1).tolist()) == [0.0, 1.0], "no level"
    assert found.note() == "gaps where the training part had none, imputed: 1 of 'a', 1 of 'c'"


def test_a_gap_is_a_fault_of_its_row_where_a_model_learned_from_arrays():
    found = Columns.of_numbers(2).read("t", pa.table({"a": [None, 2.0], "b": [1.0, 2.0]}), None)
    assert found.faults == ["column 'column 1' is empty; the model learned from whole arrays", None]
    assert found.note() is None


def test_a_gap_that_only_the_held_out_part_has_is_imputed_and_said():
    x = pa.table({"a": [1.0, 2.0, 3.0]})
    data = load({"train": (x, [0, 1, 0]), "validation": (pa.table({"a": [None, 1.0]}), [0, 1])})
    assert data.validation.x.tolist() == [[2], [1]]
    assert any("1 gaps in 'a'" in note for note in data.notes)


def test_what_becomes_of_each_column_is_a_line(tmp_path):
    columns, _ = fitted(mixed())
    lines = {name: (kind, done) for name, kind, _, done in columns.described()}
    assert lines["size"] == ("number", "as it is; gaps become 30, and a column says where")
    assert lines["hue"] == ("category", "one-hot, 4 levels, gaps among them")
    assert lines["day"] == ("date", "days, place in the week")
    assert lines["ok"] == ("boolean", "0 and 1")
    (tmp_path / "t.csv").write_text("a,b,y\n1,x,p\n2,z,q\n3,x,p\n")
    assert inspect(tmp_path / "t.csv").columns.names == ("a", "b = x", "b = z")
