"""A model tried on a few examples before it is trained: in the modes in which it trains, and in evaluation mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surefoot.data.tree import map_leaves, named_leaves
from surefoot.errors import ConfigError

if TYPE_CHECKING:
    from surefoot.training.task import Task


def outputs_of_trial(task: Task, model: nn.Module, x: Any, y: Any) -> Any:
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
            outputs = task.outputs(model, map_leaves(lambda leaf: leaf.clone(), x), y)  # which it may change
    except Exception as error:  # the model may be anyone's, and raise anything
        first = (str(error) or repr(error)).splitlines()[0]
        raise ConfigError(
            f"{mode} the model cannot take a batch of shape {described(x)}: {first}",
            f"it must accept {_accepted(task)}",
            _advice(model, task),
        ) from error
    if task.loss_fn is not None or (task.loss is not None and not task.classifies):
        return outputs
    if not isinstance(outputs, Tensor):
        raise ConfigError(
            f"{mode} the model returned {_described(outputs)}",
            "it must return one tensor, in training and in evaluation mode, or something with logits",
            f"say which tensor with forward=(model, inputs) -> outputs: {_way(outputs)}",
        )
    _check_shape(task, outputs, y, mode)
    return outputs


def described(tree: Any) -> str:
    """Return the shape of a tensor, or those of a tree's leaves by name.

    >>> described(torch.zeros(2, 3)), described({"ids": torch.zeros(2, 3)})
    ('(2, 3)', '{ids: (2, 3)}')
    """
    if not isinstance(tree, dict | tuple):
        return str(tuple(tree.shape)) if isinstance(tree, Tensor) else type(tree).__name__
    return "{" + ", ".join(f"{name}: {described(leaf)}" for name, leaf in named_leaves(tree)) + "}"


def answers_fit(task: Task, outputs: Any, y: Any) -> bool:
    """Return whether outputs are one answer for each target that is a class or a yes or no."""
    if task.loss_fn is not None or task.data.target in ("numbers", "any") or not isinstance(outputs, Tensor):
        return False
    return _fits(task, outputs, y)


def _accepted(task: Task) -> str:
    shape = task.data.input_shape
    if task.loss_fn is not None:
        return "the batch by loss_fn(model, batch)"
    if task.forward is not None:
        return "the batch by forward(model, inputs)"
    if task.data.kind == "tree":
        how = "model(**inputs)" if isinstance(shape, dict) else "model(*inputs)"
        return f"{how} with {', '.join(name for name, _ in named_leaves(task.data.train.x))}"
    return f"[batch, {', '.join(map(str, shape))}]"


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
    if task.data.kind == "tree":
        return "give forward=(model, inputs) -> outputs, which may call it in another way"
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
        return f"lambda model, x: model(x)[{name!r}]"
    if isinstance(outputs, (tuple, list)) and outputs:
        return f"lambda model, x: out[0] if isinstance(out := model(x), {type(outputs).__name__}) else out"
    return "lambda model, x: model(x).logits"


def _wanted(task: Task, y: Tensor) -> tuple[int, ...]:
    count = task.data.outputs
    match task.data.target:
        case "classes":
            return (len(y), count)
        case "segmentation":
            return (len(y), count, *y.shape[1:])
        case "tokens":
            return (*y.shape, count)
        case _:
            return tuple(y.shape)


def _fits(task: Task, outputs: Tensor, y: Tensor) -> bool:
    wanted, shape = _wanted(task, y), tuple(outputs.shape)
    if task.data.target == "tokens":  # a vocabulary may have more words than occur
        return shape[:-1] == wanted[:-1] and len(shape) > 1 and shape[-1] >= wanted[-1]
    if task.data.target == "segmentation":  # and there may be more classes than occur
        return len(shape) == 4 and shape[:1] + shape[2:] == wanted[:1] + wanted[2:] and shape[1] >= wanted[1]
    return shape == wanted or (task.data.target == "numbers" and y.dim() == 1 and shape == (len(y), 1))


def _moved(task: Task, outputs: Tensor, y: Tensor) -> str | None:
    """Return what to do where the classes of pixels or positions lie on another axis; None where they do not."""
    if task.data.target == "segmentation" and outputs.dim() == 4 and _fits(task, outputs.movedim(-1, 1), y):
        return "bring the classes to axis 1: outputs.permute(0, 3, 1, 2)"
    if task.data.target == "tokens" and outputs.dim() == 3 and _fits(task, outputs.transpose(1, 2), y):
        return "bring the classes to the last axis: outputs.transpose(1, 2)"
    return None


def _check_shape(task: Task, outputs: Tensor, y: Tensor, mode: str) -> None:
    if not _fits(task, outputs, y):
        raise ConfigError(
            f"{mode} the model's output has shape {tuple(outputs.shape)} for a batch of {len(y)}",
            f"this data needs {_wanted(task, y)}",
            _moved(task, outputs, y)
            or f"give the model's last layer {task.data.outputs} outputs"
            + ("" if task.loss is None else ', or set target = "numbers" if your loss takes labels as numbers')
            + (" for each position, [B, T, C]" if task.data.target == "tokens" else ""),
        )
