"""The judge of step 2 on invented records."""

import dataclasses
import math

import pytest

from surefoot.record.run import Outcome, Record, Row
from surefoot.steps.overfit.judge import LIMITS, Facts, Sample, beyond, judge, learned, loss_enough


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


def facts(*records, enough=None, **sample):
    known = {"examples": 128, "batch_size": 16, "parameters": 9610, "outputs": 10, "initial_loss": 2.3} | sample
    lrs = [10.0**-i for i in range(len(records))]
    return Facts(Sample(**known), enough, dict(zip(lrs[::-1], records, strict=True)))


def verdicts(given):
    return {finding.name: finding.verdict for finding in judge(given)}


@pytest.mark.parametrize(
    ("records", "sample", "name", "verdict"),
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
def test_each_pattern_has_its_finding(records, sample, name, verdict):
    assert verdicts(facts(*records, **sample))[name] == verdict


def test_softmax_before_the_loss_names_its_floor():
    finding = judge(facts(FLAT, RESTS, probabilities=True))[0]
    assert f"{math.log(math.e + 9) - 1:.4g}" in finding.reason


def test_a_regression_is_learned_by_its_loss():
    done = record([1.0, 0.001], [None, None])
    regression = {"outputs": 1, "best_accuracy": None, "target_variance": 1.0, "initial_loss": 1.0}
    assert verdicts(facts(done, enough=0.01, **regression)) == {"learns-by-heart": "pass"}
    half = record([1.0, 0.001], [None, None], eval_loss=0.5)
    assert verdicts(facts(half, enough=0.01, **regression)) == {"statistics": "fail"}


def test_a_regression_that_comes_near_is_no_failure():
    regression = {"outputs": 1, "best_accuracy": None, "target_variance": 1.0, "initial_loss": 1.0, "enough": 0.01}
    for end, expected in ((0.011, {"nearly": "suspect"}), (0.2, {"plateau": "fail"})):
        rests = record([0.5] + [end] * 39, [None] * 40)
        assert verdicts(facts(rests, rests, **regression)) == expected


def test_the_quickest_rate_is_chosen_and_the_lowest_of_equals():
    slow, quick = record([1.0, 0.5, 0.1], [0.5, 0.9, 1.0]), record([1.0, 0.1], [0.5, 1.0])
    assert facts(slow, quick, quick).passed[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("records", "side"),
    [([GONE, GONE], "down"), ([RESTS, FLAT], "down"), ([FLAT, RESTS], "up"), ([FLAT, FLAT], "up"),
     ([FLAT, RESTS, GONE], None)],
)  # fmt: skip
def test_the_grid_is_widened_where_the_best_lies_on_its_border(records, side):
    given = facts(*records)
    more = beyond(given)
    found = None if not more else "up" if min(more) > max(given.records) else "down"
    assert found == side


def test_widening_stops_at_the_limits():
    low, high = LIMITS
    for given in ({low: GONE}, {high / 10: FLAT, high: RESTS}):
        assert beyond(Facts(facts(FLAT).sample, None, given)) == ()


def test_learned_means_in_both_modes():
    assert learned(row(1, 0.1, 1.0), None)
    assert not learned(row(1, 0.1, 1.0, eval_accuracy=0.9), None)
    assert not learned(row(1, 0.1, 0.9, eval_accuracy=1.0), None)
    assert learned(row(1, 0.1, None), 0.2)
    assert not learned(row(1, 0.1, None), 0.05)
    assert not learned(row(1, 0.1, None, eval_loss=0.3), 0.2)
    assert not learned(None, None)


def test_a_regression_is_to_reach_a_hundredth_of_its_variance_or_of_the_initial_loss_of_ones_own():
    sample = facts(FLAT, best_accuracy=None, target_variance=4.0, initial_loss=-3.0).sample
    assert loss_enough(sample, custom_loss=False) == pytest.approx(0.04)
    assert loss_enough(sample, custom_loss=True) == pytest.approx(0.03)
    assert loss_enough(facts(FLAT).sample, custom_loss=True) is None


@pytest.mark.parametrize(
    ("losses", "name"),
    [
        ([2.3 * 0.5**i for i in range(7)], "plateau"),  # seven passes do not tell
        ([2.0] + [-1.0 - i for i in range(6)], "plateau"),  # nor where a loss goes below 0
        ([2.0] * 5 + [1.0, 1.0, 0.89], "still-falling"),  # the last against the third from the end
        ([2.0] * 5 + [1.0, 1.0, 0.91], "plateau"),
        ([2.0] * 10 + [1.0] * 2 + [0.5] * 2 + [0.89] * 2, "still-falling"),  # with 16, two against two
        ([2.0] * 10 + [1.0] * 2 + [0.5] * 2 + [0.91] * 2, "plateau"),
    ],
)
def test_a_loss_still_falls_by_the_last_eighth_against_that_before_the_last_quarter(losses, name):
    assert name in verdicts(facts(FLAT, record(losses, [0.5] * len(losses))))


def test_what_no_more_examples_were_granted_for_is_open_and_no_failure():
    def cut(*records):
        return dataclasses.replace(facts(*records), cut=True)

    assert verdicts(cut(FLAT, record([2.0, 1.0], [0.5, 0.7]))) == {"unfinished": "pass"}
    assert verdicts(cut(FLAT, FLAT)) == {"unfinished": "suspect"}
    assert verdicts(cut(FLAT, LEARNED)) == {"learns-by-heart": "pass"}


def test_pixels_and_tokens_are_learned_near_the_least_loss_that_the_model_can_have():
    known = {"examples": 16, "batch_size": 2, "parameters": 900, "outputs": 3, "initial_loss": 1.2}
    known |= {"best_accuracy": None}
    sample = Sample(**known, constant_loss=1.0, least_loss=0.4, contexts=300)
    enough = loss_enough(sample, custom_loss=False)
    assert enough == pytest.approx(0.46)
    made = facts(record([1.0, 0.45]), enough=enough, **known, constant_loss=1.0, least_loss=0.4, contexts=300)
    assert verdicts(made) == {"learns-by-heart": "pass"}
    assert "where 0.4 is the least and 1 that of a constant answer" in judge(made)[-1].reason
    stays = facts(record([0.9] * 40), enough=enough, **known, constant_loss=1.0, least_loss=0.4, contexts=300)
    assert verdicts(stays) == {"plateau": "fail"}


@pytest.mark.parametrize(("contexts", "least", "verdict"), [(1, 1.0, "fail"), (4, 0.8, "suspect"), (4, 0.7, None)])
def test_a_model_that_tells_nothing_apart_is_said_so(contexts, least, verdict):
    made = facts(record([1.0, 0.1]), enough=2.0, best_accuracy=None, constant_loss=1.0, least_loss=least,
                 contexts=contexts)  # fmt: skip
    assert verdicts(made).get("blind") == verdict


def test_a_loss_whose_least_value_nobody_knows_only_has_to_fall():
    known = {"best_accuracy": None, "floor_known": False}
    sample = Sample(examples=9, batch_size=3, parameters=9, outputs=1, initial_loss=-2.0, **known)
    assert loss_enough(sample, custom_loss=True) == -3.0
    enough = loss_enough(dataclasses.replace(sample, initial_loss=2.3), custom_loss=True)
    assert verdicts(facts(record([2.0, 1.1]), enough=enough, **known)) == {"learns-by-heart": "pass"}
    assert verdicts(facts(record([1.9] * 40), enough=enough, **known)) == {"falls": "pass"}
    assert verdicts(facts(FLAT, enough=enough, **known)) == {"does-not-fall": "fail"}
    assert verdicts(facts(GONE, GONE, enough=enough, **known)) == {"explodes": "fail"}
