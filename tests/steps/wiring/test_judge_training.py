"""A moment's training on invented facts: no false alarm of shuffled labels, and each fault of a step by its name."""

import math

import pytest

from surefoot.steps.wiring.judge_training import Dependence, UserStepFacts, judge_dependence, judge_user_step


@pytest.mark.parametrize(
    ("z", "planted", "held_out", "verdict"),
    [(9.0, None, 400, "pass"), (1.0, 9.0, 400, "suspect"), (1.0, 2.0, 400, "pass"), (1.0, 9.0, 20, "pass")],
)
def test_no_dependence_is_suspect_only_where_it_would_have_shown(z, planted, held_out, verdict):
    facts = Dependence(z=z, planted_z=planted, accuracy=0.1, majority=0.12, examples=900, held_out=held_out, steps=200,
                       looks=(), seconds=1.0)  # fmt: skip
    assert judge_dependence(facts).verdict == verdict


def judged(**changes):
    sound = {"moved": 0.1, "calls": 1, "not_held": (), "lr": 0.1, "uphill": -1.0}
    return judge_user_step(UserStepFacts(**(sound | changes)))


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
