"""The judge of a user's own step on invented measurements: each fault by its name, the first cause first."""

import math

import pytest

from surefoot.steps.wiring.judge_user_step import own_step

SOUND = {"problem": None, "moved": 0.1, "calls": 1, "still": (), "not_held": (), "lr": 0.1, "stale": 0.0, "ratio": 1.0,
         "uphill": -1.0, "fresh": True}  # fmt: skip


def judged(**changes):
    return own_step(**(SOUND | changes))


def test_a_sound_step_passes_with_what_was_seen():
    (found,) = judged(calls=4)
    assert (found.name, found.verdict) == ("own-step", "pass")
    assert "after 4 calls" in found.reason
    assert "-1.00" in found.reason


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"problem": "TypeError: step() takes 2"}, "own-step", "TypeError"),
        ({"not_held": ("head.weight",)}, "own-step", "head.weight"),
        ({"calls": None}, "own-step", "does not move any"),
        ({"still": ("body.bias",)}, "own-step", "body.bias"),
        ({"moved": math.inf}, "own-step", "not finite"),
        ({"stale": 4.0, "ratio": 2.0}, "zero-grad", "2.00 times as far"),
        ({"stale": 4.0, "ratio": 1.0}, "zero-grad", "another way"),
        ({"uphill": 0.9}, "loss-sign", "+0.90"),
    ],
)
def test_each_fault_fails_by_its_name(changes, name, words):
    (found,) = judged(**changes)
    assert (found.name, found.verdict) == (name, "fail")
    assert words in found.reason
    assert found.advice


def test_a_rate_of_zero_is_suspect_and_not_a_broken_step():
    (found,) = judged(calls=None, lr=0)
    assert found.verdict == "suspect"
    assert "rate is 0" in found.reason


def test_the_direction_counts_only_from_fresh_gradients_and_faults_add_up():
    assert judged(uphill=0.9, fresh=False)[0].verdict == "pass"
    assert [each.name for each in judged(uphill=0.9, stale=4.0, ratio=2.0)] == ["zero-grad", "loss-sign"]
    assert judged(uphill=0.05)[0].verdict == "pass", "noise and decay alone are no fault"


def test_what_raised_is_all_that_is_said():
    assert len(judged(problem="it", not_held=("a",), stale=4.0)) == 1
