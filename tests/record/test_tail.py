import json

from surefoot.record.tail import Tail


def lines(*values):
    return "".join(json.dumps({"a": value}) + "\n" for value in values)


def read(tail):
    return [each["a"] for each in tail.read()]


def test_it_gives_each_line_once_and_waits_for_the_end_of_the_last(tmp_path):
    path = tmp_path / "rows.jsonl"
    tail = Tail(path)
    assert read(tail) == []
    path.write_text(lines(1, 2) + '{"a"')
    assert read(tail) == [1, 2]
    assert read(tail) == []
    with path.open("a") as file:
        file.write(": 3}\n")
    assert read(tail) == [3]


def test_a_file_that_was_replaced_is_read_again_and_only_what_is_new_comes(tmp_path):
    path = tmp_path / "rows.jsonl"
    tail = Tail(path)
    path.write_text(lines(1, 2, 3))
    assert read(tail) == [1, 2, 3]
    other = tmp_path / "new"
    other.write_text(lines(1, 2))
    other.replace(path)
    assert read(tail) == []
    with path.open("a") as file:
        file.write(lines(30, 4))
    assert read(tail) == [30, 4]


def test_a_damaged_line_is_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xff\xfe\n[1]\nnot json\n" + lines(7).encode())
    assert read(Tail(path)) == [7]
