"""`gradient_noise`: how noisy the gradient of a model is on data, measured on a copy."""

from __future__ import annotations

from typing import Any

from torch import nn

from surefoot.models.build import Factory
from surefoot.record.noise import Noise
from surefoot.steps.batch_size.noise import GROUPS, MICRO_BATCH_SIZE, noise_of
from surefoot.steps.probe import probe_task
from surefoot.steps.untouched import untouched
from surefoot.training.task import Loss


def gradient_noise(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | None = None,
    *,
    batch_size: int = 128,
    groups: int = GROUPS,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    label_smoothing: float = 0.0,
    augment: Any = (),
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Noise:
    """Measure the gradient noise of a model at its present weights: second moment, variance, signal, noise scale.

    From the differences of independent micro-batch gradients in training mode, so that it works with batch norm,
    dropout and augmentation; see `noise.noise_of` for what each means, `record.noise.LayerNoise` for the names. The
    estimators are those of McCandlish et al. 2018 (arXiv 1812.06162), appendix A.1. Nothing of the
    caller's is changed.

    Args:
        model, data, loss: as in `find_lr`. A module is measured at the weights that it has, a name or a factory at
            fresh ones.
        batch_size: B, of the batches whose variance and signal to noise are asked for.
        groups: independent micro-batches, at least 8; with the default 32, 95 % intervals cover 93 to 97 %.
        micro_batch_size: examples in each. More narrow the intervals; with batch norm it is what is measured.
        label_smoothing, augment, seed, device, precision, threads: as in `Config`; `augment` as in `surefoot.task`.

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
            model, data, loss, augment=augment, seed=seed, device=device, precision=precision, threads=threads
        )
        return noise_of(
            task, task.fresh_model().train(), batch_size=batch_size, groups=groups, micro_batch_size=micro_batch_size,
            label_smoothing=label_smoothing,
        )  # fmt: skip
