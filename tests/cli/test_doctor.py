"""`surefoot doctor`: the table and the JSON of what was measured."""

import json

import pytest

from surefoot.checkup import measure
from surefoot.cli.app import run
from surefoot.record import figures


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(measure, "SIDES", (32,))
    monkeypatch.setattr(measure, "IMAGES", (1,))
    monkeypatch.setattr(measure, "COPIED_BYTES", 2**16)
    monkeypatch.setattr(figures, "cache_folder", lambda: tmp_path / "cache")


def test_it_prints_what_the_machine_can_do_and_progress_apart(capsys, tmp_path):
    assert run(["doctor", "--device", "cpu", "--runs-dir", str(tmp_path)]) == 0
    seen = capsys.readouterr()
    for words in ("matrix product, GFLOP/s", "convolution, GFLOP/s", "copy, GB/s", "bf16", "threads", "operator call"):
        assert words in seen.out
    assert "measuring cpu, bf16" in seen.err
    assert "measuring" not in seen.out


def test_json_has_all_of_it_and_quiet_says_nothing_beside(capsys, tmp_path):
    assert run(["doctor", "--device", "cpu", "--runs-dir", str(tmp_path), "--json", "--quiet"]) == 0
    seen = capsys.readouterr()
    answer = json.loads(seen.out)
    assert {"verdict", "devices", "around", "findings", "files", "notes"} == set(answer)
    assert seen.err == ""


def test_a_device_that_is_none_is_a_message(capsys):
    assert run(["doctor", "--device", "tpu"]) == 2
    assert "a device is auto" in capsys.readouterr().err
