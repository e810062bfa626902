import math

from surefoot.cli.sparks import MOST, Curve, sparkline


def test_more_values_than_letters_are_averaged_and_fewer_are_not_stretched():
    assert sparkline([0, 2, 6, 8], 2) == "▁█"
    assert sparkline([0, 7], 80) == "▁█"
    assert len(sparkline(range(1000), 37)) == 37


def test_a_constant_nothing_and_what_is_not_finite():
    assert sparkline([3, 3, 3], 9) == "▁▁▁"
    assert sparkline([], 9) == ""
    assert sparkline([1.0], 0) == ""
    assert sparkline([1, math.nan, math.inf, 2], 9) == "▁█"


def test_a_logarithmic_scale_shows_what_a_linear_one_hides():
    falling = [10.0**-i for i in range(8)]
    assert sparkline(falling, 8, log=True) == "█▇▆▅▄▃▂▁"
    assert sparkline(falling, 8) == "█▂▁▁▁▁▁▁"
    assert sparkline([0.0, 1.0], 8, log=True) == "▁█", "a zero has no logarithm: linear"


def test_a_long_curve_keeps_its_shape_in_bounded_memory():
    curve = Curve()
    curve.extend(float(i) for i in range(100_000))
    curve.extend([None, math.nan])
    assert len(curve.values) <= MOST
    assert sparkline(curve.values, 8) == "▁▂▃▄▅▆▇█"
    assert curve.last == 99_999.0
