import pytest
import torch

from surefoot.checkup import measure as module
from surefoot.checkup.measure import measure

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Let no measurement take long: what it gives is not looked at, but for its kind."""
    monkeypatch.setattr(module, "SECONDS", 0.0)
    monkeypatch.setattr(module, "SIDES", (32, 64))
    monkeypatch.setattr(module, "IMAGES", (1,))
    monkeypatch.setattr(module, "COPIED_BYTES", 2**16)


def test_every_kind_of_work_has_a_rate():
    measured = measure(CPU)
    figures = measured.figures
    for operation in ("matrix product", "convolution", "copy"):
        for precision in ("fp32", "bf16"):
            assert figures.per_second(operation, precision, 1) > 0
    assert 0 < figures.call_seconds < 0.1
    assert figures.numbers_per_second > 0
    assert measured.shares.keys() == {1}
    assert measured.unsteady >= 1


def test_one_thread_and_all_are_measured_and_put_back():
    torch.set_num_threads(2)
    measured = measure(CPU)
    assert torch.get_num_threads() == 2
    assert {rate.threads for rate in measured.figures.rates} == {1, 2}
    assert measured.shares.keys() == {1, 2}


def test_the_callers_random_state_and_switches_stay_and_fp32_is_whole_meanwhile(monkeypatch):
    before, seen = torch.get_rng_state(), []
    real = module._rates

    def looked(*given):
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return real(*given)

    monkeypatch.setattr(module, "_rates", looked)
    torch.set_float32_matmul_precision("medium")
    try:
        rounded = torch.backends.mkldnn.matmul.fp32_precision
        with torch.no_grad():
            measure(CPU)
            assert not torch.is_grad_enabled()
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.mkldnn.matmul.fp32_precision == rounded != "ieee"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {"ieee"}
    assert torch.equal(before, torch.get_rng_state())


def test_threads_come_back_where_a_measurement_fails(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(module, "_rates", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure(CPU)
    assert torch.get_num_threads() == 2


def test_sizes_grow_while_a_repetition_is_short(monkeypatch):
    made = []
    monkeypatch.setattr(module, "LONGEST_REPETITION", 0.0)
    watch = module._Watch(CPU)
    watch.growing((1, 2, 3), float, lambda size: made.append(size) or (lambda: None))
    assert made == [1]
    monkeypatch.setattr(module, "LONGEST_REPETITION", 1e9)
    made.clear()
    watch.growing((1, 2, 3), float, lambda size: made.append(size) or (lambda: None))
    assert made == [1, 2, 3]
