"""A schedule's value has the kind of the step that was asked."""

import numpy as np
import pytest

from surefoot.errors import ConfigError
from surefoot.optim.function import as_steps, like, need_length, raised


@pytest.mark.parametrize("t", [3, 3.0, np.int64(3), np.float32(3)])
def test_a_plain_number_gives_a_float(t):
    assert type(like(t, as_steps(t))) is float


@pytest.mark.parametrize("t", [[1, 2], np.arange(2), np.zeros((2, 3), dtype=np.float32), np.zeros(0)])
def test_an_array_gives_float64_of_its_shape(t):
    value = like(t, as_steps(t))
    assert value.dtype == np.float64
    assert value.shape == np.shape(t)


def test_a_length_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="a length of 0 steps"):
        need_length(0)


def test_a_power_has_the_same_bits_for_one_number_and_for_many():
    exponents = np.arange(0, 9, 0.25)
    table = raised(0.1, exponents)
    assert table.tolist() == [float(raised(0.1, each)) for each in exponents]
    assert raised(0.1, np.float64(2)).shape == ()
    assert raised(np.ones((2, 1)), np.ones(3)).shape == (2, 3)
