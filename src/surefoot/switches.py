"""PyTorch's switches that a caller may have set for work of their own, set for ours while a function of ours runs.

A call inside `torch.no_grad()`, `torch.inference_mode()` or `torch.autocast(...)`, or after
`torch.set_default_dtype(torch.float64)` or `torch.set_default_device("cuda")`, does what it does anywhere else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")


def usual_switches(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return the function run with gradients on, autocast off, and float32 and the CPU as defaults.

    The caller's switches come back at the end. The default type is one for all threads, so it is left alone where it is
    float32 already.

    >>> @usual_switches
    ... def seen():
    ...     return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.zeros(1).dtype
    >>> with torch.inference_mode():
    ...     seen(), torch.is_inference_mode_enabled()
    ((True, False, torch.float32), True)
    """

    @functools.wraps(function)
    def switched(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            former = torch.get_default_dtype()
            if former != torch.float32:
                torch.set_default_dtype(torch.float32)
                stack.callback(torch.set_default_dtype, former)
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            return function(*args, **kwargs)

    return switched
