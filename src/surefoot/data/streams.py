"""What can only be gone through from front to back: an IterableDataset, a DataLoader of one, a generator of examples.

It is read once, into memory or, where it is large, onto disk (`data.spool`); then order, split and resume are those of
arrays. The default generators of torch, NumPy and Python are at one address while it is read, so a stream that draws
from them is the same whenever it is read anew, and what it drew stays for the whole run.

An iterator is used up by that. So what was read of it is held for as long as there is the iterator, and is there when
the same one is given again: to `load` and then to `train`, or to two runs that are to be compared.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from surefoot import seeds
from surefoot.data import tree
from surefoot.data.check import Problems
from surefoot.data.examples import Collected, first_line, parted
from surefoot.data.store import bar
from surefoot.errors import ConfigError, DataError

MOST_EXAMPLES = 10**8
"""Examples after which a stream is taken for endless: 78 times ImageNet's. Chosen by hand."""

DRAWN_ONCE = "the stream draws at random: it is read once, and what was drawn stays for the whole run"


@dataclass(frozen=True)
class Streamed:
    """What was read of a stream: x and y, the key of the targets, and what is to be said."""

    x: Any
    y: Any
    label_name: str | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


_read: dict[int, tuple[Any, Streamed]] = {}
"""What was read of iterators, by identity, each with a reference to it: a weak one where it can be had."""


def is_stream(given: Any) -> bool:
    """Return whether this can only be gone through.

    >>> is_stream(iter([(1, 2)])), is_stream([(1, 2)]), is_stream((n for n in range(3)))
    (True, False, True)
    """
    given = given.dataset if isinstance(given, DataLoader) else given
    if isinstance(given, IterableDataset):
        return True
    if isinstance(given, str | bytes | Mapping | set | frozenset) or hasattr(given, "__array__"):
        return False
    iterates = hasattr(type(given), "__next__") or hasattr(type(given), "__iter__")
    return iterates and not hasattr(given, "__getitem__")


def first_of(given: Any) -> tuple[Any, Any]:
    """Return x and y of the first example; of an iterator what was read of all of it, x [N, ...].

    Raises:
        StopIteration: there is none; and whatever the stream raises.
    """
    if is_iterator(given):
        streamed = read(given, "row ", Problems("arrays"))
        return tree.map_leaves(lambda leaf: leaf[0], streamed.x), tree.map_leaves(lambda leaf: leaf[0], streamed.y)
    with seeds.StepSeeds(0, "read-dataset", every=True) as generators:
        generators.at()
        return parted(next(_examples(given)))


def is_iterator(given: Any) -> bool:
    """Return whether a stream is used up by being read."""
    return hasattr(type(given), "__next__")


def read(given: Any, prefix: str, problems: Problems) -> Streamed:
    """Return all examples of a stream.

    Args:
        given: of pairs (x, y), tuples whose last is y, or mappings with a label, as a Dataset gives them.
        prefix: of the names of examples in messages.
        problems: takes examples that are not alike, and what is to be said.

    Raises:
        DataError: it fails on its way, does not end, or the disk has no room for it.
        ConfigError: it cannot be gone through.
    """
    held = _read.get(id(given))
    if held is not None and held[0]() is given:
        streamed = held[1]
    else:
        streamed = _streamed(given, prefix, problems)
        if is_iterator(given) and not problems.count:
            _hold(given, streamed)
    problems.notes += [note for note in streamed.notes if note not in problems.notes]
    problems.warnings += streamed.warnings
    return streamed


def _streamed(given: Any, prefix: str, problems: Problems) -> Streamed:
    notes, warnings = [], []
    if isinstance(given, DataLoader):
        notes.append(
            "of the DataLoader the IterableDataset is used, in one process: the size and order of batches are of the "
            "run's settings"
        )
    found, count = Collected(f"{prefix.removesuffix('row ')}the stream", prefix, problems), 0
    declared = _length(given)
    with seeds.StepSeeds(0, "read-dataset", every=True) as generators:
        generators.at()
        states = seeds.generator_states()
        with bar("reading the stream", declared or 0, "examples") as shown:
            for example in _examples(given):
                if count >= MOST_EXAMPLES:
                    raise DataError(
                        f"{found.title} has not ended after {count:,} examples",
                        "it is read once, from front to back, before training begins",
                        "give the first of them: itertools.islice(stream, 1_000_000)",
                    )
                if not found.take(count, lambda example=example: example):
                    break
                count += 1
                shown.update(1)
        drawn = seeds.generator_states() != states
    if declared is not None and declared != count and not problems.count:
        warnings.append(
            f"{found.title} says that it has {declared:,} examples, and has {count:,}: all of them are used"
        )
    if drawn:
        notes.append(DRAWN_ONCE)
    x, y = found.arrays("bring them to one shape in the stream")
    return Streamed(x, y, found.label_name, tuple(notes), tuple(warnings))


def _examples(given: Any) -> Iterator[Any]:
    """Yield the examples of a stream; of a DataLoader without batches of its own those of the Dataset's batches.

    Raises:
        DataError: the stream's code fails.
        ConfigError: it cannot be gone through.
    """
    dataset: Any = given.dataset if isinstance(given, DataLoader) else given
    try:
        iterator = iter(dataset)
    except Exception as error:  # the user's code
        raise ConfigError(
            f"a stream that cannot be gone through ({first_line(error)})", "its __iter__ gives an iterator", "mend it"
        ) from None
    count = 0
    while True:
        try:
            example = next(iterator)
        except StopIteration:
            return
        except Exception as error:  # the user's code: whatever it raises, they must hear after which example
            raise DataError(
                f"the stream fails after {count:,} examples ({first_line(error)})",
                "it is read once, from front to back",
                "mend it",
            ) from None
        count += 1
        if isinstance(given, DataLoader) and given.batch_size is None:
            yield from _apart(example)
        else:
            yield example


def _apart(batch: Any) -> Iterable[Any]:
    """Return the examples of a batch; the thing itself where it is none."""
    try:
        x, y = parted(batch)
        leaves = tree.leaves((x, y))
        if len({leaf.shape[:1] for leaf in leaves}) > 1 or not leaves[0].ndim:
            return [batch]
    except Exception:  # what is wrong with it is said where it is taken
        return [batch]
    return [tree.map_leaves(lambda leaf, i=i: leaf[i], (x, y)) for i in range(len(leaves[0]))]


def _length(given: Any) -> int | None:
    dataset: Any = given.dataset if isinstance(given, DataLoader) else given
    try:
        return len(dataset) if not isinstance(given, DataLoader) or given.batch_size is not None else None
    except Exception:  # most have none
        return None


def _hold(given: Any, streamed: Streamed) -> None:
    """Keep what was read of an iterator as long as there is one; of a kind without weak references the last alone."""
    key = id(given)
    try:
        reference = weakref.ref(given, lambda _: _read.pop(key, None))
    except TypeError:
        for other in [other for other, (holder, _) in _read.items() if not isinstance(holder, weakref.ref)]:
            del _read[other]

        def reference() -> Any:
            return given

    _read[key] = (reference, streamed)
