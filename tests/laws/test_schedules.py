"""Every schedule equals PyTorch's own where PyTorch has one; every schedule has the properties that its name says."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as theirs

from surefoot.optim import schedules as s

T = 60
BASE = 0.4


def table(make, steps=T):
    """Return the rates that a PyTorch scheduler sets, one per update."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    scheduler = make(optimizer)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR's own use of a deprecated argument
        for _ in range(steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
    return np.asarray(rates)


def sequence(optimizer):
    parts = [theirs.LinearLR(optimizer, 0.1, 1.0, 10), theirs.CosineAnnealingLR(optimizer, T - 10)]
    return theirs.SequentialLR(optimizer, parts, [10])


PAIRS = {
    "constant": (lambda o: theirs.ConstantLR(o, 1.0), s.constant(BASE)),
    "step": (lambda o: theirs.MultiStepLR(o, [7, 20, 41], 0.3), s.step(BASE, [7, 20, 41], 0.3)),
    "step, even": (lambda o: theirs.StepLR(o, 10, 0.5), s.step(BASE, [10, 20, 30, 40, 50], 0.5)),
    "cosine": (lambda o: theirs.CosineAnnealingLR(o, T, eta_min=0.04), s.cosine(BASE, T, 0.1)),
    "linear": (lambda o: theirs.LinearLR(o, 1.0, 0.2, 40), s.linear(BASE, 40, 0.2)),
    "polynomial": (lambda o: theirs.PolynomialLR(o, 40, 3.0), s.polynomial(BASE, 40, 3.0)),
    "exponential": (lambda o: theirs.ExponentialLR(o, 0.95), s.exponential(BASE, 0.95, 1)),
    "one-cycle": (
        lambda o: theirs.OneCycleLR(o, BASE, total_steps=T + 1, final_div_factor=100, cycle_momentum=False),
        s.one_cycle(BASE, T, 0.3 * (T + 1) - 1, 1 / 25, 1 / 2500),
    ),
    "one-cycle, linear": (
        lambda o: theirs.OneCycleLR(o, BASE, total_steps=T + 1, anneal_strategy="linear", cycle_momentum=False),
        s.one_cycle(BASE, T, 0.3 * (T + 1) - 1, 1 / 25, 1e-4 / 25, shape="linear"),
    ),
    "sgdr": (lambda o: theirs.CosineAnnealingWarmRestarts(o, 5, 2, 0.02), s.sgdr(BASE, 5, 2, 0.05)),
    "sgdr, equal": (lambda o: theirs.CosineAnnealingWarmRestarts(o, 7, 1), s.sgdr(BASE, 7, 1)),
    "inverse sqrt": (lambda o: theirs.LambdaLR(o, lambda t: (1 + t / 9) ** -0.5), s.inverse_sqrt(BASE, 9)),
    "wsd": (lambda o: theirs.LambdaLR(o, lambda t: min(1, (T - t) / 12)), s.wsd(BASE, T, 12)),
    "warmup": (sequence, s.warmup(s.cosine(BASE, T - 10), 10, 0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_equal_to_pytorch_at_every_step(name):
    make, ours = PAIRS[name]
    # PyTorch's recursive forms collect rounding over the steps: 1e-9 is far above it, far below any other formula.
    assert ours(np.arange(T)) == pytest.approx(table(make), rel=1e-9, abs=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(0.1, 2.0) | st.just(math.nan), min_size=1, max_size=30),
    st.integers(0, 4),
    st.sampled_from([0.1, 0.5, 0.9]),
)
def test_plateau_is_pytorch_s_after_every_loss(losses, patience, factor):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = theirs.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, eps=0)
    for seen in range(1, len(losses) + 1):
        scheduler.step(losses[seen - 1])
        assert s.plateau(losses[:seen], factor, patience) == pytest.approx(optimizer.param_groups[0]["lr"])


lengths = st.integers(2, 500)
shares = st.floats(0, 1)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(lengths, shares, st.floats(1e-4, 10))
def test_every_decay_starts_at_the_peak_never_rises_and_ends_at_its_end(steps, end, peak):
    for make in (s.cosine, s.linear, s.polynomial):
        rates = make(peak, steps, end=end)(np.arange(steps + 1))
        assert rates[0] == pytest.approx(peak)
        assert rates[-1] == pytest.approx(peak * end, abs=1e-12 * peak)
        assert np.all(np.diff(rates) <= 1e-12 * peak)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(lengths, st.integers(1, 100), shares, st.sampled_from(["shift", "jump", "meet", "multiply"]))
def test_after_warmup_the_rate_is_the_decay_counted_as_the_seam_says(steps, warm, start, seam):
    decay = s.cosine(1.0, steps)
    rates = s.warmup(decay, warm, start, seam)(np.arange(warm + steps))
    t = np.arange(warm, warm + steps)
    assert rates[warm:] == pytest.approx(decay(t - warm if seam == "shift" else t))
    assert rates[0] == pytest.approx(start)
    jump = abs(s.warmup(decay, warm, start, seam)(warm - 1e-9) - rates[warm])
    if seam == "jump":
        assert jump == pytest.approx(1 - decay(warm), abs=1e-6)
    else:
        assert jump < 1e-6


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 30), st.floats(1, 3))
def test_a_cycle_of_sgdr_is_the_cosine_of_its_length(first, mult):
    starts = [0.0, *s.restarts(first, mult, 300)]
    for i, at in enumerate(starts[:6]):
        length = first * mult**i
        # Just after its start, so that rounding in the sum of the lengths cannot put t into the cycle before.
        inside = np.asarray([0.01, 0.3, 0.9]) * length
        assert s.sgdr(1.0, first, mult)(at + inside) == pytest.approx(s.cosine(1.0, length)(inside), abs=1e-9)
