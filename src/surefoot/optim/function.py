"""What a schedule is, and the few things that every schedule function needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from surefoot.errors import ConfigError

ScheduleFn = Callable[[Any], Any]
"""A function of the step. A plain number gives a float; an array gives a float64 array of the same shape."""


def as_steps(t: Any) -> np.ndarray:
    """Return steps of any kind as float64."""
    return np.asarray(t, dtype=np.float64)


def like(t: Any, value: Any) -> Any:
    """Return the value as t came: a float for a plain number, else a float64 array."""
    return float(value) if np.ndim(t) == 0 else np.asarray(value, dtype=np.float64)


def raised(base: Any, exponent: Any) -> np.ndarray:
    """Return base^exponent, to the same bits for one step as for an array of steps.

    On processors with AVX-512 NumPy has another routine for single numbers, which differs in the last bit.
    """
    shape = np.broadcast_shapes(np.shape(base), np.shape(exponent))
    return np.power(np.atleast_1d(base), np.atleast_1d(exponent)).reshape(shape)


def need_length(steps: float) -> None:
    """Raise ConfigError unless the length is above 0."""
    need(steps > 0, f"a length of {steps} steps", "a length must be above 0", "give at least 1 step")


def need(ok: bool, given: str, allowed: str, do: str) -> None:
    """Raise ConfigError with these three parts unless ok."""
    if not ok:
        raise ConfigError(given, allowed, do)
