"""Fields of dataclasses that check themselves: their documentation, their range, and values brought to their type."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import types
import typing
from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal, get_args, get_origin

from surefoot.errors import ConfigError, type_error


def setting(default: Any, help: str, *, range: str = "", ok: Callable[[Any], bool] | None = None, **more: Any) -> Any:
    """A field with its documentation and its range; `ok` judges values that are not None, `aliases` are other flags,
    `typed` is a flag's type.
    """
    return field(default=default, metadata={"help": help, "range": range, "ok": ok, **more})


def positive(value: float) -> bool:
    """Return whether a number is above 0 and finite."""
    return 0 < value < math.inf


def not_negative(value: float) -> bool:
    """Return whether a number is at least 0 and finite."""
    return 0 <= value < math.inf


def fraction(value: float) -> bool:
    """Return whether a number is in [0, 1)."""
    return 0 <= value < 1


def up_to_one(value: float) -> bool:
    """Return whether a number is in [0, 1]."""
    return 0 <= value <= 1


ABOVE_0: Any = {"range": "above 0", "ok": positive}
AT_LEAST_0: Any = {"range": "at least 0", "ok": not_negative}
AT_LEAST_1: Any = {"range": "at least 1", "ok": positive}
"""Ranges of a `setting`, for numbers of which the last is whole."""


def rising(values: tuple[float, ...]) -> bool:
    """Return whether numbers rise from above 0, and are finite."""
    ordered = all(a < b for a, b in itertools.pairwise(values))
    return len(values) > 0 and values[0] > 0 and ordered and math.isfinite(values[-1])


_hints = functools.cache(typing.get_type_hints)  # a search looks at thousands of recipes


class Checked:
    """Base of the configuration dataclasses: checks types and ranges once, at the door."""

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for item in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]  # only dataclasses inherit this
            value = _converted(hints[item.name], getattr(self, item.name), item.name)
            object.__setattr__(self, item.name, value)
            ok, allowed = item.metadata.get("ok"), item.metadata.get("range", "")
            if value is not None and ok is not None and not isinstance(value, str) and not ok(value):
                default = self._default(item)
                advice = (
                    f"the default is {default}" if default is not None else f"leave {item.name} out for the default"
                )
                raise ConfigError(f"{item.name} = {value!r}", f"{item.name} must be {allowed}", advice)

    def _default(self, item: dataclasses.Field[Any]) -> Any:
        return item.default


def is_path(given: Any) -> bool:
    """Return whether this is text such as "package.module:function", which names something to import.

    >>> is_path("losses:focal"), is_path("mse"), is_path(len)
    (True, False, False)
    """
    return isinstance(given, str) and ":" in given


def _converted(hint: Any, value: Any, name: str) -> Any:
    """Return the value as its annotated type: an int for a float is widened, a list becomes a tuple."""
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        wanted = typing.cast(type, hint).__name__
        raise ConfigError(f"{name} = {value!r}", f"{name} must be a {wanted}", f"pass surefoot.{wanted}(...)")
    options = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if get_origin(option) is Literal and isinstance(value, str) and value in get_args(option):
            return value
        if get_origin(option) is tuple and isinstance(value, (list, tuple)):
            return tuple(_converted(get_args(option)[0], each, name) for each in value)
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if option is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if option in (str, bool) and isinstance(value, typing.cast(type, option)):
            return value
    raise type_error(hint, value, name)
