"""Records as JSON values and back: tuples are lists there, and a number that is not finite is None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def plain(value: Any) -> Any:
    """Return dicts, lists, tuples and numbers as JSON values.

    >>> plain({"losses": (1.0, math.inf)})
    {'losses': [1.0, None]}
    """
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tuples(value: Any) -> Any:
    """Return JSON values with tuples in place of lists."""
    if isinstance(value, dict):
        return {name: tuples(each) for name, each in value.items()}
    return tuple(tuples(each) for each in value) if isinstance(value, (list, tuple)) else value


def losses_of(values: Sequence[float | None]) -> tuple[float, ...]:
    """Return losses; one that is None was not finite and comes back as infinite."""
    return tuple(math.inf if value is None else value for value in values)


def with_losses(kind: Any, values: Mapping[str, Any]) -> Any:
    """Return a dataclass of this kind from its JSON values, of which `losses` are losses."""
    return kind(**{**tuples(dict(values)), "losses": losses_of(values["losses"])})
