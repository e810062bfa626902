"""Step 6 on invented records: each sign alone, and silence where there is none."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from surefoot.config import Config
from surefoot.curves.advice import read_stored
from surefoot.curves.read import read_curves
from surefoot.record.run import Outcome, Row
from surefoot.record.stored import Stored

DONE = Outcome(kind="finished", step=2000, reason="all steps done")
N = 20


def record(
    train, val=None, *, lr=lambda t: 0.1, train_accuracy: float | None = 0.95, val_accuracy: float | None = 0.94,
    noise=0.0, rows=N,
):  # fmt: skip
    """Rows of functions of the time t from 0 to 1; noise alternates, as a share."""
    made = []
    for i in range(1, rows + 1):
        t = i / rows
        wobble = 1 + noise * (-1) ** i
        loss = train(t) * wobble
        made.append(
            Row(
                step=100 * i, epoch=i / 2, examples=3200 * i, lr=lr(t), train_loss=loss,
                train_accuracy=train_accuracy, val_loss=None if val is None else val(t) * wobble,
                val_accuracy=None if val is None else val_accuracy, grad_norm=1.0, update_ratio=1e-3,
                losses=(train(0.0), loss), seconds=t, examples_per_second=1.0,
            )
        )  # fmt: skip
    return made


def names(rows, outcome=DONE):
    return [each.name for each in read_curves(rows, outcome).findings]


def cosine(t):
    return 0.1 * (1 + math.cos(math.pi * t)) / 2


def falling(t):
    return 0.1 + 2.2 * math.exp(-8 * t)


@pytest.mark.parametrize("lr", [cosine, lambda t: 0.1 * (1 - t), lambda t: 0.1 * 0.1 ** ((t > 0.5) + (t > 0.75))])
def test_a_sound_run_is_called_sound(lr):
    found = read_curves(record(falling, lambda t: falling(t) + 0.02, lr=lr, noise=0.01), DONE)
    assert [each.name for each in found.findings] == ["sound"]
    assert found.verdict == "pass"
    assert (found.step, found.name, found.evidence["pins"]) == (6, "curves", [])


def test_a_run_that_diverged_fails_whatever_its_rows():
    lost = Outcome(kind="diverged", step=700, reason="the loss is not finite")
    found = read_curves(record(falling)[:7], lost)
    assert found.verdict == "fail"
    assert found.evidence["pins"] == [{"finding": "diverged", "step": 700}]
    assert "700 updates" in found.reason


def test_few_rows_make_no_curve():
    assert names(record(falling, rows=5)) == ["rows"]


def test_a_loss_that_stands_for_good_fails():
    found = read_curves(record(lambda t: 2.3, lambda t: 2.3, train_accuracy=0.1, val_accuracy=0.1, noise=0.005), DONE)
    assert ([each.name for each in found.findings], found.verdict) == (["nothing-learned"], "fail")


def test_a_plateau_is_the_rates_fault_only_where_it_ends_as_the_rate_falls():
    def late(t):
        return 2.3 if t <= 0.5 else 0.1 + 2.2 * math.exp(-12 * (t - 0.5))

    assert "plateau-at-the-start" in names(record(late))
    found = read_curves(record(late, lr=lambda t: 1.0 if t <= 0.5 else 0.1), DONE)
    assert found.findings[0].name == "rate-too-high"
    assert found.findings[0].advice == "lower the learning rate to about 0.1"
    assert found.evidence["pins"][0] == {"finding": "rate-too-high", "step": 1000}


def test_a_straight_line_is_a_low_rate_or_a_short_run():
    assert "rate-too-low" in names(record(lambda t: 2.3 - t, train_accuracy=0.6))
    assert "rate-too-low" not in names(record(falling))


def test_a_rate_lowered_while_the_loss_fell_was_lowered_early():
    def stopped(t):
        return 2.3 - 3 * t if t <= 0.3 else 1.4 - 0.02 * (t - 0.3)

    early = read_curves(record(stopped, lr=lambda t: 0.1 if t <= 0.3 else 0.001, train_accuracy=0.6), DONE)
    assert early.findings[0].name == "lowered-early"
    assert early.evidence["pins"][0]["step"] == 700
    assert "lowered-early" not in names(record(falling, lr=cosine))


def test_a_loss_held_up_by_noise_at_a_high_rate_is_told_to_anneal():
    def held(t):
        return 0.5 + 1.8 * math.exp(-30 * t)

    assert names(record(held, train_accuracy=0.85, noise=0.02)) == ["noise-at-the-floor"]
    assert "noise-at-the-floor" not in names(record(held, train_accuracy=0.85, noise=0.02, lr=cosine))


def test_overfitting_is_a_rising_validation_loss_or_a_set_known_by_heart():
    def rising(t):
        return 0.5 + 2 * (t - 0.4) ** 2

    found = read_curves(record(falling, rising, val_accuracy=0.84), DONE)
    assert [each.name for each in found.findings] == ["overfitting"]
    assert found.evidence["pins"] == [{"finding": "overfitting", "step": 800}]
    assert names(record(falling, rising, train_accuracy=None, val_accuracy=None)) == ["overfitting"], "a regression"
    heart = record(lambda t: falling(t) - 0.099, lambda t: 0.8, train_accuracy=1.0, val_accuracy=0.8)
    assert names(heart) == ["overfitting"]
    small_gap = record(lambda t: falling(t) - 0.099, lambda t: 0.3, train_accuracy=1.0, val_accuracy=0.93)
    assert names(small_gap) == ["sound"]


def test_a_validation_loss_that_rises_beside_an_accuracy_that_does_not_fall_is_overconfidence():
    def rising(t):
        return 0.5 + 2 * (t - 0.4) ** 2

    rows = record(falling, rising, train_accuracy=1.0, val_accuracy=1.0)
    found = read_curves(rows, DONE, in_training=("label smoothing",))
    assert ([each.name for each in found.findings], found.verdict) == (["overconfident"], "pass")
    assert "(label smoothing in it, which the validation loss is without)" in found.reason
    assert "accuracy went from 100.0% to 100.0%" in found.reason


@pytest.mark.parametrize(("examples", "said"), [(100, "overconfident"), (2000, "overfitting"), (None, "overfitting")])
def test_an_accuracy_has_fallen_where_its_examples_can_show_it(examples, said):
    rows = record(falling, lambda t: 0.5 + 2 * (t - 0.4) ** 2, val_accuracy=0.94)
    rows[-1] = dataclasses.replace(rows[-1], val_accuracy=0.92)
    assert [each.name for each in read_curves(rows, DONE, val_examples=examples).findings] == [said]


def flat(draw, rows, deviation):
    """Rows whose losses are noise about one level."""
    made = record(lambda t: 1.0, lambda t: 1.0, train_accuracy=None, rows=rows)
    noisy = 1 + deviation * draw.normal(size=(2, rows))
    return [
        dataclasses.replace(row, train_loss=float(a), val_loss=float(b), losses=(2.3, float(a)))
        for row, a, b in zip(made, *noisy, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [6, 10, 30])
def test_a_flat_curve_is_seldom_said_to_improve_or_to_rise(rows):
    # 400 curves with a true rate of 2.5 %: more than 4.8 % has a chance of 0.3 %. soak/coverage.py does 10,000.
    draw, times = np.random.default_rng(rows), 400
    said = [names(flat(draw, rows, 0.2)) for _ in range(times)]
    for name in ("still-improving", "overfitting", "rate-too-low"):
        assert sum(name in each for each in said) <= 0.048 * times, name


def test_one_lucky_validation_is_not_the_least_from_which_losses_rise():
    rows = record(falling, lambda t: 0.5 - 0.2 * (abs(t - 0.5) < 0.01), lr=cosine)
    assert "overfitting" not in names(rows)


def test_a_loss_that_still_falls_says_what_more_would_gain_and_only_at_a_high_rate():
    def slow(t):
        return 2.3 - 0.6 * math.log1p(20 * t) / math.log(21) - 0.5 * t**0.5

    found = read_curves(record(slow, slow, train_accuracy=0.7, val_accuracy=0.7), DONE)
    said = next(each for each in found.findings if each.name == "still-improving")
    assert said.verdict == "suspect"
    assert said.advice == "train longer: --epochs 13 or more"
    annealed = read_curves(record(slow, slow, lr=cosine, train_accuracy=0.7, val_accuracy=0.7), DONE)
    assert next(each for each in annealed.findings if each.name == "still-improving").verdict == "pass"


def test_the_foretold_gain_is_that_of_a_logarithmic_curve():
    found = read_curves(record(lambda t: 2.0 - 0.5 * math.log(20 * max(t, 0.01)), train_accuracy=0.7, noise=1e-4), DONE)
    said = next(each for each in found.findings if each.name == "still-improving")
    assert "25% more epochs would lower it by about 0.11 [" in said.reason  # 0.5 ln 1.25


def test_a_model_that_can_do_no_more_and_one_that_has_learned_little():
    def stuck(t):
        return 0.8 + 1.5 * math.exp(-40 * t)

    flat = record(stuck, stuck, lr=cosine, train_accuracy=0.7, val_accuracy=0.7, noise=0.001)
    assert names(flat) == ["underfitting"]
    assert names(record(stuck, stuck, lr=cosine, train_accuracy=0.3, val_accuracy=0.3, noise=0.001)) == [
        "little-learned"
    ]


def test_a_regression_and_a_run_without_validation_are_read():
    def settled(t):
        return 0.1 + 2.2 * math.exp(-14 * t)

    assert names(record(settled, settled, train_accuracy=None, val_accuracy=None, lr=cosine)) == ["sound"]
    assert names(record(settled, lr=cosine, train_accuracy=None)) == ["sound"]
    below_zero = record(lambda t: settled(t) - 1, lambda t: settled(t) - 1, lr=cosine, train_accuracy=None)
    assert names(below_zero) == ["sound"]


def stored(rows, result):
    return Stored(
        folder=Path("run"), config=Config(data="digits"), command="library", environment={}, rows=tuple(rows),
        result=result, training=False,
    )  # fmt: skip


def test_a_run_on_disk_is_read_once_it_is_done():
    rows = record(falling, lambda t: falling(t) + 0.02, lr=cosine, noise=0.01)
    assert read_stored(stored(rows, None)) is None
    done = {"outcome": "finished", "steps": 2000, "reason": "all steps done"}
    found = read_stored(stored(rows, done))
    assert found == read_curves(rows, DONE)
    lost = {"outcome": "diverged", "steps": 700, "reason": "the loss is not finite"}
    said = read_stored(stored(rows[:7], lost))
    assert said is not None
    assert said.findings[0].reason == "diverged after 700 updates at learning rate 0.0727: the loss is not finite"


def test_a_short_run_that_learned_nothing_says_so_and_one_that_exploded_is_told_a_lower_rate():
    flat = read_curves(record(lambda t: 2.3, rows=3), DONE)
    assert [each.name for each in flat.findings] == ["nothing-learned"]
    assert "lower" not in (flat.advice or "")
    exploded = read_curves(record(lambda t: 2.3 + 1e6 * t, rows=3), DONE)
    assert exploded.advice is not None
    assert exploded.advice.startswith("lower the learning rate by 3 to 10")
