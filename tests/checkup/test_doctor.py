import dataclasses
import json

import pytest
import torch

import surefoot
from surefoot.checkup import doctor as module
from surefoot.checkup.judge import Measured
from surefoot.errors import ConfigError
from surefoot.record import figures as record
from surefoot.record.figures import MachineFigures, Rate
from surefoot.training.figures import figures_of, machine_of

CPU = torch.device("cpu")


def measured(device, say):
    if say is not None:
        say(f"{device}")
    rate = Rate(operation="convolution", precision="fp32", threads=1, per_second=1e11)
    figures = MachineFigures(
        machine=machine_of(device), date="2026-11-28", how="", rates=(rate,), call_seconds=3e-6, numbers_per_second=1e9
    )
    return Measured(figures=figures, shares={1: 1.0}, unsteady=1.0, native_bf16=True)


@pytest.fixture(autouse=True)
def _invented(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", measured)
    monkeypatch.setattr(record, "cache_folder", lambda: tmp_path / "cache")


def test_figures_are_kept_for_this_machine():
    said = []
    checkup = surefoot.doctor(device="cpu", say=said.append)
    assert said == ["cpu"]
    assert figures_of(CPU) == (checkup.devices[0].figures, None)
    assert checkup.files == (str(record.figures_path(machine_of(CPU))),)
    assert checkup.notes == ()
    assert json.loads(json.dumps(checkup.to_dict()))["devices"][0]["figures"]["call_seconds"] == 3e-6


def test_figures_of_a_busy_machine_are_not_kept_and_those_before_stay(monkeypatch):
    surefoot.doctor(device="cpu")
    before = figures_of(CPU)
    slow = {"shares": {1: 0.5}, "figures": dataclasses.replace(before[0], call_seconds=1e-3)}
    monkeypatch.setattr(module, "measure", lambda *given: dataclasses.replace(measured(*given), **slow))
    checkup = surefoot.doctor(device="cpu")
    assert checkup.files == ()
    assert any("not kept" in note for note in checkup.notes)
    assert checkup.verdict == "suspect"
    assert figures_of(CPU) == before


def test_a_cache_that_cannot_be_written_to_costs_the_figures_and_no_error(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("")
    checkup = surefoot.doctor(device="cpu")
    assert checkup.files == ()
    assert any("not kept" in note for note in checkup.notes)


def test_damaged_figures_are_named_and_replaced():
    path = record.figures_path(machine_of(CPU))
    path.parent.mkdir(parents=True)
    path.write_text("{")
    checkup = surefoot.doctor(device="cpu")
    assert any("damaged" in note for note in checkup.notes)
    assert figures_of(CPU)[0] is not None


def test_an_absent_device_is_refused():
    with pytest.raises(ConfigError, match="device = "):
        surefoot.doctor(device="tpu")
