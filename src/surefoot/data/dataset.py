"""A part is examples with their labels and names; a data set is a train, a validation and a test part.

`Raw` is the same as a reader hands it over: NumPy arrays, not yet checked against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from surefoot import seeds
from surefoot.data import tree
from surefoot.data.mapped import Mapped, large
from surefoot.errors import DataError, nearest

if TYPE_CHECKING:
    from surefoot.data.column import RawColumn
    from surefoot.data.columns import Columns

TargetKind = Literal["classes", "numbers", "multilabel", "segmentation", "tokens", "any"]
"""What targets are: a class; a number or several; several yes or no, [L]; a class for each pixel, [H, W], or for each
position of a sequence, [T]; or anything that a loss of the user's takes."""

IGNORED = -100
"""The target of a pixel or a position that no loss and no metric looks at; PyTorch's `ignore_index` left out."""


def stratified(
    labels: np.ndarray | None, examples: int, share: float, seed: int, stream: str = "split"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions to keep and the positions to hold out, each rising.

    Of n_c examples of class c, share * n_c are held out, rounded down or up so that the total is
    round(share * N) (largest remainders, ties to the lower class); at least one of each class is kept. A pure
    function of its arguments.

    Args:
        labels: class of each example, int [N]; None for a regression, which is split without classes.
        examples: N.
        share: in [0, 1), the share held out.
        seed: of the split.
        stream: the name of the random stream, so that two splits with one seed differ.

    >>> kept, held = stratified(np.array([0, 0, 0, 0, 1, 1]), 6, share=1 / 3, seed=0)
    >>> len(kept), len(held)
    (4, 2)
    """
    labels = np.zeros(examples, dtype=np.int64) if labels is None else labels
    counts = np.unique(labels, return_counts=True)[1]
    exact = counts * share
    held = np.floor(exact).astype(np.int64)
    missing = round(share * examples) - int(held.sum())
    held[np.argsort(held - exact, kind="stable")[:missing]] += 1
    held = np.minimum(held, counts - 1)
    of_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    out = np.zeros(examples, dtype=bool)
    for place in np.flatnonzero(held > 0):
        out[seeds.generator(seed, stream, int(place)).permutation(of_class[place])[: held[place]]] = True
    return np.flatnonzero(~out), np.flatnonzero(out)


def taken(x: np.ndarray | Mapped, index: np.ndarray) -> np.ndarray | Mapped:
    """Return x[index]; of what is on disk and too large for memory, as rows that are read when they are asked for."""
    if large(x):
        return x.taken(index) if isinstance(x, Mapped) else Mapped(x, index)
    return np.asarray(x[index])


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return which axis of [N, ., ., .] holds the channels: the one of 1 or 3, else of 2 or 4; the first of two."""
    for counts in ((1, 3), (2, 4)):
        for axis in (1, 3):
            if shape[axis] in counts:
                return axis
    return None


def channels_first(x: Any) -> Any:
    """Return images [N, H, W], [N, C, H, W] or [N, H, W, C] as [N, C, H, W].

    >>> channels_first(np.zeros((2, 8, 9, 3))).shape, channels_first(np.zeros((2, 8, 9))).shape
    ((2, 3, 8, 9), (2, 1, 8, 9))
    """
    if isinstance(x, Mapped):
        return x.changed(channels_first)
    if x.ndim == 3:
        return x[:, None]
    return x if channel_axis(x.shape) == 1 else np.ascontiguousarray(x.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class Source:
    """Where the examples of a part came from: enough to name any one of them in a message.

    Attributes:
        prefix: what stands before the number, such as "test row ".
        first: number of the first example, counted as the user's own tools count.
        names: a name for each example, in place of prefix and number; None where they are numbered.
        index: position in the source of each example of this part; None for all of them in order.

    >>> Source("row ", first=2).name_of(3)
    'row 5'
    >>> Source(names=("cats/1.png", "cats/2.png")).taken(np.array([1])).name_of(0)
    'cats/2.png'
    """

    prefix: str = "example "
    first: int = 0
    names: tuple[str, ...] | None = None
    index: np.ndarray | None = None

    def name_of(self, i: int) -> str:
        """Return the name of example i of the part."""
        at = int(i) if self.index is None else int(self.index[i])
        return f"{self.prefix}{at + self.first}" if self.names is None else self.names[at]

    def taken(self, index: np.ndarray) -> Source:
        """Return the source of the examples at `index`, a part of this part."""
        return Source(self.prefix, self.first, self.names, index if self.index is None else self.index[index])


@dataclass(frozen=True)
class Part:
    """One part of a data set: train, validation or test.

    Attributes:
        x: images as uint8, or uint16 or float32 where they have more than 8 bits, [N, C, H, W]; or numbers [N, ...] as
            float32, as float64 where that would lose their spread, or as int64 for a model that embeds them; or a tree
            of such tensors (`data.tree`). May lie in a memory map: never write to it.
        y: classes as int64 [N], or targets of a regression, likewise float32 or float64, [N] or [N, D]; of other
            targets (`TargetKind`) likewise a tensor, or a tree of them.
        source: names the examples.
        reader: reads the examples of a random Dataset anew, `data.map_style.Reader`; None for all else.
    """

    x: Any
    y: Any
    source: Source
    reader: Any = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(tree.leaves(self.y)[0])

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return tree.leaves(self.x)[0].device

    def taken(self, rows: np.ndarray) -> Part:
        """Return the part of the examples at `rows`, int64 [M]."""
        at = torch.from_numpy(np.array(rows)).to(self.device)
        return Part(tree.taken(self.x, at), tree.taken(self.y, at), self.source.taken(np.asarray(rows)))

    def name_of(self, i: int) -> str:
        """Return the name of example i, such as "cats/007.png" or "row 17"."""
        return self.source.name_of(i)


@dataclass(frozen=True)
class DataSet:
    """Checked data, ready to train on.

    Attributes:
        name: the named set, file or folder; "arrays" for what came from Python.
        kind: images are uint8 and can be augmented; numbers are one tensor; a tree is several of both.
        train, validation, test: the parts; validation and test may be absent.
        classes: names of the classes, class i at position i; None for a regression.
        mean, std: of the training part, for normalising. For images float32 [C], of values scaled to [0, 1]; for
            numbers float64, see `number_statistics`. std is 1 where it would be 0; they are 0 and 1 where nothing is
            normalised. Of a tree a tree, None at leaves of whole numbers, 0 and 1 at masks.
        target_mean, target_std: of the training targets of a regression, float64, [] or [D]: `fetch` standardises by
            them. None where targets stay as they are.
        channels_last: how batches of images lie in memory: channels_last is faster where the model can take it.
        fingerprint: SHA-256 of parts, labels, class names and split, as hex: equal if and only if the data is.
        features: names of the columns of a table, by which other tables are matched; None if they have none.
        columns: of a table, as they were fitted on the training part: they made x of its cells. None for other data.
        integers: whether numbers came as whole ones, by type: a model that embeds takes them so.
        image_size: side in pixels that was chosen for images of many sizes; None where none was.
        notes: what is to be said of the data, a line each: what was decided by a rule, and what is worth a warning.
        target_kind: what targets are where they are neither classes nor numbers; None where `classes` says it.
        names: of what these targets are of, one for each output; None where they have none.
        output_count: how many outputs a model of these targets needs.
        label_name: the key of the targets where an example was a mapping that held them among its inputs.
    """

    name: str
    kind: Literal["images", "numbers", "tree"]
    train: Part
    validation: Part | None
    test: Part | None
    classes: tuple[str, ...] | None
    mean: Any
    std: Any
    fingerprint: str
    target_mean: Tensor | None = None
    target_std: Tensor | None = None
    features: tuple[str, ...] | None = None
    channels_last: bool = True
    columns: Columns | None = None
    integers: bool = False
    image_size: int | None = None
    notes: tuple[str, ...] = ()
    target_kind: TargetKind | None = None
    names: tuple[str, ...] | None = None
    output_count: int | None = None
    label_name: str | None = None

    @property
    def target(self) -> TargetKind:
        """What targets are."""
        return self.target_kind or ("numbers" if self.classes is None else "classes")

    @property
    def input_shape(self) -> Any:
        """Shape of one example: (C, H, W) for images; of a tree the tree of its leaves' shapes."""
        return tree.shapes(self.train.x)

    @property
    def outputs(self) -> int:
        """How many outputs a model needs: one per class, or one per target."""
        if self.classes is not None:
            return len(self.classes)
        if self.output_count is not None:
            return self.output_count
        y = tree.leaves(self.train.y)[0]
        return 1 if y.dim() == 1 else int(y.shape[1])

    @property
    def categories(self) -> tuple[tuple[int, int], ...]:
        """Which numbers of an example are codes of categories, for a model that embeds them, and how many codes."""
        return () if self.columns is None else self.columns.categories

    @property
    def examples(self) -> int:
        """Number of training examples."""
        return len(self.train)

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


@dataclass(frozen=True)
class RawPart:
    """One part: x [N, ...], y [N] or [N, D] of any type, or trees of such arrays, names, and the SHA-256 of x and how
    often its images have each level, [C, levels], where the one who read it knows them.

    `reader` reads the examples of a random Dataset anew, see `data.map_style.Reader`.
    """

    x: Any
    y: Any
    source: Source
    digest: str | None = None
    reader: Any = None
    levels: np.ndarray | None = None


@dataclass(frozen=True)
class Raw:
    """The parts of one source by name, among train, validation and test.

    Attributes:
        name: of the source, for messages.
        parts: images uint8 [N, C, H, W] or numbers [N, ...] as in `Part`.
        classes: names of the classes, in which case y holds their indices; None where y holds labels as given.
        kind: of all parts.
        strict: a class without an example in some part is wrong, and not only worth a warning: true of folders,
            where someone made a folder for it.
        features: names of the columns of x [N, D]; None where they have none.
        columns: what the columns of a table hold, whose values x has as float64, NaN for a gap.
        label: name of the table's column of labels.
        target: what the labels are, where the reader had to find out.
        note: what is to be said of a table that was read by the columns of a model.
        integers: whether numbers came as whole ones, by type.
        image_size: side in pixels that was chosen for images of many sizes; None where none was.
        target_kind, names, output_count, label_name: as in `DataSet`.
    """

    name: str
    parts: dict[str, RawPart]
    classes: tuple[str, ...] | None = None
    kind: Literal["images", "numbers", "tree"] = "images"
    strict: bool = False
    features: tuple[str, ...] | None = None
    channels_last: bool = True
    columns: tuple[RawColumn, ...] | None = None
    label: str | None = None
    target: str | None = None
    note: str | None = None
    integers: bool = False
    image_size: int | None = None
    target_kind: TargetKind | None = None
    names: tuple[str, ...] | None = None
    output_count: int | None = None
    label_name: str | None = None


def column_order(title: str, given: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return where each wanted column stands among the given ones, by name.

    Raises:
        DataError: a column is missing, is there twice, or is none of the wanted.

    >>> column_order("b.csv", ["y", "x"], ["x", "y"])
    [1, 0]
    """
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    twice = [name for name in wanted if given.count(name) > 1]
    if missing or unknown or twice:
        fault, names = next(
            each for each in (("has no", missing), ("has an unknown", unknown), ("has twice the", twice)) if each[1]
        )
        listed = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if names[5:] else "")
        raise DataError(
            f"{title}: {fault} column {listed}",
            f"columns are matched by name, and the model takes {len(wanted)}: {', '.join(map(repr, wanted[:10]))}"
            + (", ..." if wanted[10:] else ""),
            "leave other columns out, and the column of labels" if not missing else nearest(missing[0], given),
        )
    return [list(given).index(name) for name in wanted]
