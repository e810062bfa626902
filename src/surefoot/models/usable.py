"""What a module must be to be trained here: whole, of plain PyTorch, with weights that can be copied and exchanged."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from surefoot.errors import ConfigError
from surefoot.seeds import torch_stream

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def usable(model: nn.Module, input_shape: Any, seed: int) -> nn.Module:
    """Return the module that is trained: the one inside a wrapper, with its lazy layers made.

    What `torch.compile` and data parallelism wrap is trained as it is: the weights are the same, under their own names.
    Lazy layers (`nn.LazyLinear`) get their shapes and first weights from a forward pass of zeros.

    Args:
        model: anyone's, changed in place where it has lazy layers.
        input_shape: of one example; of inputs of several tensors a tree of shapes.
        seed: of the weights of lazy layers.

    Raises:
        ConfigError: it is a ScriptModule, or its weights have no values.

    >>> made = usable(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), (2, 5), seed=0)
    >>> made[1].in_features
    10
    """
    while isinstance(model, _WRAPPERS) or hasattr(model, "_orig_mod"):
        model = cast(nn.Module, model.module if isinstance(model, _WRAPPERS) else model._orig_mod)
    if isinstance(model, torch.jit.ScriptModule):
        raise ConfigError(
            f"a model that torch.jit has made ({type(model).__name__})",
            "training exchanges a model's weights, which such a module does not allow",
            "give the nn.Module that it was scripted or traced from",
        )
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if any(nn.parameter.is_lazy(value) for value in tensors.values()):
        _made(model, input_shape, seed)
    if empty := [name for name, value in tensors.items() if value.is_meta]:
        raise ConfigError(
            f"a model whose {empty[0]} is on the device meta",
            "weights need values to begin with",
            "make it on a real device, or call model.to_empty(device='cpu') and initialise it",
        )
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False  # the same gradient, in the form that norms and rules are computed in
    return model


def copied(model: nn.Module) -> nn.Module:
    """Return an independent copy of a module.

    Raises:
        ConfigError: it holds what cannot be copied.

    >>> copied(nn.Linear(2, 1)).in_features
    2
    """
    # An uninitialised buffer of a lazy layer cannot be copied by itself, though nothing is in it.
    lazy = [value for value in model.buffers() if nn.parameter.is_lazy(value)]
    empty: Any = nn.parameter.UninitializedBuffer  # whose annotations lack these arguments
    memo: dict[int, Any] = {id(buffer): empty(device=buffer.device, dtype=buffer.dtype) for buffer in lazy}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # the model may be anyone's, and raise anything
        first = (str(error) or repr(error)).splitlines()[0].partition(".  ")[0]
        old = any(hasattr(module, "weight_g") for module in model.modules())
        raise ConfigError(
            f"the model cannot be copied: {first}",
            "each training changes a copy of it, so copy.deepcopy(model) must work",
            "use torch.nn.utils.parametrizations.weight_norm, which can be, in place of torch.nn.utils.weight_norm"
            if old
            else "keep no computed tensors, locks or open files as its attributes, or give a function that makes it",
        ) from error


def _made(model: nn.Module, input_shape: Any, seed: int) -> None:
    """Give lazy layers their shapes, by a forward pass of numbers or, for a model that embeds, of indices."""
    if not all(isinstance(size, int) for size in input_shape):
        raise ConfigError(
            "a model with lazy layers for inputs of several tensors",
            "their shapes come from one forward pass of zeros, which only one tensor has",
            "call the model once with a batch, or give its layers their shapes",
        )
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    errors: list[str] = []
    for x in (torch.zeros(2, *input_shape), torch.zeros(2, *input_shape, dtype=torch.int64)):
        try:
            with torch_stream(seed, "lazy"), torch.no_grad():
                model(_on(model, x))
            break
        except Exception as error:  # the model may be anyone's, and raise anything
            errors.append((str(error) or repr(error)).splitlines()[0])
    else:
        raise ConfigError(
            f"a model with lazy layers that cannot take a batch of shape {(2, *input_shape)}: {errors[0]}",
            "their shapes come from one forward pass",
            "choose a model for this input, or give its layers their shapes",
        )
    for module, training in modes:
        module.training = training


def _on(model: nn.Module, x: Tensor) -> Tensor:
    """Return a batch on the device of those parameters that are there already."""
    there = (value.device for value in model.parameters() if not nn.parameter.is_lazy(value))
    return x.to(next(there, torch.device("cpu")))
