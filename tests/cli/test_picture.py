"""The live display at every width: nothing wider than the terminal, nothing cut, the least telling falls away first."""

import math
from dataclasses import replace

import pytest

from surefoot.cli.picture import Seen, bar, search, table, training
from surefoot.cli.sparks import ASCII, BLOCKS, Curve
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


def seen(rows):
    found = Seen()
    for each in rows:
        found.add(each)
    return found


MANY = seen(row(e, 2 / e if e < 20 else 0.2 + e / 100, min(0.9, e / 30) - (0.1 if e > 30 else 0)) for e in range(1, 41))


@pytest.mark.parametrize("width", [*WIDTHS, 30])
@pytest.mark.parametrize(
    "picture", [lambda w: training(MANY, NOW, w, 24), lambda w: search(MANY.losses, SEARCHING, w, 24)]
)
def test_no_line_is_wider_than_the_terminal(width, picture):
    lines = [line.plain for line in picture(width)]
    assert lines
    assert all(0 < len(line) <= width for line in lines)


def test_columns_fall_away_whole_where_it_is_narrow():
    heads = {width: table(MANY, width, 12)[0].plain for width in WIDTHS}
    assert heads[160].split() == (
        [
            "epoch",
            "step",
            "lr",
            "train",
            "loss",
            "train",
            "acc",
            "val",
            "loss",
            "val",
            "acc",
            "|grad|",
            "|dW|/|W|",
            "ex/s",
            "seconds",
        ]
    )
    assert "ex/s" not in heads[80]
    assert "seconds" in heads[80]
    assert "train acc" in heads[60]
    assert "seconds" not in heads[60]
    for width in WIDTHS:
        lines = [line.plain for line in table(MANY, width, 12)]
        assert {len(line.replace("*", " ").rstrip().split()) for line in lines[1:]} == {
            len(heads[width].replace("train ", "train_").replace("val ", "val_").split())
        }, "a value under each name"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_best_loss_and_accuracy_are_marked_and_stay_though_they_are_old(width):
    lines = [line.plain for line in table(MANY, width, 5)]
    assert len(lines) == 6
    marked = [line for line in lines if "*" in line]
    assert [line.split()[0] for line in marked] == ["19.00", "27.00"]
    assert "0.1158*" in marked[0]
    assert "90.00%*" in marked[1]


def test_a_regression_has_no_accuracies_and_a_run_without_validation_marks_nothing():
    found = seen([row(1, 0.5, None, train_accuracy=None), row(2, 0.4, None, train_accuracy=None)])
    lines = [line.plain for line in table(found, 160, 12)]
    assert "acc" not in lines[0]
    assert "0.4400*" in lines[2]
    none = seen([row(1, 0.5, None, val_loss=None)])
    assert not any("*" in line.plain for line in table(none, 160, 12))
    assert "acc      90.00%" in training(none, NOW, 80, 24)[-2].plain, "the curve is that of training then"


def test_a_loss_that_is_not_finite_is_a_dash_and_never_the_best():
    found = seen([row(1, 0.5, 0.2), row(2, math.nan, 0.1, losses=(math.nan,))])
    lines = [line.plain for line in training(found, NOW, 80, 24)]
    assert "*" in lines[1]
    assert "*" not in lines[2]
    assert " - " in lines[2]


def test_the_picture_fits_a_low_terminal():
    assert len(training(MANY, NOW, 80, 10)) <= 9
    assert len(search(MANY.losses, SEARCHING, 80, 6)) <= 5


def test_a_search_shows_its_step_members_budget_and_time_left():
    lines = [line.plain for line in search(MANY.losses, SEARCHING, 60, 24)]
    assert lines[0] == "step 4, coarse grid: 24 runs of 300 steps"
    assert lines[1] == "members  18 of 24 alive"
    assert lines[-1] == "budget   0.84 of 2x spent, 1:12 left"
    in_time = replace(SEARCHING, budget="300s", spent=120.4, seconds_left=179.6)
    assert search(Curve(), in_time, 60, 24)[-1].plain == "budget   120s of 300s spent, 3:00 left"
    unknown = replace(SEARCHING, spent=None, seconds_left=None)
    assert search(Curve(), unknown, 60, 24)[-1].plain == "budget   of 2x, none spent yet, 0:12 so far"


@pytest.mark.parametrize("width", WIDTHS)
def test_curves_are_one_line_each_scaled_to_the_width(width):
    loss, accuracy = (line.plain for line in training(MANY, NOW, width, 24)[-3:-1])
    drawn = sum(letter in BLOCKS for letter in loss)
    assert drawn == min(80, width - 9 - len("2 ") - len(" 0.3")), "80 losses, averaged where there is no room"
    assert accuracy.startswith("val acc  3.33% ")
    assert accuracy.endswith(" 80.00%")
    plain = training(MANY, NOW, width, 24, ascii_only=True)
    assert all(line.plain.isascii() for line in plain)
    assert any(letter in ASCII for letter in plain[-3].plain)


def test_a_bar_gives_up_parts_for_its_own_length():
    parts = ["0:55 left", "450 of 1,000 steps", "128,000 examples/s"]
    assert bar(450, 1000, parts, 160).plain.endswith("examples/s")
    assert bar(450, 1000, parts, 60).plain.endswith("450 of 1,000 steps")
    assert bar(450, 1000, parts, 30).plain.endswith("0:55 left")
    assert bar(9, 3, [], 40).plain.startswith("100%")
