"""Invented numbers get the verdicts and the reasons that they should."""

import math

import pytest

from surefoot.diagnose import wiring as judge
from surefoot.diagnose.own_step import own_step

FIT = {"batch": 4, "input_shape": (8,), "outputs": (4, 10), "targets": (4,), "classes": 10, "problem": None}


def verdicts(findings):
    return {finding.name: finding.verdict for finding in findings}


@pytest.mark.parametrize(
    ("labels", "outputs", "refused", "verdict", "words"),
    [
        ((0, 9), 10, None, "pass", "0 to 9"),
        ((1, 10), 10, None, "fail", "off by one"),
        ((1, 10), 11, None, "suspect", "class 0 never occurs"),
        ((1, 10), 11, "refused", "fail", "class 0 never occurs"),
        ((0, 10), 10, None, "fail", "outputs from 0 to 9"),
        ((-1, 8), 10, None, "fail", "below 0"),
        ((0, 4), 10, None, "suspect", "10 outputs"),
    ],
)
def test_labels_must_fit_the_outputs(labels, outputs, refused, verdict, words):
    found = judge.shapes(**{**FIT, "outputs": (4, outputs)}, labels=labels, refused=refused)[-1]
    assert (found.name, found.verdict) == ("labels", verdict)
    assert words in found.reason
    assert (found.advice is None) == (verdict == "pass")


@pytest.mark.parametrize(
    ("outputs", "targets", "own_loss", "verdict"),
    [
        ((4, 1), (4,), False, "pass"),
        ((4,), (4,), False, "pass"),
        ((4, 3), (4, 3), False, "pass"),
        ((4, 2), (4,), False, "fail"),
        ((4, 2), (4,), True, "pass"),
    ],
)
def test_numbers_need_one_output_for_each_target(outputs, targets, own_loss, verdict):
    known = {**FIT, "outputs": outputs, "targets": targets, "classes": 0}
    assert judge.shapes(**known, labels=None, own_loss=own_loss)[0].verdict == verdict


def test_a_model_that_takes_no_batch_or_gives_no_rows_fails():
    assert judge.shapes(**{**FIT, "outputs": None, "problem": "no"}, labels=(0, 9))[0].verdict == "fail"
    assert judge.shapes(**{**FIT, "outputs": (4, 10, 2)}, labels=(0, 9))[0].verdict == "fail"
    assert judge.shapes(**{**FIT, "outputs": (4, 1)}, labels=(0, 1), own_loss=True)[0].verdict == "pass"


LOSS = {
    "cross_entropy": True, "log_likelihood": False, "binary": False, "ends_in_sigmoid": False,
    "right": 0.4, "wrong": 3.4, "train_loss": 2.3, "eval_loss": 2.3,
    "train_probabilities": False, "eval_probabilities": False, "train_log_probabilities": False, "classes": 10,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "name", "verdict", "words"),
    [
        ({}, "outputs", "pass", ""),
        ({"train_probabilities": True}, "outputs", "fail", "1.461"),  # ln(e + 9) - 1
        ({"train_probabilities": True, "cross_entropy": False}, "outputs", "pass", ""),
        ({"eval_probabilities": True}, "outputs", "suspect", "validation loss"),
        ({"cross_entropy": False, "log_likelihood": True}, "outputs", "fail", "log-probabilities"),
        (
            {"cross_entropy": False, "log_likelihood": True, "train_log_probabilities": True},
            "outputs",
            "pass",
            "",
        ),
        ({"cross_entropy": False, "binary": True, "ends_in_sigmoid": True}, "outputs", "fail", "0.313"),  # ln(1 + 1/e)
        ({"cross_entropy": False, "ends_in_sigmoid": True}, "outputs", "pass", ""),
        ({"right": -0.4, "wrong": -3.4}, "loss-sign", "fail", "wrong sign"),
        ({"eval_loss": 9.0}, "modes", "suspect", "9 in evaluation"),
        ({"eval_loss": 2.9}, "modes", "pass", ""),
        ({"eval_loss": math.nan}, "finite", "fail", "not finite"),
    ],
)
def test_loss_and_outputs(changed, name, verdict, words):
    found = judge.loss_and_outputs(**{**LOSS, **changed})
    assert verdicts(found)[name] == verdict
    assert any(words in finding.reason for finding in found if finding.name == name)


def test_a_loss_that_answers_nothing_about_its_sign_is_not_judged_by_it():
    assert "loss-sign" not in verdicts(judge.loss_and_outputs(**{**LOSS, "right": math.nan}))


REACH = {"trainable": tuple("abc"), "absent": (), "zero": (), "frozen_after": (), "frozen_share": 0.0, "frozen": 0}


@pytest.mark.parametrize(
    ("changed", "name", "verdict"),
    [
        ({}, "gradients", "pass"),
        ({"absent": ("a",)}, "gradients", "fail"),
        ({"zero": ("a",)}, "gradients", "fail"),
        ({"frozen_after": ("a",), "frozen_share": 0.2}, "frozen", "suspect"),
        ({"frozen_after": ("a",), "frozen_share": 0.9, "frozen": 9}, "gradients", "pass"),
    ],
)
def test_gradients(changed, name, verdict):
    assert verdicts(judge.gradients(**{**REACH, **changed})) == {name: verdict}


def test_a_zero_gradient_is_explained_by_dead_relus():
    assert "dead" in judge.gradients(**{**REACH, "zero": ("a",)}, dead_layer=True)[0].reason


@pytest.mark.parametrize(
    ("layers", "verdict"),
    [
        ([], "pass"),
        ([(128, 80)], "pass"),
        ([(4, 4)], "pass"),
        ([(128, 0), (128, 112)], "suspect"),
        ([(128, 125), (128, 0)], "fail"),
    ],
)
def test_dead_relus(layers, verdict):
    assert judge.dead_relus(layers, 512).verdict == verdict


SLOPE = {"loss": 2.0, "noise": 0.0, "grad_norm": 1.0, "shares": (0.1, 0.001)}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"changes": (0.5, -0.002)}, "pass"),
        ({"changes": (0.2, 0.002)}, "fail"),
        ({"changes": (0.2, 0.0)}, "suspect"),
        ({"changes": (0.2, 0.002), "noise": 0.1}, "pass"),
        ({"changes": ()}, "pass"),
        ({"changes": (), "loss": math.inf}, "fail"),
        ({"changes": (), "grad_norm": math.nan}, "fail"),
    ],
)
def test_descent(changed, verdict):
    assert judge.descent(**{**SLOPE, **changed}).verdict == verdict


LEARNED = {"accuracy": 0.1, "majority": 0.12, "examples": 900, "steps": 200}


@pytest.mark.parametrize(
    ("z", "planted", "held_out", "verdict"),
    [(9.0, None, 400, "pass"), (1.0, 9.0, 400, "suspect"), (1.0, 2.0, 400, "pass"), (1.0, 9.0, 20, "pass")],
)
def test_no_dependence_is_suspect_only_where_it_would_have_been_seen(z, planted, held_out, verdict):
    assert judge.dependence(**LEARNED, z=z, planted_z=planted, held_out=held_out).verdict == verdict


@pytest.mark.parametrize(
    ("planted", "held_out", "words"),
    [(None, 400, "none was planted"), (2.0, 400, "nor did it learn labels planted"), (None, 20, "fewer than 60")],
)
def test_a_low_z_without_a_control_says_that_it_is_no_evidence(planted, held_out, words):
    found = judge.dependence(**LEARNED, z=1.0, planted_z=planted, held_out=held_out)
    assert "cannot tell" in found.reason
    assert words in found.reason


STEP = {
    "problem": None, "moved": 0.1, "calls": 1, "still": (), "not_held": (), "lr": 0.1, "stale": 0.0, "ratio": 1.0,
    "uphill": -1.0, "fresh": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "name", "verdict", "words"),
    [
        ({}, "own-step", "pass", "moves the weights"),
        ({"problem": "ValueError: no"}, "own-step", "fail", "ValueError: no"),
        ({"not_held": ("a",)}, "own-step", "fail", "does not hold a"),
        ({"calls": None, "moved": 0.0}, "own-step", "fail", "does not move any"),
        ({"calls": None, "moved": 0.0, "lr": 0.0}, "own-step", "suspect", "rate is 0"),
        ({"moved": math.inf}, "own-step", "fail", "not finite"),
        ({"still": ("a",)}, "own-step", "fail", "does not move a"),
        ({"stale": 4.0, "ratio": 2.0}, "zero-grad", "fail", "2.00 times"),
        ({"stale": 2.0, "ratio": 1.0}, "zero-grad", "fail", "another way"),
        ({"uphill": 0.9}, "loss-sign", "fail", "goes up"),
        ({"uphill": 0.9, "fresh": False}, "own-step", "pass", ""),
    ],
)
def test_own_steps(changed, name, verdict, words):
    found = own_step(**{**STEP, **changed})
    assert verdicts(found) == {name: verdict}
    assert words in found[0].reason
