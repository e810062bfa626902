"""PyTorch's switches that a caller may have set for work of their own, set for ours while a function of ours runs.

A call inside `torch.no_grad()`, `torch.inference_mode()` or `torch.autocast(...)`, or after
`torch.set_default_dtype(torch.float64)` or `torch.set_default_device("cuda")`, does what it does anywhere else.
"""

from __future__ import annotations

import functools
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

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


_UNREPEATABLE = r"(\S+) does not have a deterministic implementation"
_PRODUCTS = "Deterministic behavior was enabled with .*CuBLAS"
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def repeatable_kernels(*, quiet: bool = False) -> Iterator[None]:
    """Have a card compute what it computed before, bit for bit, and fp32 in fp32; the caller's switches come back.

    Operations take their deterministic form where they have one (`torch.use_deterministic_algorithms` would load the
    compiler besides). Convolutions and recurrent layers, which PyTorch computes in TF32 unless
    it is told otherwise, do so only where the caller allows it for matrix products: see `tf32_allowed`. A caller who
    forbids what is not deterministic keeps that.

    Args:
        quiet: let PyTorch not warn, at each call, of operations that have no such form.
    """
    cudnn = torch.backends.cudnn
    with ExitStack() as stack:
        # They may be frozen, as by PyTorch's own tests; a context that puts them back is what may set them then.
        stack.enter_context(getattr(torch.backends, "__allow_nonbracketed_mutation")())

        def put(thing: object, name: str, value: object) -> None:
            stack.callback(setattr, thing, name, getattr(thing, name))
            setattr(thing, name, value)

        put(cudnn, "benchmark", False)
        put(cudnn, "deterministic", True)
        if not tf32_allowed():
            _without_tf32(put)
        if (former := torch.get_deterministic_debug_mode()) == 0:
            torch.set_deterministic_debug_mode("warn")
            stack.callback(torch.set_deterministic_debug_mode, former)
            # It would fill all memory that is taken with NaN before it is used, at a kernel each.
            put(torch.utils.deterministic, "fill_uninitialized_memory", False)
        if _WORKSPACE not in os.environ:  # PyTorch asks for it, and looks once, at the first product
            os.environ[_WORKSPACE] = ":4096:8"
            stack.callback(os.environ.pop, _WORKSPACE, None)
        products = torch.cuda.is_initialized() and _products_warn()
        if quiet or products:  # not always: it would have the caller's own warnings told again
            stack.enter_context(warnings.catch_warnings())
            for said in (_UNREPEATABLE, _PRODUCTS):
                warnings.filterwarnings("ignore", said, UserWarning)
        yield


@functools.cache
def _products_warn() -> bool:
    """Return whether PyTorch takes matrix products for not repeatable, and says so at each: it looks for a setting of
    their workspaces once, at the first product, which the caller may have done before. It gives each stream a workspace
    of its own all the same, and that is what cuBLAS asks for.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        one = torch.ones(1, 1, device="cuda")
        torch.mm(one, one)
    return any(re.match(_PRODUCTS, str(each.message)) for each in told)


def tf32_allowed() -> bool:
    """Return whether the caller lets a card multiply fp32 matrices in TF32: by `torch.set_float32_matmul_precision`,
    `torch.backends.cuda.matmul` or `torch.backends.fp32_precision`. By itself PyTorch does not.
    """
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


def _without_tf32(put: Callable[[object, str, object], None]) -> None:
    """Compute convolutions and recurrent layers in fp32. Where the older switch and the newer ones say one thing, both
    are set, for PyTorch refuses to read the older one otherwise.
    """
    cudnn: Any = torch.backends.cudnn
    kinds = [kind for kind in (cudnn.conv, cudnn.rnn) if kind.fp32_precision == "tf32"]
    if len(kinds) == 2:
        with suppress(RuntimeError):  # the caller has used both, and not alike
            put(cudnn, "allow_tf32", False)
    for kind in kinds:
        put(kind, "fp32_precision", "ieee")


@contextmanager
def unrepeatable_noted() -> Iterator[list[str]]:
    """Note the names of operations in the block that have no deterministic form; other warnings go on their way.

    >>> with unrepeatable_noted() as names:
    ...     _ = torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
    >>> names
    ['put_']
    """
    names: list[str] = []
    deterministic: Any = torch.utils.deterministic
    former, fill = torch.get_deterministic_debug_mode(), deterministic.fill_uninitialized_memory
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.set_deterministic_debug_mode("warn")
            deterministic.fill_uninitialized_memory = False
            yield names
    finally:
        torch.set_deterministic_debug_mode(former)
        deterministic.fill_uninitialized_memory = fill
    for one in told:
        if found := re.match(_UNREPEATABLE, str(one.message)):
            names.extend([found[1]] if found[1] not in names else [])
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
