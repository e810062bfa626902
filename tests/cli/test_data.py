"""`surefoot data` and `surefoot data check` at the command line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from surefoot.cli.app import run

X = np.random.default_rng(0).normal(size=(30, 4))
Y = np.arange(30) % 3


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def good(tmp_path):
    np.savez(tmp_path / "good.npz", x_train=X, y_train=Y, x_test=X[:9] + 1, y_test=Y[:9])
    return str(tmp_path / "good.npz")


@pytest.fixture
def bad(tmp_path):
    x, y = X.copy(), Y.copy()
    x[4, 1], y[7] = np.nan, -100
    np.savez(tmp_path / "bad.npz", x=x, y=y)
    return str(tmp_path / "bad.npz")


def test_the_list_names_each_set_where_it_comes_from_and_whether_it_is_here(capsys):
    assert run(["data"]) == 0
    text = capsys.readouterr().out
    for word in ("digits", "cifar10", "cs.toronto.edu", "scikit-learn", "50,000 + 10,000", "no, 170 MB", "yes"):
        assert word in text


def test_the_list_as_json(capsys):
    assert run(["data", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)["data"]}
    assert listed["digits"]["is_here"] is True
    assert listed["cifar10"]["is_here"] is False
    assert listed["cifar10"]["shape"] == [3, 32, 32]


def test_the_list_imports_no_torch():
    code = "import sys; from surefoot.cli.app import run; run(['data']); sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, check=False).returncode == 0
    )


def test_good_data_is_described_and_exits_0(good, capsys):
    assert run(["data", "check", good]) == 0
    text = capsys.readouterr().out
    assert "numbers of shape 4, 3 classes" in text
    assert "nothing is wrong" in text
    assert run(["data", "check", good, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["parts"]["test"] == {"examples": 9, "counts": {"0": 3, "1": 3, "2": 3}}


def test_bad_data_is_listed_by_row_and_exits_1(bad, capsys):
    assert run(["data", "check", bad]) == 1
    text = capsys.readouterr().out
    assert "row 4: holds nan" in text
    assert "row 7: label -100" in text
    assert "2 things are wrong" in text
    assert run(["data", "check", bad, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["problem_count"] == 2
    assert report["problems"][0]["where"] == "row 4"
    assert set(report["problems"][0]) == {"where", "what", "allowed", "do"}


def test_duplicates_across_parts_are_warned_of_and_do_not_fail(tmp_path, capsys):
    np.savez(tmp_path / "twins.npz", x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3])
    assert run(["data", "check", str(tmp_path / "twins.npz")]) == 0
    assert "warning: 3 examples of test are also in train: test row 0 = train row 0" in capsys.readouterr().out


def test_a_named_set_can_be_checked(capsys):
    assert run(["data", "check", "digits"]) == 0
    assert "images of shape 1x8x8, 10 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere.csv"], 1, "no such file"),
        (["digit"], 2, "Did you mean 'digits'"),
        (["digits", "--target", "numbers"], 2, "are classes"),
        (["digits", "--image-size", "8"], 2, "only a folder's images"),
        ([], 2, "PATH"),
    ],
)
def test_what_cannot_be_checked_is_told_in_one_message(words, code, message, capsys):
    assert run(["data", "check", *words]) == code
    output = capsys.readouterr()
    assert message in output.out + output.err
    assert "Traceback" not in output.err


def test_names_from_outside_cannot_move_the_cursor(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,\x1b[31my\n1,\x1b]0;owned\x07x\n2,b\nx,b\n", encoding="utf-8")
    run(["data", "check", str(tmp_path / "t.csv")])
    run(["data", "check", str(tmp_path / "t.csv"), "--json"])
    output = capsys.readouterr()
    assert "\x1b" not in output.out + output.err


@pytest.fixture
def table(tmp_path):
    """A table with a number of the row, a gap, a category and classes of two spellings."""
    lines = [f"{i},{'' if i == 3 else i % 7},{'uvw'[i % 3]},{('Yes', 'no', 'yes', 'no')[i % 4]}" for i in range(60)]
    (tmp_path / "t.csv").write_text(",a,c,y\n" + "\n".join(lines) + "\n")
    return tmp_path / "t.csv"


def test_a_table_has_a_line_for_each_column(table, capsys):
    assert run(["data", "check", str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("a table of 3 columns, 3 classes")
    assert [line.split("  ")[-1].strip() for line in lines[2:5]] == [
        "dropped: it numbers the rows", "as it is; gaps become 3, and a column says where", "one-hot, 3 levels"
    ]  # fmt: skip
    assert "warning: classes 'Yes', 'yes' differ only in case or blanks; spell them alike if they are one" in lines
    assert run(["data", "check", str(table), "--json"]) == 0
    columns = json.loads(capsys.readouterr().out)["columns"]
    assert columns[1] == {
        "column": "a", "type": "number", "gaps": 1, "holds": "0 to 6",
        "what is done": "as it is; gaps become 3, and a column says where",
    }  # fmt: skip


def test_the_header_may_be_settled(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("1,2,x\n" + "".join(f"{i},{i % 5},{'yz'[i % 2]}\n" for i in range(20)))
    for header, examples in (("auto", 20), ("no", 21), ("yes", 20)):
        assert run(["data", "check", str(tmp_path / "t.csv"), "--header", header, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["parts"]["train"]["examples"] == examples


@pytest.mark.parametrize(
    "words", [["train"], ["tune", "--budget", "1x"], ["check"], ["find-lr", "--steps", "10"]], ids=str
)
def test_what_is_suspicious_is_said_once_by_every_command(words, table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    more = [] if words[0] in ("check", "find-lr") else ["--epochs", "2", "--no-report"]
    run([words[0], str(table), *words[1:], "--model", "linear", "--batch-size", "16", *more])
    lines = capsys.readouterr().err.splitlines()
    for said in ("note: column without a name: dropped, it numbers the rows", "note: classes 'Yes', 'yes' differ"):
        assert sum(line.startswith(said) for line in lines) == 1, lines


@pytest.mark.parametrize(
    ("arrays", "said", "shape"),
    [
        ({"ids": np.zeros((20, 5), int), "more": np.arange(60.0).reshape(20, 3), "labels": np.arange(20) % 2},
         "inputs ids 5, more 3, 2 classes", {"ids": [5], "more": [3]}),
        ({"x.0": np.arange(20.0), "x.1": np.arange(40.0).reshape(20, 2), "y": np.tile([[1, 1], [0, 1]], (10, 1))},
         "inputs 0 1, 1 2, 2 labels, each a yes or no", {"0": [], "1": [2]}),
        ({"x": np.arange(100).reshape(20, 5) % 7, "y": np.arange(100).reshape(20, 5) % 5},
         "tokens of 7 classes", [5]),
        ({"x": (np.arange(960) % 251).reshape(20, 3, 4, 4).astype(np.uint8), "y": np.arange(320).reshape(20, 4, 4) % 3},
         "masks of 3 classes", [3, 4, 4]),
    ],
)  # fmt: skip
def test_every_kind_of_inputs_and_targets_is_told(arrays, said, shape, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **arrays)
    assert run(["data", "check", str(tmp_path / "a.npz")]) == 0
    assert said in capsys.readouterr().out
    assert run(["data", "check", str(tmp_path / "a.npz"), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["shape"] == shape
    assert plain["parts"]["train"]["examples"] == 20
