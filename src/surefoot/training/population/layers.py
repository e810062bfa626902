"""Layers of K models as one layer, where that is faster than what `torch.vmap` makes of them.

With K members' channels side by side, [B, K C, H, W], a convolution of each member's own is one grouped convolution,
batch norm over K C channels has each member's exact statistics, and pooling need not know. The layout is channels_last,
and stays so from layer to layer: `torch.vmap` keeps the members as a dimension at place 1 of what is really in memory.
Every other operation is vmap's own.
"""

from __future__ import annotations

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


class _Stacked(Function):
    """An operation with a rule of its own for a stack of members; it is not called outside `torch.vmap`."""

    generate_vmap_rule = False

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: the rule is made of operations that have derivatives of their own."""


class _Convolution(_Stacked):
    @staticmethod
    def forward(*args: Any) -> Tensor:
        return F.conv2d(*args)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        x, weight, bias, stride, padding, dilation, groups = args
        members = info.batch_size
        weight = weight.unsqueeze(0).expand(members, *weight.shape) if in_dims[1] is None else weight
        weight = weight.movedim(in_dims[1] or 0, 0).flatten(0, 1)
        if in_dims[0] is not None or groups > 1:
            x, groups = _side_by_side(x, in_dims[0], members), members * groups
        # Otherwise all members see this batch: one convolution, of K times the filters.
        y = F.conv2d(x, weight, _joined(bias, in_dims[2], members), stride, padding, dilation, groups)
        return _apart(y, members)


class _BatchNorm(_Stacked):
    @staticmethod
    def forward(*args: Any) -> Tensor:
        return F.batch_norm(*args)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        members = info.batch_size
        of_each: list[Any] = [_joined(v, d, members) for v, d in zip(args[1:5], in_dims[1:5], strict=True)]
        return _apart(F.batch_norm(_side_by_side(args[0], in_dims[0], members), *of_each, *args[5:]), members)


class _GroupNorm(_Stacked):
    @staticmethod
    def forward(*args: Any) -> Tensor:
        return F.group_norm(*args)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        x, groups, weight, bias, epsilon = args
        members = info.batch_size
        weight, bias = _joined(weight, in_dims[2], members), _joined(bias, in_dims[3], members)
        return _apart(
            F.group_norm(_side_by_side(x, in_dims[0], members), members * groups, weight, bias, epsilon), members
        )


class _PerChannel(_Stacked):
    @staticmethod
    def forward(*args: Any) -> Tensor:
        function, x = args
        return function(x)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        function, x = args
        return _apart(function(_side_by_side(x, in_dims[1], info.batch_size)), info.batch_size)


def _conv2d(input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
            groups: int = 1) -> Any:  # fmt: skip
    if input.dim() != 4:  # one image without a batch
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return _Convolution.apply(input, weight, bias, stride, padding, dilation, groups)


def _batch_norm(input: Tensor, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
                training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Any:  # fmt: skip
    return _BatchNorm.apply(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _group_norm(input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    return _GroupNorm.apply(input, num_groups, weight, bias, eps)


_RULES: dict[Any, Any] = {
    F.conv2d: _conv2d, torch.conv2d: _conv2d, F.batch_norm: _batch_norm, F.group_norm: _group_norm,
}  # fmt: skip
_POOLS = {F.avg_pool2d, F.adaptive_avg_pool2d, F.max_pool2d, F.adaptive_max_pool2d, torch.max_pool2d}


class StackedLayers(TorchFunctionMode):
    """A context in which convolutions, batch norms and poolings under `torch.vmap` are those of this file."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _RULES:
            return _RULES[func](*args, **kwargs)
        if func in _POOLS and args and args[0].dim() == 4 and not kwargs.get("return_indices"):
            return _PerChannel.apply(lambda x: func(x, *args[1:], **kwargs), args[0])
        return func(*args, **kwargs)
