"""What every test of the suite stands on: one thread, and text without colours."""

import os

# Before torch is imported, here and in every process that a test starts. The suite runs on several workers;
# thread pools on top of them would fight for the cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("NO_COLOR", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _unmeasured(tmp_path_factory, monkeypatch):
    """Let no test go by figures that somebody has measured of this machine."""
    monkeypatch.setattr("surefoot.record.figures.cache_folder", lambda: tmp_path_factory.getbasetemp() / "no-cache")


@pytest.fixture(autouse=True)
def _one_thread():
    """Give each test one thread, whatever the test before it asked for."""
    yield
    torch.set_num_threads(1)
