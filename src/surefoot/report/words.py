"""Values in words, for tables of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_LISTED = 8
"""Nested values that a cell lists one by one; of more it says the range. Chosen by hand."""
_DEEP = 400
"""Letters of one piece of evidence that are shown. Chosen by hand."""


def short(value: Any) -> str:
    """Return a value in words that fit a cell."""
    text = _ranges(value) or worded(value)
    return text if len(text) <= _DEEP else f"{text[:_DEEP]} ... ({len(text):,} letters; decisions.jsonl has all)"


def worded(value: Any) -> str:
    """Return nested values in words: a list by commas, its settings by semicolons.

    >>> worded([{"lr": 0.1, "momentum": 0.9}, {"lr": 0.2, "momentum": 0.9}])
    'lr 0.1, momentum 0.9; lr 0.2, momentum 0.9'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {worded(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(each, Mapping | list | tuple) for each in value)
        return ("; " if nested else ", ").join(map(worded, value))
    return str(rounded(value))


def rounded(value: Any) -> Any:
    """Return a float with five digits, "-" for what is missing or not a number, and anything else as it is."""
    if value is None or value != value:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else value


def _ranges(value: Any) -> str | None:
    """Return the ranges of many settings of the same names, such as the recipes that are alike; None for others."""
    if not isinstance(value, list | tuple) or len(value) <= MOST_LISTED:
        return None
    if not all(isinstance(each, Mapping) and each.keys() == value[0].keys() for each in value):
        return None
    columns: dict[str, Sequence[Any]] = {name: [each[name] for each in value] for name in value[0]}
    if not columns or not all(isinstance(cell, int | float) for column in columns.values() for cell in column):
        return None
    said = ", ".join(f"{name} {min(column):.3g} to {max(column):.3g}" for name, column in columns.items())
    return f"{len(value):,} of them: {said} (decisions.jsonl has each)"
