"""A run is used, and goes on, from another folder than the one in which it was begun; and where its data was moved."""

import dataclasses
import json
import shutil

import pytest
from small import number_arrays

import surefoot
from surefoot.cli.app import run as command
from surefoot.data.named import NAMED
from surefoot.errors import DataError
from surefoot.record.stored import code_in, located, made_in, read_config
from surefoot.training.configure import resolve
from surefoot.training.open import open_run

NET = """
from torch import nn

def {name}(input_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(5, outputs), nn.{layer}(), nn.Linear(outputs, outputs))
"""


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Give a folder with data, code, a finished run and one that is not; and stand in another."""
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(here)
    x, y = number_arrays(90)
    rows = [",".join([*map(str, each), "ab"[int(label > 0)]]) for each, label in zip(x, y, strict=True)]
    (here / "data" / "t.csv").write_text("a,b,c,d,e,kind\n" + "\n".join(rows) + "\n")
    name = "net_elsewhere"  # modules stay in the process: a name of its own
    (here / f"{name}.py").write_text(NET.format(name="net", layer="ReLU"))
    words = {"data": "data/t.csv", "model": f"{name}:net", "recipe": {"epochs": 2, "lr": 0.1}}
    for run_name in ("done", "half"):
        with open_run(resolve(words), name=run_name) as run:
            run.advance(3)
            run.save()
            while run_name == "done" and not run.done:
                run.advance()
            if run_name == "done":
                run.finish()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return here


def test_every_command_finds_the_data_and_the_code(begun, capsys):
    done = "../here/runs/done"
    for words in (["show", done], ["report", done], ["evaluate", done], ["resume", "../here/runs/half", "-q"]):
        assert command(words) == 0, capsys.readouterr().err
    (begun / "few.csv").write_text("a,b,c,d,e\n1,2,3,4,5\n")
    assert command(["predict", done, "../here/few.csv"]) == 0
    assert surefoot.evaluate(begun / "runs" / "half").examples == 9
    weights = [(begun / "runs" / name / "model.safetensors").read_bytes() for name in ("done", "half")]
    assert weights[0] == weights[1]


def test_data_that_was_moved_is_named_with_both_places_and_pointed_to(begun, tmp_path, capsys):
    moved = tmp_path / "elsewhere" / "moved.csv"
    (begun / "data" / "t.csv").rename(moved)
    with pytest.raises(DataError, match=r"neither at .*here/data/t\.csv nor at .*elsewhere/data/t\.csv"):
        surefoot.evaluate(begun / "runs" / "done")
    assert command(["resume", "../here/runs/half", "-q"]) == 1
    assert "Point to it with --data" in capsys.readouterr().err
    scores = surefoot.evaluate(begun / "runs" / "done", moved)
    assert (scores.examples, scores.of[:23]) == (9, "data/t.csv, validation "), "its own validation part, and not all"
    assert command(["resume", "../here/runs/half", "--data", str(moved), "-q"]) == 0


def test_data_that_is_gone_is_pointed_to_from_where_the_run_was_begun_too(begun, monkeypatch, capsys):
    monkeypatch.chdir(begun)
    (begun / "data" / "t.csv").unlink()
    assert command(["evaluate", "done"]) == 1
    said = capsys.readouterr().err
    assert "is no longer at" in said
    assert "Point to it with --data" in said
    bare = dataclasses.replace(read_config(begun / "runs" / "done"), data="rows")
    with pytest.raises(DataError, match="is no longer at"):
        located(bare, begun / "runs" / "done", NAMED)
    assert located(dataclasses.replace(bare, data="digits"), begun / "runs" / "done", NAMED).data == "digits"


def test_a_finished_run_is_not_the_answer_for_data_that_changed(begun, monkeypatch, capsys):
    monkeypatch.chdir(begun)
    words = ["train", "data/t.csv", "--model", "linear", "--epochs", "1", "--name", "same", "-q", "--no-report"]
    assert command(words) == 0
    assert command(words) == 0
    text = (begun / "data" / "t.csv").read_text()
    (begun / "data" / "t.csv").write_text(text.replace(",a\n", ",b\n", 1))
    assert command(words) == 2
    assert "has changed since the run began" in capsys.readouterr().err
    (begun / "data" / "t.csv").unlink()
    assert command(words) == 0, "its result is shown without its data"


def test_other_data_is_not_taken_for_the_runs_own(begun, tmp_path, capsys):
    other = tmp_path / "elsewhere" / "data"
    other.mkdir()
    text = (begun / "data" / "t.csv").read_text()
    (other / "t.csv").write_text(text.replace(",a\n", ",b\n", 1))
    assert surefoot.evaluate(begun / "runs" / "done").examples == 9, "of two places the one where the run was begun"
    assert command(["resume", "../here/runs/half", "--data", str(other / "t.csv"), "-q"]) == 2
    assert "has changed since the run began" in capsys.readouterr().err
    assert surefoot.evaluate(begun / "runs" / "done", other / "t.csv").examples == 90, "scored as other data, all of it"


def test_what_moved_as_a_whole_is_found_from_where_it_is(begun, tmp_path, monkeypatch):
    begun.rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    folder = tmp_path / "there" / "runs" / "done"
    assert made_in(folder) is None
    assert located(read_config(folder), folder, NAMED).data == "data/t.csv"
    assert surefoot.evaluate("done").examples == 9


def test_what_was_copied_with_its_data_reads_the_copy(begun, tmp_path, monkeypatch):
    shutil.copytree(begun, tmp_path / "copy")
    text = (begun / "data" / "t.csv").read_text()
    (tmp_path / "copy" / "data" / "t.csv").write_text(text.replace(",a\n", ",b\n", 1))
    monkeypatch.chdir(tmp_path / "copy")
    with pytest.raises(DataError, match="has changed"):
        surefoot.evaluate("done")


def test_code_is_not_imported_from_where_a_folder_says_that_somebody_sent(begun, tmp_path):
    sent = tmp_path / "elsewhere" / "sent"
    (begun / "runs" / "done").rename(sent)
    assert made_in(sent) == begun
    assert code_in(sent) is None


def test_other_code_under_the_same_name_is_said(begun, tmp_path):
    environment = begun / "runs" / "done" / "environment.json"
    values = json.loads(environment.read_text())
    values["identity"]["the model's code"] = "0" * 64
    values.pop("seal")
    environment.write_text(json.dumps(values))
    with pytest.warns(UserWarning, match="the code of net_elsewhere:net is not that with which"):
        surefoot.evaluate(begun / "runs" / "done")
