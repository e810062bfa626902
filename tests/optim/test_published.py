"""Rescaling a preset: what it says, what it refuses, and its other peak."""

import dataclasses

import numpy as np
import pytest

from surefoot.errors import ConfigError
from surefoot.optim.presets import preset


def test_rescaling_names_every_length_that_it_changed():
    scaled, changes = preset("goyal-imagenet").rescaled(1404)
    assert changes == (
        "steps 14040 -> 1404",
        "end of warmup 780 -> 78",
        "drop at epoch 30 4680 -> 468",
        "drop at epoch 60 9360 -> 936",
        "drop at epoch 80 12480 -> 1248",
    )
    assert scaled.seams == (78, 468, 936, 1248)
    assert scaled.lr(78) == preset("goyal-imagenet").lr(780)


def test_restarts_stay_whole_multiples_of_the_rescaled_first_cycle():
    scaled, _ = preset("sgdr").rescaled(1000)
    assert scaled.lengths == (("T_0 (10 epochs)", 50),)
    assert scaled.seams == (50, 150, 350, 750)


@pytest.mark.parametrize(("name", "steps"), [("resnet-cifar", 2), ("goyal-imagenet", 4), ("resnet110-cifar", 2)])
def test_a_run_too_short_for_its_parts_is_refused(name, steps):
    with pytest.raises(ConfigError, match="more steps"):
        preset(name).rescaled(steps)


def test_another_peak_scales_the_whole_curve():
    each = preset("xlnet")
    t = np.arange(0, each.steps, 997)
    assert each.schedule(0.1)(t) == pytest.approx(each.lr(t) * 0.1 / each.peak_lr)


def test_a_preset_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("bert").steps = 3
