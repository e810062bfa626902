"""Two run folders are the same in every value, or the difference is said with its path."""

import json

import numpy as np
import pytest
import safetensors.numpy
from record_differences import compare_folders, read, read_tensors, same
from record_rules import LeftOut, RenamedFile, Rules

PLAIN = Rules((), (), ())


def written(folder, **files):
    folder.mkdir()
    for name, text in files.items():
        name = name.replace("__", ".")
        (folder / name).write_text(text if isinstance(text, str) else json.dumps(text))
    return folder


def differences(tmp_path, old, new, rules=PLAIN):
    found = compare_folders("tune", written(tmp_path / "old", **old), written(tmp_path / "new", **new), rules)
    return [str(each) for each in found.differences]


def test_equal_folders_have_no_difference_and_all_is_counted(tmp_path):
    files = {
        "result__json": {"loss": 0.5, "steps": 3},
        "metrics__jsonl": '{"step": 1}\n{"step": 2}\n',
        "stdout": "done\n",
    }
    folders = [written(tmp_path / name, **files) for name in ("old", "new")]
    found = compare_folders("train", *folders, PLAIN)
    assert (found.files, found.values, found.differences) == (3, 5, ())


def test_order_of_keys_and_white_space_are_not_compared(tmp_path):
    assert differences(tmp_path, {"a__json": '{"x": 1, "y": 2}'}, {"a__json": '{\n"y": 2,\n"x": 1}'}) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"a": {"b": [1.0, 2.0]}}, {"a": {"b": [1.0, 2.0000000000000004]}}, "a.b[1]: 2.0 != 2.0000000000000004"),
        ({"a": 1}, {"a": 1.0}, "a: 1 != 1.0"),
        ({"a": 0.0}, {"a": -0.0}, "a: 0.0 != -0.0"),
        ({"a": True}, {"a": 1}, "a: True != 1"),
        ({"a": None}, {}, "a: None != nothing"),
        ({}, {"a": "x"}, "a: nothing != 'x'"),
        ({"a": "x" * 300 + "1"}, {"a": "x" * 300 + "2"}, "xxx1' != "),
    ],
)
def test_a_difference_is_said_with_its_path(tmp_path, old, new, said):
    found = differences(tmp_path, {"a__json": old | {"same": 1}}, {"a__json": new | {"same": 1}})
    assert len(found) == 1
    assert said in found[0]
    assert len(found[0]) < 300


def test_a_row_too_many_is_a_difference(tmp_path):
    found = differences(tmp_path, {"m__jsonl": '{"step": 1}\n'}, {"m__jsonl": '{"step": 1}\n{"step": 2}\n'})
    assert found == ["m.jsonl: [1].step: nothing != 2"]


def test_a_file_that_one_side_lacks_is_a_difference(tmp_path):
    assert differences(tmp_path, {"a__json": 1}, {}) == ["a.json: (all of it): 'a file' != nothing"]


def test_a_file_with_another_name_on_purpose_is_none(tmp_path):
    rules = Rules((), (), (RenamedFile(old="members.jsonl", new="trials.jsonl", reason="a word"),))
    assert differences(tmp_path, {"members__jsonl": "{}\n"}, {"trials__jsonl": "{}\n"}, rules) == []


def test_a_file_left_out_is_not_read(tmp_path):
    rules = Rules((LeftOut(file="tune/lock", path="$", wholly=True, reason="a process"),), (), ())
    assert differences(tmp_path, {"lock": "17"}, {}, rules) == []


def test_a_clock_may_differ_and_what_stands_beside_it_may_not(tmp_path):
    rules = Rules((LeftOut(path="**/seconds", reason="clock"),), (), ())
    old, new = {"seconds": 0.1, "loss": 0.5}, {"seconds": 0.2, "loss": 0.25}
    assert differences(tmp_path, {"a__json": old}, {"a__json": new}, rules) == ["a.json: loss: 0.5 != 0.25"]


def test_a_clock_that_is_gone_is_a_difference(tmp_path):
    rules = Rules((LeftOut(path="**/seconds", reason="clock"),), (), ())
    found = differences(tmp_path, {"a__json": {"seconds": 0.1, "b": 1}}, {"a__json": {"b": 1}}, rules)
    assert found == ["a.json: seconds: a float != nothing"]


def test_broken_json_is_a_difference_and_no_crash(tmp_path):
    assert differences(tmp_path, {"a__jsonl": '{"a": 1}\n'}, {"a__jsonl": '{"a": 1\n'})[0].startswith("a.jsonl: ")


def test_weights_are_compared_by_their_bytes(tmp_path):
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, dtype=np.float32)}
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        safetensors.numpy.save_file(weights, tmp_path / name / "model.safetensors", {"format": "pt"})
        weights["w"][1, 2] = np.nextafter(np.float32(5), np.float32(6))
    found = compare_folders("train", tmp_path / "old", tmp_path / "new", PLAIN)
    assert [str(each) for each in found.differences] == [
        "model.safetensors: tensors.w: 1 of 6 elements of F32[2, 3] differ"
    ]
    assert found.values == 3


def test_tensors_are_read_as_they_were_saved(tmp_path):
    saved = safetensors.numpy.save({"a": np.array([1, 2], dtype=np.int64)})
    read = read_tensors(saved)["tensors"]["a"]
    assert (read.dtype, read.shape, np.frombuffer(read.content, dtype=np.int64).tolist()) == ("I64", (2,), [1, 2])


def test_bytes_that_are_no_text_are_compared_too(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\xff\x00")
    assert read(tmp_path / "a.bin").content == b"\xff\x00"


def test_no_number_is_the_same_as_no_number():
    assert same(float("nan"), float("nan"))
    assert not same(None, float("nan"))
