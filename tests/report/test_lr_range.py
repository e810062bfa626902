"""The pictures of step 3 from invented evidence."""

import copy
import math

import pytest

from surefoot.errors import ConfigError
from surefoot.report.look import save_chart
from surefoot.report.lr_range import lr_range_chart

RATES = [
    {"lr": 10.0 ** (k / 2 - 3), "final_losses": [2.3 - 0.3 * k, 2.2 - 0.3 * k], "drop": 0.3 * k, "word": "drops",
     "curve": [2.3, 2.3 - 0.3 * k]}
    for k in range(5)
] + [{"lr": 1.0, "final_losses": [None, 50.0], "drop": None, "word": "diverged", "curve": [2.3, None]}]  # fmt: skip
DECISION = {
    "value": {"lr": 0.07, "low": 0.05, "high": 0.1, "low_interval": [0.04, 0.06], "high_interval": [0.1, 0.3]},
    "evidence": {
        "rates": RATES, "curve_steps": [1.0, 2.0], "initial_losses": [2.3, 2.3], "steps": 2,
        "range_test": {"lrs": [1e-3, 1e-2], "losses": [2.3, 2.0], "smoothed": [2.3, 2.2],
                       "suggestions": {"steep": 3e-3, "valley": None, "slide": 3e-3, "minimum/10": 1e-3}},
    },
}  # fmt: skip


def test_there_are_three_panels_and_two_without_a_range_test():
    assert len(lr_range_chart(DECISION).to_dict()["vconcat"]) == 3
    without = copy.deepcopy(DECISION)
    del without["evidence"]["range_test"]
    assert len(lr_range_chart(without).to_dict()["vconcat"]) == 2


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_it_can_be_written(tmp_path, ending):
    path = save_chart(lr_range_chart(DECISION), tmp_path / f"rates.{ending}")
    assert path.stat().st_size > 1000


def test_what_diverged_leaves_the_picture_and_not_the_list():
    names = str(lr_range_chart(DECISION).to_dict())
    assert "diverged" in names
    assert "50.0" not in names


def test_every_rate_has_its_curve():
    lines = lr_range_chart(DECISION).to_dict()["vconcat"][0]
    drawn = {point["rate"].split()[0] for point in lines["data"]["values"]}
    assert drawn == {"0.001", "0.0032", "0.01", "0.032", "0.1", "1"}


def test_every_rate_has_a_colour_of_its_own():
    many = copy.deepcopy(DECISION)
    many["evidence"]["rates"] = [RATES[0] | {"lr": 10.0 ** (k / 2 - 3)} for k in range(12)]
    scale = lr_range_chart(many).to_dict()["vconcat"][0]["encoding"]["color"]["scale"]
    assert len(set(scale["domain"])) == 12
    assert scale["scheme"]["name"] == "viridis"
    assert scale["domain"][-2:] == ["100  drops", "316  drops"]


def test_without_a_bracket_the_rates_are_still_drawn():
    assert lr_range_chart({**DECISION, "value": None}).to_dict()["vconcat"]


def test_infinities_of_a_fresh_decision_are_drawn_as_those_of_a_stored_one():
    fresh = copy.deepcopy(DECISION)
    fresh["evidence"]["rates"][-1] |= {"final_losses": [math.inf, 50.0], "curve": [2.3, math.inf]}
    assert lr_range_chart(fresh).to_dict()["vconcat"] == lr_range_chart(DECISION).to_dict()["vconcat"]


def test_another_decision_is_an_error():
    with pytest.raises(ConfigError):
        lr_range_chart({"value": None, "evidence": {}})
