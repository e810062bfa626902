"""Invented initial losses get their cause, and nothing sound is alarming."""

import math

import pytest

from surefoot.steps.initial_loss.judge import InitialLoss, judge

LN10 = math.log(10)
FACTS = {
    "loss": 2.4, "standard_error": 0.02, "batches": 8, "eval_loss": 2.4, "chance": LN10, "prior": LN10, "classes": 10,
    "output_scale": 0.5, "target_scale": None, "input_scale": 1.0, "standardised_loss": 2.4, "penalty": 0.1,
    "standard_loss": True, "sums": False, "right": 0.4, "wrong": 3.4, "examples": 128,
}  # fmt: skip
NUMBERS = {"classes": None, "chance": 1.0, "prior": 0.9, "output_scale": 0.5, "target_scale": 1.0}
LARGE = {"loss": 200.0, "standardised_loss": 190.0, "output_scale": 300.0}


@pytest.mark.parametrize(
    ("changed", "name", "verdict", "words"),
    [
        ({}, "initial-loss", "pass", "chance, ln 10 = 2.303"),
        ({"loss": 3.6, "standardised_loss": 3.6}, "initial-loss", "pass", ""),
        ({"loss": 6.0, "standardised_loss": 6.0}, "logit-scale", "suspect", "too large"),
        (LARGE, "logit-scale", "fail", "deviation 300"),
        ({"loss": 30.0, "input_scale": 100.0}, "inputs", "fail", "not normalised"),
        ({"loss": 3.5, "input_scale": 100.0}, "inputs", "suspect", "not normalised"),
        ({"input_scale": 100.0}, "initial-loss", "pass", ""),
        ({"loss": 0.1, "standardised_loss": 0.1}, "initial-loss", "pass", "already trained"),
        ({"loss": 1.5, "prior": 1.2, "standardised_loss": 1.5}, "initial-loss", "pass", "lean to the frequent classes"),
        ({"loss": 1.2, "prior": 1.2, "standardised_loss": 1.2}, "initial-loss", "pass", "shares are in the bias"),
        ({"right": -0.4, "wrong": -3.4, "loss": -2.4}, "loss-sign", "fail", "wrong sign"),
        ({"sums": True, "loss": 300.0}, "reduction", "suspect", "sum over the batch"),
        ({"loss": math.nan}, "finite", "fail", "nan"),
        ({"chance": math.nan, "loss": 7.0}, "initial-loss", "pass", "of your own"),
        ({**NUMBERS, "loss": 1.3, "standardised_loss": 1.3}, "initial-loss", "pass", "outputs of 0"),
        (
            {**NUMBERS, "loss": 90.0, "standardised_loss": 90.0, "output_scale": 9.0},
            "output-scale",
            "fail",
            "too large",
        ),
        ({**NUMBERS, "loss": 2.2, "standardised_loss": 2.2, "output_scale": 0.8}, "initial-loss", "pass", "no larger"),
        ({**NUMBERS, "loss": 2.2, "standardised_loss": 2.2, "output_scale": 1.2}, "output-scale", "suspect", "too l"),
        ({**NUMBERS, "loss": -90.0, "standard_loss": False, "right": -99.0}, "initial-loss", "pass", "of your own"),
        ({"classes": 2, "chance": math.log(2), "loss": 1.2, "standardised_loss": 1.2}, "initial-loss", "pass", "ln 2"),
    ],
)
def test_the_initial_loss_has_a_verdict_and_a_cause(changed, name, verdict, words):
    found = {finding.name: finding for finding in judge(InitialLoss(**{**FACTS, **changed}))}
    assert found[name].verdict == verdict
    assert words in found[name].reason
    assert all(finding.verdict == "pass" for other, finding in found.items() if other != name)


def test_what_weight_decay_adds_is_told():
    assert "adds 0.1" in judge(InitialLoss(**FACTS))[-1].reason
