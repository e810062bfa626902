"""From what a person has, a model with data and a loss, to the task that the probes train copies of."""

from __future__ import annotations

from typing import Any

from torch import nn

from surefoot.data.load import load
from surefoot.models.build import Factory
from surefoot.training.task import Loss, Task, task


def probe_task(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | None = None,
    *,
    augment: Any = (),
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Task:
    """Return the task for a probe; the model is copied and the data is read once.

    Args:
        model: a shipped name, "package.module:factory", a factory, or a module.
        data: whatever `surefoot.load` takes.
        loss, augment, seed, device, precision, threads: as in `surefoot.task`.

    Raises:
        ConfigError, DataError: as `surefoot.load` and `surefoot.task`.

    >>> probe_task("linear", "digits").classifies
    True
    """
    return task(
        load(data), model, loss=loss, augment=augment, seed=seed, device=device, precision=precision, threads=threads
    )
