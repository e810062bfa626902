"""A model tried on a few examples before it is trained: in the modes in which it trains, and in evaluation mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from surefoot.errors import ConfigError

if TYPE_CHECKING:
    from surefoot.training.task import Task


def outputs_of_trial(task: Task, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return what a model makes of a batch, in the modes in which it is.

    Args:
        task: says where it computes, and which outputs its data needs.
        model: a copy, whose running statistics may change.
        x: [B, ...], y: [B, ...], as batches are fetched.

    Raises:
        ConfigError: it cannot take such a batch, or returns something else than one tensor of the right shape.
    """
    mode = "in training mode" if model.training else "in evaluation mode"
    try:
        with task.machine.autocast():
            outputs = model(x.clone())  # which it may change
    except Exception as error:  # the model may be anyone's, and raise anything
        shape = tuple(task.data.input_shape)
        first = (str(error) or repr(error)).splitlines()[0]
        raise ConfigError(
            f"{mode} the model cannot take a batch of shape {tuple(x.shape)}: {first}",
            f"it must accept [batch, {', '.join(map(str, shape))}]",
            _advice(model, task),
        ) from error
    if not isinstance(outputs, Tensor):
        raise ConfigError(
            f"{mode} the model returned {_described(outputs)}",
            "it must return one tensor, in training and in evaluation mode",
            f"wrap it in a module whose forward returns the logits alone: {_way(outputs)}",
        )
    if task.loss is None or task.classifies:
        _check_shape(task, outputs, y, mode)
    return outputs


def check_gradient(model: nn.Module, loss: Tensor) -> None:
    """Raise ConfigError where a loss has no gradient by the trainable parameters of the model that it was computed by.

    Args:
        model: in its modes of training.
        loss: a scalar.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not loss.requires_grad:
        raise ConfigError(
            "a loss that no trainable parameter of the model acts on",
            "at least one parameter with requires_grad must lead to the loss",
            "unfreeze a part of the model, and compute the loss with torch's own functions",
        )
    try:
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    except Exception as error:  # the model may be anyone's, and raise anything
        first = (str(error) or repr(error)).splitlines()[0]
        raise ConfigError(
            f"the gradient cannot be computed: {first}",
            "loss.backward() must work",
            "compute with torch's own functions, and change no tensor in place that the gradient needs",
        ) from error
    if any(grad is not None and grad.layout != torch.strided for grad in grads):
        raise ConfigError(
            "a gradient that is a sparse tensor",
            "norms and update rules are computed of dense ones",
            "leave sparse=True out of torch.nn.functional.embedding",
        )


def _advice(model: nn.Module, task: Task) -> str:
    """Return what to do where a forward pass fails."""
    others = {value.dtype for value in model.parameters() if value.dtype != torch.float32}
    if others:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
        return f"its weights are {names} and batches float32: call model.float(), and set precision for bf16"
    if task.data.integers and task.data.train.x.is_floating_point():
        return (
            "the data's whole numbers are standardised, as for a model without an nn.Embedding of them: set "
            "normalise = false to leave them as they are"
        )
    return "choose a model for this input, or change the input's shape"


def _described(outputs: object) -> str:
    if isinstance(outputs, dict):
        return f"{type(outputs).__name__} with {', '.join(map(repr, list(outputs)[:4])) or 'nothing in it'}"
    if isinstance(outputs, (tuple, list)):
        return f"{type(outputs).__name__} of {len(outputs)}"
    return type(outputs).__name__


def _way(outputs: object) -> str:
    if isinstance(outputs, dict) and outputs:
        name = "logits" if "logits" in outputs else next(iter(outputs))
        return f"return self.model(x)[{name!r}]"
    if isinstance(outputs, (tuple, list)) and outputs:
        return "out = self.model(x); return out[0] if isinstance(out, tuple) else out".replace(
            "tuple", type(outputs).__name__ if type(outputs) in (tuple, list) else "tuple"
        )
    return "return self.model(x).logits"


def _check_shape(task: Task, outputs: Tensor, y: Tensor, mode: str) -> None:
    wanted = (len(y), task.data.outputs) if task.classifies else tuple(y.shape)
    column = not task.classifies and y.dim() == 1 and tuple(outputs.shape) == (len(y), 1)
    if tuple(outputs.shape) != wanted and not column:
        raise ConfigError(
            f"{mode} the model's output has shape {tuple(outputs.shape)} for a batch of {len(y)}",
            f"this data needs {wanted}",
            f"give the model's last layer {task.data.outputs} outputs"
            + ("" if task.loss is None else ', or set target = "numbers" if your loss takes labels as numbers'),
        )
