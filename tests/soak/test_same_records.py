"""Two versions of a small program that writes run folders as ours does: what is different is found, and only that."""

import json
import shutil
import subprocess

import pytest
import record_runs
import same_records
from record_commands import Command, commands, write_inputs
from record_rules import Renamed

PROGRAM = """
import json, os, pathlib, random, sys
word, name = sys.argv[1:3]
run = pathlib.Path("runs", name)
if word == "show":
    print("seconds", json.loads((run / "result.json").read_text())["seconds"])
    sys.exit()
run.mkdir(parents=True)
result = {"KEY": 0.1 + LOSS, "seconds": random.random(), "threads": os.environ["OMP_NUM_THREADS"]}
(run / "result.json").write_text(json.dumps(result))
print(json.dumps(result))
sys.exit(CODE)
"""
COMMANDS = [
    Command(name="train-a", words=("train", "train-a"), quick=True),
    Command(name="show-a", words=("show", "train-a"), of="train-a", frozen=True),
]


@pytest.fixture
def versions(tmp_path):
    """Return a function that makes a checkout of the program."""

    def make(name, key="loss", loss="0.2", code="0"):
        package = tmp_path / name / "src" / "surefoot"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("__version__ = '1'\n")
        text = PROGRAM.replace("KEY", key).replace("LOSS", loss).replace("CODE", code)
        (package / "__main__.py").write_text(text)
        return str(tmp_path / name)

    return make


def compared(*words, every=COMMANDS):
    return same_records.main([*map(str, words), "--jobs", "2"], lambda: list(every))


def test_the_same_program_twice_is_equal_though_its_clock_is_not(versions, tmp_path, capfd):
    assert compared(versions("a"), versions("b"), "--out", tmp_path / "verdict.json") == 0
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["equal"] == verdict["commands"] == 2
    assert verdict["same_source_twice"]
    assert "2 of 2 commands equal" in capfd.readouterr().out


def test_a_changed_constant_is_found(versions, capfd):
    assert compared(versions("a"), versions("b", loss="0.25")) == 1
    out = capfd.readouterr().out
    assert "runs/train-a/result.json: loss: 0.30000000000000004 != 0.35" in out
    assert "stdout: loss" in out


def test_another_exit_status_is_found(versions, capfd):
    assert compared(versions("a"), versions("b", code="3"), "--only", "train-*") == 1
    assert "exit status: 0 != 3" in capfd.readouterr().out


def test_a_command_that_fails_on_both_sides_is_not_called_equal(versions, capfd):
    assert compared(versions("a", code="3"), versions("b", code="3"), "--only", "train-*") == 1
    assert "OLD ended with 3 in place of 0" in capfd.readouterr().out


def test_a_renaming_on_purpose_is_no_difference_and_is_said(versions, monkeypatch, capfd):
    renamed = (Renamed(old="$/loss", new="$/train_loss", reason="the word of a row"),)
    old, new = versions("a"), versions("b", key="train_loss")
    assert compared(old, new) == 1
    monkeypatch.setattr(same_records, "RENAMED", renamed)
    assert compared(old, new) == 0
    assert "renamed on purpose: $/loss -> $/train_loss (the word of a row)" in capfd.readouterr().out


def test_what_was_run_is_kept_in_the_work_folder(versions, tmp_path, capfd):
    old, new, work = versions("a"), versions("b", loss="0.25"), tmp_path / "work"
    compared(old, new, "--work", work)
    assert "was run before" not in capfd.readouterr().err
    compared(old, versions("c", loss="0.3"), "--work", work)
    assert capfd.readouterr().err.count("was run before") == 2  # both commands of the old one


def test_a_command_whose_run_is_read_goes_with_it():
    assert [each.name for each in same_records.chosen(COMMANDS, "show-*", quick=False)] == ["train-a", "show-a"]
    assert [each.name for each in same_records.chosen(COMMANDS, None, quick=True)] == ["train-a"]


def test_a_commit_is_compared_with_what_is_not_committed(versions, tmp_path, monkeypatch, capfd):
    checkout = versions("a")

    def git(*words):
        name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *name, *words], cwd=checkout, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(record_runs, "REPOSITORY", tmp_path / "a")
    assert compared("HEAD", checkout) == 0
    program = tmp_path / "a" / "src" / "surefoot" / "__main__.py"
    program.write_text(program.read_text().replace("0.2", "0.25"))
    assert compared("HEAD", checkout, "--only", "train-*") == 1
    assert "with changes" in capfd.readouterr().out


def test_what_is_no_version_is_said(tmp_path):
    with pytest.raises(SystemExit, match="nowhere: it must be a commit of this repository or the folder"):
        compared("nowhere", "nowhere")


def test_the_list_of_commands_holds_together():
    every = commands()
    names = [each.name for each in every]
    assert len(set(names)) == len(names)
    for i, each in enumerate(every):
        assert each.of is None or each.of in names[:i]
        assert each.of is not None or each.words[each.words.index("--threads") + 1] == "1"
    assert {name for _, _, _, name in same_records.PLANTED} <= set(names)


def test_the_data_of_the_commands_are_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        write_inputs(tmp_path / name)
    assert record_runs.digest_of(tmp_path / "a") == record_runs.digest_of(tmp_path / "b")


def test_what_the_self_test_changes_stands_once_in_the_source(tmp_path):
    for _, old, new, _ in same_records.PLANTED:
        shutil.rmtree(tmp_path / "src", ignore_errors=True)
        shutil.copytree(record_runs.REPOSITORY / "src", tmp_path / "src")
        same_records.plant(tmp_path / "src", old, new)
