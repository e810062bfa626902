"""Noise as JSON and back, and its file beside the rows."""

import dataclasses
import json
import math

import pytest

from surefoot.errors import CheckpointError
from surefoot.record.noise import (
    NOISE,
    QUANTITIES,
    Estimate,
    LayerNoise,
    Noise,
    append_noise,
    read_noise,
    truncate_noise,
)

LAYER = LayerNoise(
    name="total", parameters=7,
    **{name: Estimate(value=float(i + 1), low=0.5, high=10.0) for i, name in enumerate(QUANTITIES)},
)  # fmt: skip
OPEN = dataclasses.replace(LAYER, noise_scale=Estimate(value=math.inf, low=3.0, high=math.inf))


def noise(step=3, total=LAYER):
    return Noise(step=step, batch_size=32, groups=8, micro_batch_size=16, loss=1.5, batch_norm=False, total=total,
                 layers=(dataclasses.replace(LAYER, name="head"),))  # fmt: skip


def test_it_comes_back_from_json():
    assert Noise.from_dict(json.loads(json.dumps(noise().to_dict(), allow_nan=False))) == noise()


def test_an_open_interval_comes_back_open():
    back = Noise.from_dict(json.loads(json.dumps(noise(total=OPEN).to_dict(), allow_nan=False)))
    assert back.total.noise_scale.high == math.inf
    assert back.total.noise_scale.low == 3.0
    assert math.isnan(back.total.noise_scale.value), "JSON has no infinity: the value is not known"


def test_lines_after_a_step_are_dropped_and_the_file_is_made(tmp_path):
    assert truncate_noise(tmp_path, 0) == ()
    assert (tmp_path / NOISE).is_file()
    for step in (3, 6, 9):
        append_noise(tmp_path, noise(step))
    assert [each.step for each in truncate_noise(tmp_path, 6)] == [3, 6]
    assert [each.step for each in read_noise(tmp_path)] == [3, 6]


def test_a_last_line_that_was_cut_is_left_out_and_another_is_an_error(tmp_path):
    append_noise(tmp_path, noise(3))
    whole = (tmp_path / NOISE).read_text()
    (tmp_path / NOISE).write_text(whole + whole[:20])
    assert [each.step for each in read_noise(tmp_path)] == [3]
    (tmp_path / NOISE).write_text(whole[:20] + "\n" + whole)
    with pytest.raises(CheckpointError, match="line 1"):
        read_noise(tmp_path)


def test_a_run_without_noise_has_none(tmp_path):
    assert read_noise(tmp_path) == ()
