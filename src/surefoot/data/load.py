"""From whatever the user has to a checked `DataSet`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surefoot.data import cifar, digits, statistics
from surefoot.data.check import Checked, Target, examine
from surefoot.data.dataset import DataSet, Part
from surefoot.data.named import NAMED
from surefoot.data.problems import Problems
from surefoot.data.raw import Raw, RawPart
from surefoot.data.split import stratified, taken
from surefoot.data.store import sha256
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
) -> DataSet:
    """Return checked data from a name, a path or Python objects. Everything wrong with it is found here.

    Args:
        source: a named set ("digits", "cifar10"); the path of a folder of images by class, an .npz or a .csv; a pair
            (x, y) of arrays or tensors; a map-style PyTorch Dataset, read once from front to back, or a pair
            (train, test) of them; a mapping from "train", "validation" and "test" to pairs or Datasets; a `DataSet`,
            which is returned as it is.
        data_dir: folder or archive that already holds the named set.
        validation: share of the training part held out, stratified, in [0, 1); None: the data's own validation part,
            or 0.1 where it has none; 0: none.
        seed: of that split.
        image_size: side in pixels to which the images of a folder are brought: centre square, then resized.
        label: name of the label column of a .csv; None for the last.
        target: "classes", or "numbers" for a regression.

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
    checked = examine(raw, target, problems)
    problems.raise_any()
    return _assembled(checked, validation, seed)


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
    if path.suffix.lower() == ".npz":
        from surefoot.data import arrays

        return arrays.read_npz(path, problems, target)
    if path.suffix.lower() in (".csv", ".tsv"):
        from surefoot.data import table

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
    suffix = Path(source).suffix.lower()
    reads = {
        "data_dir": (source == "cifar10", "only cifar10 is looked for in data_dir"),
        "image_size": (
            source not in NAMED and Path(source).expanduser().is_dir(),
            "only a folder's images are resized",
        ),
        "label": (source not in NAMED and suffix in (".csv", ".tsv"), "only a .csv has a label column"),
    }
    for name, value in settings.items():
        if value is not None and not reads[name][0] and (source in NAMED or Path(source).expanduser().exists()):
            raise ConfigError(f"{name} = {value!r} with data {str(source)!r}", reads[name][1], f"leave {name} out")


def _title(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else "arrays"


def _assembled(checked: Checked, validation: float | None, seed: int) -> DataSet:
    """Split, measure and fingerprint."""
    raw, parts = checked.raw, dict(checked.raw.parts)
    train, digest = parts["train"], hashlib.sha256()
    for name in ("train", "validation", "test"):
        if name in parts:
            _digest(digest, name, parts[name])
    digest.update(repr(checked.classes).encode())
    if validation is not None or "validation" not in parts:
        parts.pop("validation", None)
        share = VALIDATION if validation is None else validation
        labels = train.y if checked.classes is not None else None
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
    final = {name: Part(_tensor(part.x), _tensor(part.y), part.source) for name, part in parts.items()}
    mean, std = (
        statistics.of_images(parts["train"].x) if raw.kind == "images" else statistics.of_numbers(parts["train"].x)
    )
    target_mean, target_std = (None, None) if checked.classes is not None else statistics.of_numbers(parts["train"].y)
    return DataSet(
        raw.name, raw.kind, final["train"], final.get("validation"), final.get("test"), checked.classes,
        mean, std, digest.hexdigest(), target_mean, target_std,
    )  # fmt: skip


def _digest(digest: Any, name: str, part: RawPart) -> None:
    digest.update(f"{name} {part.x.dtype} {part.x.shape} {part.digest or sha256(part.x)} ".encode())
    digest.update(f"{part.y.dtype} {part.y.shape} {sha256(part.y)}\n".encode())


def _taken(part: RawPart, index: np.ndarray) -> RawPart:
    return RawPart(taken(part.x, index), part.y[index], part.source.taken(index))


def _tensor(x: np.ndarray) -> Tensor:
    x = x if x.flags.c_contiguous else np.ascontiguousarray(x)
    return torch.from_numpy(x if x.flags.writeable else x.copy())
