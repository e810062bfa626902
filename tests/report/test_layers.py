"""The maps of a run's layers: which are drawn, what their cells say, and what is left out."""

import dataclasses
import math

import pytest

from surefoot.record.run import Row
from surefoot.report.layers import carried, layers_figure

ROW = Row(
    step=10, epoch=1.0, examples=640, lr=0.1, train_loss=1.5, train_accuracy=0.4, val_loss=1.2, val_accuracy=0.5,
    grad_norm=1.0, update_ratio=1e-3, losses=(2.0, 1.5, 1.0), seconds=1.0, examples_per_second=640.0,
)  # fmt: skip


def rows_of(count, layers):
    return [dataclasses.replace(ROW, step=10 * i, epoch=float(i), layers=layers(i)) for i in range(1, count + 1)]


def test_a_cell_is_a_layer_at_a_time_and_says_its_two_numbers():
    figure = layers_figure(rows_of(3, lambda i: {"stem": (2.0 / i, 1e-3 * i), "head": (0.5, 1e-5)}))
    assert figure is not None
    upper, lower = figure.chart.to_dict()["vconcat"]
    assert upper["encoding"]["y"]["sort"] == lower["encoding"]["y"]["sort"] == ["stem", "head"]
    cells = figure.chart.to_dict()["data"]["values"]
    assert len(cells) == 2 * 3, "both maps read the same cells"
    stem = [each for each in cells if each["layer"] == "stem"]
    assert [(each["from"], each["to"]) for each in stem] == [(0.0, 1.5), (1.5, 2.5), (2.5, 3.0)]
    assert [(each["grad_norm"], each["update_ratio"]) for each in stem] == [(2.0 / i, 1e-3 * i) for i in (1, 2, 3)]
    assert "head moves by 1e-05" in figure.caption
    assert "stem by 0.003" in figure.caption
    low, high = upper["encoding"]["color"]["scale"]["domain"]
    assert math.sqrt(low * high) == pytest.approx(1e-3), "the palest colour is what is healthy"
    assert low == pytest.approx(1e-5), "what is farther away has the last colour"


def test_what_has_no_logarithm_is_not_drawn():
    figure = layers_figure(rows_of(2, lambda i: {"zeros": (1.0, math.nan), "still": (0.0, 0.0), "moving": (1.0, 1e-3)}))
    assert figure is not None
    plain = figure.chart.to_dict()
    for panel, drawn in zip(plain["vconcat"], ({"moving"}, {"zeros", "moving"}), strict=True):
        field = panel["encoding"]["color"]["field"]
        assert panel["transform"] == [{"filter": f"datum.{field} > 0"}]
        assert {each["layer"] for each in plain["data"]["values"] if each[field]} == drawn


@pytest.mark.parametrize("layers", [{}, {"only": (1.0, 1e-3)}, {"a": (0.0, math.nan), "b": (math.inf, 0.0)}])
def test_without_two_layers_or_a_number_there_is_no_picture(layers):
    assert layers_figure(rows_of(4, lambda i: layers)) is None


def test_deep_models_and_long_runs_are_thinned_and_it_is_said():
    figure = layers_figure(rows_of(500, lambda i: {f"layer {n}": (1.0, 1e-3) for n in range(300)}))
    assert figure is not None
    cells = figure.chart.to_dict()["data"]["values"]
    assert len(cells) == 40 * 60
    assert {"layer 0", "layer 299"} <= {each["layer"] for each in cells}
    assert (cells[0]["from"], cells[-1]["to"]) == (0.0, 500.0)
    assert "Drawn: 40 of 300 layers." in figure.caption


def test_the_page_carries_the_layers_that_are_drawn_and_every_row():
    rows = rows_of(500, lambda i: {f"layer {n}": (1.0, 1e-3 * i) for n in range(300)})
    found = carried(rows)
    assert [each["step"] for each in found] == [row.step for row in rows]
    assert all("losses" not in each for each in found)
    drawn = layers_figure(rows).chart.to_dict()["data"]["values"]
    cells = {(each["step"], name): ratio for each in found for name, (_, ratio) in each["layers"].items()}
    assert cells == {(cell["step"], cell["layer"]): cell["update_ratio"] for cell in drawn}


def test_a_run_that_an_older_version_began_has_no_colours_before_it_was_measured():
    rows = rows_of(6, lambda i: {"stem": (1.0, 1e-3), "head": (1.0, 1e-3)} if i > 3 else {})
    cells = layers_figure(rows).chart.to_dict()["data"]["values"]
    assert [(each["from"], each["to"]) for each in cells if each["layer"] == "stem"] == [(3, 4.5), (4.5, 5.5), (5.5, 6)]
