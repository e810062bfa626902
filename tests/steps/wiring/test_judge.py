"""Invented numbers get the verdicts and the reasons that they should."""

import math
from dataclasses import replace

import pytest

from surefoot.steps.wiring.judge import (
    Descent,
    Facts,
    Fit,
    LossKind,
    Modes,
    Reach,
    Rectifier,
    judge,
    judge_fit,
    softmax_floor,
    wrong_sign,
)  # fmt: skip

FIT = Fit(batch=4, input_shape=(8,), outputs=(4, 10), targets=(4,), labels=(0, 9), classes=10)
FACTS = Facts(
    classes=10,
    loss=LossKind(cross_entropy=True, log_likelihood=False, binary=False, sums=False, right=0.4, wrong=3.4),
    modes=Modes(train_loss=2.3, eval_loss=2.3, train_probabilities=False, eval_probabilities=False,
                train_log_probabilities=False, ends_in_sigmoid=False),
    reach=Reach(trainable=tuple("abc"), absent=(), zero=(), frozen_after=(), frozen_share=0.0, frozen=0, batches=1),
    rectifiers=(),
    examples=512,
    descent=Descent(loss=2.0, noise=0.0, grad_norm=1.0, changes=(0.5, -0.002), shares=(0.1, 0.001)),
    trained_examples=256, evaluated_examples=2944,
)  # fmt: skip


def changed(**changes):
    """Return the facts with fields of their dataclasses changed, by name."""
    facts = FACTS
    for name, value in changes.items():
        (where,) = [each for each in ("loss", "modes", "reach", "descent") if name in vars(getattr(facts, each))]
        facts = replace(facts, **{where: replace(getattr(facts, where), **{name: value})})
    return facts


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
    found = judge_fit(replace(FIT, outputs=(4, outputs), labels=labels), refused)[-1]
    assert (found.name, found.verdict) == ("labels", verdict)
    assert words in found.reason
    assert (found.advice is None) == (verdict == "pass")


@pytest.mark.parametrize(
    ("outputs", "targets", "custom_loss", "verdict"),
    [
        ((4, 1), (4,), False, "pass"),
        ((4,), (4,), False, "pass"),
        ((4, 3), (4, 3), False, "pass"),
        ((4, 2), (4,), False, "fail"),
        ((4, 2), (4,), True, "pass"),
    ],
)
def test_numbers_need_one_output_for_each_target(outputs, targets, custom_loss, verdict):
    fit = replace(FIT, outputs=outputs, targets=targets, labels=None, classes=0)
    assert judge_fit(fit, custom_loss=custom_loss)[0].verdict == verdict


def test_a_model_that_takes_no_batch_or_gives_no_rows_fails():
    assert judge_fit(replace(FIT, outputs=None, problem="no"))[0].verdict == "fail"
    assert judge_fit(replace(FIT, outputs=(4, 10, 2)))[0].verdict == "fail"
    assert judge_fit(replace(FIT, outputs=(4, 1), labels=(0, 1)), custom_loss=True)[0].verdict == "pass"


def test_sound_facts_pass_with_a_finding_for_each_check():
    names = {"outputs", "loss-sign", "modes", "gradients", "dead-relus", "descent"}
    assert verdicts(judge(FACTS)) == dict.fromkeys(names, "pass")


@pytest.mark.parametrize(
    ("changes", "name", "verdict", "words"),
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
def test_loss_and_outputs(changes, name, verdict, words):
    found = judge(changed(**changes))
    assert verdicts(found)[name] == verdict
    assert any(words in finding.reason for finding in found if finding.name == name)


def test_a_loss_that_answers_nothing_about_its_sign_is_not_judged_by_it():
    assert "loss-sign" not in verdicts(judge(changed(right=math.nan)))


def test_a_sign_is_wrong_by_more_than_rounding():
    assert [wrong_sign(1 + excess, 1.0) for excess in (-0.1, 0.0, 5e-5, 2e-4)] == [False, False, False, True]


def test_the_floor_of_a_softmax_is_the_loss_of_a_probability_of_one():
    assert softmax_floor(10) == pytest.approx(-1 + math.log(math.e + 9 * math.exp(0)))


@pytest.mark.parametrize(
    ("changes", "name", "verdict"),
    [
        ({}, "gradients", "pass"),
        ({"absent": ("a",)}, "gradients", "fail"),
        ({"zero": ("a",)}, "gradients", "fail"),
        ({"frozen_after": ("a",), "frozen_share": 0.2}, "frozen", "suspect"),
        ({"frozen_after": ("a",), "frozen_share": 0.9, "frozen": 9}, "gradients", "pass"),
    ],
)
def test_gradients(changes, name, verdict):
    found = verdicts(judge(changed(**changes)))
    assert {each: found[each] for each in ("gradients", "frozen") if each in found} == {name: verdict}


def test_a_zero_gradient_is_explained_by_dead_relus():
    (found,) = [each for each in judge(replace(changed(zero=("a",)), rectifiers=(Rectifier(8, 8),)))
                if each.name == "gradients"]  # fmt: skip
    assert "all ReLUs behind them are dead" in found.reason


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
    facts = replace(FACTS, rectifiers=tuple(Rectifier(*layer) for layer in layers))
    assert verdicts(judge(facts))["dead-relus"] == verdict


@pytest.mark.parametrize(
    ("changes", "verdict"),
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
def test_descent(changes, verdict):
    assert verdicts(judge(changed(**changes)))["descent"] == verdict
