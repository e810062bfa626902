"""Where a run is: everything that is needed to go on, and nothing else."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from torch import Tensor, nn

from surefoot.models.extra_state import named_tensors
from surefoot.record.run import Outcome


@dataclass
class Tally:
    """What was seen since the last row, until the next row is made of it.

    Sums are over examples (loss, correct) or steps (grad_norm); `seconds` is the time of the steps alone.
    """

    loss: float = 0.0
    correct: int = 0
    examples: int = 0
    grad_norm: float = 0.0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class State:
    """A run between two steps.

    `advance` takes it and hands it back changed, as a moved value: use the one that comes back, and `clone`
    first to go on from one point twice. The order of examples, augmentation and dropout are functions of
    (seed, step), so no random state is in it.

    Attributes:
        step: updates done.
        model: weights and buffers.
        velocity: one tensor per trainable parameter; None before the first step and without momentum.
        average: the moving average of weights and floating-point buffers by name; None when it is off.
        tally: sums since the last row.
        val_losses: one validation loss per epoch, which the plateau schedule reads.
        seconds: training time so far.
        outcome: how the run ended; None while it can go on.
    """

    step: int
    model: nn.Module
    velocity: list[Tensor] | None
    average: dict[str, Tensor] | None
    tally: Tally
    val_losses: list[float]
    seconds: float
    outcome: Outcome | None

    def clone(self) -> State:
        """Return an independent copy."""
        return copy.deepcopy(self)

    def is_finite(self, template: nn.Module) -> bool:
        """Return whether weights, buffers and velocity are finite, apart from what is not so in the template.

        A buffer may hold an infinity on purpose, as attention masks do.
        """
        start = named_tensors(template)
        moved = [value for name, value in named_tensors(self.model).items() if bool(start[name].isfinite().all())]
        return all(bool(value.isfinite().all()) for value in [*moved, *(self.velocity or [])])

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights and buffers that validation and prediction use: the average where one is kept."""
        return {**named_tensors(self.model), **(self.average or {})}


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name, in the order of the velocity."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
