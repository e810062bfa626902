"""The judge of step 2 on invented records."""

import dataclasses
import math

import pytest

from surefoot.diagnose import overfit as judge
from surefoot.record.run import Outcome, Record, Row


def row(step, loss, accuracy, eval_accuracy=None, eval_loss=None):
    return Row(
        step=step, epoch=step / 8, examples=step, lr=0.1, train_loss=loss, train_accuracy=accuracy,
        val_loss=loss if eval_loss is None else eval_loss,
        val_accuracy=accuracy if eval_accuracy is None else eval_accuracy,
        grad_norm=1.0, update_ratio=1e-3, losses=(loss,), seconds=0.0, examples_per_second=0.0,
    )  # fmt: skip


def record(losses, accuracies=None, kind="finished", **last):
    given = accuracies or [0.1] * len(losses)
    rows = [row(8 * (i + 1), loss, right) for i, (loss, right) in enumerate(zip(losses, given, strict=True))]
    if last:
        rows[-1] = row(rows[-1].step, losses[-1], given[-1], **last)
    return Record(rows=tuple(rows), outcome=Outcome(kind=kind, step=8 * len(losses), reason="invented"))


FLAT, GONE = record([2.3] * 40), record([2.4], kind="diverged")
RESTS = record([2.0] + [1.0] * 39, [0.6] * 40)
FALLING = record([2.3 * 0.97**i for i in range(40)], [0.5] * 40)
LEARNED = record([1.0, 0.1], [0.8, 1.0])


def trials(*records, enough=None, **facts):
    known = {"examples": 128, "batch_size": 16, "parameters": 9610, "outputs": 10, "initial_loss": 2.3} | facts
    lrs = [10.0**-i for i in range(len(records))]
    return judge.Trials(dict(zip(lrs[::-1], records, strict=True)), judge.SampleFacts(**known), enough)


def verdicts(given):
    return {finding.name: finding.verdict for finding in judge.judged(given)}


@pytest.mark.parametrize(
    ("records", "facts", "name", "verdict"),
    [
        ([FLAT, LEARNED, GONE], {}, "learns-by-heart", "pass"),
        ([FLAT, FLAT], {}, "does-not-fall", "fail"),
        ([FLAT, GONE], {}, "does-not-fall", "fail"),
        ([GONE, GONE], {}, "explodes", "fail"),
        ([GONE, record([100.0] * 9)], {}, "explodes", "fail"),
        ([FLAT, RESTS], {}, "plateau", "fail"),
        ([FLAT, FALLING], {}, "still-falling", "suspect"),
        ([FLAT, RESTS], {"parameters": 650}, "capacity", "suspect"),
        ([FLAT, RESTS], {"probabilities": True}, "softmax-before-loss", "fail"),
        ([FLAT, RESTS], {"contradictions": (("a", "b"),), "best_accuracy": 0.99}, "contradicting-labels", "suspect"),
        ([FLAT, record([1.0, 0.1], [0.9, 1.0], eval_accuracy=0.1)], {}, "statistics", "fail"),
        ([FLAT, record([1.0, 0.1], [0.9, 1.0], eval_accuracy=0.95)], {}, "statistics", "suspect"),
        ([FLAT, LEARNED], {"functional_dropout": True}, "noise-inside", "suspect"),
    ],
)
def test_each_pattern_has_its_finding(records, facts, name, verdict):
    assert verdicts(trials(*records, **facts))[name] == verdict


@pytest.mark.parametrize(
    ("records", "expected"),
    [([FLAT, LEARNED], {"learns-by-heart": "pass"}), ([FLAT, FALLING], {"unfinished": "pass"}),
     ([FLAT, RESTS], {"unfinished": "pass"}), ([FLAT, GONE], {"unfinished": "suspect"}),
     ([FLAT, record([1.0, 0.1], [0.9, 1.0], eval_accuracy=0.1)], {"unfinished": "pass"})],
)  # fmt: skip
def test_runs_that_were_cut_short_are_no_failure(records, expected):
    assert verdicts(dataclasses.replace(trials(*records), cut=True)) == expected


def test_softmax_before_the_loss_names_its_floor():
    finding = judge.judged(trials(FLAT, RESTS, probabilities=True))[0]
    assert f"{math.log(math.e + 9) - 1:.4g}" in finding.reason


def test_a_regression_is_learned_by_its_loss():
    done = record([1.0, 0.001], [None, None])
    regression = {"outputs": 1, "best_accuracy": None, "target_variance": 1.0, "initial_loss": 1.0}
    assert verdicts(trials(done, enough=0.01, **regression)) == {"learns-by-heart": "pass"}
    half = record([1.0, 0.001], [None, None], eval_loss=0.5)
    assert verdicts(trials(half, enough=0.01, **regression)) == {"statistics": "fail"}


def test_the_quickest_rate_is_chosen_and_the_lowest_of_equals():
    slow, quick = record([1.0, 0.5, 0.1], [0.5, 0.9, 1.0]), record([1.0, 0.1], [0.5, 1.0])
    assert trials(slow, quick, quick).passed[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("records", "side"),
    [([GONE, GONE], "down"), ([RESTS, FLAT], "down"), ([FLAT, RESTS], "up"), ([FLAT, FLAT], "up"),
     ([FLAT, RESTS, GONE], None)],
)  # fmt: skip
def test_the_grid_is_widened_where_the_best_lies_on_its_border(records, side):
    given = trials(*records)
    more = judge.beyond(given)
    found = None if not more else "up" if min(more) > max(given.records) else "down"
    assert found == side


def test_widening_stops_at_the_limits():
    low, high = judge.LIMITS
    for given in ({low: GONE}, {high / 10: FLAT, high: RESTS}):
        assert judge.beyond(judge.Trials(given, trials(FLAT).facts)) == ()
