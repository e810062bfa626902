"""A tree is a tensor, or a tuple or a dict of trees: what a batch is made of where it is more than one tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from surefoot.data.mapped import Mapped, large
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.errors import DataError, nearest

Tree: TypeAlias = Tensor | tuple["Tree", ...] | dict[str, "Tree"]
"""Tensors, all with one entry per example along their first axis; in data that is not yet checked, arrays."""


def as_tree(value: Any) -> Any:
    """Return lists and tuples as tuples and mappings as dicts, down to what is neither.

    >>> as_tree({"ids": [1, (2, 3)]})
    {'ids': (1, (2, 3))}
    """
    if isinstance(value, Mapping):
        return {str(name): as_tree(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return tuple(as_tree(each) for each in value)
    return value


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Return the tree of what a function makes of each leaf, and of the same leaf of others.

    >>> map_leaves(lambda a, b: a + b, (1, {"x": 2}), (10, {"x": 20}))
    (11, {'x': 22})
    """
    if isinstance(tree, dict):
        return {name: map_leaves(function, each, *(other[name] for other in others)) for name, each in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map_leaves(function, *each) for each in zip(tree, *others, strict=True))
    return function(tree, *others)


def named_leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf with its name, parts of it joined by dots; a single leaf has the name "".

    >>> dict(named_leaves(({"ids": 1}, 2)))
    {'0.ids': 1, '1': 2}
    """
    if isinstance(tree, dict | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, each in items:
            yield from named_leaves(each, f"{name}.{key}" if name else str(key))
    else:
        yield name, tree


def from_named(tree: Any, values: Mapping[str, Any], name: str = "") -> Any:
    """Return a tree of the form of another with the leaves that these names have in `named_leaves`.

    >>> from_named((0, {"a": 0}), {"0": 1, "1.a": 2})
    (1, {'a': 2})
    """
    if isinstance(tree, dict):
        return {key: from_named(each, values, f"{name}.{key}" if name else key) for key, each in tree.items()}
    if isinstance(tree, tuple):
        return tuple(from_named(each, values, f"{name}.{i}" if name else str(i)) for i, each in enumerate(tree))
    return values[name]


def leaves(tree: Any) -> list[Any]:
    """Return the leaves in order.

    >>> leaves((1, {"a": 2, "b": (3,)}))
    [1, 2, 3]
    """
    return [leaf for _, leaf in named_leaves(tree)]


def is_leaf(tree: Any) -> bool:
    """Return whether a tree is a single tensor."""
    return not isinstance(tree, dict | tuple)


def taken(tree: Any, rows: Any) -> Any:
    """Return the examples at these places of every leaf."""
    return map_leaves(lambda leaf: leaf[rows], tree)


def shapes(tree: Any) -> Any:
    """Return the shape of one example of each leaf.

    >>> shapes({"ids": torch.zeros(8, 3)})
    {'ids': (3,)}
    """
    return map_leaves(lambda leaf: tuple(leaf.shape[1:]), tree)


def in_form(given: Any, form: Any, title: str) -> Any:
    """Return a tree with the keys of another in its order, after checking that it has these and no others.

    Raises:
        DataError: names are missing or unknown, or there are more or fewer entries.

    >>> in_form({"b": 2, "a": 1}, {"a": 0, "b": 0}, "inputs")
    {'a': 1, 'b': 2}
    """
    theirs, ours = ([name for name, _ in named_leaves(each)] for each in (given, form))
    missing, unknown = ([n for n in a if n not in b] for a, b in ((ours, theirs), (theirs, ours)))
    if not missing and not unknown:
        return from_named(form, dict(named_leaves(given)))
    if isinstance(form, dict) and isinstance(given, dict):
        faults = [f"no {', '.join(map(repr, missing))}"] if missing else []
        faults += [f"{', '.join(map(repr, unknown))}, which is no input"] if unknown else []
        given_as = " and ".join(faults)
        do = nearest(unknown[0], ours) if missing and unknown else "add it" if missing else "leave it out"
    else:
        given_as, do = _counted(given), "give these, in this order" if isinstance(form, tuple) else "give these"
    raise DataError(f"{title} with {given_as}", f"the model takes {told_names(form)}", do)


def told_names(form: Any) -> str:
    """Return what a tree holds in words.

    >>> told_names({"ids": 1, "mask": 2}), told_names((1, 2)), told_names(1)
    ("'ids', 'mask'", '2 arrays', 'one array')
    """
    if is_leaf(form):
        return "one array"
    if isinstance(form, tuple) and all(map(is_leaf, form)):
        return f"{len(form)} array{'s' * (len(form) != 1)}"
    return ", ".join(repr(name) for name, _ in named_leaves(form))


def _counted(given: Any) -> str:
    return f"keys {told_names(given)}" if isinstance(given, dict) else told_names(given)


def same_form(a: Any, b: Any) -> bool:
    """Return whether two trees have the same keys in the same places."""
    return [name for name, _ in named_leaves(a)] == [name for name, _ in named_leaves(b)]


def of_arrays(tree: Any) -> Tree:
    """Return arrays as tensors that share their memory, or copies of what cannot be written to; what is on disk and
    large stays there.
    """

    def tensor(x: np.ndarray | Mapped) -> Tensor:
        if isinstance(x, Mapped) or large(x):
            return MappedTensor(x if isinstance(x, Mapped) else Mapped(x))
        x = x if x.flags.c_contiguous else np.ascontiguousarray(x)
        return torch.from_numpy(x if x.flags.writeable else x.copy())

    return map_leaves(tensor, tree)


def to_plain(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return a tree as JSON values: {"tuple": [...]}, {"dict": {...}}, or what `leaf` makes of a leaf.

    >>> to_plain(({"ids": 1}, 2), str)
    {'tuple': [{'dict': {'ids': '1'}}, '2']}
    """
    if is_leaf(tree):
        return leaf(tree)
    if isinstance(tree, tuple):
        return {"tuple": [to_plain(each, leaf) for each in tree]}
    return {"dict": {name: to_plain(each, leaf) for name, each in tree.items()}}


def from_plain(plain: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return what `to_plain` wrote.

    Raises:
        Whatever `leaf` raises of something else.
    """
    if isinstance(plain, dict) and plain.keys() == {"tuple"}:
        return tuple(from_plain(each, leaf) for each in plain["tuple"])
    if isinstance(plain, dict) and plain.keys() == {"dict"}:
        return {name: from_plain(each, leaf) for name, each in plain["dict"].items()}
    return leaf(plain)
