"""A model tried on a few examples before it is trained: in the modes in which it trains, and in evaluation mode."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surefoot.data.dataset import IGNORED
from surefoot.data.tree import map_leaves, named_leaves
from surefoot.errors import ConfigError
from surefoot.training.call import batch_of

if TYPE_CHECKING:
    from surefoot.training.task import Task

_LOOKED_EXAMPLES = 4096
"""Examples whose tokens are compared with their targets. Chosen by hand."""

_JUDGED = 100
"""Training examples by which a loss is seen to be of answers. Chosen by hand."""
_MOVED = 0.1
"""Of a deviation, by which targets are moved to see whether a loss is least at them. Chosen by hand."""


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
        if task.loss_fn is not None:
            batch = batch_of(x, y, task.data.label_name)
            raise ConfigError(
                f"{mode} loss_fn(model, batch) cannot take a batch of shape {described(batch)}: {first}",
                "a batch is what the examples were: a pair (inputs, targets), or a mapping that holds the targets, too",
                _advice(model, task)
                if isinstance(batch, tuple)
                else "take the targets out of the mapping by their name",
            ) from error
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
            "say which tensor with forward=(model, inputs) -> outputs: "
            f"{_way(outputs, {dict: '**x', tuple: '*x'}.get(type(x), 'x'))}; "
            'or set target = "any", and give a loss that takes all of it',
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


def are_answers(task: Task) -> bool:
    """Return whether outputs are meant to equal the targets, or are of classes.

    Outputs that a loss of the user's for numbers takes may be logits, or the logarithm of a rate: then it is not least
    where they equal the targets, but lower with all of them moved or stretched by a tenth.

    >>> import surefoot
    >>> data = surefoot.load((torch.randn(30, 2), torch.arange(30.0) / 7), target="numbers")
    >>> [are_answers(surefoot.task(data, "linear", loss=loss)) for loss in (nn.L1Loss(), nn.PoissonNLLLoss())]
    [True, False]
    """
    if not task.custom_loss or task.classifies:
        return True
    y = task.data.train.y[:_JUDGED].float()
    tenth = _MOVED * y.std(correction=0)
    try:
        moved = (y, y + tenth, y - tenth, y * (1 + _MOVED), y * (1 - _MOVED))
        at, *others = (float(task.objective(each, y)) for each in moved)
    except Exception:  # a loss may be anyone's, and of other outputs than targets
        return False
    return all(at <= other + 1e-6 * abs(other) for other in others)


def _accepted(task: Task) -> str:
    shape = task.data.input_shape
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
        said = [_misnamed(model, task.data.train.x), _wants_labels(model, task)] if task.forward is None else []
        pixels = [name for name, leaf in named_leaves(task.data.train.x) if leaf.dtype == torch.uint8]
        said += [f"give codes in {', '.join(pixels)} as int64, since uint8 is taken for pixels"] if pixels else []
        if task.loss_fn is not None:
            return "; ".join([*filter(None, said), "call the model in loss_fn as it is to be called"])
        return "; ".join([*filter(None, said), "give forward=(model, inputs) -> outputs, which may call it in any way"])
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


def _way(outputs: object, x: str) -> str:
    """Return code that takes one tensor of outputs, of a model that is called with x, *x or **x."""
    if isinstance(outputs, dict) and outputs:
        return f"lambda model, x: model({x})[{next(iter(outputs))!r}]"
    if isinstance(outputs, (tuple, list)) and outputs:
        return f"lambda model, x: out[0] if isinstance(out := model({x}), {type(outputs).__name__}) else out"
    return f"lambda model, x: model({x}).logits"


def _misnamed(model: nn.Module, x: Any) -> str | None:
    """Return what to do where a model's forward takes other names, or another number of inputs, than the data has."""
    parameters = _parameters(model)
    any_number, any_name = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    kinds = [each.kind for each in parameters.values()]
    if not kinds:
        return None
    if isinstance(x, tuple):
        alone = len(kinds) == 1 and any_number not in kinds
        return "for a model of one list give forward=lambda model, x: model(list(x))" if alone else None
    if not isinstance(x, dict):
        return None
    required = [name for name, each in parameters.items() if each.default is each.empty and each.kind < any_number]
    missing = [name for name in required if name not in x]
    unknown = [name for name in x if name not in parameters] if any_name not in kinds else []
    if not missing and not unknown:
        return None
    which = [f"leave {', '.join(unknown)} out of the data"] if unknown and not missing else []
    which += [f"the data has no {', '.join(missing)}"] if missing else []
    return f"its forward takes {', '.join(parameters)}: {which[0]}"


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):  # of code that is not Python's
        return {}


def _wants_labels(model: nn.Module, task: Task) -> str | None:
    """Return what to do where a model makes inputs of its own of the targets, as those that translate do."""
    name = task.data.label_name
    if name is None or name not in _parameters(model):
        return None
    return f"if it needs {name}, give loss_fn=lambda model, batch: model(**batch).loss"


def copied_targets(task: Task) -> str | None:
    """Return the name of the input whose tokens the targets are, position by position; None where they are others.

    A model that sees a token before it answers has only to copy it then, and learns nothing of the next one.
    """
    if task.data.target != "tokens":
        return None
    y = task.data.train.y[:_LOOKED_EXAMPLES]
    for name, leaf in named_leaves(task.data.train.x):
        if leaf.shape == task.data.train.y.shape and bool(((leaf[:_LOOKED_EXAMPLES] == y) | (y == IGNORED)).all()):
            return name or "x"
    return None


def check_shifted(task: Task) -> None:
    """Raise ConfigError where a model of the Transformers library would be taught to copy.

    Their causal models shift labels inside the loss that they compute themselves; here outputs and targets of one
    position are compared.
    """
    causal = any(
        each.__module__.startswith("transformers.") and each.__name__.endswith(("ForCausalLM", "LMHeadModel"))
        for each in type(task.template).__mro__
    )
    if causal and not task.custom_loss and (name := copied_targets(task)) is not None:
        raise ConfigError(
            f"targets that are {name} itself, for {type(task.template).__name__}",
            "outputs and targets of one position are compared, so targets are the next tokens",
            "give loss_fn=lambda model, batch: model(**batch).loss, which shifts them, or x[:, :-1] and x[:, 1:]",
        )


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
