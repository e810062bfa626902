"""Gradient noise of a model or at a point of training, from the differences of independent micro-batch gradients.

So it works with whatever trains: batch norm, dropout, augmentation, losses that do not split into examples. The exact
values of models whose examples are independent are computed by the tests, which hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.data.batches import fetch
from surefoot.errors import ConfigError
from surefoot.models.build import Factory
from surefoot.record.noise import Noise
from surefoot.seeds import generator, torch_seed, torch_stream
from surefoot.steps.batch_size.noise_estimate import LEAST_MICRO_BATCHES, estimated
from surefoot.steps.probe import probe_task
from surefoot.steps.untouched import untouched
from surefoot.switches import usual_switches
from surefoot.training.call import Forward, LossFn
from surefoot.training.losses import Loss
from surefoot.training.state import State, trainable
from surefoot.training.task import Task, check_label_smoothing

MICRO_BATCHES = 32
"""Micro-batches. Intervals of 95 % then cover 93 to 97 % (tests/laws/test_noise.py). Chosen by hand: doubling them
narrows intervals by no more than doubling the micro-batch does, and costs more."""
MICRO_BATCH_SIZE = 64
"""Examples in each: 2,048 in all, enough to see noise scales up to some thousands. Chosen by hand."""
MOST_NUMBERS = 2**28
"""Numbers of all gradients that are held at once, 1 GB; larger models get fewer and larger groups. Chosen by hand."""


@usual_switches
def gradient_noise(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | str | None = None,
    *,
    batch_size: int = 128,
    micro_batches: int = MICRO_BATCHES,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    label_smoothing: float = 0.0,
    augment: Any = (),
    from_run: Any = None,
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Noise:
    """Measure the gradient noise of a model at its present weights: second moment, variance, signal, noise scale.

    From the differences of independent micro-batch gradients in training mode, so that it works with batch norm,
    dropout and augmentation; see `noise_of` for what each means, `record.noise.LayerNoise` for the names. The
    estimators are those of McCandlish et al. 2018 (arXiv 1812.06162), appendix A.1. Nothing of the
    caller's is changed.

    Args:
        model, data, loss: as in `find_lr`. A module is measured at the weights that it has, a name or a factory at
            fresh ones.
        batch_size: B, of the batches whose variance and signal to noise are asked for.
        micro_batches: independent ones, at least 8; with the default 32, 95 % intervals cover 93 to 97 %.
        micro_batch_size: examples in each. More narrow the intervals; with batch norm it is what is measured.
        from_run: a run, done or not, at whose weights noise is measured.
        label_smoothing, augment, seed, device, precision, threads: as in `Config`; `augment` as in `surefoot.task`.
        forward, loss_fn: as in `surefoot.task`.

    Raises:
        ConfigError, DataError: as `surefoot.load` and `surefoot.task`; for a number out of range, and where a gradient
            is not finite.

    >>> noise = gradient_noise("mlp", "digits", batch_size=64)
    >>> scale = noise.total.noise_scale
    >>> 10 < scale.low < scale.value < scale.high < 100
    True
    """
    with untouched(model, data):
        task = probe_task(
            model, data, loss, augment=augment, forward=forward, loss_fn=loss_fn, seed=seed, device=device,
            precision=precision, threads=threads, from_run=from_run,
        )  # fmt: skip
        return noise_of(
            task, task.fresh_model(), batch_size=batch_size, micro_batches=micro_batches,
            micro_batch_size=micro_batch_size, label_smoothing=label_smoothing,
        )  # fmt: skip


@usual_switches
def noise_at(
    task: Task, state: State, *, batch_size: int, micro_batches: int = MICRO_BATCHES,
    micro_batch_size: int = MICRO_BATCH_SIZE, label_smoothing: float = 0.0,
) -> Noise:  # fmt: skip
    """Return the gradient noise at the state of a run, which stays as it is, bit for bit.

    Args:
        task: of the run.
        state: from `start` or `advance`.
        batch_size: B, of the batches whose variance is asked for.
        micro_batches, micro_batch_size, label_smoothing: as in `noise_of`.

    Raises:
        ConfigError: as `noise_of`.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> plan = surefoot.plan(surefoot.Recipe(lr=0.1, epochs=1), digits.data.examples)
    >>> state, _ = surefoot.advance(digits, plan, surefoot.start(digits, plan), until_step=5)
    >>> noise = noise_at(digits, state, batch_size=128)
    >>> noise.step, noise.total.noise_scale.low < noise.total.noise_scale.value < noise.total.noise_scale.high
    (5, True)
    """
    return noise_of(
        task, state.model, step=state.step, batch_size=batch_size, micro_batches=micro_batches,
        micro_batch_size=micro_batch_size, label_smoothing=label_smoothing,
    )  # fmt: skip


def noise_of(
    task: Task, model: nn.Module, *, batch_size: int, micro_batches: int = MICRO_BATCHES,
    micro_batch_size: int = MICRO_BATCH_SIZE, label_smoothing: float = 0.0, step: int = 0,
) -> Noise:  # fmt: skip
    """Return the gradient noise of a model in the mode that it is in, which for training is its training mode.

    K micro-batches of b examples are drawn from the training part, each example independently of all others and with
    replacement, with an augmentation and a dropout of its own. Gradients are those of the loss alone: without weight
    decay and before clipping. Weights, buffers, gradients and random states stay as they are.

    F is the mean loss over the training part and over what is random in augmentation and model. With batch norm F is
    the mean loss of micro-batches of b, whose statistics are their own, and `trace` is b times the variance of their
    gradients: so b belongs to the answer, and is best near the batch size that is trained with.

    Batches that are drawn without replacement, as training draws them, vary a little less: by (N - B) / (N - 1).

    Args:
        task: data, loss, augmentation, machine and seed.
        model: whose gradients.
        batch_size: B.
        micro_batches: K, at least 8. Where K gradients would take over a gigabyte, K is lowered, to no less than 8, and
            b is raised.
        micro_batch_size: b.
        label_smoothing: of the built-in cross-entropy.
        step: numbers the draw; another step, other examples.

    Raises:
        ConfigError: a number is out of range, or a gradient is not finite.
    """
    for name, value, least in (
        ("batch_size", batch_size, 1), ("micro_batches", micro_batches, LEAST_MICRO_BATCHES),
        ("micro_batch_size", micro_batch_size, 1),
    ):  # fmt: skip
        if value < least:
            raise ConfigError(f"{name} = {value}", f"{name} must be at least {least}", f"leave {name} out")
    check_label_smoothing(task, label_smoothing)
    size = sum(parameter.numel() for parameter in trainable(model).values())
    fewer = min(micro_batches, max(LEAST_MICRO_BATCHES, MOST_NUMBERS // max(1, size)))
    larger = -(-micro_batches * micro_batch_size // fewer)
    losses, grads = _gradients(task, model, (fewer, larger), label_smoothing, step)
    layers: dict[str, list[Tensor]] = {}
    for name, grad in grads.items():
        layers.setdefault(name.rpartition(".")[0] or "model", []).append(grad)
    grams = np.stack([sum((_gram(grad) for grad in layer), np.zeros((fewer, fewer))) for layer in layers.values()])
    if not np.isfinite(grams).all():
        raise ConfigError(
            f"a gradient that is not finite, at step {step}", "noise is measured where training goes on",
            "measure at an earlier step, or train with a lower rate",
        )  # fmt: skip
    counts = [sum(grad[0].numel() for grad in layer) for layer in layers.values()]
    total, *rest = estimated(
        np.concatenate([grams.sum(0, keepdims=True), grams]), ["total", *layers], [size, *counts], larger, batch_size
    )
    return Noise(
        step=step, batch_size=batch_size, groups=fewer, micro_batch_size=larger, loss=float(np.mean(losses)),
        batch_norm=has_batch_norm(model), total=total, layers=tuple(rest),
    )  # fmt: skip


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether a layer computes with the statistics of the batch.

    >>> has_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))), has_batch_norm(nn.Linear(2, 2))
    (True, False)
    """
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in model.modules())


def _gradients(
    task: Task, model: nn.Module, shape: tuple[int, int], label_smoothing: float, step: int
) -> tuple[list[float], dict[str, Tensor]]:
    """Return the loss of each of K micro-batches and the gradients by parameter, [K, ...]; `shape` is K and b."""
    named = trainable(model)
    parameters = list(named.values())
    held = {name: parameter.new_zeros((shape[0], *parameter.shape)) for name, parameter in named.items()}
    losses: list[float] = []
    with task.machine.computing(), torch_stream(task.seed, "noise", step), kept_buffers(model), torch.enable_grad():
        for k, (x, y) in enumerate(_micro_batches(task, shape, step)):
            with task.machine.autocast():
                outputs = task.outputs(model, x, y)
            loss, _ = task.training_loss(outputs, y, label_smoothing)
            for name, grad in zip(named, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if grad is not None:
                    held[name][k] = grad
            losses.append(float(loss.detach()) * task.loss_unit)
    return losses, held


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Put every buffer back as it was after the block, the same tensor with the same bits: batch norm writes into its.

    >>> norm = nn.BatchNorm1d(2)
    >>> with kept_buffers(norm):
    ...     _ = norm(torch.randn(8, 2))
    >>> int(norm.num_batches_tracked), norm.running_mean.tolist()
    (0, [0.0, 0.0])
    """
    saved = [(module, name, buffer, buffer.clone()) for module in model.modules()
            for name, buffer in module._buffers.items() if buffer is not None]  # fmt: skip
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in saved:
                buffer.copy_(value)
                module._buffers[name] = buffer


def _micro_batches(task: Task, shape: tuple[int, int], step: int) -> Iterator[tuple[Any, Any]]:
    examples = len(task.data.train)
    draws = generator(task.seed, "noise", step).integers(examples, size=shape)
    for k, rows in enumerate(draws):
        # A seed for each group, since an example that is drawn twice is to be augmented independently.
        seed = torch_seed(task.seed, "noise-augment", step, k)
        yield fetch(task.data, task.data.train, rows, augment=task.augment, seed=seed)


def _gram(grad: Tensor) -> np.ndarray:
    """Return the inner products of K gradients of one parameter, float64 [K, K]."""
    flat = grad.reshape(len(grad), -1).double()
    return (flat @ flat.T).cpu().numpy()
