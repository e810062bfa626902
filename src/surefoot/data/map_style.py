"""A map-style PyTorch Dataset: its examples are read once into memory, and anew in each epoch where they are random.

A Dataset is random where reading it moves the default generator of torch, NumPy or Python, as flips and crops in its
`__getitem__` do. Before an example is read for an epoch all three are set to the address (seed, epoch, index), and
afterwards they are put back as they were, so what is drawn depends on nothing else: a run that is resumed draws what it
would have drawn. A Dataset with a generator of its own, which nobody can set, is read once, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, default_collate

from surefoot import seeds
from surefoot.data import images, tree
from surefoot.data.check import Problems
from surefoot.data.nested import example_tree
from surefoot.data.targets import LABEL_NAMES, label_name
from surefoot.errors import ConfigError, DataError

_FAULTS_SHOWN = 20
"""After so many examples of a Dataset that cannot be read, reading stops: it is the Dataset that is broken."""
_LOOKED_EXAMPLES = 256
"""Examples read between two looks at the generators, which take as long as a few examples. Chosen by hand."""
_READ_TWICE = 4
"""Examples read twice at one address, to see whether they can be drawn again. Chosen by hand."""


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads the examples of a part of a random Dataset again.

    Attributes:
        dataset: the user's.
        prefix: of the names of examples in messages.
        form: of every x and y, see `form_of`.
        ys: what was read first; labels must keep their value.
        index: position in the Dataset of each example of the part; None for all in order.
    """

    dataset: Any
    prefix: str
    form: Any
    ys: Any
    index: np.ndarray | None = None

    def taken(self, index: np.ndarray) -> Reader:
        """Return the reader of the examples at `index`, a part of this part."""
        return replace(self, index=index if self.index is None else self.index[index])

    def read(self, rows: np.ndarray, *, seed: int, epoch: int, labels: bool) -> tuple[Any, Any]:
        """Return x [B, ...] and y [B, ...] of examples of the part, as the Dataset draws them in an epoch.

        Args:
            rows: positions in the part, [B].
            seed, epoch: address of what is drawn, with each example's position in the Dataset.
            labels: whether y names classes, which must not be random.

        Raises:
            DataError: an example cannot be read, or has another shape, type or label than at first.
        """
        xs, ys = [], []
        with seeds.StepSeeds(seed, "dataset", every=True) as generators:
            for at in (rows if self.index is None else self.index[rows]).tolist():
                generators.at(epoch, at)
                try:
                    x, y = example_of(self.dataset, at)
                except Exception as error:  # the user's code: whatever it raises, they must hear for which example
                    raise self._faulty(at, epoch, f"cannot be read ({_first_line(error)})") from None
                if form_of(x, y) != self.form:
                    raise self._faulty(at, epoch, f"has {told(form_of(x, y))}; at first {told(self.form)}")
                if labels and not np.array_equal(y, self.ys[at]):
                    raise self._faulty(at, epoch, f"has the label {y}, at first {self.ys[at]}")
                xs.append(x)
                ys.append(y)
        return stacked(xs), stacked(ys)

    def _faulty(self, at: int, epoch: int, what: str) -> DataError:
        return DataError(
            f"{self.prefix}{at}, in epoch {epoch}: {what}",
            "a Dataset that draws at random is read in each epoch, and gives examples of one shape, type and label",
            "mend the Dataset; a run that has a name goes on from its newest checkpoint",
        )


def unwrapped(given: Any, problems: Problems | None = None) -> Any:
    """Return the Dataset of a DataLoader, saying so; anything else as it is.

    Raises:
        ConfigError: it can only be gone through from front to back.
    """
    dataset = given.dataset if isinstance(given, DataLoader) else given
    if isinstance(dataset, IterableDataset):
        raise ConfigError(
            f"an IterableDataset ({type(dataset).__name__})",
            "examples are shuffled by their number, so data must have a length and be read by index",
            "give a map-style Dataset with __getitem__ and __len__, or its examples as arrays",
        )
    if isinstance(given, DataLoader) and problems is not None:
        collate = "" if given.collate_fn is default_collate else ", and its collate_fn not called"
        note = (
            "of the DataLoader the Dataset is used: the size and order of batches are of the run's settings, and its "
            f"batch_size and sampler are left out{collate}"
        )
        problems.notes += [note] if note not in problems.notes else []
    return dataset


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
    return _parted(dataset[at])


def _parted(example: Any) -> tuple[Any, Any]:
    if isinstance(example, Mapping):
        if (name := label_name(example)) is None or len(example) < 2:
            raise TypeError(f"a mapping with {', '.join(map(repr, example))}, none of {', '.join(LABEL_NAMES)}")
        x, y = {key: value for key, value in example.items() if key != name}, example[name]
    else:
        *inputs, y = example
        x = inputs[0] if len(inputs) == 1 else tuple(inputs)
        if not inputs:
            raise ValueError("one value without a target")
    return _arrays(x), _arrays(y)


def _arrays(value: Any) -> Any:
    return example_tree(value, value_array)


def form_of(x: Any, y: Any) -> tuple[tuple[str, tuple[int, ...], Any], ...]:
    """Return name, shape and, of inputs, type of each array of an example."""
    inputs = tuple((f"x{name and '.' + name}", leaf.shape, leaf.dtype) for name, leaf in tree.named_leaves(x))
    return (*inputs, *((f"y{name and '.' + name}", leaf.shape, None) for name, leaf in tree.named_leaves(y)))


def told(form: tuple[tuple[str, tuple[int, ...], Any], ...]) -> str:
    """Return a form in words."""
    return ", ".join(f"{name} {shape}" + (f" {dtype}" if dtype else "") for name, shape, dtype in form)


def stacked(examples: list[Any]) -> Any:
    """Return trees of arrays of one form as one tree, [B, ...]."""
    return tree.map_leaves(lambda *each: np.stack(each), examples[0], *examples[1:])


def read_examples(dataset: Any, prefix: str, problems: Problems) -> tuple[Any, Any, Reader | None, str | None]:
    """Return the examples of a Dataset as two arrays, x [N, ...] and y [N] or [N, D], or trees of them; what reads them
    again where they are random; and the key of the targets where examples are mappings.

    Args:
        dataset: of pairs (x, y), of tuples whose last is y, or of mappings with a label (`data.targets.LABEL_NAMES`).
            x is a tensor, an array, a number or an image of Pillow's, or several; y a number or a tensor, or several.
        prefix: of the names of examples in messages.
        problems: takes examples that cannot be read and those of another shape.
    """
    xs: list[Any] = []
    ys: list[Any] = []
    form, name, faults, others, random = None, None, 0, list[str](), False
    with seeds.StepSeeds(0, "read-dataset", every=True) as generators:
        generators.at()
        states = seeds.generator_states()
        for i in range(len(dataset)):
            try:
                example = dataset[i]
                x, y = _parted(example)
                name = label_name(example) if isinstance(example, Mapping) else None
            except Exception as error:
                what = f"cannot be read ({_first_line(error)})"
                problems.add(f"{prefix}{i}", what, "every example is a pair (x, y)", "mend the Dataset")
                faults += 1
                if faults >= _FAULTS_SHOWN:
                    break
                continue
            form = form or form_of(x, y)
            if form_of(x, y) != form:
                others.append(f"{prefix}{i}: has {told(form_of(x, y))}; the first has {told(form)}")
                continue
            xs.append(x)
            ys.append(y)
            if i % _LOOKED_EXAMPLES == _LOOKED_EXAMPLES - 1 or i == len(dataset) - 1:
                random, states = random or seeds.generator_states() != states, seeds.generator_states()
    if others:
        where, what = others[0].split(": ", 1)
        more = f" (and {len(others) - 1} more are unlike it)" if others[1:] else ""
        problems.add(where, what + more, "all examples have one shape and type", "resize them in the Dataset")
    if not xs:
        return np.empty((0, 1), np.float32), np.empty(0, np.int64), None, None
    x, y = stacked(xs), stacked(ys)
    if problems.count:
        return x, y, None, name
    if not _repeatable(dataset):
        problems.warn(
            f"{prefix.removesuffix('row ')}examples are random in a way that no seed reaches: they are read once, "
            "so what was drawn stays for the whole run, which cannot be resumed. Draw with torch, numpy.random or "
            "random in __getitem__, and not with a generator of the Dataset's own"
        )
        return x, y, None, name
    return x, y, Reader(dataset, prefix, form, y) if random else None, name


def _repeatable(dataset: Any) -> bool:
    """Return whether the first examples, read twice at one address, are the same."""
    with seeds.StepSeeds(0, "read-twice", every=True) as generators:
        for at in range(min(_READ_TWICE, len(dataset))):
            pair = []
            for _ in range(2):
                generators.at(at)
                try:
                    pair.append(example_of(dataset, at))
                except Exception:  # it was read just now, so it fails at random: training will name it
                    return True
            first, second = (tree.leaves(each) for each in pair)
            if any(a.tobytes() != b.tobytes() for a, b in zip(first, second, strict=False)):
                return False
    return True


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}"
