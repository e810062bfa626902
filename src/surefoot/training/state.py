"""Where a run is: everything that is needed to go on, and nothing else; extra state of a model among it.

Extra state is what a module's `get_extra_state` gives, and of one that has none what it carries in attributes.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from surefoot.errors import ConfigError
from surefoot.record.run import Outcome
from surefoot.training.attributes import carried

_NAME, _ATTRIBUTES = "_extra_state", "_attributes"


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's `state_dict` without extra state: parameters and the buffers that are saved, by name.

    >>> list(named_tensors(nn.Linear(2, 1)))
    ['weight', 'bias']
    """
    return {name: value for name, value in model.state_dict().items() if not _is_extra(name)}


def has_extra_state(model: nn.Module) -> bool:
    """Return whether some module of the model has extra state."""
    return any(
        type(module).get_extra_state is not nn.Module.get_extra_state or carried(module) for module in model.modules()
    )


def packed_extra_state(model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a model's extra state as JSON values by name, and the tensors in it, to which those refer by name.

    Both are empty where no module has any.

    Raises:
        ConfigError: it holds something that is neither a JSON value nor a tensor, or cannot be set again.
    """
    tensors: dict[str, Tensor] = {}
    found = {name: value for name, value in model.state_dict().items() if _is_extra(name)}
    for name in found:
        module = _module(model, name)
        if type(module).set_extra_state is nn.Module.set_extra_state:
            raise ConfigError(
                f"{type(module).__name__} has get_extra_state and no set_extra_state",
                "what is saved with a run must be set again when it goes on",
                "add set_extra_state(state) to it",
            )
    for name, module in model.named_modules():
        values = {key: value for key, value in carried(module).items() if _can_be_saved(value)}
        found |= {f"{name}.{_ATTRIBUTES}".removeprefix("."): values} if values else {}
    return {name: packed(value, f"extra/{name}", tensors) for name, value in found.items()}, tensors


def lost_on_resume(model: nn.Module) -> list[str]:
    """Return a sentence for each attribute that a module carries, and that cannot be saved."""
    return [
        f"{type(module).__name__}.{key} changes in forward, and a {type(value).__name__} is not saved with a run: "
        "resumed or loaded, it begins anew; hold numbers, text or tensors there, or register a buffer"
        for module in model.modules() for key, value in carried(module).items() if not _can_be_saved(value)
    ]  # fmt: skip


def _can_be_saved(value: Any) -> bool:
    try:
        packed(value, "extra/", {})
    except ConfigError:
        return False
    return True


def restore_extra_state(model: nn.Module, packed: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
    """Give a model the extra state that `packed_extra_state` made plain, and take its tensors out of `tensors`.

    Tensors go where they were: to the CPU, or to the model's device.
    """
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    for name, value in packed.items():
        module, state = _module(model, name), unpacked(value, tensors, device)
        if _is_extra(name):
            module.set_extra_state(state)
        else:
            vars(module).update(state)


def _is_extra(name: str) -> bool:
    return name.rpartition(".")[2] == _NAME


def _module(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return JSON values in which a dict is {"dict": ...}, so that a tensor can be {"tensor": its name}.

    Args:
        value: to be saved.
        name: of it, with which the names of its tensors begin.
        tensors: they are added here.

    Raises:
        ConfigError: there is something in it that is neither a JSON value nor a tensor, a tuple or a number as a key.
    """
    if isinstance(value, Tensor) and value.layout is torch.strided:
        tensors[name] = value.detach()
        return {"tensor": name, "cpu": value.device.type == "cpu"}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: packed(item, f"{name}/{key}", tensors) for key, item in value.items()}}
    if type(value) is dict and all(type(key) is int for key in value):
        return {"items": [[key, packed(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if type(value) in (list, tuple):
        found = [packed(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
        return {"tuple": found} if type(value) is tuple else found
    if type(value) is float and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    kind, _, place = name.partition("/")
    of_model = kind == "extra"
    raise ConfigError(
        f"{place} of the {'model' if of_model else kind} is of type {type(value).__name__}",
        "state is saved where it is numbers, text, lists, tuples, dicts with text or numbers as keys, and tensors; "
        "pickles are not",
        "return such values from get_extra_state, or register a buffer in its place" if of_model else
        f"choose an {kind} whose state_dict has such values",
    )  # fmt: skip


def unpacked(value: Any, tensors: dict[str, Tensor], device: torch.device) -> Any:
    """Return what `packed` made plain; its tensors leave `tensors`, for the CPU if they were there, or for a device."""
    if isinstance(value, list):
        return [unpacked(item, tensors, device) for item in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: unpacked(item, tensors, device) for key, item in value["dict"].items()}
    if "items" in value:
        return {key: unpacked(item, tensors, device) for key, item in value["items"]}
    if "tuple" in value:
        return tuple(unpacked(item, tensors, device) for item in value["tuple"])
    if "float" in value:
        return float(value["float"])
    return tensors.pop(value["tensor"]).to("cpu" if value["cpu"] else device)


@dataclass
class Tally:
    """What was seen since the last row, until the next row is made of it.

    Sums are over examples (loss, correct) or steps (grad_norm); `seconds` is the time of the steps alone. `empty` are
    the examples of batches in which nothing counts, as where all tokens are ignored: they have no loss.
    """

    loss: float = 0.0
    correct: float = 0
    examples: int = 0
    grad_norm: float = 0.0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    empty: int = 0

    @property
    def counted(self) -> int:
        """Examples over which loss and correct are means; at least 1."""
        return max(1, self.examples - self.empty)


@dataclass(frozen=True)
class Snapshot:
    """All that a model's weights file holds, as it was at a step, on the CPU.

    Attributes:
        step: updates done.
        tensors: weights, the averaged ones where an average is kept, buffers, and the tensors of extra state, by name.
        extra: extra state, as `packed_extra_state` gives it.
        value: the number by which it was chosen; NaN where it was not.
    """

    step: int
    tensors: dict[str, Tensor]
    extra: dict[str, Any]
    value: float = math.nan

    @classmethod
    def of(cls, state: State, value: float = math.nan) -> Snapshot:
        """Return a copy of what validation and prediction use of a state."""
        extra, tensors = packed_extra_state(state.model)
        copies = {name: each.detach().to("cpu", copy=True) for name, each in (state.weights | tensors).items()}
        return cls(state.step, copies, extra, value)

    def put_into_(self, model: nn.Module) -> None:
        """Give a model of the same structure these weights and this extra state."""
        tensors = dict(self.tensors)
        restore_extra_state(model, self.extra, tensors)
        with torch.no_grad():
            for name, value in named_tensors(model).items():
                value.copy_(tensors[name])


@dataclass
class State:
    """A run between two steps.

    `advance` takes it and hands it back changed, as a moved value: use the one that comes back, and `clone`
    first to go on from one point twice. The order of examples, augmentation and dropout are functions of
    (seed, step), so no random state is in it.

    Attributes:
        step: updates done.
        model: weights and buffers.
        slots: the update rule's state by name, one tensor per trainable parameter each: see `UpdateRule.slots`. Empty
            before the first step.
        average: the moving average of weights and floating-point buffers by name, see `averaging_decay`; None when it
            is off.
        tally: sums since the last row.
        val_losses: one validation loss per epoch, which the plateau schedule reads.
        seconds: training time so far.
        outcome: how the run ended; None while it can go on.
        best: the best weights so far, where whoever owns the `for` keeps them.
        micro_batch_size: examples computed at once since a step ran out of memory; None where none did.
        optimizer: of the caller's, where there is one; then there are no slots.
        computed: how its updates were computed last, as `Record.computed` has it.
        stepper: what computes them, with what it has looked up; no part of where the run is.
    """

    step: int
    model: nn.Module
    slots: dict[str, list[Tensor]]
    average: dict[str, Tensor] | None
    tally: Tally
    val_losses: list[float]
    seconds: float
    outcome: Outcome | None
    best: Snapshot | None = None
    micro_batch_size: int | None = None
    optimizer: Optimizer | None = None
    computed: str = field(default="loop", compare=False)
    stepper: Any = field(default=None, repr=False, compare=False)

    def clone(self) -> State:
        """Return an independent copy."""
        return copy.deepcopy(replace(self, stepper=None))

    def is_finite(self, template: nn.Module) -> bool:
        """Return whether weights, buffers and slots are finite, apart from what is not so in the template.

        A buffer may hold an infinity on purpose, as attention masks do.
        """
        start = named_tensors(template)
        moved = [value for name, value in named_tensors(self.model).items() if bool(start[name].isfinite().all())]
        return all(bool(value.isfinite().all()) for value in [*moved, *itertools.chain(*self.slots.values())])

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights and buffers that validation and prediction use: the average where one is kept."""
        return {**named_tensors(self.model), **(self.average or {})}


def averaging_decay(decay: float, updates: int) -> float:
    """Return by how much of itself the moving average stays after update number `updates`, from 1.

        min(decay, (1 + t) / (10 + t))

    So the initial weights, which an average begins with, leave it within the first updates: with a decay of 0.999 they
    are 82 % of it after 200 updates otherwise, and digits are 74 % right where 98 % are without an average. Dividing by
    1 - decay^t, as Adam does, also leaves the initial weights out, but keeps the worse ones after them: 95.4, 97.9 and
    98.4 % after 50, 200 and 1,000 updates, this 96.8, 98.2 and 98.5 (mlp, three seeds).

    Args:
        decay: of the recipe, in (0, 1).
        updates: t, done with this one.

    Reference: TensorFlow, `tf.train.ExponentialMovingAverage` with `num_updates`.

    >>> [round(averaging_decay(0.999, t), 3) for t in (1, 90, 100_000)]
    [0.182, 0.91, 0.999]
    """
    return min(decay, (1 + updates) / (10 + updates))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name, in the order of the slots."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
