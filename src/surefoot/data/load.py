"""From whatever the user has to a checked `DataSet`: `load`; or to all that is wrong with it: `inspect`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surefoot.data import cifar, digits, npz, table
from surefoot.data.batches import image_statistics, number_statistics
from surefoot.data.check import SHOWN, Problems, Target, examine
from surefoot.data.dataset import DataSet, Part, Raw, RawPart, stratified, taken
from surefoot.data.named import NAMED
from surefoot.data.store import sha256
from surefoot.data.table import is_table
from surefoot.errors import ConfigError, DataError, nearest

VALIDATION = 0.1
"""Share of the training part held out where the data has no validation part of its own. Chosen by hand."""


def load(
    source: Any,
    *,
    data_dir: str | Path | None = None,
    validation: float | None = None,
    seed: int = 0,
    image_size: int | None = None,
    label: str | None = None,
    target: Target = "classes",
    normalise: bool = True,
    standardise_targets: bool = True,
) -> DataSet:
    """Return checked data from a name, a path or Python objects. Everything wrong with it is found here.

    Args:
        source: a named set ("digits", "cifar10"); the path of a folder of images by class, an .npz or a .csv; a pair
            (x, y) of arrays or tensors; a map-style PyTorch Dataset, or a DataLoader of one, read once, and for
            training anew in each epoch if it draws at random (`data.map_style`), or a pair (train, test) of them; a
            mapping from "train", "validation" and "test" to pairs or Datasets; a `DataSet`, which is returned as it is.
        data_dir: folder or archive that already holds the named set.
        validation: share of the training part held out, stratified, in [0, 1); None: the data's own validation part,
            or 0.1 where it has none; 0: none.
        seed: of that split.
        image_size: side in pixels to which the images of a folder are brought: centre square, then resized. None: as
            they are, or chosen where they differ in size, see `data.folder.chosen_side`.
        label: name of the label column of a .csv; None for the last.
        target: "classes", or "numbers" for a regression.
        normalise: whether inputs are brought to the training part's mean 0 and deviation 1; if not, numbers go to the
            model as they are, and images in [0, 1].
        standardise_targets: whether a model learns targets of a regression with mean 0 and deviation 1; what it answers
            is in their own unit all the same.

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
    problems = Problems(_title(source))
    raw = read(source, problems, data_dir=data_dir, image_size=image_size, label=label, target=target)
    problems.raise_any()
    raw = examine(raw, target, problems)
    problems.raise_any()
    whole = _assembled(raw, validation, seed, normalise, standardise_targets)
    return replace(whole, notes=(*problems.notes, *problems.warnings), image_size=raw.image_size)


def default_model(source: Any) -> str:
    """Return the shipped model for data where none is named: mlp for a table, an .npz or arrays of numbers, else cnn.

    >>> default_model("digits"), default_model("a.csv.gz"), default_model((np.zeros((4, 2)), [0, 1, 0, 1]))
    ('cnn', 'mlp', 'mlp')
    """
    if isinstance(source, (str, Path)):
        return "mlp" if is_table(Path(source)) or Path(source).suffix.lower() == ".npz" else "cnn"
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
    """

    problems: Problems
    raw: Raw | None
    classes: tuple[str, ...] | None

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
    target: Target = "classes",
) -> Inspection:
    """Return everything that can be found about data, in place of raising at what is wrong. Arguments as of `load`.

    >>> inspect("digits").counts("test")["0"]
    36
    """
    problems = Problems(_title(source))
    try:
        raw = read(source, problems, data_dir=data_dir, image_size=image_size, label=label, target=target)
    except DataError as error:
        problems.add(problems.source, error.given.removeprefix(f"{problems.source}: "), error.allowed, error.do)
        return Inspection(problems, None, None)
    if problems.count and not raw.parts:
        return Inspection(problems, None, raw.classes)
    raw = examine(raw, target, problems)
    _warn_of_twins(raw, problems)
    return Inspection(problems, raw, raw.classes)


def read(
    source: Any,
    problems: Problems,
    *,
    data_dir: str | Path | None,
    image_size: int | None,
    label: str | None,
    target: Target,
) -> Raw:
    """Return the parts that a source holds, noting what is wrong in `problems`."""
    if not isinstance(source, (str, Path)):
        from surefoot.data import arrays

        return arrays.read(source, problems, target)
    _check_settings(source, data_dir=data_dir, image_size=image_size, label=label)
    if source == "digits":
        return digits.read()
    if source == "cifar10":
        return cifar.read(data_dir)
    return _read_path(_path(source), problems, image_size, label, target)


def _read_path(path: Path, problems: Problems, image_size: int | None, label: str | None, target: Target) -> Raw:
    if path.is_dir():
        from surefoot.data import folder

        return folder.read(path, problems, image_size)
    npz.check_file(path)
    if path.suffix.lower() == ".npy":
        raise DataError(f"{path}", "an .npy is one array, without labels", "save x and y together with numpy.savez")
    if path.suffix.lower() == ".npz":
        from surefoot.data import arrays

        return arrays.read_npz(path, problems, target)
    if is_table(path):
        return table.read(path, problems, label, target)
    raise DataError(f"{path}", "data is a folder of images by class, an .npz or a .csv", "convert it to one of these")


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
    reads = {
        "data_dir": (source == "cifar10", "only cifar10 is looked for in data_dir"),
        "image_size": (
            source not in NAMED and Path(source).expanduser().is_dir(),
            "only a folder's images are resized",
        ),
        "label": (source not in NAMED and is_table(Path(source)), "only a .csv has a label column"),
    }
    for name, value in settings.items():
        if value is not None and not reads[name][0] and (source in NAMED or Path(source).expanduser().exists()):
            raise ConfigError(f"{name} = {value!r} with data {str(source)!r}", reads[name][1], f"leave {name} out")


def _title(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else "arrays"


def _assembled(raw: Raw, validation: float | None, seed: int, normalise: bool, standardise_targets: bool) -> DataSet:
    """Split, measure and fingerprint."""
    parts = dict(raw.parts)
    train, digest = parts["train"], hashlib.sha256()
    for name in ("train", "validation", "test"):
        if name in parts:
            _digest(digest, name, parts[name])
    digest.update(repr(raw.classes).encode())
    if validation is not None or "validation" not in parts:
        parts.pop("validation", None)
        share = VALIDATION if validation is None else validation
        labels = train.y if raw.classes is not None else None
        kept, held = stratified(labels, len(train.y), share, seed)
        if share > 0 and not len(held):
            origin = " (the default)" if validation is None else ""
            raise ConfigError(
                f"validation = {share}{origin} of {len(train.y)} training examples",
                "that is less than one example",
                "set validation to a larger share, or to 0",
            )
        if len(held):
            digest.update(held.tobytes())
            parts["train"], parts["validation"] = _taken(train, kept), _taken(train, held)
    final = {name: Part(_tensor(part.x), _tensor(part.y), part.source, part.reader) for name, part in parts.items()}
    mean, std = image_statistics(parts["train"].x) if raw.kind == "images" else number_statistics(parts["train"].x)
    if not normalise:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    standardises = raw.classes is None and standardise_targets
    target_mean, target_std = number_statistics(parts["train"].y) if standardises else (None, None)
    return DataSet(
        raw.name, raw.kind, final["train"], final.get("validation"), final.get("test"), raw.classes,
        mean, std, digest.hexdigest(), target_mean, target_std, raw.features, integers=raw.integers,
    )  # fmt: skip


def _digest(digest: Any, name: str, part: RawPart) -> None:
    digest.update(f"{name} {part.x.dtype} {part.x.shape} {part.digest or sha256(part.x)} ".encode())
    digest.update(f"{part.y.dtype} {part.y.shape} {sha256(part.y)}\n".encode())


def _taken(part: RawPart, index: np.ndarray) -> RawPart:
    reader = None if part.reader is None else part.reader.taken(index)
    return RawPart(taken(part.x, index), part.y[index], part.source.taken(index), reader=reader)


def _tensor(x: np.ndarray) -> Tensor:
    x = x if x.flags.c_contiguous else np.ascontiguousarray(x)
    return torch.from_numpy(x if x.flags.writeable else x.copy())


def _warn_of_twins(raw: Raw, problems: Problems) -> None:
    """Warn of examples that are in two parts, and of equal examples with different labels, by their SHA-256."""
    seen: dict[bytes, tuple[str, int]] = {}
    across: dict[tuple[str, str], list[str]] = {}
    torn: list[str] = []
    for name, part in raw.parts.items():
        for row in range(len(part.x)):
            key = hashlib.sha256(np.ascontiguousarray(part.x[row]).data).digest()
            other, at = seen.setdefault(key, (name, row))
            pair = f"{part.source.name_of(row)} = {raw.parts[other].source.name_of(at)}"
            if other != name:
                across.setdefault((other, name), []).append(pair)
            elif at != row and raw.classes is not None and not np.array_equal(part.y[row], part.y[at]):
                torn.append(pair)
    for (first, second), pairs in across.items():
        problems.warn(f"{len(pairs)} examples of {second} are also in {first}: {_listed(pairs)}")
    if torn:
        problems.warn(f"{len(torn)} equal examples have different labels: {_listed(torn)}")


def _listed(pairs: list[str]) -> str:
    return ", ".join(pairs[:SHOWN]) + (f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else "")
