import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.errors import CheckpointError
from surefoot.record.run import (
    CLOCK_FIELDS,
    Outcome,
    Record,
    Row,
    append_rows,
    flush_rows,
    read_rows,
    truncate_rows,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.one_of(st.none(), finite)
rows = st.builds(
    Row, step=st.integers(1, 10**9), epoch=finite, examples=st.integers(0, 10**12), lr=finite, train_loss=finite,
    train_accuracy=maybe, val_loss=maybe, val_accuracy=maybe, grad_norm=finite, update_ratio=finite,
    losses=st.lists(finite, max_size=5).map(tuple), seconds=finite, examples_per_second=finite,
    layers=st.dictionaries(st.text(), st.tuples(finite, finite), max_size=3),
)  # fmt: skip


@given(rows)
def test_a_row_goes_through_json_unchanged(row):
    assert Row.from_dict(json.loads(json.dumps(row.to_dict(), allow_nan=False))) == row


def test_what_is_not_finite_goes_through_json_as_null_and_comes_back_as_nan():
    row = Row(
        step=1, epoch=1, examples=1, lr=0.1, train_loss=math.inf, train_accuracy=None, val_loss=math.nan,
        val_accuracy=None, grad_norm=math.nan, update_ratio=math.nan, losses=(1.0, math.inf), seconds=1,
        examples_per_second=1, layers={"head": (math.inf, 0.5)},
    )  # fmt: skip
    back = Row.from_dict(json.loads(json.dumps(row.to_dict(), allow_nan=False)))
    assert math.isnan(back.train_loss)
    assert math.isnan(back.grad_norm)
    assert back.losses[0] == 1.0
    assert math.isnan(back.losses[1])
    assert back.val_loss is None
    assert math.isnan(back.layers["head"][0])
    assert back.layers["head"][1] == 0.5


def test_a_row_of_a_version_that_knew_no_layers_has_none():
    row = Row(
        step=1, epoch=1, examples=1, lr=0.1, train_loss=1.0, train_accuracy=None, val_loss=None, val_accuracy=None,
        grad_norm=1.0, update_ratio=1e-3, losses=(), seconds=1, examples_per_second=1,
    )  # fmt: skip
    plain = row.to_dict()
    del plain["layers"]
    assert Row.from_dict(plain) == row
    assert hash(row) == hash(Row.from_dict(plain)), "a row is frozen, and can be a key"


@pytest.mark.parametrize("values", [{}, {"step": 1}, {"losses": 5}, {"losses": []}])
def test_what_is_not_a_row_is_not_read_as_one(values):
    with pytest.raises((KeyError, TypeError)):
        Row.from_dict(values)


def test_the_clock_fields_are_fields():
    assert set(CLOCK_FIELDS) <= set(Row.__dataclass_fields__)


def test_the_last_row_of_a_record():
    outcome = Outcome(kind="finished", step=0, reason="all 0 steps were done")
    assert Record(rows=(), outcome=outcome).last is None


def row(step):
    return Row(
        step=step, epoch=0.1, examples=10, lr=0.1, train_loss=1.5, train_accuracy=0.5, val_loss=None, val_accuracy=None,
        grad_norm=2.0, update_ratio=1e-3, losses=(1.5,), seconds=0.25, examples_per_second=40.0,
    )  # fmt: skip


def test_rows_come_back_as_they_were_written_and_those_after_a_step_are_dropped(tmp_path):
    append_rows(tmp_path, [row(1), row(2)])
    append_rows(tmp_path, [])
    append_rows(tmp_path, [row(3)])
    flush_rows(tmp_path)
    assert read_rows(tmp_path) == (row(1), row(2), row(3))
    assert truncate_rows(tmp_path, 2) == (row(1), row(2))
    assert read_rows(tmp_path) == (row(1), row(2))
    assert read_rows(tmp_path / "absent") == ()


@pytest.mark.parametrize("line", ["{}", "5", "[]", '{"step": 1}', '{"losses": 5}'])
def test_a_line_that_is_no_row_is_named(line, tmp_path):
    append_rows(tmp_path, [row(1)])
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 1: it must be a row of metrics"):
        read_rows(tmp_path)
