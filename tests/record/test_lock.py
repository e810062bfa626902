"""The lock of a run's folder."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from surefoot.errors import CheckpointError
from surefoot.record.lock import is_held, locked


def test_the_lock_is_held_for_the_block_and_freed_by_an_exception(tmp_path):
    with locked(tmp_path):
        with pytest.raises(CheckpointError, match=f"in use by process {os.getpid()}"), locked(tmp_path):
            pass
        assert (tmp_path / "lock").read_text() == str(os.getpid())
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


_PARENT = """
import os, pathlib, sys, time
from surefoot.record.lock import locked

with locked(pathlib.Path(sys.argv[1])):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(100)
"""


def test_a_fork_that_outlives_its_parent_does_not_hold_the_lock(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with pytest.raises(CheckpointError, match=f"in use by process {parent.pid}"), locked(tmp_path):
            pass
        parent.kill()
        parent.wait()
        os.kill(child, 0)  # it is there
        with locked(tmp_path):
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
    with pytest.raises(CheckpointError, match="in use"), locked(tmp_path):
        pass


def test_whether_it_is_held_is_asked_without_taking_it_and_without_fcntl_too(tmp_path, monkeypatch):
    assert not is_held(tmp_path)
    assert list(tmp_path.iterdir()) == [], "asking makes no file"
    for without in (False, True):
        with monkeypatch.context() as patch:
            if without:
                patch.setitem(sys.modules, "fcntl", None)
            with locked(tmp_path):
                assert is_held(tmp_path)
            assert not is_held(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_locked_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="must be a folder that can be written to"), locked(tmp_path):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_lock_that_is_no_file_is_named(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(CheckpointError, match="must be a folder that can be written to"), locked(tmp_path):
        pass
