"""The pictures of the batch size from invented evidence."""

import copy

import pytest

from surefoot.errors import ConfigError
from surefoot.report.charts import save_chart
from surefoot.report.noise import noise_chart

DECISION = {
    "value": {"batch_size": 64, "noise_scale": 300.0, "noise_scale_interval": [200.0, None]},
    "evidence": {
        "batch_size": 64, "target_loss": 0.5, "steps": 100,
        "sizes": [
            {"batch_size": size, "step_seconds": [0.01 * size, 0.011 * size], "examples_per_second": 95.0,
             "steps": [100.0, 90.0, 120.0], "seconds": [size * 1.0, size * 0.8, size * 1.3]}
            for size in (16, 64, 256)
        ],
        "noise": [
            {"step": 10, "total": {"noise_scale": [300.0, 200.0, 400.0]}},
            {"step": 50, "total": {"noise_scale": [None, 500.0, None]}},
        ],
    },
}  # fmt: skip


def test_there_are_three_panels():
    assert len(noise_chart(DECISION).to_dict()["vconcat"]) == 3


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_it_can_be_written(tmp_path, ending):
    assert save_chart(noise_chart(DECISION), tmp_path / f"noise.{ending}").stat().st_size > 1000


def test_an_open_interval_is_drawn_to_the_top_with_an_arrow():
    panel = noise_chart(DECISION).to_dict()["vconcat"][2]
    arrows = [layer for layer in panel["layer"] if layer["mark"].get("shape") == "triangle-up"]
    assert [point["step"] for point in arrows[0]["data"]["values"]] == [50]
    assert arrows[0]["data"]["values"][0]["high"] == 1500.0


def test_noise_that_is_open_throughout_can_be_drawn(tmp_path):
    hidden = copy.deepcopy(DECISION)
    hidden["evidence"]["noise"] = [{"step": 10, "total": {"noise_scale": [None, None, None]}}]
    assert save_chart(noise_chart(hidden), tmp_path / "noise.svg").stat().st_size > 1000


def test_another_decision_is_an_error():
    for other in ({"value": None, "evidence": {}}, {"value": {"lr": 0.1}, "evidence": DECISION["evidence"]}):
        with pytest.raises(ConfigError):
            noise_chart(other)
