"""What a model is applied to: arrays, files and folders, as batches of the model's own kind and shape.

What cannot be read becomes a name with an error in its place, so that one bad file among thousands stops nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from surefoot import seeds
from surefoot.data import images, npz, npz_names, tree
from surefoot.data.dataset import Part
from surefoot.data.examples import value_array
from surefoot.data.folder import files_below
from surefoot.data.mapped import large
from surefoot.data.paths import is_table
from surefoot.errors import DataError
from surefoot.inference.form import (
    Expected,
    inputs_of_example,
    matched,
    not_finite,
    one_input,
    plain_array,
    shaped,
)

BATCH_EXAMPLES = 256
"""Examples read and predicted at once: at 224 pixels 38 MB of colour images. Chosen by hand."""

_ARCHIVES = (".npz", ".npy")

_NOT_FINITE = "it holds a value that is not finite"


@dataclass(frozen=True)
class Inputs:
    """A batch: the names of all its examples, the error of each that could not be read, and the others, [M, ...] or a
    tree of such; and what is to be said of it.
    """

    names: tuple[str, ...]
    errors: tuple[str | None, ...]
    x: Any
    note: str | None = None


def batches(inputs: Any, expected: Expected) -> Iterator[Inputs]:
    """Yield whatever is given as batches of at most `BATCH_EXAMPLES` examples, in order.

    Args:
        inputs: an array or tensor [N, ...] or of one example, or a mapping or tuple of these; a Dataset, with or
            without targets, or a DataLoader of one; the path of an image, of a folder of images (nested or flat), of an
            .npz or .npy, of a table; a frame of pandas or Polars; or a sequence of paths.
        expected: what the model takes.

    Raises:
        DataError: an array, table or folder as a whole does not fit the model.
    """
    inputs = inputs.x if isinstance(inputs, Part) else inputs.dataset if isinstance(inputs, DataLoader) else inputs
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    if isinstance(inputs, Sequence) and inputs and all(isinstance(each, (str, os.PathLike)) for each in inputs):
        yield from _of_paths([Path(each) for each in inputs], expected)
    elif _is_dataset(inputs):
        yield from _of_dataset(inputs, expected)
    elif expected.kind == "tree" or isinstance(inputs, Mapping):
        yield from _of_tree(inputs, expected, "", "inputs")
    else:
        yield from _of_object(inputs, expected, "", "inputs")


def _is_dataset(given: Any) -> bool:
    """Return whether this gives examples one by one: a Dataset, or a list of mappings or tuples of arrays."""
    if isinstance(given, list):
        of_arrays = bool(given) and isinstance(given[0], tuple) and any(map(_is_array, given[0]))
        return of_arrays or (bool(given) and isinstance(given[0], Mapping))
    from surefoot.data import frames

    plain = isinstance(given, (np.ndarray, torch.Tensor, str, bytes, tuple, Mapping)) or hasattr(given, "to_numpy")
    if plain or frames.is_frame(given) or frames.is_sparse(given) or hasattr(given, "__array__"):
        return False
    return isinstance(given, IterableDataset) or (hasattr(given, "__getitem__") and hasattr(given, "__len__"))


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor, Mapping))


def _of_dataset(dataset: Any, expected: Expected) -> Iterator[Inputs]:
    """Yield the examples of a Dataset, or of one that is gone through; what they draw is of their number alone."""
    streams = isinstance(dataset, IterableDataset)
    examples, count = iter(dataset) if streams else None, 0 if streams else len(dataset)
    first, more = 0, True
    while more:
        read: list[Any] = []
        with seeds.StepSeeds(0, "predict-dataset", every=True) as generators:
            while len(read) < BATCH_EXAMPLES and more:
                at = first + len(read)
                generators.at(at)
                try:
                    if examples is None and at >= count:
                        raise StopIteration
                    read.append(_example(next(examples) if examples is not None else dataset[at], expected))
                except StopIteration:
                    more = False
                except DataError as error:
                    read.append(str(error))
                except Exception as error:  # the user's code may raise anything, and one bad example stops nothing
                    read.append(f"cannot be read ({type(error).__name__}: {(str(error) or '').partition(chr(10))[0]})")
                    more = examples is None  # a generator that has raised is at its end
        for piece in _alike(read):
            names = tuple(str(first + i) for i in range(len(piece)))
            good = [each for each in piece if not isinstance(each, str)]
            x = tree.map_leaves(lambda *each: torch.cat(each), good[0], *good[1:]) if good else ()
            yield Inputs(names, tuple(each if isinstance(each, str) else None for each in piece), x)
            first += len(piece)


def _example(example: Any, expected: Expected) -> Any:
    """Return one example as a batch of one, or what is wrong with it."""
    leaves = expected.leaves if expected.kind == "tree" else expected
    given = inputs_of_example(example, leaves)
    given = given if isinstance(given, list) else tree.as_tree(given)
    arrays = tree.map_leaves(lambda leaf: value_array(leaf)[None], given)
    x = matched(arrays, leaves, "the example", expected.label)
    return _NOT_FINITE if bool(not_finite(x)[0]) else x


def _alike(read: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield neighbours whose inputs have one shape: sequences may be of several lengths."""
    piece: list[Any] = []
    shape = None
    for each in read:
        form = shape if isinstance(each, str) else [leaf.shape for leaf in tree.leaves(each)]
        if piece and shape is not None and form != shape:
            yield piece
            piece = []
        shape = form
        piece.append(each)
    if piece:
        yield piece


def _of_tree(given: Any, expected: Expected, prefix: str, title: str) -> Iterator[Inputs]:
    x = matched(given, expected.leaves if expected.kind == "tree" else expected, title, expected.label)
    yield from _pieces(x, prefix)


def _pieces(x: Any, prefix: str, start: int = 0) -> Iterator[Inputs]:
    bad = not_finite(x)
    for first in range(0, len(bad), BATCH_EXAMPLES):
        here = bad[first : first + BATCH_EXAMPLES]
        names = tuple(f"{prefix}{start + first + i}" for i in range(len(here)))
        rows = first + torch.nonzero(~here)[:, 0]
        yield Inputs(names, tuple(_NOT_FINITE if each else None for each in here.tolist()), tree.taken(x, rows))


def _of_paths(paths: Sequence[Path], expected: Expected) -> Iterator[Inputs]:
    waiting: list[Path] = []  # neighbours share batches, whichever argument they came from
    for path in paths:
        if path.is_dir() and not is_table(path):
            waiting += _images_below(path)
        elif (path.is_file() or path.is_dir()) and (path.suffix.lower() in _ARCHIVES or is_table(path)):
            yield from _of_images(waiting, expected)
            waiting = []
            archive = path.suffix.lower() in _ARCHIVES
            yield from _of_archive(path, expected) if archive else _of_table(path, expected)
        else:
            waiting.append(path)
    yield from _of_images(waiting, expected)


def _images_below(folder: Path) -> list[Path]:
    """Return the files of a folder, nested or flat, in the order of their names; what is no image gets an error."""
    found = files_below(folder)
    if not found:
        raise DataError(f"{folder}", f"it must hold images ({', '.join(images.FORMATS)})", "check the path")
    return found


def _of_images(paths: Sequence[Path], expected: Expected) -> Iterator[Inputs]:
    for first in range(0, len(paths), BATCH_EXAMPLES):
        chosen = paths[first : first + BATCH_EXAMPLES]
        with images.quiet():
            found = [_decoded(path, expected) for path in chosen]
        arrays = [each for each in found if isinstance(each, np.ndarray)]
        x = torch.from_numpy(np.stack(arrays)) if arrays else ()
        errors = tuple(each if isinstance(each, str) else None for each in found)
        yield Inputs(tuple(map(str, chosen)), errors, x)


def _decoded(path: Path, expected: Expected) -> np.ndarray | str:
    """Return an image [C, H, W], brought to the model's size as in training, or what is wrong with it."""
    if not path.exists():
        return "there is no such file"
    if expected.kind != "images":
        return f"the model takes {expected}, in an .npz" + ("" if expected.kind == "tree" else ", .npy or .csv")
    channels, height, width = expected.shape
    if channels not in (1, 3):
        return f"the model takes {expected}, which no image file has"
    try:
        array = images.pixels(path, channels, height if height == width else None, expected.pixels)
    except images.Unreadable as error:
        return str(error)
    if array.shape != expected.shape:
        size = f"{array.shape[2]}x{array.shape[1]}"
        return f"has {size} pixels; the model takes {width}x{height}, and images are resized to squares only"
    return array


def _of_archive(path: Path, expected: Expected) -> Iterator[Inputs]:
    if path.suffix.lower() == ".npy":
        x = npz.read_npy(path)
    elif expected.kind == "tree":
        yield from _of_tree(_arrays_of(path, expected), expected, f"{path}:", str(path))
        return
    else:
        names = npz.array_names(path)
        name = next((each for each in ("x", "x_test", *names) if each in names), None)
        if name is None:
            raise DataError(f"{path} holds no array", "it must hold the examples as x", "save them with numpy.savez")
        x = _read(path, name)
    yield from _of_object(x, expected, f"{path}:", str(path))


def _arrays_of(path: Path, expected: Expected) -> Any:
    """Return the inputs of several arrays that an archive holds, by their names."""
    keys = npz.array_names(path)
    wanted = npz_names.keys_for(expected.leaves, keys)
    if wanted is not None:
        return tree.map_leaves(lambda key: _read(path, key), wanted)
    names = [name for name, _ in tree.named_leaves(expected.leaves)]
    raise DataError(
        f"{path} holds arrays named {', '.join(keys[:10]) or 'nothing'}",
        f"the model takes {tree.told_names(expected.leaves)}",
        f"name them {', '.join(names if isinstance(expected.leaves, dict) else [f'x.{name}' for name in names])}",
    )


def _read(path: Path, name: str) -> np.ndarray:
    try:
        return npz.read_array(path, name)
    except npz.Unusable as error:
        allowed = "inputs are an array of numbers that fits into memory"
        raise DataError(f"{path}: array {name} {error}", allowed, "write it again with numpy.savez") from None


def _of_table(path: Path, expected: Expected) -> Iterator[Inputs]:
    if expected.kind != "numbers" or len(expected.shape) != 1:
        raise DataError(f"{path}", f"the model takes {expected}, and no table", "give images or an .npz")
    from surefoot.data.table import read_unlabelled  # with pyarrow, which nothing but a table needs

    lines, x, errors, note = read_unlabelled(path, expected.numbers, expected.label, expected.header)
    yield from _of_rows(lines, x, errors, note, expected, f"{path}:")


def _of_rows(
    names: Sequence[int] | np.ndarray,
    x: np.ndarray,
    errors: Sequence[str | None],
    note: str | None,
    expected: Expected,
    prefix: str,
) -> Iterator[Inputs]:
    for first in range(0, len(names), BATCH_EXAMPLES):
        piece = slice(first, first + BATCH_EXAMPLES)
        good = [error is None for error in errors[piece]]
        named = tuple(f"{prefix}{name}" for name in names[piece])
        yield Inputs(named, tuple(errors[piece]), expected.tensor(x[piece][good], prefix), note if first == 0 else None)


def _of_object(given: Any, expected: Expected, prefix: str, title: str) -> Iterator[Inputs]:
    """Yield what is in memory: a table by the columns of the model, where it has some, else an array."""
    from surefoot.data import frames

    given = frames.dense(given, title) if frames.is_sparse(given) else given
    flat = expected.kind == "numbers" and len(expected.shape) == 1
    if flat and frames.is_frame(given):
        frame = frames.frame_of(given, title)
        names, table = frame.names if frame.named else None, frame.table
    elif expected.columns is not None:
        array = shaped(plain_array(given, title), (len(expected.columns.columns),), expected, title)
        names, table = None, frames.of_array(array)
    elif isinstance(given, np.ndarray) and large(given):
        for first in range(0, len(given), BATCH_EXAMPLES):  # to the model's type by the piece
            piece = one_input(given[first : first + BATCH_EXAMPLES], expected, title)
            yield from _pieces(piece, prefix, first)
        return
    else:
        yield from _pieces(one_input(given, expected, title), prefix)
        return
    reread = expected.numbers.read(title, table, names)
    yield from _of_rows(range(table.num_rows), reread.x, reread.faults, reread.note(), expected, prefix)
