import os
import time

from surefoot.record import progress as module
from surefoot.record.progress import PROGRESS, Progress, ProgressFile, read_progress

NOW = Progress(phase="training", steps_done=3, steps_planned=10, seconds=1.5)


def test_it_comes_back_with_its_age_and_goes_with_the_run(tmp_path):
    file = ProgressFile(tmp_path)
    assert file.due
    file.write(NOW)
    assert not file.due
    found, age = read_progress(tmp_path)
    assert found == NOW
    assert age < 60
    os.utime(tmp_path / PROGRESS, (time.time() - 100, time.time() - 100))
    assert read_progress(tmp_path)[1] > 99
    file.remove()
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_it_is_due_once_a_second(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    file = ProgressFile(tmp_path)
    file.write(NOW)
    clock[0] += 0.99
    assert not file.due
    clock[0] += 0.02
    assert file.due


def test_what_cannot_be_written_or_read_is_none(tmp_path):
    ProgressFile(tmp_path / "gone").write(NOW)
    assert read_progress(tmp_path / "gone") is None
    for content in ("", "[]", "{}", '{"phase": "training"', '{"file": 60}'):
        (tmp_path / PROGRESS).write_text(content)
        assert read_progress(tmp_path) is None
