"""The curves of a run and of several: what is drawn where, what is left out, and that it is said."""

import dataclasses
import math
from pathlib import Path

import pytest

from surefoot.config import Config
from surefoot.record.noise import QUANTITIES, Estimate, LayerNoise, Noise
from surefoot.record.run import Row
from surefoot.record.stored import Stored
from surefoot.report.curves import run_figure, several_figure
from surefoot.report.run_folder import MOST_LOSSES, MOST_ROWS, RunFolder

ROW = Row(
    step=10, epoch=1.0, examples=640, lr=0.1, train_loss=1.5, train_accuracy=0.4, val_loss=1.2, val_accuracy=0.5,
    grad_norm=1.0, update_ratio=1e-3, losses=(2.0, 1.5, 1.0), seconds=1.0, examples_per_second=640.0,
)  # fmt: skip
ROWS = (ROW, dataclasses.replace(ROW, step=20, epoch=2.0, lr=0.05, train_loss=1.0))


def contents(rows=ROWS, name="first", noise=()):
    run = Stored(folder=Path(name), config=Config(), command="", environment={}, rows=tuple(rows), result=None,
                 training=False)  # fmt: skip
    return RunFolder(stored=run, name=name, noise=noise)


def walk(value):
    """Every dictionary in a chart, with the data of inner ones."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each)


def points(chart, *fields):
    """All points of a chart's data that have these fields."""
    return [each for each in walk(chart.to_dict()) if set(fields) <= set(each) and "encoding" not in each]


def noise(step, value, low, high):
    each = Estimate(value=value, low=low, high=high)
    layer = LayerNoise(name="total", parameters=1, **dict.fromkeys(QUANTITIES, each))
    return Noise(step=step, batch_size=64, groups=8, micro_batch_size=8, loss=1.0, batch_norm=False, total=layer,
                 layers=())  # fmt: skip


def test_the_panels_share_one_axis_of_epochs_with_the_rate_under_the_losses():
    figure = run_figure(contents())
    panels = figure.chart.to_dict()["vconcat"]
    assert len(panels) == 5
    assert {each["lr"] for each in points(figure.chart, "lr", "epoch")} == {0.1, 0.05}
    assert figure.chart.to_dict()["resolve"]["scale"]["x"] == "shared"
    shaded = [layer for layer in panels[1]["layer"] if layer["mark"]["type"] == "area"]
    assert shaded[0]["encoding"]["y2"]["field"] == "validation", "the gap is shaded"


def test_findings_stand_at_their_step_in_loss_and_accuracy_and_in_words():
    pins = [{"step": 15, "finding": "loss-spike"}, {"step": 5, "finding": "plateau"}]
    figure = run_figure(contents(), pins)
    panels = figure.chart.to_dict()["vconcat"]
    texts = [layer for layer in panels[0]["layer"] if layer["mark"]["type"] == "text"]
    assert [layer["mark"].get("stroke") for layer in texts] == ["white", None], "a name stands on a halo"
    assert points(figure.chart, "beside", "row") == [
        {"row": 10, "beside": "left", "step": 5, "finding": "plateau", "epoch": 0.5},
        {"row": 26, "beside": "right", "step": 15, "finding": "loss-spike", "epoch": 1.5},
    ], "a name at the end is written inwards, and names have rows of their own"
    assert sum(layer["mark"]["type"] == "rule" for layer in panels[1]["layer"]) == 1
    placed = {each["finding"]: each["epoch"] for each in points(figure.chart, "finding", "epoch")}
    assert placed == {"loss-spike": 1.5, "plateau": 0.5}
    assert "plateau at epoch 0.5, step 5; loss-spike at epoch 1.5, step 15" in figure.caption


def test_losses_that_are_not_finite_leave_the_picture():
    rows = (ROW, dataclasses.replace(ROWS[1], train_loss=math.inf, val_loss=None, losses=(1.0, math.nan)))
    drawn = points(run_figure(contents(rows)).chart, "loss")
    values = [each["loss"] for each in drawn if isinstance(each["loss"], float)]
    assert values
    assert all(math.isfinite(value) for value in values)


def test_of_many_losses_a_spike_of_one_step_stays_and_the_page_says_what_was_left_out():
    losses = [1.0] * (10 * MOST_LOSSES)
    losses[12_345] = 99.0
    losses[20_001] = 0.25
    figure = run_figure(contents([dataclasses.replace(ROW, losses=tuple(losses))]))
    drawn = [each["loss"] for each in points(figure.chart, "loss", "smooth")]
    assert 99.0 in drawn
    assert 0.25 in drawn
    assert len([e for e in points(figure.chart, "loss", "smooth") if "what" not in e]) <= MOST_LOSSES
    assert "the lowest and highest mini-batch loss of each 20, of 30,000" in figure.caption


@pytest.mark.parametrize("count", [40, 400, 30_000])
def test_the_moving_average_reaches_over_the_same_share_of_any_run(count):
    losses = [2.0] * (count // 2) + [1.0] * (count // 2)  # a fall at half of the run
    figure = run_figure(contents([dataclasses.replace(ROW, losses=tuple(losses))]))
    drawn = [(each["epoch"], each["smooth"]) for each in points(figure.chart, "loss", "smooth") if "what" not in each]
    half_way = next(epoch for epoch, smooth in drawn if smooth <= 1.5)
    assert 0.5 < half_way <= 0.5 + max(0.03, 2 / count), "half of the fall is seen within 3 % of the run"
    assert drawn[-1][1] == pytest.approx(1.0, abs=0.01)


def test_the_last_panel_names_the_axis_of_all():
    for seen in ((), (noise(10, 300.0, 200.0, 400.0),)):
        panels = run_figure(contents(noise=seen)).chart.to_dict()["vconcat"]

        def titled(panel):
            return [x["title"] for each in panel.get("layer", [panel]) if (x := each["encoding"].get("x"))]

        assert "epoch" in titled(panels[-1])
        assert not any("epoch" in titled(panel) for panel in panels[:-1])


def test_of_many_rows_the_page_says_how_many_are_drawn():
    rows = [dataclasses.replace(ROW, step=i, epoch=i / 10, losses=()) for i in range(1, MOST_ROWS + 2)]
    assert f"{MOST_ROWS:,} of {MOST_ROWS + 1:,} rows" in run_figure(contents(rows)).caption
    assert "Drawn:" not in run_figure(contents()).caption


def test_noise_has_its_panel_and_an_open_interval_does_not_break_it():
    measured = (
        noise(10, 300.0, 200.0, math.inf),
        noise(20, 400.0, math.nan, 500.0),
        noise(20, math.inf, 1.0, math.inf),
    )
    figure = run_figure(contents(noise=measured))
    drawn = points(figure.chart, "noise_scale", "low")
    assert [(each["noise_scale"], each["low"], each["high"]) for each in drawn] == [(300, 200, 30_000), (400, 4, 500)]
    assert len(figure.chart.to_dict()["vconcat"]) == 6


def test_several_runs_lie_over_each_other_under_their_names():
    other = contents([dataclasses.replace(row, val_loss=None, val_accuracy=None) for row in ROWS], "second")
    figure = several_figure([contents(), other, contents((), "empty")])
    panels = figure.chart.to_dict()["vconcat"]
    assert len(panels) == 3
    assert panels[0]["encoding"]["color"]["scale"]["domain"] == ["first", "second"]
    train = {(each["run"], each["epoch"], each["train"]) for each in points(figure.chart, "run", "train")}
    assert train == {("first", 1.0, 1.5), ("first", 2.0, 1.0), ("second", 1.0, 1.5), ("second", 2.0, 1.0)}


@pytest.mark.parametrize("drawn", [lambda: run_figure(contents(())), lambda: several_figure([contents(())])])
def test_without_rows_there_is_no_figure(drawn):
    assert drawn() is None
