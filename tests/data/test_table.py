"""Tables of numbers: header, label column, rows by the line on which they stand."""

import numpy as np
import pytest

from surefoot.data.load import load
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


def test_rows_are_named_by_their_line(tmp_path):
    data = load(table(tmp_path, 'a,y\n1,0\n\n2,"1"\n3,0\n'), validation=0)
    assert [data.train.name_of(i) for i in range(3)] == ["row 2", "row 4", "row 5"]


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
    lines[5000], lines[8000], lines[8999] = "1,x,0", "1", "nan,2,"
    with pytest.raises(DataError) as caught:
        load(table(tmp_path, "\n".join(lines)))
    for text in ("4 problems", "row 8001: has 1 fields", "row 5001: column 'column 2' holds text, 'x'", "row 9000"):
        assert text in str(caught.value)
