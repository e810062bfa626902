import builtins
import math
import struct
import sys

import pytest

from surefoot.errors import ConfigError
from surefoot.integrations.tensorboard import EVENTS, SCALARS, Events
from surefoot.record.run import Row


def row(step, **changes):
    seen = {
        "step": step, "epoch": step / 10, "examples": step * 32, "lr": 0.1, "train_loss": 1.0 / step,
        "train_accuracy": None, "val_loss": 2.0 / step, "val_accuracy": None, "grad_norm": 1.0, "update_ratio": 1e-3,
        "losses": (), "seconds": 1.0, "examples_per_second": 100.0,
    }  # fmt: skip
    return Row(**{**seen, **changes})


def read(folder):
    """Scalars by name and step, as TensorBoard reads them: one that starts again drops what it replaces."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found = {}
    for path in sorted((folder / EVENTS).iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, at = path.read_bytes(), 0
        while at < len(content):  # length, its CRC, the event, its CRC
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            if event.session_log.status == SessionLog.START:
                found = {key: value for key, value in found.items() if key[1] < event.step}
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


def test_every_number_of_a_row_is_there_under_its_step_and_what_does_not_exist_is_left_out(tmp_path):
    with Events(tmp_path) as events:
        events.add([row(10), row(20, val_loss=math.nan, train_accuracy=0.5)])
    found = read(tmp_path)
    assert found["loss/train", 10] == pytest.approx(0.1)
    assert ("loss/validation", 20) not in found
    assert ("accuracy/train", 10) not in found
    assert found["accuracy/train", 20] == 0.5
    assert {name for name, _ in found} == set(SCALARS) - {"accuracy/validation"}


def test_a_layer_has_its_gradient_norm_and_its_update_ratio(tmp_path):
    with Events(tmp_path) as events:
        events.add([row(10, layers={"stem": (0.5, math.nan), "head": (2.0, 0.25)})])
    found = read(tmp_path)
    assert found["layer_grad_norm/stem", 10] == 0.5
    assert found["layer_update_ratio/head", 10] == 0.25
    assert ("layer_update_ratio/stem", 10) not in found


def test_a_run_that_goes_on_replaces_what_came_after_its_checkpoint(tmp_path):
    with Events(tmp_path) as events:
        events.add([row(10), row(20), row(30)])
    with Events(tmp_path, after_step=10) as events:
        events.add([row(20, train_loss=7.0)])
    found = read(tmp_path)
    assert found["loss/train", 20] == 7.0
    assert {step for _, step in found} == {10, 20}


def test_without_the_package_one_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorboardX", raising=False)
    whole = builtins.__import__

    def refused(name, *rest):
        if name == "tensorboardX":
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refused)
    with pytest.raises(ConfigError, match="pip install tensorboardX"):
        Events(tmp_path)
