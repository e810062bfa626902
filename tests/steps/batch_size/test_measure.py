"""Seconds of a step at each size: which sizes are timed, and that nothing is changed."""

import pytest
import torch
from small import BatchNormDropoutNet, contents, images

import surefoot
from surefoot.record.progress import finished
from surefoot.steps.batch_size import measure
from surefoot.steps.batch_size.measure import BatchSizeSearch, step_times
from surefoot.training.loop import start

RECIPE = surefoot.Recipe(lr=0.1, batch_size=10)


def timed(work, **search):
    return finished(step_times(work, RECIPE, BatchSizeSearch(**search)))


def test_each_size_that_is_asked_for_is_timed_and_the_model_stays_as_it_is():
    work = surefoot.task(images(), BatchNormDropoutNet, threads=1)
    before = contents(start(work, surefoot.plan(RECIPE, 60)))
    found, _ = timed(work, sizes=(20, 4), rounds=3)
    assert [each.batch_size for each in found] == [4, 20]
    assert all(len(each.seconds) == 3 and 0 < each.estimate.value < 1 for each in found)
    assert contents(start(work, surefoot.plan(RECIPE, 60))) == before


def test_sizes_are_powers_of_two_up_to_the_training_part():
    found, reason = timed(surefoot.task(images(), "linear", threads=1), rounds=1)
    assert [each.batch_size for each in found] == [4, 8, 16, 32]
    assert "60 examples" in reason


def test_sizes_end_where_memory_does(monkeypatch):
    work = surefoot.task(images(), "mlp", threads=1)
    monkeypatch.setattr(measure, "step_bytes", lambda member: member.plan.batch_size)
    monkeypatch.setattr(measure, "free_bytes", lambda _: 40)
    found, reason = timed(work, rounds=1)
    assert [each.batch_size for each in found] == [4, 8, 16]
    assert "memory" in reason


def test_a_device_that_runs_out_of_memory_ends_the_sizes_too(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    work = surefoot.task(images(), "linear", threads=1)
    monkeypatch.setattr(measure, "start", full)
    found, reason = timed(work, rounds=1)
    assert found == []
    assert "did not fit" in reason


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [({4: 1.0, 8: 2.0, 16: 4.0}, True), ({4: 1.0, 8: 1.5, 16: 2.0}, False), ({8: 1.0, 16: 2.0}, False)],
)
def test_sizes_end_where_examples_per_second_no_longer_grow(seconds, ends):
    assert measure._saturated(seconds, 16) == ends
