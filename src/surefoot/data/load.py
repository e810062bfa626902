"""From whatever the user has to a checked `DataSet`: `load`; or to all that is wrong with it: `inspect`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surefoot.data import cifar, digits, npz, npz_names, tree
from surefoot.data.check import Problems, examine
from surefoot.data.dataset import DataSet, Part, Raw, RawPart, stratified, taken
from surefoot.data.labels import Target
from surefoot.data.named import NAMED
from surefoot.data.paths import is_table, shards_of
from surefoot.data.statistics import image_statistics, level_counts, level_statistics, number_statistics, number_type
from surefoot.data.store import sha256
from surefoot.data.suspicion import suspect
from surefoot.errors import ConfigError, DataError, nearest
from surefoot.switches import usual_switches

if TYPE_CHECKING:
    from surefoot.data.columns import Columns
    from surefoot.data.frame import Header

VALIDATION = 0.1
"""Share of the training part held out where the data has no validation part of its own. Chosen by hand."""


@usual_switches
def load(
    source: Any,
    *,
    data_dir: str | Path | None = None,
    validation: float | None = None,
    seed: int = 0,
    image_size: int | None = None,
    label: str | None = None,
    target: Target = "auto",
    header: Header = "auto",
    normalise: bool = True,
    standardise_targets: bool = True,
    workers: int | None = None,
) -> DataSet:
    """Return checked data from a name, a path or Python objects. Everything wrong with it is found here.

    Args:
        source: a named set ("digits", "cifar10"); the path of a folder of images by class, an .npz, an x.npy beside its
            y.npy, a table (.csv, .tsv, .parquet, or a folder of these last) or shards (`data.shards`); a pair (x, y) of
            arrays, tensors or frames of pandas or Polars; a stream (`data.streams`); a map-style PyTorch
            Dataset, or a DataLoader of one, read once, and for training anew in each epoch if it draws at random
            (`data.map_style`), or a pair (train, test) of them; a mapping from "train", "validation" and "test" to
            pairs or Datasets; a `DataSet`, which is returned as it is.
        data_dir: folder or archive that already holds the named set.
        validation: share of the training part held out, stratified, in [0, 1); None: the data's own validation part,
            or 0.1 where it has none; 0: none.
        seed: of that split.
        image_size: side in pixels to which the images of a folder are brought: centre square, then resized. None: as
            they are, or chosen where they differ in size, see `data.folder.chosen_side`.
        label: name of the label column of a table; None for the last.
        target: "classes", "numbers" for a regression, or "auto": as the labels look, see `data.labels.chosen_target`.
        header: whether the first row of a .csv names the columns: "yes", "no", or "auto": as it looks.
        normalise: whether inputs are brought to the training part's mean 0 and deviation 1; if not, numbers go to the
            model as they are, and images in [0, 1].
        standardise_targets: whether a model learns targets of a regression with mean 0 and deviation 1; what it answers
            is in their own unit all the same.
        workers: processes that read a Dataset ahead of the step where it draws at random; what they draw depends on
            their number in nothing. None: as many as the DataLoader has that was given, else 0: it is read in between.

    The columns of a table are typed as they are read, and what becomes of each is fitted on the training part after the
    split: see `DataSet.columns`, and `DataSet.notes` for what is to be said of it.

    Raises:
        DataError: something is wrong with the data; all of it is named by file or row.
        ConfigError: the name is unknown or a setting does not fit the data.

    >>> data = load("digits", validation=0.2)
    >>> data.input_shape, data.examples, data.outputs
    ((1, 8, 8), 1150, 10)
    """
    if isinstance(source, DataSet):
        return source
    if validation is not None and not 0 <= validation < 1:
        raise ConfigError(f"validation = {validation}", "validation must be in [0, 1)", "set validation = 0.1")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers = {workers}", "workers must be at least 0", "set workers = 0, or leave it out")
    problems = Problems(_title(source))
    raw = read(source, problems, data_dir=data_dir, image_size=image_size, label=label, target=target, header=header)
    problems.raise_any()
    raw = examine(raw, target, problems)
    problems.raise_any()
    if not (isinstance(source, str) and source in NAMED):
        suspect(raw, problems)
    if workers is not None and raw.parts["train"].reader is not None:
        raw.parts["train"] = replace(raw.parts["train"], reader=replace(raw.parts["train"].reader, workers=workers))
    whole = _assembled(raw, validation, seed, normalise, standardise_targets)
    told = whole.columns.notes() if whole.columns is not None else []
    notes = (*problems.notes, *told, *whole.notes, *problems.warnings)
    return replace(whole, notes=notes, image_size=raw.image_size)


def default_model(source: Any) -> str:
    """Return the shipped model for data where none is named: mlp for a table, an .npz or arrays of numbers, else cnn.

    >>> default_model("digits"), default_model("a.csv.gz"), default_model((np.zeros((4, 2)), [0, 1, 0, 1]))
    ('cnn', 'mlp', 'mlp')
    """
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        arrays_of = path.suffix.lower() in (".npz", ".npy") or (path.is_dir() and npz.array_files(path))
        return "mlp" if is_table(path) or arrays_of else "cnn"
    if isinstance(source, DataSet):
        return "mlp" if source.kind == "numbers" else "cnn"
    from surefoot.data import arrays

    return "mlp" if arrays.kind_of(source) == "numbers" else "cnn"


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        problems: everything that is wrong; empty if the data can be trained on.
        raw: the checked parts; None where they could not be read.
        classes: names of the classes; None for a regression, or where unknown.
        columns: of a table, fitted on all of its training part, before any of it is held out; None for other data.
    """

    problems: Problems
    raw: Raw | None
    classes: tuple[str, ...] | None
    columns: Columns | None = None

    def counts(self, part: str) -> dict[str, int]:
        """Return the number of examples of each class in a part; empty for a regression."""
        if self.raw is None or self.classes is None:
            return {}
        y = self.raw.parts[part].y
        if y.dtype != np.int64:
            return {}
        known = np.bincount(y[(y >= 0) & (y < len(self.classes))], minlength=len(self.classes))
        return dict(zip(self.classes, known.tolist(), strict=True))


def inspect(
    source: Any,
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    label: str | None = None,
    target: Target = "auto",
    header: Header = "auto",
) -> Inspection:
    """Return everything that can be found about data, in place of raising at what is wrong. Arguments as of `load`.

    >>> inspect("digits").counts("test")["0"]
    36
    """
    problems = Problems(_title(source))
    try:
        raw = read(
            source, problems, data_dir=data_dir, image_size=image_size, label=label, target=target, header=header
        )
    except DataError as error:
        problems.add(problems.source, error.given.removeprefix(f"{problems.source}: "), error.allowed, error.do)
        return Inspection(problems, None, None)
    if problems.count and not raw.parts:
        return Inspection(problems, None, raw.classes)
    raw = examine(raw, target, problems)
    suspect(raw, problems)
    columns = fitted(raw) if "train" in raw.parts else None
    _check_left(columns, problems)
    return Inspection(problems, raw, raw.classes, columns)


def read(
    source: Any,
    problems: Problems,
    *,
    data_dir: str | Path | None,
    image_size: int | None,
    label: str | None,
    target: Target,
    header: Header = "auto",
    columns: Columns | None = None,
) -> Raw:
    """Return the parts that a source holds, noting what is wrong in `problems`; a table by the columns of a model, if
    they are given.
    """
    if not isinstance(source, (str, Path)):
        from surefoot.data import arrays

        return arrays.read(source, problems, target, columns)
    asked = None if header == "auto" else header
    _check_settings(source, data_dir=data_dir, image_size=image_size, label=label, header=asked)
    if source == "digits":
        return digits.read()
    if source == "cifar10":
        return cifar.read(data_dir)
    if (paths := shards_of(source)) is not None:
        from surefoot.data import shards

        return shards.read(str(source), paths, problems, target, image_size, label)
    path = _path(source)
    if path.is_dir() and not is_table(path):
        from surefoot.data import archives, folder, masks

        if archives.holds_arrays(path):
            return archives.read_npy(path, problems, target, columns)
        if target in ("auto", "segmentation") and masks.holds_masks(path):
            return masks.read(path, problems, image_size)
        return folder.read(path, problems, image_size)
    if not path.is_dir():
        npz.check_file(path)
    if is_table(path):
        from surefoot.data import table  # with pyarrow, which nothing else needs

        return table.read(path, problems, label, target, header, columns)
    if path.suffix.lower() == ".npy":
        from surefoot.data import archives

        if npz_names.by_letter(path.stem) is None:
            raise DataError(
                f"{path}", "an .npy is one array, without labels",
                "name it x.npy and put y.npy beside it, or save both together with numpy.savez",
            )  # fmt: skip
        return archives.read_npy(path.parent, problems, target, columns)
    if path.suffix.lower() == ".npz":
        from surefoot.data import archives

        return archives.read_npz(path, problems, target, columns)
    raise DataError(
        f"{path}",
        "data is a folder of images by class, an .npz, a .csv, .tsv or .parquet, or shards (.tar)",
        "convert it to one of these",
    )


def _path(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if not path.exists():
        name = str(source)
        looks_like_path = isinstance(source, Path) or "/" in name or "." in name
        raise (
            DataError(f"{path}: there is no such file or folder", "data is a named set or a path", "check the path")
            if looks_like_path
            else ConfigError(f"data {name!r}", "this is neither a named set nor an existing path", nearest(name, NAMED))
        )
    return path


def _check_settings(source: str | Path, **settings: object) -> None:
    """Raise ConfigError for a setting that this source would not read."""
    of_shards = source not in NAMED and shards_of(source) is not None
    reads = {
        "data_dir": (source == "cifar10", "only cifar10 is looked for in data_dir"),
        "image_size": (
            source not in NAMED and (Path(source).expanduser().is_dir() or of_shards),
            "only a folder's images, and those of shards, are resized",
        ),
        "label": (source not in NAMED and (is_table(Path(source)) or of_shards), "only a table has a label column"),
        "header": (source not in NAMED and is_table(Path(source)), "only a table has a header"),
    }
    for name, value in settings.items():
        if value is not None and not reads[name][0] and (source in NAMED or Path(source).expanduser().exists()):
            raise ConfigError(f"{name} = {value!r} with data {str(source)!r}", reads[name][1], f"leave {name} out")


def _title(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else "arrays"


def _assembled(raw: Raw, validation: float | None, seed: int, normalise: bool, standardise_targets: bool) -> DataSet:
    """Split, measure and fingerprint."""
    parts, said = dict(raw.parts), list[str]()
    train, digest = parts["train"], hashlib.sha256()
    for name in ("train", "validation", "test"):
        if name in parts:
            _digest(digest, name, parts[name])
    digest.update(repr(raw.classes).encode())
    if raw.columns is not None:
        digest.update(repr([(column.name, column.reading.kind, column.levels) for column in raw.columns]).encode())
    if validation is not None or "validation" not in parts:
        parts.pop("validation", None)
        share = VALIDATION if validation is None else validation
        labels, count = train.y if raw.classes is not None else None, len(tree.leaves(train.y)[0])
        kept, held = stratified(labels, count, share, seed)
        if validation and not len(held):
            raise ConfigError(
                f"validation = {share} of {count} training examples",
                "that is less than one example",
                "set validation to a larger share, or to 0",
            )
        if share > 0 and not len(held):
            said.append(_none_held_out(labels, count, seed))
        if len(held):
            digest.update(held.tobytes())
            parts["train"], parts["validation"] = _taken(train, kept), _taken(train, held)
            if train.levels is not None:  # counting the levels of the smaller part says those of the other
                rest = train.levels - level_counts(parts["validation"].x)
                parts["train"] = replace(parts["train"], levels=rest)
    columns, notes = fitted(replace(raw, parts=parts)), []
    if columns is not None and raw.columns is not None:
        notes = _new_gaps(columns, parts)
        matrices = {name: columns.encode(raw.columns, part.x) for name, part in parts.items()}
        _check_left(columns, left := Problems(raw.name))
        left.raise_any()
        wanted = number_type(*matrices.values())
        parts = {name: replace(part, x=matrices[name].astype(wanted)) for name, part in parts.items()}
    final = {
        name: Part(tree.of_arrays(part.x), tree.of_arrays(part.y), part.source, part.reader)
        for name, part in parts.items()
    }
    levels = parts["train"].levels
    moments = {name: _statistics(raw.kind, leaf, levels) for name, leaf in tree.named_leaves(parts["train"].x)}
    mean, std = (tree.from_named(parts["train"].x, {name: each[i] for name, each in moments.items()}) for i in (0, 1))
    if columns is not None:  # codes, and what is 0 or 1, are not standardised
        mean[torch.from_numpy(columns.plain)], std[torch.from_numpy(columns.plain)] = 0, 1
    if not normalise:
        mean, std = (
            tree.map_leaves(lambda leaf, value=value: None if leaf is None else torch.full_like(leaf, value), each)
            for each, value in ((mean, 0), (std, 1))
        )
    standardises = raw.classes is None and raw.target_kind is None and standardise_targets
    target_mean, target_std = number_statistics(parts["train"].y) if standardises else (None, None)
    return DataSet(
        raw.name, raw.kind, final["train"], final.get("validation"), final.get("test"), raw.classes,
        mean, std, digest.hexdigest(), target_mean, target_std, raw.features, integers=raw.integers, columns=columns,
        notes=(*notes, *said), target_kind=raw.target_kind, names=raw.names, output_count=raw.output_count,
        label_name=raw.label_name,
    )  # fmt: skip


def _statistics(kind: str, x: np.ndarray, levels: np.ndarray | None) -> tuple[Any, Any]:
    """Return mean and deviation of one array; None of whole numbers in a tree: codes, masks or counts, they stay.

    So do 0 and 1 in floating point, as masks are: 0 must be 0 for a model that multiplies by it.
    """
    if levels is not None:
        return level_statistics(levels)
    if kind == "tree" and x.dtype.kind in "ib":
        return None, None
    pieces = (x[at : at + 4096] for at in range(0, len(x), 4096))
    if kind == "tree" and x.dtype.kind == "f" and all(np.isin(piece, (0, 1)).all() for piece in pieces):
        return torch.zeros(x.shape[1:], dtype=torch.float64), torch.ones(x.shape[1:], dtype=torch.float64)
    of_images = kind == "images" or (kind == "tree" and x.dtype.kind == "u")
    return image_statistics(x) if of_images else number_statistics(x)


def _none_held_out(labels: np.ndarray | None, examples: int, seed: int) -> str:
    """Return what is said where the default share is less than one example, or every class would be left without."""
    said = "no example is held out for validation"
    if more := len(stratified(labels, examples, 0.5, seed)[1]):
        return f"{said}, since {VALIDATION:g} of {examples} is less than one; validation = 0.5 holds out {more}"
    return f"{said}, since {'no class has a second one' if labels is not None else 'there is one alone'}"


def fitted(raw: Raw) -> Columns | None:
    """Return the columns of a table, fitted on its training part; None for other data."""
    if raw.columns is None:
        return None
    from surefoot.data.columns import Columns

    return Columns.fit(raw.columns, raw.parts["train"].x, named=raw.features is not None, label=raw.label)


def _check_left(columns: Columns | None, problems: Problems) -> None:
    if columns is not None and not columns.names and not problems.count:
        problems.add("columns", "no column is left to learn from", "; ".join(columns.notes()), "add features")


def _new_gaps(columns: Columns, parts: dict[str, RawPart]) -> list[str]:
    """Return what is to be said of gaps in columns where the training part has none."""
    said = []
    for name, part in parts.items():
        gaps = np.isnan(part.x).sum(axis=0)
        there = [c.name for c, count in zip(columns.columns, gaps, strict=True) if count and not c.gaps]
        if there and name != "train":
            listed = ", ".join(map(repr, there))
            said.append(f"{name}: {int(gaps.sum())} gaps in {listed}, where the training part has none, are imputed")
    return said


def _digest(digest: Any, name: str, part: RawPart) -> None:
    for title, x in tree.named_leaves(part.x):
        digest.update(f"{name} {title and title + ' '}{x.dtype} {x.shape} {part.digest or sha256(x)} ".encode())
    for title, y in tree.named_leaves(part.y):
        digest.update(f"{title and title + ' '}{y.dtype} {y.shape} {sha256(y)}\n".encode())


def _taken(part: RawPart, index: np.ndarray) -> RawPart:
    reader = None if part.reader is None else part.reader.taken(index)
    x, y = (tree.map_leaves(lambda leaf: taken(leaf, index), each) for each in (part.x, part.y))
    return RawPart(x, y, part.source.taken(index), reader=reader)
