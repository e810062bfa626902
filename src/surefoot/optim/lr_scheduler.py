"""A schedule or a preset as a `torch.optim.lr_scheduler.LRScheduler`, for people with their own loop."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from surefoot.errors import ConfigError
from surefoot.optim.presets import Preset, preset
from surefoot.optim.schedules import ScheduleFn


class StepScheduler(LRScheduler):
    """Sets each group's rate to initial rate * multiplier(step), in closed form; call `step()` after each update.

    Its state is the number of steps, so it resumes from `state_dict` exactly. Made by `lr_scheduler`.
    """

    def __init__(self, optimizer: Optimizer, multiplier: ScheduleFn, last_epoch: int = -1) -> None:
        self.multiplier = multiplier
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group for the next update."""
        return self._get_closed_form_lr()

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        return [base * self.multiplier(self.last_epoch) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values; the schedule itself is given anew by whoever resumes."""
        return {name: value for name, value in super().state_dict().items() if name != "multiplier"}


def lr_scheduler(optimizer: Optimizer, schedule: ScheduleFn | Preset | str, steps: int | None = None) -> StepScheduler:
    """Return PyTorch's kind of scheduler for a schedule, to be stepped once per update.

    Each group's own `lr` is its peak: it is multiplied by the schedule's value at the step.

    Args:
        optimizer: any PyTorch optimizer.
        schedule: a function of the step that gives the multiplier (such as `schedules.cosine(1.0, T)`), a preset, or
            a preset's name. Of a preset only the shape is used.
        steps: length of the run. A preset is rescaled to it (None: its own length); any schedule keeps the value of
            update steps - 1 from then on.

    Raises:
        ConfigError: no preset has that name, or it does not fit into so few steps.

    >>> import torch
    >>> from surefoot.optim import schedules
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    >>> scheduler = lr_scheduler(optimizer, schedules.linear(1.0, 4), steps=4)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """
    if steps is not None and steps < 1:
        raise ConfigError(f"steps = {steps}", "a run has at least 1 step", "give its number of updates")
    if isinstance(schedule, str):
        schedule = preset(schedule)
    if isinstance(schedule, Preset):
        published = schedule if steps is None else schedule.rescaled(steps)[0]
        schedule, steps = published.schedule(1.0), published.steps
    curve, last = schedule, steps
    if last is None:
        return StepScheduler(optimizer, curve)
    return StepScheduler(optimizer, lambda step: curve(min(step, last - 1)))
