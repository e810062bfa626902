"""The calibration error equals its slow twin."""

import numpy as np
import pytest

from surefoot.record.calibration import calibration_error


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_equals_its_slow_twin(seed):
    draw = np.random.default_rng(seed)
    p, right = draw.uniform(0.2, 1, 200), draw.random(200) < 0.7
    slow = 0.0
    for m in range(15):
        inside = [(a, b) for a, b in zip(p, right, strict=True) if m / 15 < a <= (m + 1) / 15]
        if inside:
            slow += len(inside) / 200 * abs(np.mean([b for _, b in inside]) - np.mean([a for a, _ in inside]))
    assert calibration_error(p, right) == pytest.approx(slow, abs=1e-12)


def test_calibration_error_takes_the_ends():
    assert calibration_error([0.0, 1.0], [False, True]) == 0
    assert calibration_error([1.0, 1.0], [False, False]) == 1
