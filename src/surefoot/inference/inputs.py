"""What a model is applied to: arrays, files and folders, as batches of the model's own kind and shape.

What cannot be read becomes a name with an error in its place, so that one bad file among thousands stops nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surefoot.data import frames, images, npz
from surefoot.data.columns import Columns
from surefoot.data.folder import files_below
from surefoot.data.frame import Header
from surefoot.data.mapped import large
from surefoot.data.table import is_table, read_unlabelled
from surefoot.errors import DataError

BATCH_EXAMPLES = 256
"""Examples read and predicted at once: at 224 pixels 38 MB of colour images. Chosen by hand."""

_ARCHIVES = (".npz", ".npy")

_NOT_FINITE = "it holds a value that is not finite"


@dataclass(frozen=True)
class Expected:
    """What one example of a model is.

    Attributes:
        kind: "images", shape (C, H, W), or "numbers" of any shape.
        shape: of one example.
        label: name of the column of labels that the run was trained with; it is passed over in a table.
        header: whether the first row of a table names its columns.
        columns: of the training table, by which other tables are read; None for other data.
        dtype: of numbers: int64 for a model that embeds them, float64 where float32 would lose a column's spread.
        pixels: type of the images' pixels, see `data.images`.
    """

    kind: str
    shape: tuple[int, ...]
    label: str | None = None
    header: Header = "auto"
    columns: Columns | None = None
    dtype: type[np.generic] = np.float32
    pixels: str = "uint8"

    @property
    def numbers(self) -> Columns:
        """The columns by which a table is read."""
        return self.columns or Columns.of_numbers(self.shape[0])

    def tensor(self, x: np.ndarray, title: str) -> Tensor:
        """Return numbers as the model's own were kept."""
        if self.dtype == np.int64 and bool((x != np.floor(x)).any()):
            raise DataError(f"{title}: fractions", "the model embeds whole numbers", "give whole numbers, as int64")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is named
            return torch.from_numpy(np.ascontiguousarray(x, self.dtype))

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"images of {size} (channels, height, width)" if self.kind == "images" else f"{size} numbers"


@dataclass(frozen=True)
class Inputs:
    """A batch: the names of all its examples, the error of each that could not be read, and the others, [M, ...]; and
    what is to be said of it.
    """

    names: tuple[str, ...]
    errors: tuple[str | None, ...]
    x: Tensor
    note: str | None = None


def batches(inputs: Any, expected: Expected) -> Iterator[Inputs]:
    """Yield whatever is given as batches of at most `BATCH_EXAMPLES` examples, in order.

    Args:
        inputs: an array or tensor [N, ...] or of one example; the path of an image, of a folder of images (nested or
            flat), of an .npz or .npy, of a table; a frame of pandas or Polars; or a sequence of paths.
        expected: what the model takes.

    Raises:
        DataError: an array, table or folder as a whole does not fit the model.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    if isinstance(inputs, Sequence) and inputs and all(isinstance(each, (str, os.PathLike)) for each in inputs):
        yield from _of_paths([Path(each) for each in inputs], expected)
    else:
        yield from _of_object(inputs, expected, "", "inputs")


def as_channels(x: Tensor, channels: int) -> Tensor:
    """Return images, [N, 1 or 3, H, W], as grey or as colour.

    Grey of uint8 is Pillow's, bit for bit: the luma 0.299 R + 0.587 G + 0.114 B of ITU-R BT.601, in 16-bit fixed point.
    """
    if x.shape[1] == channels:
        return x
    if channels == 3:
        return x.expand(-1, 3, -1, -1)
    red, green, blue = (x if x.is_floating_point() else x.to(torch.int64)).unbind(1)
    luma = red * 19595 + green * 38470 + blue * 7471
    return (luma / 65536 if x.is_floating_point() else (luma + 0x8000) >> 16).to(x.dtype)[:, None]


def as_pixels(x: Tensor, dtype: str, title: str) -> Tensor:
    """Return images [N, C, H, W] of uint8, uint16 or float32 in the type of the model's.

    Raises:
        DataError: one of the two has a range and the other has none.
    """
    given = str(x.dtype).removeprefix("torch.")
    if given == dtype:
        return x
    if "float32" in (given, dtype):
        raise DataError(
            f"{title}: its pixels are {given}", f"the model was trained on {dtype}", "give images like the run's own"
        )
    levels = x.to(torch.int64)
    return (levels * 257 if dtype == "uint16" else (levels * 255 + 32767) // 65535).to(getattr(torch, dtype))


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
        x = np.stack(arrays) if arrays else np.empty((0, *expected.shape), expected.pixels)
        errors = tuple(each if isinstance(each, str) else None for each in found)
        yield Inputs(tuple(map(str, chosen)), errors, torch.from_numpy(x))


def _decoded(path: Path, expected: Expected) -> np.ndarray | str:
    """Return an image [C, H, W], brought to the model's size as in training, or what is wrong with it."""
    if not path.exists():
        return "there is no such file"
    if expected.kind != "images":
        return f"the model takes {expected}, in an .npz, .npy or .csv"
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
    else:
        names = npz.array_names(path)
        name = next((each for each in ("x", "x_test", *names) if each in names), None)
        if name is None:
            raise DataError(f"{path} holds no array", "it must hold the examples as x", "save them with numpy.savez")
        try:
            x = npz.read_array(path, name)
        except npz.Unusable as error:
            allowed = "inputs are an array of numbers that fits into memory"
            raise DataError(f"{path}: array {name} {error}", allowed, "write it again with numpy.savez") from None
    yield from _of_object(x, expected, f"{path}:", str(path))


def _of_table(path: Path, expected: Expected) -> Iterator[Inputs]:
    if expected.kind != "numbers" or len(expected.shape) != 1:
        raise DataError(f"{path}", f"the model takes {expected}, and no table", "give images or an .npz")
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
    given = frames.dense(given, title) if frames.is_sparse(given) else given
    flat = expected.kind == "numbers" and len(expected.shape) == 1
    if flat and frames.is_frame(given):
        frame = frames.frame_of(given, title)
        names, table = frame.names if frame.named else None, frame.table
    elif expected.columns is not None:
        array = _shaped(_plain(given, title), (len(expected.columns.columns),), expected, title)
        names, table = None, frames.of_array(array)
    else:
        yield from _of_array(_plain(given, title), expected, prefix, title)
        return
    reread = expected.numbers.read(title, table, names)
    yield from _of_rows(range(table.num_rows), reread.x, reread.faults, reread.note(), expected, prefix)


def _of_array(given: np.ndarray, expected: Expected, prefix: str, title: str) -> Iterator[Inputs]:
    if not large(given):
        yield from _of_piece(given, 0, expected, prefix, title)
        return
    for first in range(0, len(given), BATCH_EXAMPLES):  # what lies on disk is brought to the model's type by the batch
        yield from _of_piece(given[first : first + BATCH_EXAMPLES], first, expected, prefix, title)


def _of_piece(given: np.ndarray, start: int, expected: Expected, prefix: str, title: str) -> Iterator[Inputs]:
    if expected.kind == "images":
        x = _images(given, expected, title)
    else:
        x = expected.tensor(_shaped(given, expected.shape, expected, title), title)
    for first in range(0, len(x), BATCH_EXAMPLES):
        piece = x[first : first + BATCH_EXAMPLES]
        finite = torch.isfinite(piece).reshape(len(piece), -1).all(1)
        names = tuple(f"{prefix}{start + first + i}" for i in range(len(piece)))
        yield Inputs(names, tuple(None if good else _NOT_FINITE for good in finite.tolist()), piece[finite])


def _plain(given: Any, title: str) -> np.ndarray:
    """Return whatever was given as an array of numbers with at least one dimension."""
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = given.float() if given.dtype == torch.bfloat16 else given
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{title} of type {type(given).__name__}: {error}",
            "inputs are an array, a tensor or paths",
            "make them alike",
        ) from None
    if array.dtype.kind not in "biuf" or array.size == 0:
        raise DataError(
            f"{title} of type {array.dtype} and shape {array.shape}",
            "inputs hold numbers of at least one example, or paths",
            "check what was given",
        )
    return array


def _shaped(given: np.ndarray, shape: tuple[int, ...], expected: Expected, title: str) -> np.ndarray:
    """Return numbers as examples of a shape, [N, *shape]."""
    for candidate in (given, given[None], *([given.reshape(-1, 1)] if given.ndim < 2 else [])):
        if candidate.ndim > 0 and candidate.shape[1:] == shape:
            return candidate
    raise _misfit(title, given, expected)


def _images(given: np.ndarray, expected: Expected, title: str) -> Tensor:
    """Return images as the model's pixels or in [0, 1], [N, C, H, W], from the same layouts as in training or from one
    image.
    """
    channels, height, width = expected.shape
    x = given if given.ndim > 2 else given[None]
    if x.ndim == 3:
        grey = x.shape[1:] == (height, width) and x.shape != expected.shape
        x = x[:, None] if grey else x[None]
    if x.ndim == 4 and x.shape[2:] != (height, width) and x.shape[1:3] == (height, width):
        x = x.transpose(0, 3, 1, 2)
    alike = x.shape[1:] == expected.shape or (channels in (1, 3) and x.ndim == 4 and x.shape[1] in (1, 3))
    if not alike or x.shape[2:] != (height, width):
        raise _misfit(title, given, expected)
    if expected.pixels == "float32":  # numbers without a range
        return as_channels(torch.from_numpy(x.astype(np.float32)), channels)
    if x.dtype.kind == "f":
        outside = bool(np.nanmin(x) < 0 or np.nanmax(x) > 1)
        if outside or x.shape[1] != channels:
            what = f"values from {np.nanmin(x):g} to {np.nanmax(x):g}" if outside else f"{x.shape[1]} channels"
            raise DataError(
                f"{title}: {what}",
                f"images are {expected.pixels}, or floating point in [0, 1] with the model's channels",
                f"divide by {np.iinfo(expected.pixels).max}, or convert to {expected.pixels}",
            )
        return torch.from_numpy(x.astype(np.float32))
    if expected.pixels == "uint16" and x.dtype == np.uint8:
        return as_channels(as_pixels(torch.from_numpy(np.require(x, None, ["C", "W"])), "uint16", title), channels)
    most = np.iinfo(expected.pixels).max
    if x.min() < 0 or x.max() > most:
        raise DataError(
            f"{title}: values from {x.min()} to {x.max()}",
            f"whole pixels are in 0 .. {most}",
            f"convert them to {expected.pixels}",
        )
    return as_channels(torch.from_numpy(np.require(x, expected.pixels, ["C", "W"])), channels)


def _misfit(title: str, given: np.ndarray, expected: Expected) -> DataError:
    return DataError(
        f"{title}: shape {given.shape}",
        f"the model takes {expected}, one or many",
        "reshape them; image files are resized by themselves",
    )
