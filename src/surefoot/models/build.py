"""From a name, `package.module:factory`, a factory or a module to a fresh model."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from surefoot.errors import ConfigError, nearest
from surefoot.models.cnn import Cnn
from surefoot.models.fast import Fast
from surefoot.models.linear import Linear
from surefoot.models.mlp import Mlp
from surefoot.models.resnet import ResNet20
from surefoot.models.usable import copied, usable
from surefoot.seeds import torch_stream

Factory = Callable[..., nn.Module]


@dataclass(frozen=True)
class Shipped:
    """A model of this package: its class, what it takes, and one line about it."""

    factory: Factory
    takes: str
    summary: str
    least_side: int = 1


SHIPPED: dict[str, Shipped] = {
    "linear": Shipped(Linear, "anything", "softmax regression (one affine map)"),
    "mlp": Shipped(Mlp, "anything", "one hidden layer of 128 units with ReLU"),
    "cnn": Shipped(
        Cnn, "images", "compact CNN with batch norm: whitening stem, three residual blocks of 32, 128, 128 channels", 3
    ),
    "fast": Shipped(Fast, "images", "the network of CIFAR-10 in the least time: 32, 128, 128 channels, for a CPU", 3),
    "fast-wide": Shipped(
        partial(Fast, widths=(64, 256, 256)), "images", "the same with airbench94's 64, 256, 256 channels", 3
    ),
    "fast-deep": Shipped(
        partial(Fast, widths=(128, 384, 512), depth=3),
        "images",
        "the same with airbench96's 128, 384, 512 channels and three convolutions a block",
        3,
    ),
    "resnet20": Shipped(ResNet20, "images", "ResNet-20 for CIFAR-10 (He et al. 2015): 16, 32, 64 channels", 4),
}


def build(
    model: str | nn.Module | Factory,
    input_shape: Any,
    outputs: int,
    seed: int = 0,
    categories: tuple[tuple[int, int], ...] = (),
) -> nn.Module:
    """Return a fresh model; the user's module, if one is given, is copied and left as it is.

    Args:
        model: a shipped name, "package.module:factory", a factory, or a module. A factory is called with
            `input_shape`, `outputs` and `categories`, those of them that it names as parameters.
        input_shape: shape of one example; of inputs of several tensors a tree of shapes, as `data.tree.shapes` gives.
        outputs: number of classes C, or of target values.
        seed: of the initialisation. A given module keeps its weights.
        categories: which numbers of an example are codes for a model that `embeds`, and how many codes.

    Raises:
        ConfigError: no such model, or it cannot take this input or be trained: see `models.usable`.

    >>> build("linear", (4,), 3, seed=0).head.out_features
    3
    """
    if isinstance(model, nn.Module):
        return usable(copied(model), input_shape, seed)
    if not (isinstance(model, str) or callable(model)):
        raise ConfigError(
            f"model of type {type(model).__name__}", "a model is a name, an nn.Module, or a function that makes one",
            "pass one of these",
        )  # fmt: skip
    name = model if isinstance(model, str) else getattr(model, "__name__", "the factory")
    if isinstance(model, str) and model in SHIPPED:
        _check_shape(model, input_shape)
    factory = factory_of(model) if isinstance(model, str) else model
    with torch_stream(seed, "init"):
        try:
            offered = {"input_shape": input_shape, "outputs": outputs, "categories": categories}
            built = factory(**{name: offered[name] for name in _parameters(factory) if name in offered})
        except ConfigError:
            raise
        except Exception as error:  # the factory may be anyone's, and raise anything
            required = isinstance(error, TypeError) and "required" in str(error)
            allowed = "a factory takes no required argument besides input_shape and outputs"
            raise ConfigError(
                f"model {name}: {error}" if required else f"model {name} raised {_words(error)}",
                allowed
                if required
                else f"it must make a model for input_shape = {input_shape} and outputs = {outputs}",
                "wrap it in a function that fills in the others" if required else "mend it, or choose another model",
            ) from error
    if not isinstance(built, nn.Module):
        raise ConfigError(
            f"model {name} returned {type(built).__name__}", "a factory returns an nn.Module", "return the module"
        )
    return usable(built, input_shape, seed)


class _NoDraws(TorchFunctionMode):
    """Leaves normal draws out: of a tensor without memory they load PyTorch's compiler, for 1.5 s."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is torch.Tensor.normal_ else func(*args, **(kwargs or {}))


def parameter_count(name: str, input_shape: tuple[int, ...], outputs: int) -> int:
    """Return the number of parameters of a shipped model, without memory for them.

    Raises:
        ConfigError: it cannot take this input.

    >>> parameter_count("linear", (4,), 3)
    15
    """
    _check_shape(name, input_shape)
    with torch.device("meta"), _NoDraws():  # shapes alone: no memory, no random numbers
        model = SHIPPED[name].factory(input_shape=input_shape, outputs=outputs)
    return sum(parameter.numel() for parameter in model.parameters())


def factory_of(name: str) -> Factory:
    """Return the factory of a shipped name or of "package.module:factory"."""
    if name in SHIPPED:
        return SHIPPED[name].factory
    if ":" not in name:
        raise ConfigError(
            f"model '{name}'", "a model is a shipped name or package.module:factory", nearest(name, SHIPPED)
        )
    found = imported(name, "model")
    if isinstance(found, nn.Module):
        return lambda: copied(found)
    if not callable(found):
        raise ConfigError(
            f"model '{name}'", "it must be a function or class that makes an nn.Module", "point at the factory"
        )
    return cast(Factory, found)


def imported(name: str, setting: str) -> Any:
    """Return what "package.module:name" names, for a setting.

    Raises:
        ConfigError: there is no such thing, or its module cannot be imported.

    >>> imported("math:pi", "model")
    3.141592653589793
    """
    module_name, _, attribute = name.partition(":")
    importable_from(None)  # as `python -m` does, so that the user's own file beside them is found
    try:
        if not all(word.isidentifier() for word in module_name.split(".")):
            raise ImportError(f"'{module_name}' is not a module's name")
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{setting} '{name}': {error}", "the module must be importable from here", "check the path before ':'"
        ) from None
    except Exception as error:  # the module may be anyone's, and raise anything
        raise ConfigError(
            f"{setting} '{name}': {_words(error)}",
            "the module must be importable without an error",
            f"mend {module_name}",
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise ConfigError(f"{setting} '{name}'", f"{module_name} has no '{attribute}'", "check the name after ':'")
    return found


def importable_from(folder: Path | None) -> None:
    """Let "package.module:factory" be found in a folder before it is looked for in this one."""
    for place in (os.getcwd(), None if folder is None else str(folder)):
        if place is not None and (place not in sys.path or folder is not None):
            sys.path.insert(0, place)


def _words(error: Exception) -> str:
    """Return an error of the user's code in one line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = "" if isinstance(error, SyntaxError) or not frames else f" ({_place(frames[-1])})"
    return (
        f"{type(error).__name__}: {str(error).splitlines()[0]}{place}"
        if str(error)
        else f"{type(error).__name__}{place}"
    )


def _place(frame: traceback.FrameSummary) -> str:
    return f"{os.path.basename(frame.filename)}, line {frame.lineno}"


def embeds(model: str | nn.Module | Factory) -> bool:
    """Return whether a model takes codes of categories: the shipped mlp, or a factory with a parameter `categories`.

    >>> embeds("mlp"), embeds("linear"), embeds(nn.Linear(2, 2))
    (True, False, False)
    """
    if isinstance(model, nn.Module):
        return False
    return "categories" in _parameters(factory_of(model) if isinstance(model, str) else model)


def _parameters(factory: Factory) -> list[str]:
    try:
        return list(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return []


def _check_shape(name: str, input_shape: Any) -> None:
    shipped = SHIPPED[name]
    if not all(isinstance(size, int) for size in input_shape):
        names = [str(key) for key in input_shape] if isinstance(input_shape, dict) else []
        raise ConfigError(
            f"model {name} with inputs " + (f"by name ({', '.join(names)})" if names else "of several tensors"),
            "the shipped models take one tensor",
            "give data of one input as x and y, or (x, y) in Python"
            if len(names) == 1
            else "give a model of yours, which takes these inputs as its arguments",
        )
    if shipped.takes != "images":
        return
    if len(input_shape) != 3 or min(input_shape[1:]) < shipped.least_side:
        raise ConfigError(
            f"model {name} with examples of shape {input_shape}",
            f"{name} takes images of at least {shipped.least_side} x {shipped.least_side} pixels",
            "use mlp or linear for other data",
        )
