"""The chart of schedules: what is in it, and what it refuses."""

import json

import numpy as np
import pytest

from surefoot.errors import ConfigError
from surefoot.report.look import COLORS
from surefoot.report.schedules import Curve, schedule_chart


def curve(name="cosine", steps=50, peak=0.1):
    t = np.arange(steps)
    return Curve(name, t, peak * 0.5 * (1 + np.cos(np.pi * t / (steps - 1))))


def panels(chart):
    return chart.to_dict().get("vconcat", [chart.to_dict()])


def test_curves_of_one_length_and_size_share_their_axes():
    (line,) = panels(schedule_chart([curve("a"), curve("b", peak=0.2)]))
    assert {point["name"] for point in line["data"]["values"]} == {"a", "b"}
    assert line["encoding"]["x"]["title"] == "step (updates)"
    assert line["encoding"]["y"]["title"] == "learning rate"
    assert line["encoding"]["color"]["legend"] is not None


@pytest.mark.parametrize("other", [curve("b", steps=60), curve("b", peak=3.0)], ids=["length", "size"])
def test_curves_that_do_not_fit_together_get_a_panel_each(other):
    both = panels(schedule_chart([curve("a"), other]))
    assert [panel["title"]["text"] for panel in both] == ["a", "b"]


def test_every_point_is_drawn_as_given():
    given = curve()
    values = panels(schedule_chart([given]))[0]["data"]["values"]
    assert [point["step"] for point in values] == given.steps.tolist()
    assert [point["lr"] for point in values] == given.lr.tolist()


def test_more_curves_than_colours_are_told_apart_by_their_dash():
    (only,) = panels(schedule_chart([curve(str(i)) for i in range(len(COLORS) + 1)]))
    encoding = only["encoding"]
    pairs = zip(encoding["color"]["scale"]["range"], map(str, encoding["strokeDash"]["scale"]["range"]), strict=True)
    assert len(set(pairs)) == len(COLORS) + 1


def test_nothing_to_draw_is_refused():
    with pytest.raises(ConfigError, match="no curves"):
        schedule_chart([])


def test_the_chart_is_plain_json():
    json.dumps(schedule_chart([curve(), curve("b", steps=9)]).to_dict())
