"""Attributes that a module carries from one forward pass to the next: a counter, a flag, a running mean in no buffer.

They are found in the code of its class, so before anything ran: code that `forward` reaches reads them, and sets them
after. What is set for others to look at, as a loss or a feature map, is read by nobody there before it is set.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from torch import nn

_LIBRARIES = ("torch", "builtins", "lightning", "pytorch_lightning")
"""Whose own modules keep what they carry in buffers."""


def carried(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that a module, without those in it, carries from one forward pass to the next.

    None are those of a module that says itself what its state is, by `get_extra_state`.

    >>> import torch
    >>> class Warm(nn.Module):
    ...     steps, seen = 0, 0.0
    ...     def forward(self, x):
    ...         self.steps += 1
    ...         self.seen = float(x.mean())
    ...         return x / self.steps
    >>> warm = Warm()
    >>> warm(torch.ones(2)), carried(warm)
    (tensor([1., 1.]), {'steps': 1})
    """
    if type(module).get_extra_state is not nn.Module.get_extra_state:
        return {}
    return {name: getattr(module, name) for name in _carried(type(module)) if _holds(module, name)}


def _holds(module: nn.Module, name: str) -> bool:
    """Return whether an attribute is the module's, or still its class's; no parameter, buffer, method or property."""
    if name in vars(module):
        return True
    registered = any(name in table for table in (module._parameters, module._buffers, module._modules))
    of_class = inspect.getattr_static(type(module), name, None)
    return not registered and of_class is not None and not hasattr(of_class, "__get__")


@functools.cache
def _carried(kind: type) -> tuple[str, ...]:
    methods: dict[str, list[CodeType]] = {}
    for one in kind.__mro__:
        if one.__module__.partition(".")[0] not in _LIBRARIES:
            for name, method in vars(one).items():
                if isinstance(method, FunctionType):
                    methods.setdefault(name, []).extend(_codes(inspect.unwrap(method).__code__))
    names, found, calls = {"forward"}, set[str](), ["forward"]
    while calls:
        for code in methods.get(calls.pop(), ()):
            found |= _read_then_set(code)
            calls += set(code.co_names) - names
            names |= set(code.co_names)
    return tuple(sorted(found))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _read_then_set(code: CodeType) -> set[str]:
    read, found, stored = set[str](), set[str](), set[str]()
    for each in dis.get_instructions(code):
        if each.opname == "STORE_ATTR":
            stored.add(each.argval)
            found |= {each.argval} & read
        elif each.opname == "LOAD_ATTR" and each.argval not in stored:
            read.add(each.argval)
    return found
