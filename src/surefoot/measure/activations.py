"""ReLUs that are zero on every example: units that pass nothing on and get no gradient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from surefoot.measure.wiring import BATCH, batch, forward
from surefoot.training.task import Task

RELU_BATCHES = 4
"""Batches of 128 examples: a unit that is active for one example in 100 looks dead in 0.6 % of cases."""
_RELUS = {torch.relu, torch.relu_, F.relu, F.relu_, Tensor.relu, Tensor.relu_}


@dataclass(frozen=True)
class Rectifier:
    """One place where a ReLU is applied: its units, and those of them that are never active."""

    units: int
    dead: int


def rectifiers(task: Task) -> tuple[tuple[Rectifier, ...], int]:
    """Return the ReLUs of the model with their dead units, and the number of examples seen.

    Units are channels, axis 1. Of [B, T, D], where units may lie on either axis, that with the larger share of dead
    units counts.

    >>> import surefoot
    >>> found, examples = rectifiers(surefoot.task(surefoot.load("digits"), "mlp"))
    >>> [(each.units, each.dead) for each in found], examples
    ([(128, 0)], 512)
    """
    model, seen = task.fresh_model().train(), _Seen()
    with torch.no_grad(), seen:
        for number in range(RELU_BATCHES):
            seen.place = 0
            forward(task, model, batch(task, number)[0])
    return tuple(map(_counted, seen.active)), min(RELU_BATCHES * BATCH, task.data.examples)


def _counted(axes: dict[int, Tensor]) -> Rectifier:
    """Return the axis with the largest share of units that were never active."""
    worst = max(axes.values(), key=lambda active: float((~active).float().mean()))
    return Rectifier(len(worst), int((~worst).sum()))


class _Seen(TorchFunctionMode):
    """Notes for each ReLU, by its place in the forward pass, which units were active: by axis, bool [units]."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.active = 0, list[dict[int, Tensor]]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _RELUS and isinstance(result, Tensor) and result.dim() >= 2:
            self._note(result)
        return result

    def _note(self, result: Tensor) -> None:
        axes: Iterable[int] = (1, 2) if result.dim() == 3 else (1,)
        now = {axis: (result > 0).transpose(0, axis).flatten(1).any(1) for axis in axes}
        if self.place == len(self.active):
            self.active.append(now)
        else:
            before = self.active[self.place]
            for axis, active in now.items():
                if axis in before and before[axis].shape == active.shape:
                    before[axis] |= active
        self.place += 1
