"""The laws of measuring noise: intervals cover what was planted, a batch varies as 1/B, and the run stays the same."""

import json

import numpy as np
import pytest
import torch
from per_sample import exact_noise
from small import BatchNormDropoutNet, bare, contents, images, reference_job

import surefoot
from surefoot.config import Config
from surefoot.optim.plan import plan
from surefoot.record.noise import NOISE, QUANTITIES, read_noise
from surefoot.steps.batch_size.along_run import NoiseLog
from surefoot.steps.batch_size.noise import noise_at
from surefoot.steps.batch_size.noise_estimate import estimated
from surefoot.training.loop import advance, start
from surefoot.training.make import task

DRAWS, MICRO_BATCH, BATCH = 1000, 16, 128
SPECTRA = {
    "1 dimension": np.ones(1),
    "3 dimensions": np.ones(3),
    "10 dimensions": np.ones(10),
    "100 dimensions": np.ones(100),
    "eigenvalues as 1/i": 1 / np.arange(1.0, 101.0),
}
SEED = 2


def coverage(spectrum, signal, groups):
    """Return for each quantity how often its interval holds what was planted, over 1,000 draws.

    Args:
        spectrum: eigenvalues of Sigma, brought to a trace of 1.
        signal: ||grad F||^2 / (tr(Sigma) / b); the gradient lies along the noise, as in networks.
        groups: K.
    """
    rng = np.random.default_rng(SEED)
    sigma = spectrum / spectrum.sum()
    direction = np.random.default_rng(1).normal(size=len(sigma)) * np.sqrt(sigma)
    gradient = direction / np.linalg.norm(direction) * np.sqrt(signal / MICRO_BATCH)
    noise = rng.normal(size=(DRAWS, groups, len(sigma))) * np.sqrt(sigma / MICRO_BATCH)
    grads = gradient + noise
    found = estimated(grads @ grads.transpose(0, 2, 1), [""] * DRAWS, [len(sigma)] * DRAWS, MICRO_BATCH, BATCH)
    squared = signal / MICRO_BATCH
    planted = {
        "second_moment": 1 + squared, "grad_norm_sq": squared, "trace": 1.0, "batch_variance": 1 / BATCH,
        "signal_to_noise": squared * BATCH, "noise_scale": 1 / squared,
    }  # fmt: skip
    inside = {
        name: np.mean([getattr(each, name).low <= planted[name] <= getattr(each, name).high for each in found])
        for name in QUANTITIES
    }
    bias = {name: np.mean([getattr(each, name).value for each in found]) - planted[name]
            for name in ("second_moment", "grad_norm_sq", "trace")}  # fmt: skip
    error = {name: np.std([getattr(each, name).value for each in found]) / DRAWS**0.5 for name in bias}
    return inside, bias, error


@pytest.mark.parametrize("signal", [4 / 32, 1.0, 10.0])
@pytest.mark.parametrize("spectrum", list(SPECTRA))
def test_an_interval_of_95_percent_covers_between_93_and_97_percent(spectrum, signal):
    """Of 1,000 draws; chance alone moves the share by 0.7 points, so the ends allow no systematic miss of over 2.

    One dimension is the hardest, a single direction of noise, and gets a point more of room.
    """
    inside, bias, error = coverage(SPECTRA[spectrum], signal, groups=32)
    room = 0.01 if spectrum == "1 dimension" else 0.0
    for name, share in inside.items():
        assert 0.93 - room <= share <= 0.97 + room, (name, share)
    for name, off in bias.items():
        assert abs(off) <= 4 * error[name], f"{name} is biased"


@pytest.mark.parametrize("spectrum", list(SPECTRA))
def test_where_noise_hides_the_gradient_intervals_cover_at_least_as_much(spectrum):
    """||grad F||^2 is a third of a standard error: intervals of it and its ratios may be wide, not wrong."""
    inside, _, _ = coverage(SPECTRA[spectrum], 0.3 / 32, groups=32)
    for name in ("second_moment", "trace", "batch_variance"):
        assert 0.93 <= inside[name] <= 0.97, name
    for name in ("grad_norm_sq", "signal_to_noise", "noise_scale"):
        assert 0.93 <= inside[name] <= 0.995, name


@pytest.mark.parametrize("signal", [0.3 / 8, 1.0, 10.0])
@pytest.mark.parametrize("spectrum", list(SPECTRA))
def test_with_the_fewest_groups_they_still_cover_nearly_so(spectrum, signal):
    inside, _, _ = coverage(SPECTRA[spectrum], signal, groups=8)
    assert min(inside.values()) >= 0.89


def test_the_variance_of_a_batch_is_the_trace_over_its_size():
    """Measured from batches of 8 and of 32 of the same task, whose exact trace is known."""
    work = task(surefoot.load("digits"), "linear", precision="fp32", threads=1)
    made = plan(surefoot.Recipe(epochs=1, lr=0.05), work.data.examples)
    state, _ = advance(work, made, start(work, made), 5)
    exact = exact_noise(work, state.model)[0].trace
    for size in (8, 32):
        seen = noise_at(work, state, batch_size=64, micro_batch_size=size).total
        assert seen.trace.low <= exact <= seen.trace.high
        assert seen.batch_variance.value == pytest.approx(seen.trace.value / 64)


def test_measuring_leaves_the_state_and_the_random_numbers_as_they_were():
    """Batch norm, dropout, momentum and averages: all of the state's bits, and what torch would draw next."""
    work, made = reference_job()
    state, _ = advance(work, made, start(work, made), 7)
    before, random, places = contents(state), torch.get_rng_state(), [b.data_ptr() for b in state.model.buffers()]
    noise = noise_at(work, state, batch_size=10, micro_batches=8, micro_batch_size=10)
    assert noise.batch_norm
    assert noise.total.trace.value > 0
    assert contents(state) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert [b.data_ptr() for b in state.model.buffers()] == places
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert noise_at(work, state, batch_size=10, micro_batches=8, micro_batch_size=10) == noise, (
        "the same draw at the same step"
    )


def followed(folder, name, *, measured, stop_at=None):
    """Train the run of that name as the command does, up to `stop_at` updates; return it."""
    config = Config(
        data="in-memory", model="in-memory", precision="fp32", threads=1, augment=("flip",),
        recipe=surefoot.Recipe(lr=0.1, epochs=12, batch_size=10), checkpoint_seconds=0.0,
    )  # fmt: skip
    from surefoot.training.configure import Objects

    given = Objects(data=images(30), model=BatchNormDropoutNet)
    with surefoot.open_run(config, name=name, runs_dir=folder, objects=given) as run:
        log = NoiseLog.of(run) if measured else None
        while not run.done and (stop_at is None or run.state.step < stop_at):
            if log is not None:
                log.measure_if_due()
            run.advance()
        if log is not None and stop_at is None:
            log.measure_if_due()
        return run


def test_a_run_is_the_same_with_and_without_measuring_and_goes_on_measuring_after_a_stop(tmp_path, monkeypatch):
    """Weights, buffers, velocity and rows bit for bit; and the noise of a stopped run is that of an undisturbed one."""
    monkeypatch.setattr("surefoot.steps.batch_size.along_run.SHARE", 1.0)  # every third row
    measured = followed(tmp_path, "measured", measured=True)
    plain = followed(tmp_path, "plain", measured=False)
    assert [noise.step for noise in read_noise(measured.folder)] == [9, 18, 27, 36]
    assert not (plain.folder / NOISE).exists()
    assert contents(measured.state) == contents(plain.state)
    assert bare(measured.rows) == bare(plain.rows)
    # Killed after the checkpoint at the very step at which noise was due, before it was measured.
    followed(tmp_path, "stopped", measured=True, stop_at=18)
    resumed = followed(tmp_path, "stopped", measured=True)
    assert contents(resumed.state) == contents(plain.state)
    lines = [
        [json.loads(line) for line in (run.folder / NOISE).read_text().splitlines()] for run in (resumed, measured)
    ]
    assert lines[0] == lines[1]
