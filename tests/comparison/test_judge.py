"""What a comparison decides, on invented runs."""

import math

import pytest

from surefoot.comparison.judge import best, beyond, judge, steps_to, target_loss
from surefoot.record.comparison import DirectionNoise, RateRun, RuleResult


def trials(*pairs):
    return [RateRun(lr=lr, marks=(0, 10), losses=(2.0, loss)) for lr, loss in pairs]


def rule(name, losses, *, batch_size=32, seconds=1e-3, noise=None, steps=(5.0,), lr=0.1, form="pytorch", tried=()):
    settings = {"momentum": 0.9, "momentum_form": form, "schedule": {"kind": "constant", "warmup_epochs": 0.0}}
    direction = None if noise is None else DirectionNoise(variance=noise, cosine=0.5, samples=100)
    return RuleResult(
        name=name, settings=settings, batch_size=batch_size, steps=10, lr=lr, given=not tried, tried=tuple(tried),
        marks=(0, 10), losses=tuple((2.0, loss) for loss in losses), accuracies=None, step_seconds=seconds,
        step_seconds_range=(seconds, seconds), direction=direction, steps_to_target=tuple(steps),
    )  # fmt: skip


def test_the_best_is_the_least_loss_and_none_where_all_diverged():
    assert best(trials((0.1, 1.0), (1.0, 0.5), (10.0, math.inf))) == 1
    assert best(trials((0.1, math.inf), (1.0, math.inf))) is None


@pytest.mark.parametrize(
    ("losses", "wanted"),
    [((0.1, 0.5, 0.9), [0.001, 0.0031623]), ((0.9, 0.5, 0.1), [3.16228, 10.0]), ((0.9, 0.1, 0.5), []),
     ((math.inf,) * 3, [0.001, 0.0031623])],
)  # fmt: skip
def test_the_grid_is_widened_where_the_best_lies_on_its_border(losses, wanted):
    runs = trials(*zip((0.01, 0.1, 1.0), losses, strict=True))
    assert beyond(runs, 2) == pytest.approx(wanted, rel=1e-4)


def test_no_rate_is_tried_beyond_the_limits():
    assert beyond(trials((1e-6, 0.1), (1e-5, 0.2)), 2) == []


def test_the_target_is_what_all_but_the_worst_reach_in_every_seed():
    fast, slow, worst = [[2.0, 0.1], [2.0, 0.2]], [[2.0, 0.3], [2.0, 0.5]], [[2.0, 1.5], [2.0, 1.9]]
    assert target_loss([worst, fast, slow], 2.0)[0] == 0.5
    assert target_loss([fast, slow], 2.0)[0] == 0.2
    assert target_loss([slow], 2.0)[0] == 0.5
    assert target_loss([[[2.0, 2.5]], [[2.0, 2.4]]], 2.0)[0] is None


def test_steps_to_a_target_lie_between_the_points():
    assert steps_to((0, 10, 20), (4.0, 2.0, 0.5), 2.0) == 10.0
    assert steps_to((0, 10, 20), (4.0, 2.0, 0.5), 1.0) == 15.0
    assert steps_to((0, 10, 20), (4.0, 2.0, 0.5), 0.1) is None
    assert steps_to((0, 10), (4.0, 0.0), 1.0) == 10.0
    assert steps_to((0, 10), (math.inf, 0.5), 1.0) == 10.0
    assert steps_to((0, 10), (0.5, 0.1), 1.0) == 0.0


def test_the_findings_say_cost_noise_and_who_is_first():
    rules = [
        rule("full", [1.0, 1.0], batch_size=1000, seconds=0.02, noise=0.0, steps=(None, None)),
        rule("one", [0.2, 0.2], batch_size=1, seconds=0.001, noise=100.0, steps=(900.0, 1100.0)),
        rule("mini", [0.2, 0.2], noise=3.0, steps=(90.0, 104.0)),
        rule("heavy", [0.2, 0.2], noise=0.3, steps=(100.0, 105.0), form="nesterov"),
    ]
    found = {finding.name: finding for finding in judge(rules, 0.2, 2.0)}
    assert "20 times" in found["cost-per-step"].reason
    assert "one is the noisiest" in found["noise-of-the-step"].reason
    assert "mini reaches" in found["first-in-steps"].reason
    assert "do not tell it from heavy" in found["first-in-steps"].reason
    assert "one reaches" in found["first-in-examples"].reason
    assert "mini reaches" in found["first-in-seconds"].reason
    assert {finding.verdict for finding in found.values()} == {"pass"}


def test_who_is_first_is_told_by_the_median_that_the_table_has():
    rules = [
        rule("steady", [0.2] * 3, steps=(100.0, 100.0, 100.0)),
        rule("mostly", [0.2] * 3, steps=(80.0, 80.0, 900.0)),
    ]
    found = {finding.name: finding.reason for finding in judge(rules, 0.2, 2.0)}
    assert "mostly reaches loss 0.2 first, after 80 steps in the median" in found["first-in-steps"]


def test_the_two_forms_that_are_one_are_named_and_only_with_one_rate():
    pair = [rule("a", [0.1], form="pytorch"), rule("b", [0.1], form="sutskever")]
    assert "one-rule" in [finding.name for finding in judge(pair, None, 2.0)]
    other = [pair[0], rule("b", [0.1], form="sutskever", lr=0.2)]
    assert "one-rule" not in [finding.name for finding in judge(other, None, 2.0)]


def test_a_rate_on_the_border_and_a_run_that_is_lost_are_suspect():
    border = rule("x", [0.1], lr=0.1, tried=trials((0.1, 0.1), (1.0, 0.5)))
    lost = rule("y", [0.1, math.inf])
    above = rule("z", [3.0])
    found = [(finding.name, finding.verdict) for finding in judge([border, lost, above], None, 2.0)]
    assert found == [("rate-inside", "suspect"), ("learns", "suspect"), ("learns", "suspect")]


def test_with_batch_norm_the_rules_of_few_examples_are_named():
    rules = [rule("sgd", [1.0], batch_size=1), rule("mini-batch", [0.5], batch_size=32)]
    (said,) = [each for each in judge(rules, 1.0, 2.0, batch_norm=True) if each.name == "batch-norm"]
    assert said.verdict == "suspect"
    assert "sgd (1)" in said.reason
    assert "mini-batch" not in said.reason
    assert not [each for each in judge(rules, 1.0, 2.0) if each.name == "batch-norm"]
    assert not [each for each in judge(rules[1:], 1.0, 2.0, batch_norm=True) if each.name == "batch-norm"]
