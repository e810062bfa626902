"""Tables of numbers: header, label column, rows by the line on which they stand."""

import gzip

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from surefoot.data.load import inspect, load
from surefoot.data.paths import is_table
from surefoot.errors import DataError


def table(tmp_path, text, name="t.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_the_label_is_the_last_column_or_the_named_one(tmp_path):
    path = table(tmp_path, "a,kind,b\n1,0,5\n2,1,6\n3,0,5\n")
    last, named = load(path, validation=0), load(path, label="kind", validation=0)
    assert (last.classes, named.classes) == (("5", "6"), ("0", "1"))
    assert named.train.x.tolist() == [[1, 5], [2, 6], [3, 5]]
    assert named.train.y.tolist() == [0, 1, 0]


def test_classes_that_are_numbers_are_in_order_of_their_values(tmp_path):
    data = load(
        table(tmp_path, "".join(f"{i},{label}\n" for i, label in enumerate([10, 2, -1, 2, 10, -1]))), validation=0
    )
    assert data.classes == ("-1", "2", "10")
    assert data.train.y.tolist() == [2, 1, 0, 1, 2, 0]


def test_a_regression_reads_numbers(tmp_path):
    data = load(table(tmp_path, "a,y\n1,0.5\n2,1e2\n3,-4\n"), target="numbers", validation=0)
    assert data.train.y.tolist() == [0.5, 100, -4]


def test_values_are_those_of_numpy(tmp_path):
    x = np.random.default_rng(0).normal(size=(5000, 3))
    np.savetxt(tmp_path / "t.csv", np.column_stack([x, np.arange(5000) % 2]), delimiter=",")
    data = load(tmp_path / "t.csv", validation=0)
    assert np.array_equal(data.train.x.numpy(), x.astype(np.float32))


def test_a_fault_in_a_late_row_is_named_and_all_of_them_at_once(tmp_path):
    lines = [f"{i},{i},{i % 2}" for i in range(9000)]
    lines[5000], lines[8000], lines[8999] = "1,x,0", "1", "1e39,2,"
    with pytest.raises(DataError) as caught:
        load(table(tmp_path, "\n".join(lines)))
    for text in ("4 problems", "row 8001: has 1 fields", "row 5001: column 'column 2' holds text, 'x'", "row 9000"):
        assert text in str(caught.value)


def rows(count, *ends):
    return "".join(f"{i},{i / 2},{i % 3},{ends[i % len(ends)]}\n" for i in range(10, 10 + count))


@pytest.mark.parametrize(
    ("first", "ends", "target"),
    [
        ("400,402,404,variety", "ab", "classes"),
        ("400,402,404,variety", "01", "classes"),
        ("2019,2020,2021,price", ["1.5", "2.5", "3.5", "4.5", "5.5", "6.5"], "numbers"),
        ("0,1,2,3", "ab", "classes"),
        ("0,1,2,3", "01", "classes"),
        ("400,nm,404,variety", "ab", "classes"),
    ],
)
def test_a_header_of_numbers_is_known_by_its_label_and_pointed_at(first, ends, target, tmp_path):
    inspection = inspect(table(tmp_path, f"{first}\n{rows(6, *ends)}"), target=target)
    assert len(inspection.raw.parts["train"].y) == 6
    assert not inspection.problems.count
    assert "row 1 is taken for the header" in inspection.problems.warnings[0]


@pytest.mark.parametrize("first", ["a,b,c,kind", ",b,c,kind", "a,b,3,kind", "a,b,c,0", '"a,1","b","c","kind"'])
def test_a_header_of_names_is_taken_without_a_word(first, tmp_path):
    inspection = inspect(table(tmp_path, f"{first}\n{rows(6, 0, 1)}"))
    assert len(inspection.raw.parts["train"].y) == 6
    assert not any("row 1" in text for text in inspection.problems.warnings)


@pytest.mark.parametrize("first", ["1,2,0,a", "1,2,0,b", "0,1,2,a", "1e3,-2,0,a"])
def test_a_first_row_of_values_is_an_example(first, tmp_path):
    assert load(table(tmp_path, f"{first}\n{rows(6, 'a', 'b')}"), validation=0).examples == 7


@pytest.mark.parametrize("first", ["5.1,?,1.4,0", "?,1,2,0", "NA,n/a,,0"])
def test_a_first_row_with_a_gap_is_an_example_and_never_taken_for_a_header(first, tmp_path):
    data = load(table(tmp_path, f"{first}\n{rows(6, 0, 1)}"), validation=0)
    assert data.examples == 7
    assert [column.gaps for column in data.columns.columns] == [
        int(cell in ("?", "NA", "n/a", "")) for cell in first.split(",")[:3]
    ]


@pytest.mark.parametrize("first", ["5.1,x,1.4,0", "1_0,1,2,0"])
def test_a_first_row_with_a_slip_is_named_and_never_taken_for_a_header(first, tmp_path):
    with pytest.raises(DataError, match=r"row 1: column 'column .' holds text"):
        load(table(tmp_path, f"{first}\n{rows(6, 0, 1)}"))


def test_the_header_is_as_it_is_said_to_be(tmp_path):
    path = table(tmp_path, "400,402,variety\n1,2,a\n3,4,b\n5,7,a\n7,8,b\n")
    assert len(inspect(path).raw.parts["train"].y) == 4
    found = inspect(path, header="no")
    assert (found.raw.parts["train"].y.tolist(), found.raw.features) == ([2, 0, 1, 0, 1], None)
    bare = table(tmp_path, "1,2,0\n3,4,1\n5,7,0\n")
    assert inspect(bare).raw.features is None
    assert inspect(bare, header="yes").raw.features == ("1", "2")


def test_parquet_is_read_with_its_types(tmp_path):
    frame = pyarrow.table(
        {"n": [1.5, None, 2.0], "c": ["a", "b", "a"], "ok": [True, False, None], "y": ["p", "q", "p"]}
    )
    pyarrow.parquet.write_table(frame, tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", validation=0)
    assert data.columns.names == ("n", "n is missing", "c = a", "c = b", "ok", "ok is missing")
    assert data.train.x[1].tolist() == [1.75, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("cell", ["1_0", "1_000.5", "1e1_0"])
def test_a_cell_with_an_underscore_is_no_number(cell, tmp_path):
    with pytest.raises(DataError, match=f"row 3: column 'a' holds text, '{cell}'"):
        load(table(tmp_path, f"a,y\n1,0\n{cell},1\n3,0\n"))
    with pytest.raises(DataError, match=f"row 3: column 'y' holds text, '{cell}'"):
        load(table(tmp_path, f"a,y\n1,0\n2,{cell}\n3,0\n"), target="numbers")


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.tsv", "t.csv.gz", "t.Tsv.GZ"])
def test_a_table_may_be_compressed(name, tmp_path):
    text = "a\tb\ty\n1\t2\tx\n3\t4\tz\n".replace("\t", "\t" if "tsv" in name.lower() else ",")
    content = ("\ufeff" + text).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    data = load(tmp_path / name, label="y", validation=0)
    assert (data.classes, data.train.x.tolist()) == (("x", "z"), [[1, 2], [3, 4]])
    assert is_table(tmp_path / name)


def _rows(head, label, n=120):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4))
    return "\n".join([head, *(",".join(f"{v:.4f}" for v in row) + f",{label(row)}" for row in x)]) + "\n"


def test_a_header_of_numbers_over_labels_that_are_numbers_is_no_example(tmp_path):
    path = tmp_path / "years.csv"
    path.write_text(_rows("2019,2020,2021,2022,2023", lambda row: int(row[0] > 0)))
    data = load(path)
    assert (data.features, data.classes) == (("2019", "2020", "2021", "2022"), ("0", "1"))
    assert any("row 1 is taken for the header" in note for note in data.notes)
    assert load(path, header="no").classes == ("0", "1", "2023")


@pytest.mark.parametrize("first", ["0.1,0.2,0.3,9,2", "9,9,9,9,1", "9,9,9,,2"])
def test_a_first_row_among_the_others_is_an_example(tmp_path, first):
    path = tmp_path / "plain.csv"
    path.write_text(_rows(first, lambda row: int(row[0] > 0)))
    assert load(path).features is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("${:,.0f}", lambda v: 1e5 + 2e4 * v), ("{:.1f}%", lambda v: 50 + 10 * v), ("{:,.0f}", lambda v: 1e5 + 2e4 * v)],
)
def test_labels_that_are_amounts_are_numbers_to_predict(tmp_path, text, value):
    path = tmp_path / "amounts.csv"
    path.write_text(_rows("a,b,c,d,y", lambda row: '"' + text.format(value(row[0])) + '"'))
    data = load(path)
    assert data.classes is None
    assert any("regression" in note for note in data.notes)
    assert load(path, target="classes", validation=0).classes is not None


def test_labels_that_are_many_dates_are_said_to_be_classes(tmp_path):
    path = tmp_path / "dates.csv"
    path.write_text(_rows("a,b,c,d,when", lambda row: np.datetime64("2020-01-01") + int(100 * row[0])))
    assert any("labels are dates" in note for note in load(path).notes)
