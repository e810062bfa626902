import fcntl
import io
import json
import os
import signal
import subprocess
import sys

import pytest

from surefoot.errors import CheckpointError, ConfigError
from surefoot.record import store
from surefoot.record.run import Row

ROW = Row(
    step=1, epoch=0.1, examples=10, lr=0.1, train_loss=1.5, train_accuracy=0.5, val_loss=None, val_accuracy=None,
    grad_norm=2.0, update_ratio=1e-3, losses=(1.5,), seconds=0.25, examples_per_second=40.0,
)  # fmt: skip


def row(step: int) -> Row:
    return Row(**{**ROW.__dict__, "step": step})


def test_what_is_written_is_there_whole_and_nothing_else(tmp_path):
    store.write_bytes(tmp_path / "a", b"old")
    store.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("operation", ["fsync", "replace", "write"])
def test_a_write_that_fails_leaves_the_old_file_and_no_leftover(operation, tmp_path, monkeypatch):
    store.write_bytes(tmp_path / "a", b"old")

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if operation == "write":
            plain = io.open

            def opened(file, mode="r", *arguments, **options):
                handle = plain(file, mode, *arguments, **options)
                if "x" in mode:
                    handle.write = fail
                return handle

            patch.setattr(io, "open", opened)
        else:
            patch.setattr(os, operation, fail)
        with pytest.raises(OSError, match="No space left"):
            store.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_is_flushed_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        plain = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, plain=plain, **k: (order.append(name), plain(*a, **k))[1])
    store.write_bytes(tmp_path / "a", b"x")
    assert order == ["fsync", "replace", "fsync"]


def test_what_was_left_by_a_kill_is_swept_and_nothing_else(tmp_path):
    for name in (".config.toml.tmp-12-ab", ".hidden", "config.toml"):
        (tmp_path / name).write_text("x")
    store.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "config.toml"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_json_that_cannot_be_read_is_a_checkpoint_error_that_names_the_file(content, tmp_path):
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"result\.json"):
        store.read_json(tmp_path / "result.json")
    with pytest.raises(CheckpointError, match="must exist"):
        store.read_json(tmp_path / "absent.json")


def test_json_holds_no_number_that_json_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "a", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_held_for_the_block_and_freed_by_an_exception(tmp_path):
    with store.locked(tmp_path):
        with pytest.raises(CheckpointError, match=f"in use by process {os.getpid()}"), store.locked(tmp_path):
            pass
        assert (tmp_path / "lock").read_text() == str(os.getpid())
    with pytest.raises(KeyError), store.locked(tmp_path):
        raise KeyError
    with store.locked(tmp_path):
        pass


_PARENT = """
import os, pathlib, sys, time
from surefoot.record import store

with store.locked(pathlib.Path(sys.argv[1])):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(100)
"""


def test_a_fork_that_outlives_its_parent_does_not_hold_the_lock(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with pytest.raises(CheckpointError, match=f"in use by process {parent.pid}"), store.locked(tmp_path):
            pass
        parent.kill()
        parent.wait()
        os.kill(child, 0)  # it is there
        with store.locked(tmp_path):
            pass
    finally:
        parent.kill()
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def test_a_lock_whose_file_was_made_anew_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    plain = fcntl.flock

    def removed_meanwhile(file, how):
        plain(file, how)
        (tmp_path / "lock").unlink()
        (tmp_path / "lock").touch()

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(CheckpointError, match="in use"), store.locked(tmp_path):
        pass


def test_a_folder_is_discarded_only_where_no_run_has_begun(tmp_path):
    for name, files in {"begun": ["config.toml", "lock"], "not": ["lock", "environment.json"], "other": ["x"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
        store.discard_if_empty(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"begun", "other"}
    assert {path.name for path in (tmp_path / "begun").iterdir()} == {"config.toml", "lock"}


def test_rows_come_back_as_they_were_written(tmp_path):
    store.append_rows(tmp_path, [row(1), row(2)])
    store.append_rows(tmp_path, [])
    store.append_rows(tmp_path, [row(3)])
    store.flush_rows(tmp_path)
    assert store.read_rows(tmp_path) == (row(1), row(2), row(3))
    assert store.read_rows(tmp_path / "absent") == ()


def test_a_last_line_that_a_kill_cut_short_is_left_out_at_every_length(tmp_path):
    store.append_rows(tmp_path, [row(1), row(2)])
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert store.read_rows(tmp_path) == (row(1),)
    path.write_bytes(whole[:-1])
    assert store.read_rows(tmp_path) == (row(1), row(2)), "only the line's end is missing"


@pytest.mark.parametrize("line", ["", "{", "null", "5", "[]", '{"step": 1}', '"x"', "[" * 5000])
def test_a_damaged_line_before_the_last_is_named(line, tmp_path):
    good = json.dumps(row(1).to_dict())
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(CheckpointError, match="line 2"):
        store.read_rows(tmp_path)


def test_metrics_that_are_no_text_are_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"\xff\xff\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl"):
        store.read_rows(tmp_path)


def test_rows_after_a_step_are_dropped(tmp_path):
    store.append_rows(tmp_path, [row(1), row(2), row(3)])
    assert store.keep_rows(tmp_path, 2) == (row(1), row(2))
    assert store.read_rows(tmp_path) == (row(1), row(2))


def test_a_run_is_found_by_its_name_and_by_its_path(tmp_path):
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "config.toml").touch()
    assert store.run_folder("a", tmp_path / "runs") == run
    assert store.run_folder(run, tmp_path / "elsewhere") == run
    with pytest.raises(CheckpointError, match="Choose one of a"):
        store.run_folder("b", tmp_path / "runs")
    with pytest.raises(CheckpointError, match="Start one"):
        store.run_folder("b", tmp_path / "elsewhere")


def test_new_names_are_names_and_new(tmp_path):
    first = store.new_name("some/where/my data.csv", "package.module:Net", tmp_path, "20260102-030405")
    assert first == "20260102-030405-my-data.csv-Net"
    assert store.check_name(first) == first
    for expected in (f"{first}-2", f"{first}-3"):
        (tmp_path / store.new_name("some/where/my data.csv", "package.module:Net", tmp_path, "20260102-030405")).mkdir()
        assert store.new_name("my data.csv", "m:Net", tmp_path, "20260102-030405") == expected


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "ü", "a\n", "../../etc", "x" * 200])
def test_names_that_could_leave_the_folder_or_hide_are_refused(name):
    with pytest.raises(ConfigError, match="run's name"):
        store.check_name(name)
