"""What a model takes, and what was given brought to it: names of several inputs, then shape and type of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from surefoot.config import Config
from surefoot.data import tree
from surefoot.data.mapped import pieces
from surefoot.data.targets import LABEL_NAMES
from surefoot.errors import DataError
from surefoot.training.preprocessed import Preprocessing
from surefoot.training.weights import Trained

if TYPE_CHECKING:
    from surefoot.data.columns import Columns
    from surefoot.data.frame import Header


@dataclass(frozen=True)
class Expected:
    """What one example of a model is.

    Attributes:
        kind: "images", shape (C, H, W), "numbers" of any shape, or a "tree" of these.
        shape: of one example; of a tree the tree of its leaves' shapes.
        label: name of the column of labels that the run was trained with; it is passed over in a table.
        header: whether the first row of a table names its columns.
        columns: of the training table, by which other tables are read; None for other data.
        dtype: of numbers: int64 for a model that embeds them, bool for a mask, float64 where float32 would lose a
            column's spread.
        pixels: type of the images' pixels, see `data.images`.
        any_length: whether it is a sequence, shape (T,), of which others may be shorter or longer.
        leaves: of a tree what each leaf is.
    """

    kind: str
    shape: Any
    label: str | None = None
    header: Header = "auto"
    columns: Columns | None = None
    dtype: type[np.generic] = np.float32
    pixels: str = "uint8"
    any_length: bool = False
    leaves: Any = None

    @property
    def numbers(self) -> Columns:
        """The columns by which a table is read."""
        from surefoot.data.columns import Columns  # with pyarrow, which nothing but a table needs

        return self.columns or Columns.of_numbers(self.shape[0])

    def tensor(self, x: np.ndarray, title: str) -> Tensor:
        """Return numbers as the model's own were kept."""
        if self.dtype == np.int64 and x.dtype.kind == "f" and bool((x != np.floor(x)).any()):
            raise DataError(f"{title}: fractions", "the model takes whole numbers", "give whole numbers, as int64")
        if self.dtype == np.bool_ and bool(((x != 0) & (x != 1)).any()):
            raise DataError(f"{title}: values other than 0 and 1", "the model takes a mask", "give true and false")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is named
            return torch.from_numpy(np.ascontiguousarray(x, self.dtype))

    def __str__(self) -> str:
        if self.kind == "tree":
            return ", ".join(f"{name} ({leaf})" for name, leaf in tree.named_leaves(self.leaves))
        size = "x".join(map(str, self.shape))
        return f"images of {size} (channels, height, width)" if self.kind == "images" else f"{size} numbers"


def expected_of(trained: Trained, config: Config) -> Expected:
    """Return what one example of a model is."""
    leaves = expected_leaves(trained)
    if trained.kind != "tree":
        return replace(
            leaves, kind=trained.kind, label=config.label, header=config.header, columns=trained.columns
        )  # fmt: skip
    return Expected("tree", trained.input_shape, label=trained.information.get("label_name"), leaves=leaves)


def expected_leaves(trained: Trained) -> Any:
    """Return what each input of a model is: a tree of `Expected`, or one."""
    about = trained.preprocessing if trained.preprocessing.leaves is None else trained.preprocessing.leaves
    return tree.map_leaves(lambda leaf, shape: _expected(leaf, shape, trained), about, trained.input_shape)


def _expected(about: Preprocessing, shape: tuple[int, ...], trained: Trained) -> Expected:
    dtypes = {"integers": np.int64, "booleans": np.bool_}
    dtype = dtypes.get(about.input, np.dtype(about.dtype).type)
    length = target_length(trained)
    return Expected(
        "images" if about.input == "images" else "numbers", shape, dtype=dtype, pixels=trained.pixels,
        any_length=length is not None and shape == (length,) and about.input != "images",
    )  # fmt: skip


def target_length(trained: Trained) -> int | None:
    """Return T of sequences [N, T] of tokens, of which others may have another length; None of other targets."""
    shape = trained.information.get("target_shape")
    return int(shape[0]) if trained.target == "tokens" and isinstance(shape, list) and len(shape) == 1 else None


def matched(given: Any, expected: Any, title: str, label: str | None = None) -> Any:
    """Return inputs as a tree of tensors, [N, ...], as a model takes them.

    Args:
        given: arrays or tensors [N, ...], or of one example, as a mapping, a tuple or one alone.
        expected: from `expected_leaves`.
        title: what they are called in messages.
        label: the key of the targets in the training data, which is passed over.

    Raises:
        DataError: names, lengths, shapes or types are others.
    """
    given = _lists_as_arrays(given, expected)
    whole = tree.as_tree(given) if isinstance(given, Mapping | tuple) else given
    if isinstance(whole, list):
        whole = tuple(whole) if isinstance(expected, tuple) and len(whole) == len(expected) else whole
    whole = without_label(whole, expected, label)
    if isinstance(expected, Expected) and tree.is_leaf(whole):
        return one_input(whole, expected, title)
    named = dict(tree.named_leaves(tree.in_form(whole, expected, title)))
    made: dict[str, Tensor] = {}
    for name, leaf in tree.named_leaves(expected):
        if leaf.any_length and made:  # sequences of one batch have one length
            others = [made[key] for key, each in tree.named_leaves(expected) if key in made and each.any_length]
            leaf = replace(leaf, shape=tuple(others[0].shape[1:]), any_length=False) if others else leaf
        made[name] = one_input(
            named[name], leaf, f"{title} {name!r}" if isinstance(expected, dict) else f"{title} {name}"
        )
    lengths = {name: len(leaf) for name, leaf in made.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise DataError(f"{title} of other lengths ({told})", "each has one entry per example", "make them alike")
    return tree.from_named(expected, made)


def _lists_as_arrays(given: Any, expected: Any) -> Any:
    """Return a mapping with an array in place of each list that stands where the model takes one, as JSON has them."""
    if isinstance(given, Mapping) and isinstance(expected, dict):
        return {name: _lists_as_arrays(each, expected.get(name)) for name, each in given.items()}
    if not (isinstance(given, list) and isinstance(expected, Expected)):
        return given
    try:
        array = np.asarray(given)
    except ValueError:  # of several lengths
        return given
    return array if array.dtype.kind in "biuf" else given


def without_label(given: Any, expected: Any, label: str | None) -> Any:
    """Return a mapping of inputs without the targets among them, where the model takes no input of that name."""
    if not (isinstance(given, dict) and isinstance(expected, dict)):
        return given
    passed = {name for name in (label, *LABEL_NAMES) if name is not None and name not in expected}
    return {name: each for name, each in given.items() if name not in passed}


def inputs_of_example(example: Any, expected: Any) -> Any:
    """Return the inputs of an example of a Dataset with or without a target: a value, a tuple or a mapping."""
    if isinstance(example, tuple | list) and len(example) > 1:
        count = len(expected) if isinstance(expected, tuple) else 1
        if len(example) == count + 1:  # the last is its target
            example = example[:-1]
        if count == 1 and len(example) == 1:
            return example[0]
        return tuple(example)
    return example[0] if isinstance(example, tuple | list) and not isinstance(expected, tuple) and example else example


def not_finite(x: Any) -> Tensor:
    """Return which examples of a tree hold a value that is not finite, bool [N]."""
    bad = torch.zeros(len(tree.leaves(x)[0]), dtype=torch.bool)
    for leaf in (leaf for leaf in tree.leaves(x) if leaf.is_floating_point()):
        for piece in pieces(leaf, len(leaf)):
            bad[piece] |= (
                ~torch.isfinite(leaf[piece]).flatten(1).all(1).cpu()
                if leaf.dim() > 1
                else (~torch.isfinite(leaf[piece]).cpu())
            )
    return bad


def one_input(given: Any, expected: Expected, title: str) -> Tensor:
    """Return one array or tensor, [N, ...] or of one example, in the shape and type that a model takes.

    Raises:
        DataError: it has another shape, or values that this type has not.
    """
    array = plain_array(given, title)
    if expected.kind == "images":
        return _images(array, expected, title)
    if expected.any_length:
        expected = replace(expected, shape=array.shape[-1:])
    return expected.tensor(shaped(array, expected.shape, expected, title), title)


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


def plain_array(given: Any, title: str) -> np.ndarray:
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


def shaped(given: np.ndarray, shape: tuple[int, ...], expected: Expected, title: str) -> np.ndarray:
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
