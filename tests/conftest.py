"""What every test of the suite stands on: one thread, no card unless it is asked for, and text without colours."""

import os

# Before torch is imported, here and in every process that a test starts. The suite runs on several workers;
# thread pools on top of them would fight for the cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("NO_COLOR", "1")

import pytest
import torch

torch.set_num_threads(1)


def pytest_configure(config):
    """Hide cards from tests that are not about them: these compare with tensors on the CPU, to its last bits."""
    if not asks_for_cards(config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def asks_for_cards(expression: str) -> bool:
    return "card" in expression.replace("not card", "")


def pytest_collection_modifyitems(config, items):
    marked = [item for item in items if item.get_closest_marker("card") is not None]
    if not marked or torch.cuda.is_available():
        return
    hidden = "it runs with -m card" if not asks_for_cards(config.option.markexpr) else "this machine has no card"
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=hidden))


@pytest.fixture(autouse=True)
def _unmeasured(tmp_path_factory, monkeypatch):
    """Let no test go by figures that somebody has measured of this machine."""
    monkeypatch.setattr("surefoot.record.figures.cache_folder", lambda: tmp_path_factory.getbasetemp() / "no-cache")


@pytest.fixture(autouse=True)
def _one_thread():
    """Give each test one thread, whatever the test before it asked for."""
    yield
    torch.set_num_threads(1)
