"""The search for a batch size: its decision, and its promises."""

import json

import pytest
from small import BatchNormDropoutNet, contents, images

import surefoot
from surefoot.config import Recipe
from surefoot.record.decision import Decision
from surefoot.record.noise import Noise
from surefoot.record.progress import finished
from surefoot.steps.batch_size.choose import choosing_batch_size
from surefoot.steps.batch_size.measure import BatchSizeSearch
from surefoot.training.loop import start

SEARCH = BatchSizeSearch(
    sizes=(8, 32, 128), probe_steps=30, points=3, micro_batches=16, micro_batch_examples=32, rounds=2
)


@pytest.fixture(scope="module")
def found():
    work = surefoot.task(surefoot.load("digits"), "mlp", threads=1)
    return finished(choosing_batch_size(work, Recipe(lr=0.05, batch_size=32), SEARCH))


def own_seconds(decision):
    """Seconds of a step at the size of the short run."""
    return next(size["step_seconds"] for size in decision.evidence["sizes"] if size["batch_size"] == 32)


def test_the_value_is_one_of_the_sizes_with_its_evidence(found):
    assert found.verdict != "fail"
    assert found.value["batch_size"] in SEARCH.sizes
    low, high = found.value["noise_scale_interval"]
    assert low < found.value["noise_scale"] < (high or float("inf"))
    back = Decision.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert [size["batch_size"] for size in back.evidence["sizes"]] == [8, 32, 128]
    assert all(len(size["step_seconds"]) == 2 for size in back.evidence["sizes"])
    assert [Noise.from_dict(noise).step for noise in back.evidence["noise"]] == [5, 15, 25]
    least = min(back.evidence["sizes"], key=lambda size: size["seconds"][0])
    races = back.evidence["races"]
    won = [race["batch_size"] for race in races if race["reached"]]
    assert found.value["batch_size"] == (won or [32])[-1]
    if least["batch_size"] != 32:
        assert races[0]["batch_size"] == least["batch_size"], "the predicted size is checked by a run of its own"
    assert all(race["limit"] * race["step_seconds"] <= 30 * 1.5 * max(own_seconds(back)) for race in races)
    assert [f"raced-{race['batch_size']}" for race in races] == [
        each.name for each in back.findings if each.name.startswith("raced-")
    ]
    own = next(size for size in back.evidence["sizes"] if size["batch_size"] == 32)
    assert own["steps"] == [30, 30, 30], "the short run's own size is known"


def test_the_same_seed_gives_the_same_noise(found):
    work = surefoot.task(surefoot.load("digits"), "mlp", threads=1)
    again = finished(choosing_batch_size(work, Recipe(lr=0.05, batch_size=32), SEARCH))
    assert again.evidence["noise"] == found.evidence["noise"]
    assert again.evidence["target_loss"] == found.evidence["target_loss"]


def test_batch_norm_is_said_and_nothing_is_changed():
    work = surefoot.task(images(), BatchNormDropoutNet, augment=["flip"], threads=1)
    plan = surefoot.plan(Recipe(batch_size=10), 60)
    before = contents(start(work, plan))
    search = BatchSizeSearch(
        sizes=(10, 30), probe_steps=10, points=1, micro_batches=8, micro_batch_examples=100, rounds=1
    )
    decision = finished(choosing_batch_size(work, Recipe(lr=0.05, batch_size=10), search))
    assert "batch-norm" in {finding.name for finding in decision.findings}
    assert decision.evidence["noise"][0]["micro_batch_size"] == 60, "no more than there are examples"
    assert contents(start(work, plan)) == before


def test_a_rate_that_diverges_fails_without_a_value():
    work = surefoot.task(surefoot.load("digits"), "mlp", threads=1)
    decision = finished(choosing_batch_size(work, Recipe(lr=1e20, batch_size=32), SEARCH))
    assert decision.verdict == "fail"
    assert decision.value is None
    assert len(decision.evidence["sizes"]) == 3, "what was timed is still shown"


def test_full_batches_and_larger_ones_than_there_are_examples_are_brought_down():
    work = surefoot.task(images(), "linear", threads=1)
    search = BatchSizeSearch(sizes=(60,), probe_steps=10, points=1, micro_batches=8, micro_batch_examples=8, rounds=1)
    decision = finished(choosing_batch_size(work, Recipe(lr=0.01, batch_size="full"), search))
    assert decision.evidence["batch_size"] == 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"probe_steps": 5},
        {"points": 0},
        {"micro_batches": 7},
        {"rounds": 0},
        {"points": 20, "probe_steps": 10},
        {"sizes": ()},
        {"sizes": (0, 4)},
    ],
)
def test_settings_out_of_range_are_errors(wrong):
    with pytest.raises(surefoot.ConfigError):
        BatchSizeSearch(**wrong)


def test_a_size_beyond_the_data_is_an_error():
    work = surefoot.task(images(), "linear", threads=1)
    with pytest.raises(surefoot.ConfigError, match="60 examples"):
        finished(choosing_batch_size(work, Recipe(lr=0.01), BatchSizeSearch(sizes=(61,))))
