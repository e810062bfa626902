"""Layers of K models as one layer, where that is faster than what `torch.vmap` makes of them.

With K members' channels side by side, [B, K C, H, W], a convolution of each member's own is one grouped convolution,
batch norm over K C channels has each member's exact statistics, and pooling need not know. The layout is channels_last,
and stays so from layer to layer: `torch.vmap` keeps the members as a dimension at place 1 of what is really in memory.
Every other operation is vmap's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

_MEMBERS_AT = 1


def _members_second(x: Tensor, place: int | None, members: int) -> Tensor:
    """Return x as [B, K, ...]; what all members share is repeated without a copy."""
    return x.unsqueeze(_MEMBERS_AT).expand(-1, members, *x.shape[1:]) if place is None else x.movedim(place, 1)


def _side_by_side(x: Tensor, place: int | None, members: int) -> Tensor:
    """Return x as [B, K C, ...]; in channels_last where it is an image."""
    x = _members_second(x, place, members)
    flat = x.reshape(x.shape[0], members * x.shape[2], *x.shape[3:])
    return flat.contiguous(memory_format=torch.channels_last) if flat.dim() == 4 else flat


def _apart(y: Tensor, members: int) -> tuple[Tensor, int]:
    return y.view(y.shape[0], members, -1, *y.shape[2:]), _MEMBERS_AT


def _joined(value: Tensor | None, place: int | None, members: int) -> Tensor | None:
    """Return one value per channel for each member, [K C]."""
    if value is None:
        return None
    return (value.expand(members, -1) if place is None else value.movedim(place, 0)).reshape(-1)


def _operation(forward: Callable[..., Tensor], rule: Callable[..., Any]) -> Any:
    """Return an operation with a rule of its own, (members, in_dims, *args) -> (result, place of the members).

    It is not called outside `torch.vmap`, and keeps nothing for a backward pass: the rule is made of operations that
    have derivatives of their own.
    """
    methods = {
        "forward": staticmethod(lambda *args: forward(*args)),
        "setup_context": staticmethod(lambda ctx, inputs, output: None),
        "vmap": staticmethod(lambda info, in_dims, *args: rule(info.batch_size, in_dims, *args)),
    }
    meta: Any = type(Function)
    return meta(rule.__name__, (Function,), methods)


def _convolution(members: int, in_dims: Any, *args: Any) -> Any:
    x, weight, bias, stride, padding, dilation, groups = args
    weight = weight.unsqueeze(0).expand(members, *weight.shape) if in_dims[1] is None else weight
    weight = weight.movedim(in_dims[1] or 0, 0).flatten(0, 1)
    if in_dims[0] is not None or groups > 1:
        x, groups = _side_by_side(x, in_dims[0], members), members * groups
    # Otherwise all members see this batch: one convolution, of K times the filters.
    return _apart(F.conv2d(x, weight, _joined(bias, in_dims[2], members), stride, padding, dilation, groups), members)


def _batch_norm(members: int, in_dims: Any, x: Tensor, *args: Any) -> Any:
    of_each: list[Any] = [_joined(v, d, members) for v, d in zip(args[:4], in_dims[1:5], strict=True)]
    return _apart(F.batch_norm(_side_by_side(x, in_dims[0], members), *of_each, *args[4:]), members)


def _group_norm(members: int, in_dims: Any, x: Tensor, groups: int, weight: Any, bias: Any, epsilon: float) -> Any:
    weight, bias = _joined(weight, in_dims[2], members), _joined(bias, in_dims[3], members)
    x = _side_by_side(x, in_dims[0], members)
    return _apart(F.group_norm(x, members * groups, weight, bias, epsilon), members)


def _per_channel(members: int, in_dims: Any, function: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    return _apart(function(_side_by_side(x, in_dims[1], members)), members)


_CONVOLUTION, _BATCH_NORM = _operation(F.conv2d, _convolution), _operation(F.batch_norm, _batch_norm)
_GROUP_NORM, _PER_CHANNEL = _operation(F.group_norm, _group_norm), _operation(lambda f, x: f(x), _per_channel)


def _conv2d(input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
            groups: int = 1) -> Any:  # fmt: skip
    given = (input, weight, bias, stride, padding, dilation, groups)
    return _CONVOLUTION.apply(*given) if input.dim() == 4 else F.conv2d(*given)  # 3: an image without a batch


def _norm_batch(input: Tensor, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
                training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Any:  # fmt: skip
    return _BATCH_NORM.apply(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _norm_groups(input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    return _GROUP_NORM.apply(input, num_groups, weight, bias, eps)


_RULES: dict[Any, Any] = {
    F.conv2d: _conv2d, torch.conv2d: _conv2d, F.batch_norm: _norm_batch, F.group_norm: _norm_groups,
}  # fmt: skip
_POOLS = {F.avg_pool2d, F.adaptive_avg_pool2d, F.max_pool2d, F.adaptive_max_pool2d, torch.max_pool2d}


class StackedLayers(TorchFunctionMode):
    """A context in which convolutions, batch norms and poolings under `torch.vmap` are those of this file."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _RULES:
            return _RULES[func](*args, **kwargs)
        if func in _POOLS and args and args[0].dim() == 4 and not kwargs.get("return_indices"):
            return _PER_CHANNEL.apply(lambda x: func(x, *args[1:], **kwargs), args[0])
        return func(*args, **kwargs)
