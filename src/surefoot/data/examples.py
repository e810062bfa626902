"""Examples as Datasets and streams give them, one by one: what is input and what is target, and all of them as arrays.

Arrays are in memory while they are small, then on disk: see `data.spool`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from surefoot.data import images, tree
from surefoot.data.check import Problems
from surefoot.data.nested import example_tree
from surefoot.data.spool import Spool
from surefoot.data.targets import LABEL_NAMES, label_name

Form: TypeAlias = tuple[tuple[str, tuple[int, ...], Any], ...]
"""Name, shape and, of inputs, type of each array of an example."""

_ONE_VALUE: Any = (torch.Tensor, np.ndarray, Image.Image, str, bytes)
"""What is gone through by its rows or letters, which are no inputs and targets; but for two numbers."""

_FAULTS_SHOWN = 20
"""After so many examples that cannot be read, reading stops: it is the source that is broken."""


def value_array(value: Any) -> np.ndarray:
    """Return a tensor, an array, a number or an image of Pillow's as an array."""
    if isinstance(value, torch.Tensor):
        return tensor_array(value)
    return images.array(value) if isinstance(value, Image.Image) else np.asarray(value)


def tensor_array(value: torch.Tensor) -> np.ndarray:
    """Return a tensor on any device as an array; bfloat16, which NumPy lacks, as float32."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def example_of(dataset: Any, at: int) -> tuple[Any, Any]:
    """Return x and y of one example, trees of arrays: a pair, a tuple whose last is y, or a mapping with a label."""
    return parted(dataset[at])


def parted(example: Any) -> tuple[Any, Any]:
    """Return x and y of an example that was read, as `example_of`.

    Raises:
        TypeError, ValueError: it is none of those.
    """
    if isinstance(example, Mapping):
        if (name := label_name(example)) is None or len(example) < 2:
            raise TypeError(f"a mapping with {', '.join(map(repr, example))}, none of {', '.join(LABEL_NAMES)}")
        x, y = {key: value for key, value in example.items() if key != name}, example[name]
    else:
        if isinstance(example, _ONE_VALUE) and np.shape(example) != (2,):
            raise TypeError("one value, and no target")
        *inputs, y = example
        x = inputs[0] if len(inputs) == 1 else tuple(inputs)
        if not inputs:
            raise ValueError("one value without a target")
    return example_tree(x, value_array), example_tree(y, value_array)


def form_of(x: Any, y: Any) -> Form:
    """Return name, shape and, of inputs, type of each array of an example."""
    inputs = tuple((f"x{name and '.' + name}", leaf.shape, leaf.dtype) for name, leaf in tree.named_leaves(x))
    return (*inputs, *((f"y{name and '.' + name}", leaf.shape, None) for name, leaf in tree.named_leaves(y)))


def told(form: Form) -> str:
    """Return a form in words."""
    return ", ".join(f"{name} {shape}" + (f" {dtype}" if dtype else "") for name, shape, dtype in form)


def stacked(examples: list[Any]) -> Any:
    """Return trees of arrays of one form as one tree, [B, ...]."""
    return tree.map_leaves(lambda *each: np.stack(each), examples[0], *examples[1:])


class Collected:
    """All examples of one source, which must be alike.

    Args:
        title: of the source, for messages.
        prefix: of the names of examples in messages.
        problems: takes examples that cannot be read and those of another form.

    Attributes:
        form: of the first example; None where there is none yet.
        label_name: the key of the targets where examples are mappings.
    """

    def __init__(self, title: str, prefix: str, problems: Problems) -> None:
        self.title, self.prefix, self.problems = title, prefix, problems
        self.form: Form | None = None
        self.label_name: str | None = None
        self._first: Any = None
        self._spools: list[Spool] = []
        self._faults, self._others = 0, list[str]()

    def take(self, i: int, get: Callable[[], Any]) -> bool:
        """Take example i, and return whether to go on: not where too many cannot be read."""
        try:
            example = get()
            x, y = parted(example)
        except Exception as error:  # the user's code: whatever it raises, they must hear for which example
            what = f"cannot be read ({first_line(error)})"
            self.problems.add(f"{self.prefix}{i}", what, "every example is a pair (x, y)", "mend the Dataset")
            self._faults += 1
            return self._faults < _FAULTS_SHOWN
        form = form_of(x, y)
        if self.form is None:
            self.form, self._first = form, (x, y)
            self.label_name = label_name(example) if isinstance(example, Mapping) else None
            self._spools = [Spool(self.title) for _ in form]
        if form != self.form:
            self._others.append(f"{self.prefix}{i}: has {told(form)}; the first has {told(self.form)}")
            return True
        for spool, leaf in zip(self._spools, tree.leaves((x, y)), strict=True):
            spool.add(leaf)
        return True

    def arrays(self, do: str) -> tuple[Any, Any]:
        """Return x [N, ...] and y [N, ...], trees of arrays, having noted examples of another form.

        Args:
            do: what to do about those.
        """
        if self._others:
            where, what = self._others[0].split(": ", 1)
            more = f" (and {len(self._others) - 1} more are unlike it)" if self._others[1:] else ""
            self.problems.add(where, what + more, "all examples have one shape and type", do)
        if self.form is None:
            return np.empty((0, 1), np.float32), np.empty(0, np.int64)
        arrays = iter([spool.array() for spool in self._spools])
        return tree.map_leaves(lambda _: next(arrays), self._first)


def first_line(error: Exception) -> str:
    """Return an error in a line: its type and the first line of what it says."""
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}"
