"""Estimates from Gram matrices against the same from the gradients, and what is said where nothing is known."""

import math

import numpy as np
import pytest

from surefoot.steps.batch_size.noise_estimate import estimated


def one(grads, micro_batch_size=4, batch_size=32):
    return estimated((grads @ grads.T)[None], ["layer"], [grads.shape[1]], micro_batch_size, batch_size)[0]


def test_it_equals_the_slow_twin():
    grads = np.random.default_rng(0).normal(size=(12, 7)) + 0.5
    found = one(grads)
    trace = 4 * grads.var(axis=0, ddof=1).sum()
    pairs = [grads[i] @ grads[j] for i in range(12) for j in range(12) if i != j]
    assert found.trace.value == pytest.approx(trace)
    assert found.grad_norm_sq.value == pytest.approx(np.mean(pairs))
    assert found.second_moment.value == pytest.approx(trace + np.mean(pairs))
    assert found.batch_variance.value == pytest.approx(trace / 32)
    assert found.noise_scale.value == pytest.approx(trace / np.mean(pairs))
    assert found.signal_to_noise.value == pytest.approx(32 / found.noise_scale.value)


def test_layers_add_up_to_the_total():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(10, 3)) + 1, rng.normal(size=(10, 5))
    grams = np.stack([a @ a.T, b @ b.T, a @ a.T + b @ b.T])
    first, second, total = estimated(grams, ["a", "b", "total"], [3, 5, 8], 4, 32)
    whole = one(np.concatenate([a, b], axis=1))
    assert total.trace.high == pytest.approx(whole.trace.high)
    for name in ("trace", "grad_norm_sq", "second_moment"):
        both = getattr(first, name).value + getattr(second, name).value
        assert getattr(total, name).value == pytest.approx(both)


def test_a_gradient_that_noise_hides_has_a_noise_scale_that_is_open_above():
    grads = np.random.default_rng(3).normal(size=(32, 50))
    found = one(grads)
    assert found.noise_scale.high == math.inf
    assert found.noise_scale.low > 10
    assert found.grad_norm_sq.low == 0
    assert found.signal_to_noise.low == 0


def test_an_estimate_of_the_signal_below_zero_is_an_infinite_noise_scale():
    grads = np.random.default_rng(0).normal(size=(16, 50))
    grads -= grads.mean(axis=0)
    found = one(grads)
    assert found.grad_norm_sq.value < 0
    assert found.noise_scale.value == math.inf
    assert found.noise_scale.low < math.inf
    assert found.grad_norm_sq.high > 0, "no interval excludes every signal"


def test_a_layer_without_gradient_is_certain_and_has_no_noise_scale():
    found = one(np.zeros((8, 3)))
    assert (found.trace.value, found.trace.high, found.grad_norm_sq.high) == (0, 0, 0)
    assert math.isnan(found.noise_scale.value)
    assert found.noise_scale.high == math.inf


def test_more_examples_in_a_group_narrow_the_interval():
    rng = np.random.default_rng(5)
    small, large = (one(1.0 + rng.normal(size=(32, 20)) * (64 / b) ** 0.5, b).noise_scale for b in (16, 256))
    assert large.high / large.low < small.high / small.low


@pytest.mark.parametrize("shape", [(1, 7, 7), (8, 8), (1, 8, 9)])
def test_other_shapes_are_errors(shape):
    with pytest.raises(ValueError, match="at least 8"):
        estimated(np.zeros(shape), ["a"], [1], 4, 32)
