"""Datasets of Hugging Face's `datasets`, which need not be installed: `features` say what their columns hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from surefoot.data.targets import LABEL_NAMES, label_name
from surefoot.errors import DataError


def is_dataset(given: Any) -> bool:
    """Return whether this is a `datasets.Dataset` or `IterableDataset`, by its own word: nothing is imported.

    >>> is_dataset([1, 2])
    False
    """
    of_theirs = type(given).__module__.partition(".")[0] == "datasets"
    return of_theirs and hasattr(given, "features") and not isinstance(given, Mapping)


def classes_of(given: Any) -> tuple[str, ...] | None:
    """Return the names of the classes, where the column of labels is a ClassLabel."""
    features: Any = given.features or {}
    names = getattr(features.get(label_name(features)), "names", None)
    return tuple(names) if names else None


def opened(given: Any) -> Any:
    """Return a dataset as what `data.arrays` reads: a table and its labels where each example is a row of numbers, text
    and the like; else examples, of one input where there is one column beside the labels that is no tokens.

    Raises:
        DataError: it has no column of labels.
    """
    features: Any = given.features
    if not features:  # of a stream that has not been looked into
        return given
    name = label_name(features)
    if name is None or len(features) < 2:
        raise DataError(
            f"a dataset with the columns {', '.join(map(repr, features))}",
            f"one of its columns is the labels, and is called {', '.join(LABEL_NAMES)}",
            'rename it: dataset.rename_column("sentiment", "label")',
        )
    others = [each for each in features if each != name]
    if hasattr(given, "with_format") and hasattr(given, "__len__") and all(map(_is_cell, features.values())):
        table = given.with_format("arrow")[:]
        return table.select(others), np.asarray(table.column(name).to_pylist())
    alone = len(others) == 1 and type(features[others[0]]).__name__ == "Image"
    if not hasattr(given, "__len__"):
        return ((row[others[0]], row[name]) for row in given) if alone else given
    return _Pairs(given, others[0], name) if alone else given


def _is_cell(feature: Any) -> bool:
    """Return whether a column has one value a row, and no picture, list or array."""
    return type(feature).__name__ in ("Value", "ClassLabel")


class _Pairs:
    """A dataset of one input and its label, as pairs."""

    def __init__(self, given: Any, column: str, label: str) -> None:
        self.given, self.column, self.label = given, column, label
        self.features = given.features

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, at: int) -> tuple[Any, Any]:
        row = self.given[at]
        return row[self.column], row[self.label]
