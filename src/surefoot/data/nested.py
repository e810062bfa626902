"""Lists, tuples and mappings as people nest them, as trees: what is one array, and what is several inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from surefoot.data import tree
from surefoot.errors import ConfigError

_ARRAYS = (np.ndarray, torch.Tensor)


def example_tree(value: Any, array: Callable[[Any], np.ndarray], name: str = "") -> Any:
    """Return one example's inputs or targets as a tree of arrays. A list of numbers, text or lists is one array; of
    tensors or arrays, several.

    Args:
        value: as a Dataset gave it.
        array: makes an array of what is neither list, tuple nor mapping.
        name: of the value, for messages.

    Raises:
        ValueError: something in it is None, or a list is ragged.

    >>> example_tree({"ids": [1, 2], "box": (0.5, [1.5])}, np.asarray)
    {'ids': array([1, 2]), 'box': (array(0.5), array([1.5]))}
    """
    if value is None:
        raise ValueError(f"{name or 'a value'} is None: leave it out where it always is, or give zeros and a mask")
    if isinstance(value, Mapping):
        return {key: example_tree(each, array, _under(name, key)) for key, each in _by_text(value).items()}
    if isinstance(value, tuple) or (isinstance(value, list) and not _is_plain(value)):
        return tuple(example_tree(each, array, _under(name, i)) for i, each in enumerate(value))
    if isinstance(value, list):
        try:
            return np.asarray(value)
        except ValueError:
            raise ValueError(f"{name or 'a list'} is ragged: pad its rows to one length") from None
    return array(value)


def inputs_tree(value: Any, examples: int) -> Any:
    """Return the inputs or targets of all examples as a tree of arrays, and of lists that are to be arrays.

    A list of K arrays that have one entry per example is K inputs, as a tuple of them is; another list is one array.

    >>> found = inputs_tree({"both": [np.zeros((4, 2)), np.zeros((4, 3))], "ids": [[1, 2], [3, 4], [5, 6], [7, 8]]}, 4)
    >>> type(found["both"]), type(found["ids"])
    (<class 'tuple'>, <class 'list'>)
    """
    if isinstance(value, Mapping):
        return {name: inputs_tree(each, examples) for name, each in _by_text(value).items()}
    if isinstance(value, tuple) or is_several(value, examples):
        return tuple(inputs_tree(each, examples) for each in value)
    return value


def is_several(value: Any, examples: int) -> bool:
    """Return whether a list is one of arrays with an entry per example each, and not of the examples themselves.

    >>> is_several([np.zeros((4, 2)), np.zeros((4, 3))], 4), is_several([np.zeros(2)] * 4, 4)
    (True, False)
    """
    if not isinstance(value, list) or not value or len(value) == examples:
        return False
    return all(isinstance(each, _ARRAYS) and each.ndim > 0 and len(each) == examples for each in value)


def train_and_test(source: Any) -> bool:
    """Return whether a tuple is ((x, y), (x, y)) of a training and a test part, and not inputs beside targets.

    Both hold two arrays then, alike but for their number of rows, and the second of each looks like labels.

    >>> x, y = np.zeros((4, 2)), np.zeros(4)
    >>> train_and_test(((x, y), (x[:3], y[:3]))), train_and_test(((x, x), (y, y)))
    (True, False)
    """
    if not isinstance(source, tuple) or len(source) != 2:
        return False
    if not all(isinstance(each, tuple | list) and len(each) == 2 for each in source):
        return False
    (a, b), (c, d) = source
    if not all(isinstance(each, _ARRAYS) and each.ndim for each in (a, b, c, d)):
        return False
    alike = (a.dtype, a.shape[1:], b.dtype, b.shape[1:]) == (c.dtype, c.shape[1:], d.dtype, d.shape[1:])
    return alike and a.ndim > 1 and b.ndim == 1 and len(a) == len(b) and len(c) == len(d)


def checked_names(inputs: Any, what: str) -> Any:
    """Return a tree after checking that no two of its arrays have one name.

    Raises:
        ConfigError: keys with dots in them say the same as nested ones.
    """
    names = [name for name, _ in tree.named_leaves(inputs)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{what} with two arrays named {twice}", "arrays are named by their keys, joined by dots",
                          "rename a key that has a dot in it")  # fmt: skip
    return inputs


def _is_plain(value: list[Any]) -> bool:
    return all(isinstance(each, int | float | str | list | np.generic) or each is None for each in value)


def _by_text(value: Mapping[Any, Any]) -> dict[str, Any]:
    named = {str(key): each for key, each in value.items()}
    if len(named) < len(value):
        raise ConfigError(f"keys {', '.join(map(repr, value))}", "keys are told apart as text", "rename one of them")
    return named


def _under(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)
