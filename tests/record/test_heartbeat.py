import os
import time

from surefoot.record import heartbeat as module
from surefoot.record.heartbeat import HEARTBEAT, Heartbeat, Pulse, read_heartbeat

NOW = Heartbeat(phase="training", steps_done=3, steps_planned=10, seconds=1.5)


def test_it_comes_back_with_its_age_and_goes_with_the_run(tmp_path):
    pulse = Pulse(tmp_path)
    assert pulse.due
    pulse.beat(NOW)
    assert not pulse.due
    found, age = read_heartbeat(tmp_path)
    assert found == NOW
    assert age < 60
    os.utime(tmp_path / HEARTBEAT, (time.time() - 100, time.time() - 100))
    assert read_heartbeat(tmp_path)[1] > 99
    pulse.stop()
    pulse.stop()
    assert list(tmp_path.iterdir()) == []


def test_it_is_due_once_a_second(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    pulse = Pulse(tmp_path)
    pulse.beat(NOW)
    clock[0] += 0.99
    assert not pulse.due
    clock[0] += 0.02
    assert pulse.due


def test_what_cannot_be_written_or_read_is_none(tmp_path):
    Pulse(tmp_path / "gone").beat(NOW)
    assert read_heartbeat(tmp_path / "gone") is None
    for content in ("", "[]", "{}", '{"phase": "training"', '{"pulse": 60}'):
        (tmp_path / HEARTBEAT).write_text(content)
        assert read_heartbeat(tmp_path) is None
