"""A map-style PyTorch Dataset: its examples are read once into memory, and anew in each epoch where they are random.

A Dataset is random where reading it moves the default generator of torch, NumPy or Python, as flips and crops in its
`__getitem__` do. Before an example is read for an epoch all three are set to the address (seed, epoch, index), and
afterwards they are put back as they were, so what is drawn depends on nothing else: a run that is resumed draws what it
would have drawn. A Dataset with a generator of its own, which nobody can set, is read once, and that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import getitem
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, default_collate

from surefoot import seeds
from surefoot.data import tree
from surefoot.data.check import Problems
from surefoot.data.examples import Collected, Form, example_of, first_line, form_of, stacked, told
from surefoot.data.store import bar
from surefoot.data.workers import Ahead, Died, Fault, died
from surefoot.errors import DataError

_LOOKED_EXAMPLES = 256
"""Examples read between two looks at the generators, which take as long as a few examples. Chosen by hand."""
_READ_TWICE = 4
"""Examples read twice at one address, to see whether they can be drawn again. Chosen by hand."""


@dataclass(frozen=True)
class Drawn:
    """Draws examples of a Dataset at their addresses; a process can be given it.

    Attributes:
        dataset: the user's.
        form: of every x and y, see `form_of`.
    """

    dataset: Any
    form: Form

    def __call__(self, seed: int, epoch: int, positions: Sequence[int]) -> list[np.ndarray]:
        """Return the arrays [B, ...] of x and then of y of the examples at these positions of the Dataset.

        Raises:
            Fault: one cannot be read, or has another shape or type than at first.
        """
        examples = []
        with seeds.StepSeeds(seed, "dataset", every=True) as generators:
            for at in positions:
                generators.at(epoch, at)
                try:
                    x, y = example_of(self.dataset, at)
                except Exception as error:  # the user's code: whatever it raises, they must hear for which example
                    raise Fault(at, f"cannot be read ({first_line(error)})") from None
                if form_of(x, y) != self.form:
                    raise Fault(at, f"has {told(form_of(x, y))}; at first {told(self.form)}")
                examples.append((x, y))
        return tree.leaves(stacked(examples))


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads the examples of a part of a random Dataset again.

    Attributes:
        drawn: draws them.
        prefix: of the names of examples in messages.
        first: the form of x, and y as they were read first: later ones are like them, and labels keep their value.
        workers: how many processes read ahead.
        index: position in the Dataset of each example of the part; None for all in order.
        ahead: the processes, see `begun`.
    """

    drawn: Drawn
    prefix: str
    first: tuple[Any, Any]
    workers: int = 0
    index: np.ndarray | None = None
    ahead: Ahead | None = None

    def taken(self, index: np.ndarray) -> Reader:
        """Return the reader of the examples at `index`, a part of this part."""
        return replace(self, index=index if self.index is None else self.index[index])

    def begun(self) -> Reader:
        """Return the reader with processes of its own, if it has any: they begin with the first batch."""
        examples = len(tree.leaves(self.first[1])[0]) if self.index is None else len(self.index)
        ahead = Ahead(self.drawn, self.workers, examples, self.index) if self.workers else None
        return replace(self, ahead=ahead)

    def close(self) -> None:
        """End the processes; they begin again where a batch is read."""
        if self.ahead is not None:
            self.ahead.close()

    def read(self, rows: np.ndarray, *, seed: int, epoch: int, labels: bool) -> tuple[Any, Any]:
        """Return x [B, ...] and y [B, ...] of examples of the part, as the Dataset draws them in an epoch.

        Args:
            rows: positions in the part, [B].
            seed, epoch: address of what is drawn, with each example's position in the Dataset.
            labels: whether y names classes, which must not be random.

        Raises:
            DataError: an example cannot be read, or has another shape, type or label than at first; or a process that
                read it has died.
        """
        positions = rows if self.index is None else self.index[rows]
        try:
            if self.ahead is not None:
                arrays = iter(self.ahead.read(rows, seed=seed, epoch=epoch))
            else:
                arrays = iter(self.drawn(seed, epoch, positions.tolist()))
        except Died as error:
            raise died(error, self.prefix, epoch) from None
        except Fault as fault:
            raise self._faulty(fault.at, epoch, fault.what) from None
        x, y = tree.map_leaves(lambda _: next(arrays), self.first)
        if labels and not np.array_equal(y, there := self.first[1][positions]):
            at = next(i for i in range(len(y)) if not np.array_equal(y[i], there[i]))
            raise self._faulty(int(positions[at]), epoch, f"has the label {y[at]}, at first {there[at]}")
        return x, y

    def _faulty(self, at: int, epoch: int, what: str) -> DataError:
        return DataError(
            f"{self.prefix}{at}, in epoch {epoch}: {what}",
            "a Dataset that draws at random is read in each epoch, and gives examples of one shape, type and label",
            "mend the Dataset; a run that has a name goes on from its newest checkpoint",
        )


def unwrapped(given: Any, problems: Problems | None = None) -> Any:
    """Return the Dataset of a DataLoader, saying so; anything else as it is."""
    dataset = given.dataset if isinstance(given, DataLoader) else given
    if isinstance(given, DataLoader) and problems is not None:
        collate = "" if given.collate_fn is default_collate else ", and its collate_fn not called"
        note = (
            "of the DataLoader the Dataset is used: the size and order of batches are of the run's settings, and its "
            f"batch_size and sampler are left out{collate}"
        )
        problems.notes += [note] if note not in problems.notes else []
    return dataset


def read_examples(dataset: Any, prefix: str, problems: Problems) -> tuple[Any, Any, Reader | None, str | None]:
    """Return the examples of a Dataset as two arrays, x [N, ...] and y [N] or [N, D], or trees of them; what reads them
    again where they are random; and the key of the targets where examples are mappings.

    Args:
        dataset: of pairs (x, y), of tuples whose last is y, or of mappings with a label (`data.targets.LABEL_NAMES`).
            x is a tensor, an array, a number or an image of Pillow's, or several; y a number or a tensor, or several.
        prefix: of the names of examples in messages.
        problems: takes examples that cannot be read and those of another shape.
    """
    found, random = Collected(f"{prefix.removesuffix('row ')}the Dataset", prefix, problems), False
    with (
        seeds.StepSeeds(0, "read-dataset", every=True) as generators,
        bar("reading", len(dataset), "examples") as shown,
    ):
        generators.at()
        states = seeds.generator_states()
        for i in range(len(dataset)):
            if not found.take(i, partial(getitem, dataset, i)):
                break
            shown.update(1)
            if i % _LOOKED_EXAMPLES == _LOOKED_EXAMPLES - 1 or i == len(dataset) - 1:
                random, states = random or seeds.generator_states() != states, seeds.generator_states()
    x, y = found.arrays("resize them in the Dataset")
    name = found.label_name
    if found.form is None or problems.count:
        return x, y, None, name
    if not _repeatable(dataset):
        problems.warn(
            f"{prefix.removesuffix('row ')}examples are random in a way that no seed reaches: they are read once, "
            "so what was drawn stays for the whole run, which cannot be resumed. Draw with torch, numpy.random or "
            "random in __getitem__, and not with a generator of the Dataset's own"
        )
        return x, y, None, name
    if not random:
        return x, y, None, name
    return x, y, Reader(Drawn(dataset, found.form), prefix, (tree.map_leaves(lambda _: None, x), y)), name


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
