"""The pictures of a comparison, from an invented one."""

import dataclasses
import json

import pytest
from compared import comparison

from surefoot.report.compare import (
    averaging_chart,
    comparison_figures,
    cost_chart,
    loss_chart,
    search_chart,
)
from surefoot.report.look import save_chart

FIGURES = ["loss", "search", "cost-and-noise", "averaging", "paths", "known-quadratic"]


def points_of(chart) -> list:
    """The data of a layered chart, which altair lifts out of layers that share it."""
    plain = chart.to_dict()
    return plain.get("data", plain["layer"][0].get("data"))["values"]


def values(chart) -> str:
    return json.dumps(chart.to_dict())


def test_there_is_a_picture_of_everything_that_was_measured():
    assert [figure.name for figure in comparison_figures(comparison())] == FIGURES


def test_what_was_not_measured_has_no_picture():
    bare = dataclasses.replace(comparison(), slice=None, averaging=None, surfaces=())
    bare = dataclasses.replace(
        bare, rules=tuple(dataclasses.replace(each, direction=None, tried=()) for each in bare.rules)
    )
    assert [figure.name for figure in comparison_figures(bare)] == ["loss"]


@pytest.mark.parametrize("name", ["loss", "averaging", "known-quadratic"])
def test_a_picture_can_be_written(tmp_path, name):
    charts = {figure.name: figure.chart for figure in comparison_figures(comparison())}
    assert save_chart(charts[name], tmp_path / "it.png").stat().st_size > 5000


def test_the_loss_stands_against_three_axes_with_the_target():
    panels = loss_chart(comparison()).to_dict()["hconcat"]
    titles = [panel["layer"][1]["encoding"]["x"]["title"] for panel in panels]
    assert titles == ["steps", "examples seen", "seconds of training steps"]
    assert all(panel["layer"][2]["data"]["values"] == [{"loss": 0.5}] for panel in panels)
    points = panels[1]["layer"][1]["data"]["values"]
    assert {"rule": "gradient-descent", "x": 1000.0, "loss": 1.5, "low": 1.4, "high": 1.5} in points


def test_what_diverged_in_one_seed_leaves_the_curve_from_there():
    points = loss_chart(comparison()).to_dict()["hconcat"][0]["layer"][1]["data"]["values"]
    assert [point["x"] for point in points if point["rule"] == "sgd"] == [1.0]


def test_the_search_rings_the_rate_that_was_chosen():
    points = points_of(search_chart(comparison()))
    assert [point["lr"] for point in points if point["chosen"] and point["rule"] == "sgd"] == [1.0]
    assert max(point["loss"] for point in points) == 6.0


def test_a_rule_without_noise_stands_below_all_others():
    points = points_of(cost_chart(comparison()))
    assert [round(point["noise"], 6) for point in points] == [0.03, 0.3]


def test_averaging_shows_gradients_and_steps():
    text = values(averaging_chart(comparison()))
    assert "gradients of 10" in text
    assert "steps with momentum 0.9" in text
