"""How a model is called with a batch: by its form, or as the user says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from surefoot.config import is_path
from surefoot.data.tree import map_leaves
from surefoot.errors import ConfigError
from surefoot.models.build import imported

_Function = TypeVar("_Function")
Forward = Callable[[nn.Module, Any], Any]
"""(model, inputs) -> outputs, in place of `called`."""

LossFn = Callable[[nn.Module, Any], Any]
"""(model, batch) -> a loss as `training.losses.Loss` returns it; a batch is what an example was: a pair (x, y), or a
mapping that holds its targets."""


def function_of(given: _Function | str | None, setting: str) -> _Function | None:
    """Return the function that "package.module:function" names, an object of a class there; anything else as it is.

    Args:
        given: text, a function, or None.
        setting: that it is for: "loss", "forward" or "loss_fn".

    Raises:
        ConfigError: there is none.

    >>> function_of("torch.nn:L1Loss", "loss"), function_of(None, "forward")
    (L1Loss(), None)
    """
    if not is_path(given):
        if isinstance(given, str) and setting != "loss":
            raise ConfigError(
                f"{setting} = {given!r}", f"{setting} is a function or package.module:function", "give it"
            )
        return cast(_Function | None, given)
    found = imported(str(given), setting)
    if isinstance(found, type):  # as torch.nn's losses are
        try:
            found = found()
        except Exception as error:  # the class may be anyone's, and raise anything
            raise ConfigError(
                f"{setting} '{given}': {type(error).__name__}: {error}",
                "a class is called without arguments",
                "point at a function, or at an object of the class",
            ) from error
    if not callable(found):
        raise ConfigError(f"{setting} '{given}', {type(found).__name__}", "it must be a function", "point at one")
    return cast(_Function, found)


def called(model: nn.Module, inputs: Any) -> Any:
    """Return what a model makes of a batch: `model(x)` of a tensor, `model(*x)` of a tuple, `model(**x)` of a dict.

    Of outputs that have logits, as an attribute or under that key, these are returned: models of the Transformers
    library give such.

    >>> import torch
    >>> called(nn.Bilinear(2, 3, 4), (torch.ones(5, 2), torch.ones(5, 3))).shape
    torch.Size([5, 4])
    """
    args, kwargs = arguments(inputs)
    return logits_of(model(*args, **kwargs))


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments with which a model is called.

    >>> arguments(1), arguments((1, 2)), arguments({"ids": 1})
    (((1,), {}), ((1, 2), {}), ((), {'ids': 1}))
    """
    if isinstance(inputs, dict):
        return (), inputs
    return inputs if isinstance(inputs, tuple) else (inputs,), {}


def logits_of(outputs: Any) -> Any:
    """Return the logits of outputs that have them, and anything else as it is."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        return outputs.get("logits", outputs)
    return getattr(outputs, "logits", outputs)


class Bound(nn.Module):
    """A model and the way in which it is called as one module, whose tensors can be exchanged by name.

    Args:
        model: whose tensors come under "model." and their own names.
        outputs: (model, inputs, targets) -> outputs.
    """

    def __init__(self, model: nn.Module, outputs: Callable[[nn.Module, Any, Any], Any]) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, inputs: Any, targets: Any) -> Any:
        """Return the outputs of a batch."""
        return self.outputs(self.model, inputs, targets)


def bound_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by the names under which `Bound` has them."""
    return {f"model.{name}": value for name, value in tensors.items()}


def batch_of(inputs: Any, targets: Any, label_name: str | None) -> Any:
    """Return a batch as its examples were given: (x, y), or a mapping with its targets among the others.

    >>> batch_of({"x": 1}, 2, "labels"), batch_of(1, 2, None)
    ({'x': 1, 'labels': 2}, (1, 2))
    """
    return (inputs, targets) if label_name is None else {**inputs, label_name: targets}


def in_fp32(outputs: Any) -> Any:
    """Return outputs with what is floating point as float32; a loss in bfloat16 loses what it is about."""

    def leaf(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value

    return map_leaves(leaf, outputs)
