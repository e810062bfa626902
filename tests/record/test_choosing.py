"""Which row is best and when a run stops, on rows that nobody trained."""

import math

import pytest

from surefoot.record.choosing import best_row, is_better, number_of, stopped_early
from surefoot.record.run import Row


def rows(*losses, accuracies=None, per_epoch=1, lrs=None):
    accuracies = accuracies or [None] * len(losses)
    return [
        Row(step=10 * i, epoch=i / per_epoch, examples=100 * i, lr=0.1 if lrs is None else lrs[i - 1], train_loss=1.0,
            train_accuracy=None, val_loss=loss, val_accuracy=accuracy, grad_norm=1.0, update_ratio=1e-3, losses=(1.0,),
            seconds=1.0, examples_per_second=1.0)
        for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ((3.0, 1.0, 2.0), 20),
        ((3.0, 1.0, 1.0), 20),  # the first of equal ones
        ((math.nan, math.inf, 2.0), 30),
        ((1.0,), 10),
        ((None, None), None),
        ((math.nan,), None),
        ((), None),
    ],
)
def test_the_best_row_is_the_first_with_the_least_finite_loss(losses, best):
    found = best_row(rows(*losses), "loss")
    assert (found.step if found else None) == best


def test_an_accuracy_is_best_where_it_is_highest():
    made = rows(1.0, 2.0, 3.0, accuracies=[0.5, 0.9, 0.8])
    assert best_row(made, "accuracy").step == 20
    assert best_row(made, "loss").step == 10
    assert number_of(made[1], "accuracy") == 0.9
    assert is_better(0.9, 0.8, "accuracy")
    assert not is_better(0.9, 0.9, "accuracy")


@pytest.mark.parametrize(
    ("losses", "epochs", "min_delta", "stops"),
    [
        ((3, 2, 2.5, 2.6), 2, 0, True),
        ((3, 2, 2.5, 2.6), 3, 0, False),
        ((3, 2, 2.5, 1.9), 2, 0, False),
        ((3, 2, 1.95, 1.9), 2, 0, False),
        ((3, 2, 1.95, 1.9), 2, 0.2, True),  # 1.9 is no better than 2 by more than 0.2
        ((3, 2, 1.95, 1.7), 2, 0.2, False),
        ((3, 3, 3), 2, 0, True),
        ((3, math.nan, math.nan), 2, 0, True),
        ((math.nan, math.nan, math.nan), 2, 0, False),  # nothing was ever good, so nothing has become worse
        ((3, 4), 0.5, 0, True),
        ((), 1, 0, False),
    ],
)
def test_a_run_stops_once_the_loss_was_no_better_for_so_many_epochs(losses, epochs, min_delta, stops):
    assert (stopped_early(rows(*losses), "loss", epochs, min_delta) is not None) == stops


def test_epochs_are_counted_whatever_the_rows_of_one():
    made = rows(1, 2, 2, 2, 2, 2, 2, per_epoch=3)
    stops = [stopped_early(made[: i + 1], "loss", 2) is not None for i in range(7)]
    assert stops == [False] * 6 + [True], "7/3 - 1/3 is no exact 2"


def test_the_sentence_says_when_since_when_and_by_what():
    made = rows(3, 2, 2.5, 2.6, lrs=[0.1, 0.09, 0.08, 0.06])
    assert stopped_early(made, "loss", 2, 0.0, 900) == (
        "stopped early at step 40 of 900: the validation loss has not fallen for 2 epochs, since step 20; the learning "
        "rate was still at 60% of its highest"
    )
    made = rows(1, 1, accuracies=[0.9, 0.9])
    said = stopped_early(made, "accuracy", 1, 0.01)
    assert said.startswith(
        "stopped early at step 20: the validation accuracy has not risen by more than 0.01 for 1 epoch"
    )
    assert said.endswith(", since step 10")
