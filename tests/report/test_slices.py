"""Paths on planes of the loss, from invented ones."""

import pytest
from compared import comparison

from surefoot.report.slices import FINE, paths_chart, surface_chart


def layers(chart):
    return chart.to_dict()["layer"]


def test_the_slice_holds_the_paths_and_says_what_its_axes_hold():
    chart = paths_chart(comparison().slice)
    points = layers(chart)[1]["data"]["values"]
    assert [(point["rule"], point["x"]) for point in points][:2] == [
        ("gradient-descent", -0.9),
        ("gradient-descent", 0.0),
    ]
    assert "70%" in str(chart.to_dict()["title"])
    bands = layers(chart)[0]["data"]["values"]
    assert min(band["x"] for band in bands) == -1.0
    assert len(bands) < FINE * FINE
    assert min(band["band"] for band in bands) == 0


def test_a_surface_has_paths_up_to_its_edge_and_theory_beside_them():
    chart = surface_chart(comparison().surfaces[0]).to_dict()
    left, right = chart["hconcat"]
    points = left["layer"][1]["data"]["values"]
    assert [point["x"] for point in points if point["rule"] == "good"] == [-1.0, 0.5, 9.0]
    theory = right["layer"][1]["data"]["values"]
    assert [point["loss"] for point in theory if point["rule"] == "good"] == pytest.approx([1.0, 0.25, 0.0625])
    assert [point["loss"] for point in theory if point["rule"] == "noisy"] == [0.4, 0.4]
