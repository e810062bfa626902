"""One voice: over random sets of findings, advice never contradicts itself, and nothing that was seen is hidden."""

import dataclasses
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.config import Config, Recipe
from surefoot.curves.advice import PULLS, in_training, judge_run, opposed, weighed
from surefoot.record.baseline import class_baseline
from surefoot.record.decision import Finding
from surefoot.record.run import Outcome, Row

CONTRADICT = [
    ("rate-too-low", "overfitting"), ("still-improving", "overfitting"), ("rate-too-low", "rate-too-high"),
    ("lowered-early", "noise-at-the-floor"), ("rate-too-low", "noise-at-the-floor"), ("underfitting", "overfitting"),
    ("underfitting", "overconfident"), ("underfitting", "linear-is-better"), ("little-learned", "overfitting"),
    ("plateau-at-the-start", "rate-too-high"), ("rate-too-low", "diverged"),
]  # fmt: skip
"""Pairs whose advice must never come together, written down apart from the rule that keeps them so."""


def finding(name, verdict="suspect"):
    return Finding(name=name, verdict=verdict, reason=f"seen {name}", advice=f"do {name}")


@pytest.mark.parametrize("pair", CONTRADICT)
def test_of_two_that_contradict_one_speaks_and_the_other_is_shown(pair):
    assert opposed(PULLS[pair[0]], PULLS[pair[1]])
    for order in (pair, pair[::-1]):
        said = weighed([finding(name) for name in order])
        assert len(said) == 2
        assert sum(each.advice is not None for each in said) == 1
        silent = next(each for each in said if each.advice is None)
        assert silent.verdict == "pass"
        assert "weighs more" in silent.reason


@given(st.lists(st.sampled_from(list(PULLS)), unique=True), st.booleans())
def test_advice_never_contradicts_itself(names, searched):
    said = weighed([finding(name) for name in names], rate_was_searched=searched)
    assert sorted(each.name for each in said) == sorted(names)
    speaks = [each.name for each in said if each.advice is not None]
    assert not [pair for pair in combinations(speaks, 2) if pair in CONTRADICT or pair[::-1] in CONTRADICT]
    verdicts = [("fail", "suspect", "pass").index(each.verdict) for each in said]
    assert verdicts == sorted(verdicts)


def test_a_rate_that_was_searched_is_not_told_to_be_another():
    said = weighed([finding("rate-too-low"), finding("still-improving")], rate_was_searched=True)
    assert {each.name: each.advice is None for each in said} == {"rate-too-low": True, "still-improving": False}


def test_sound_is_not_said_beside_a_doubt():
    sound = Finding(name="sound", verdict="pass", reason="without a sign of trouble")
    assert [each.name for each in weighed([sound, finding("no-better-than-constant")])] == ["no-better-than-constant"]
    assert [each.name for each in weighed([sound, finding("overconfident", "pass")])] == ["overconfident", "sound"]


def rows(train, val, accuracy, lr):
    return [
        Row(step=100 * i, epoch=float(i), examples=1, lr=lr(i / 20), train_loss=train(i / 20),
            train_accuracy=accuracy[0], val_loss=val(i / 20), val_accuracy=accuracy[1], grad_norm=1.0,
            update_ratio=1e-3, losses=(train(0.0), train(i / 20)), seconds=1.0, examples_per_second=1.0)
        for i in range(1, 21)
    ]  # fmt: skip


SHAPES = [lambda t: 2.3 - t, lambda t: 2.3, lambda t: 0.1 + 2.2 * 2.7 ** (-8 * t), lambda t: 0.5 + 2 * (t - 0.4) ** 2,
          lambda t: 2.3 if t < 0.5 else 0.3, lambda t: 2.3 - 2 * t**0.5,
          lambda t: 0.8 + 1.5 * 2.7 ** (-40 * t)]  # fmt: skip
ACCURACIES = [(1.0, 0.7), (1.0, 1.0), (0.7, 0.7), (0.3, 0.3)]
RATES = [lambda t: 0.1, lambda t: 0.1 * (1.01 - t)]


def test_whole_records_never_contradict_themselves():
    y = [0] * 97 + [1] * 3
    beside = class_baseline("test", [True] * 97 + [False] * 3, [-0.5] * 100, y, {"a": 97, "b": 3}).to_dict()
    done = Outcome(kind="finished", step=2000, reason="all steps done")
    seen = set()
    for train, val, accuracy, rate in product(SHAPES, SHAPES, ACCURACIES, RATES):
        for result in ({}, {"baseline": beside}):
            found = judge_run(rows(train, val, accuracy, rate), done, Config(data="digits"), result)
            speaks = [each.name for each in found.findings if each.advice]
            assert not [pair for pair in combinations(speaks, 2) if pair in CONTRADICT or pair[::-1] in CONTRADICT]
            assert "sound" not in {each.name for each in found.findings} or found.verdict == "pass"
            assert (found.reason, found.verdict) == (found.findings[0].reason, found.findings[0].verdict)
            seen |= {each.name for each in found.findings}
    assert {"overfitting", "still-improving", "rate-too-low", "no-better-than-constant", "underfitting"} <= seen


def test_what_the_training_loss_has_and_the_validation_loss_has_not_is_named():
    smoothed = Config(data="digits", recipe=dataclasses.replace(Recipe(), label_smoothing=0.1))
    assert in_training(smoothed) == ("label smoothing",)
    assert in_training(Config(data="digits")) == ()


def risen(epochs=20):
    """A validation loss that falls for a third of the run and then rises, while the training loss falls."""
    return [
        Row(step=10 * i, epoch=float(i), examples=100 * i, lr=0.1, train_loss=2.0 / i, train_accuracy=None,
            val_loss=1.0 + abs(i - epochs // 3) * (0.3 if i < epochs // 3 else 0.1), val_accuracy=None, grad_norm=1.0,
            update_ratio=1e-3, losses=(2.0 / i,), seconds=1.0, examples_per_second=1.0)
        for i in range(1, epochs + 1)
    ]  # fmt: skip


def test_a_loss_that_rose_after_the_weights_that_are_used_is_shown_and_not_doubted():
    rows, outcome = risen(), Outcome(kind="finished", step=200, reason="stopped early")
    last = judge_run(
        rows, outcome, Config(target="numbers"), {"weights": "last", "weights_from_step": 200, "steps": 200}
    )
    assert ("overfitting", "suspect") in [(each.name, each.verdict) for each in last.findings]
    used = {"weights": "best", "weights_from_step": 60, "steps": 200}
    best = judge_run(rows, outcome, Config(target="numbers"), used)
    (found,) = [each for each in best.findings if each.name == "overfitting"]
    assert (found.verdict, found.advice, best.verdict) == ("pass", None, "pass")
    assert "the weights that are used are those of epoch 6, the best on the validation part" in found.reason


def test_a_run_that_stopped_while_it_was_improving_is_told_to_wait_longer():
    rows = [dataclasses.replace(row, val_loss=3.0 - 0.1 * i, train_loss=3.0 - 0.1 * i) for i, row in enumerate(risen())]
    outcome = Outcome(kind="finished", step=200, reason="")
    for planned, words in ((200, "--epochs"), (900, "--early-stopping-epochs")):
        result = {"weights": "best", "weights_from_step": 200, "steps": 200, "planned_steps": planned}
        found = judge_run(rows, outcome, Config(target="numbers"), result)
        (improving,) = [each for each in found.findings if each.name == "still-improving"]
        assert words in improving.advice
