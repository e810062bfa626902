"""What the user is told when something they gave cannot be used.

Every error of this package says three things: what was given, what is allowed, what to do next. The
command line prints exactly that text, without a traceback.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

_SHOWN = 100
"""Characters of a value that a message shows. Chosen by hand."""


class SurefootError(Exception):
    """A mistake that the user can mend. Raised only through its children.

    Args:
        given: what was given, naming the field, file or row, as a clause without a full stop.
        allowed: what would have been accepted, as a clause without a full stop.
        do: what to do next, as an imperative clause without a full stop.

    >>> str(ConfigError("lr = -1.0", "lr must be greater than 0", "try lr = 0.1"))
    'lr = -1.0: lr must be greater than 0. Try lr = 0.1.'
    """

    exit_code = 1

    def __init__(self, given: str, allowed: str, do: str) -> None:
        self.given, self.allowed, self.do = given, allowed, do
        super().__init__(f"{given}: {allowed}. {do[:1].upper()}{do[1:]}" + ("" if do.endswith("?") else "."))


class ConfigError(SurefootError):
    """A setting, flag, name or configuration file cannot be used. Raised before any work starts."""

    exit_code = 2


class DataError(SurefootError):
    """The data cannot be used; the message names the file or the row. Raised before step 1."""


class CheckpointError(SurefootError):
    """A run folder, checkpoint or weights file is missing, damaged, or belongs to something else."""


_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""What torch writes on a card, on a CPU under Linux, on one under Windows, and what cuBLAS and cuDNN write."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is too small: Python's own, or torch's for a card or a CPU.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    (True, False)
    """
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(each in words for each in _NO_MEMORY)


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return the phrase "did you mean 'x'?" for the closest choice, or a list of all the choices.

    >>> nearest("cosin", ["cosine", "linear"])
    "did you mean 'cosine'?"
    >>> nearest("zzz", ["cosine", "linear"])
    'choose one of cosine, linear'
    """
    known = list(choices)
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"choose one of {', '.join(known)}"


def type_error(hint: Any, value: Any, name: str) -> ConfigError:
    """Return the error for a setting whose value is not of its annotated type.

    >>> str(type_error(int | None, "two", "steps"))
    "steps = 'two': steps must be a whole number. Give steps a whole number."
    """
    options = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    choices = [c for option in options if get_origin(option) is Literal for c in get_args(option)]
    kinds = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
    words = [kinds.get(o, "a list") for o in options if get_origin(o) is not Literal and o is not type(None)]
    words += choices if words else choices[: len(choices) == 1]
    allowed = " or ".join(words) or f"one of {', '.join(choices)}"
    close = nearest(str(value), choices) if choices else ""
    advice = close if close.endswith("?") else f"give {name} {allowed if words else 'one of these'}"
    shown = repr(value) if len(repr(value)) <= _SHOWN else f"{repr(value)[:_SHOWN]} ..."
    return ConfigError(f"{name} = {shown}", f"{name} must be {allowed}", advice)
