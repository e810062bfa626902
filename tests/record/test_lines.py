"""Files of JSON lines: what a kill leaves of them, and how another process follows them."""

import json
import math
import os
from dataclasses import dataclass

import pytest

from surefoot.errors import CheckpointError
from surefoot.record.lines import Tail, append_lines, from_plain, plain, read_lines, truncate_lines
from surefoot.record.store import with_seal


@dataclass(frozen=True)
class Value:
    step: int
    losses: tuple[float, ...] = ()
    best: float | None = None

    def to_dict(self):
        return {"step": self.step, "losses": [], "best": self.best}


def parse(values):
    return Value(step=values["step"])


def read_values(path, **options):
    return [value.step for value in read_lines(path, parse, "a value", **options)]


def values(*steps):
    return [Value(step).to_dict() for step in steps]


def lines(*steps):
    return "".join(json.dumps(with_seal(value)) + "\n" for value in values(*steps))


def read(tail):
    return [value["step"] for value in tail.read()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "values.jsonl"


def test_lines_come_back_as_they_were_added(path):
    assert read_values(path) == []
    append_lines(path, values(1, 2))
    append_lines(path, [])
    append_lines(path, values(3))
    assert read_values(path) == [1, 2, 3]
    assert path.read_text() == lines(1, 2, 3)


def test_durable_lines_are_on_the_disk_when_the_call_returns(path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(path.read_text()))
    append_lines(path, values(1))
    assert flushed == []
    append_lines(path, values(2), durable=True)
    assert flushed == [lines(1, 2)]


def test_a_number_that_is_not_finite_is_not_written(path):
    with pytest.raises(ValueError, match="JSON"):
        append_lines(path, [{"step": math.nan}])
    assert not path.exists()


def test_a_last_line_that_a_kill_cut_short_is_left_out_at_every_length(path):
    append_lines(path, values(1, 2))
    whole = path.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert read_values(path) == [1]
    path.write_bytes(whole[:-1])
    assert read_values(path) == [1, 2], "only the line's end is missing"


@pytest.mark.parametrize("cut", [1, 5])
def test_a_file_that_was_repaired_can_be_added_to(cut, path):
    path.write_text(lines(1, 2)[:-cut])
    left = read_values(path, repair=True)
    append_lines(path, values(3))
    assert read_values(path) == [*left, 3] == ([1, 2, 3] if cut == 1 else [1, 3])


def test_a_whole_file_is_not_written_anew(path):
    append_lines(path, values(1, 2))
    before = path.stat().st_ino
    assert read_values(path, repair=True) == [1, 2]
    assert path.stat().st_ino == before


@pytest.mark.parametrize("line", ["", "{", "null", "5", "[]", '"x"', "[" * 5000])
def test_a_damaged_line_before_the_last_is_named(line, path):
    path.write_text(f"{lines(1)}{line}\n{lines(2)}")
    with pytest.raises(CheckpointError, match=r"values\.jsonl, line 2: it must be a value"):
        read_values(path)


def test_a_file_that_is_no_text_is_named(path):
    path.write_bytes(b"\xff\xff\n")
    with pytest.raises(CheckpointError, match=r"values\.jsonl: it must be readable"):
        read_values(path)


def test_lines_after_a_step_are_dropped_and_the_file_is_made(path):
    assert truncate_lines(path, parse, 5) == []
    assert path.is_file()
    append_lines(path, values(1, 2, 3))
    assert truncate_lines(path, parse, 2) == [Value(1), Value(2)]
    assert path.read_text() == lines(1, 2)


def test_a_tail_gives_each_line_once_and_waits_for_the_end_of_the_last(path):
    tail = Tail(path)
    assert read(tail) == []
    path.write_text(lines(1, 2) + '{"step"')
    assert read(tail) == [1, 2]
    assert read(tail) == []
    with path.open("a") as file:
        file.write(": 3}\n")
    assert read(tail) == [3]


def test_a_tail_of_a_file_that_was_replaced_gives_only_what_is_new(path, tmp_path):
    tail = Tail(path)
    path.write_text(lines(1, 2, 3))
    assert read(tail) == [1, 2, 3]
    other = tmp_path / "new"
    other.write_text(lines(1, 2))
    other.replace(path)
    assert read(tail) == []
    append_lines(path, values(30, 4))
    assert read(tail) == [30, 4]


def test_a_tail_leaves_a_damaged_line_out(path):
    path.write_bytes(b"\xff\xfe\n[1]\nnot json\n" + lines(7).encode())
    assert read(Tail(path)) == [7]


def test_a_dataclass_goes_through_json_values_and_a_loss_that_is_none_was_not_finite():
    value = Value(3, losses=(1.0, math.inf))
    back = from_plain(Value, json.loads(json.dumps(plain(value.__dict__))))
    assert back == value
    assert from_plain(Value, {"step": 1, "best": None}).best is None


def test_damaged_lines_are_dropped_by_a_run_that_goes_on(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st\xff\xfe\n[]\n\n' + b"[" * 100_000 + b'\n{"step": 2}\n{"step": 3}\n{"ste')
    steps = [each.step for each in truncate_lines(path, lambda value: Value(value["step"]), 2)]
    assert steps == [1, 2]
    assert len(path.read_text().splitlines()) == 2
