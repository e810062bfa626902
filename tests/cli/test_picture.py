"""The live display at every width: nothing wider than the terminal, the least telling falls away first."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from surefoot.cli.picture import SearchView, TrainingView, header, line
from surefoot.record.progress import Progress
from surefoot.record.run import Row

WIDTHS = (60, 80, 160)
NOW = Progress(phase="training", steps_done=450, steps_planned=1000, seconds=45.0, examples_per_second=128_000.0,
                seconds_left=55.0)  # fmt: skip
SEARCHING = Progress(phase="search", steps_done=120, steps_planned=7200, seconds=12.0, members=24, alive=18,
                      doing="step 4, coarse grid: 24 runs of 300 steps", budget="2x", spent=0.84,
                      seconds_left=72.0)  # fmt: skip


def row(epoch, loss, accuracy, **more):
    values = dict(
        step=100 * epoch, epoch=float(epoch), examples=12_800 * epoch, lr=0.1, train_loss=loss, train_accuracy=0.9,
        val_loss=loss * 1.1, val_accuracy=accuracy, grad_norm=1.2, update_ratio=1e-3, losses=(loss, loss / 2),
        seconds=10.0 * epoch, examples_per_second=12_800.0,
    )  # fmt: skip
    return Row(**{**values, **more})


def training(rows, now=NOW):
    view = TrainingView(now)
    for each in rows:
        view.add(each)
    return view


def lines(view, width, height=24):
    """Return a picture as a terminal of this size shows it."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    Console(file=file, width=width, height=height, color_system=None, legacy_windows=False).print(view)
    file.flush()
    return file.buffer.getvalue().decode().splitlines()


MANY = training(row(e, 2 / e if e < 20 else 0.2 + e / 100, min(0.9, e / 30) - (e > 30) * 0.1) for e in range(1, 41))
TRIED = SearchView(SEARCHING)
NOTHING = row(1, math.nan, None, train_accuracy=None, val_loss=None, grad_norm=math.inf, update_ratio=math.nan)


@pytest.mark.parametrize("width", [*WIDTHS, 30])
@pytest.mark.parametrize("view", [MANY, TRIED], ids=["training", "search"])
def test_no_line_is_wider_than_the_terminal_and_none_is_empty(width, view):
    assert all(0 < len(each.strip()) <= len(each) <= width for each in lines(view, width))


def test_columns_fall_away_whole_where_it_is_narrow():
    heads = {width: lines(MANY, width)[0] for width in WIDTHS}
    assert [name in heads[160] for name in ("ex/s", "|grad|", "seconds")] == [True] * 3
    assert [name in heads[80] for name in ("ex/s", "seconds")] == [False, True]
    assert [name in heads[60] for name in ("seconds", "train acc")] == [False, True]
    for width in WIDTHS:
        columns = len(heads[width].replace("train ", "train_").replace("val ", "val_").split())
        table = lines(MANY, width)[1:-1]
        assert {len(each.split()) for each in table} == {columns}, "a value under each name"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_best_loss_and_accuracy_are_marked_and_stay_though_they_are_old(width):
    table = lines(MANY, width, height=9)[1:-1]
    assert len(table) == 5
    marked = [each for each in table if "*" in each]
    assert [each.split()[0] for each in marked] == ["19.00", "27.00"]
    assert "*0.1158" in marked[0]
    assert "*90.00%" in marked[1]


def test_a_regression_has_no_accuracies_and_a_run_without_validation_marks_nothing():
    shown = lines(training([row(i, loss, None, train_accuracy=None) for i, loss in ((1, 0.5), (2, 0.4))]), 160)
    assert "acc" not in shown[0]
    assert "*0.4400" in shown[2]
    shown = lines(training([row(1, 0.5, None, val_loss=None)]), 160)
    assert not any("*" in each for each in shown)


def test_a_loss_that_is_not_finite_is_a_dash_and_never_the_best():
    shown = lines(training([row(1, 0.5, 0.2), row(2, math.nan, 0.1, losses=(math.nan,))]), 80)
    assert "*" in shown[1]
    assert "*" not in shown[2]
    assert " - " in shown[2]


def test_a_search_shows_its_step_members_budget_and_time_left():
    shown = lines(TRIED, 60)
    assert shown[0].strip() == "step 4, coarse grid: 24 runs of 300 steps"
    assert shown[1] == "members  18 of 24 still training"
    assert shown[-1].strip() == "budget   0.84 of 2x spent, 1:12 left"
    in_time = replace(SEARCHING, budget="300s", spent=120.4, seconds_left=179.6)
    assert lines(SearchView(in_time), 60)[-1].strip() == "budget   120s of 300s spent, 3:00 left"
    unknown = replace(SEARCHING, spent=None, seconds_left=None)
    assert lines(SearchView(unknown), 60)[-1].strip() == "budget   of 2x, none spent yet, 0:12 so far"
    assert "budget" not in lines(SearchView(replace(SEARCHING, budget=None)), 60)[-1]


def test_a_bar_says_how_far_it_is_and_gives_up_words_where_it_is_narrow():
    assert lines(MANY, 160)[-1].startswith(" 45% ")
    assert lines(MANY, 160)[-1].rstrip().endswith("0:55 left  450 of 1,000 steps  128,000 examples/s")
    assert "0:55 left" in lines(MANY, 30)[-1]
    assert lines(training([], replace(NOW, steps_done=2000)), 80)[-1].startswith("100%")


def test_the_plain_table_has_a_value_or_a_dash_under_each_of_its_names():
    values = line(row(4, 0.51234, 0.9)).split()
    assert values == ["4.00", "400", "0.1", "0.5123", "90.00%", "0.5636", "90.00%", "1.2", "1.0e-03", "12800", "40.0"]
    assert len(line(row(4, 0.5, 0.9))) == len(header(row(4, 0.5, 0.9))) == len(line(NOTHING))
    assert line(NOTHING).split()[3:9] == ["-", "-", "-", "-", "inf", "-"]
