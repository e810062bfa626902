"""When noise is measured along a run, and what goes into its file."""

import pytest
import torch
from small import images
from torch import nn

import surefoot
from surefoot.config import Config
from surefoot.optim.plan import plan
from surefoot.record.noise import NOISE, read_noise
from surefoot.steps.batch_size.along_run import NoiseLog, due, relative_cost
from surefoot.training.configure import Objects


def made(steps, rows=1):
    return plan(surefoot.Recipe(steps=steps, batch_size=10), examples=100, rows_per_epoch=rows)


def test_it_is_due_at_rows_and_never_for_more_than_its_share():
    for cost in (0.01, 0.3, 1.0):
        found = due(made(5000), cost, 0.015)
        last = 0
        for at, groups in found.items():
            assert at % 10 == 0
            assert 8 <= groups <= 32
            assert groups * cost <= 0.015 * (at - last) + 1e-9
            last = at
        assert found
    assert len(due(made(5000), 0.01, 0.015)) > len(due(made(5000), 1.0, 0.015))


def test_a_short_run_measures_nothing():
    assert due(made(100), 1.0, 0.015) == {}


def test_a_small_batch_of_a_large_model_costs_its_share_of_a_step_and_of_a_small_model_a_whole_one():
    def cost(model, **more):
        return relative_cost(surefoot.task(images(), model, threads=1, **more), 128, 16)

    assert cost("linear") > 0.99
    wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 20_000), nn.Linear(20_000, 3))
    assert 16 / 128 < cost(wide) < 0.3


def test_a_model_that_cannot_be_counted_costs_a_whole_step(monkeypatch):
    def refuse(*_args, **_more):
        raise RuntimeError

    work = surefoot.task(images(), "linear", threads=1)
    monkeypatch.setattr("surefoot.steps.batch_size.along_run.FlopCounterMode", refuse)
    assert relative_cost(work, 128, 16) == 1


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("surefoot.steps.batch_size.along_run.SHARE", 1.0)
    config = Config(
        data="in-memory", model="linear", threads=1, recipe=surefoot.Recipe(lr=0.1, epochs=4, batch_size=10)
    )
    with surefoot.open_run(config, name="a", runs_dir=tmp_path, objects=Objects(data=images(60))) as opened:
        yield opened


def test_each_due_step_is_measured_once(run):
    log = NoiseLog.of(run)
    assert (run.folder / NOISE).is_file(), "the file says that this run measures noise"
    while not run.done:
        assert log.measure_if_due() is None or run.state.step in log.due
        assert log.measure_if_due() is None
        run.advance()
    log.measure_if_due()
    assert [noise.step for noise in read_noise(run.folder)] == list(log.due)
    assert list(log.measured) == list(read_noise(run.folder))


def test_a_gradient_that_is_not_finite_ends_nothing(run):
    log = NoiseLog.of(run)
    run.advance(12)
    with torch.no_grad():
        run.state.model.head.weight.fill_(float("inf"))
    assert 12 in log.due
    assert log.measure_if_due() is None
