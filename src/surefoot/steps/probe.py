"""From what a person has, a model with data and a loss, to the task that the probes train copies of."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from surefoot.data import tree
from surefoot.data.check import Problems
from surefoot.data.dataset import DataSet, Part, RawPart, Source, stratified
from surefoot.data.load import VALIDATION, load, read
from surefoot.data.statistics import image_statistics, number_statistics
from surefoot.data.targets import LABEL_NAMES, label_name, special_target
from surefoot.errors import ConfigError, DataError
from surefoot.models.build import Factory
from surefoot.seeds import torch_stream
from surefoot.steps.answers import joined
from surefoot.steps.untouched import untouched
from surefoot.training.call import Forward, LossFn
from surefoot.training.losses import Loss
from surefoot.training.make import task
from surefoot.training.optimizer import OptimizerFactory
from surefoot.training.outputs import described
from surefoot.training.start_from import found_place, read_origin, started_from
from surefoot.training.task import Task

MOST_EXAMPLES = 20_000
"""Examples read from a loader: enough for every probe, and a minute of a slow loader. Chosen by hand."""


def probe_task(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | str | None = None,
    *,
    augment: Any = (),
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    optimizer: OptimizerFactory | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    most_examples: int = MOST_EXAMPLES,
    from_run: Any = None,
) -> Task:
    """Return the task for a probe; the model is copied and the data is read once.

    Args:
        model: a shipped name, "package.module:factory", a factory, or a module.
        data: as in `probe_data`.
        loss, augment, forward, loss_fn, optimizer, seed, device, precision, threads: as in `surefoot.task`.
        most_examples: as in `probe_data`.
        from_run: a run or a file from whose weights it starts, as in `Config`; None for the model's own.

    Raises:
        ConfigError, DataError: as `probe_data` and `surefoot.task`.

    >>> probe_task("linear", "digits").classifies
    True
    """
    made = task(
        probe_data(data, seed=seed, most_examples=most_examples),
        model, loss=loss, augment=augment, forward=forward, loss_fn=loss_fn, optimizer=optimizer, seed=seed,
        device=device, precision=precision, threads=threads,
    )  # fmt: skip
    if from_run is None:
        return made
    return started_from(made, read_origin(found_place(from_run, "runs")), data if isinstance(data, str) else None)


def probe_data(data: Any, *, seed: int = 0, most_examples: int = MOST_EXAMPLES) -> DataSet:
    """Return checked data from whatever a person has.

    The batches of a loader are taken as they are: they are not normalised again, since its owner's training does not
    either. A tenth is held out for validation. Loader and random states are left as they were.

    Args:
        data: whatever `surefoot.load` takes; or a DataLoader, or any collection of batches (x [B, ...], y) that can be
            gone through more than once. y is whole numbers [B] for classes, else numbers [B] or [B, D]; x and y may be
            trees of arrays, and a batch a mapping that holds its targets: `surefoot.load` tells what they are.
        seed: of the split and of what a loader draws.
        most_examples: read from a loader, at least 2.

    Raises:
        ConfigError: the batches can be gone through only once, or are not pairs of arrays.
        DataError: as `surefoot.load`; or the loader is empty or holds values that are not finite.

    >>> batches = [(torch.randn(4, 3), torch.arange(4) % 2) for _ in range(10)]
    >>> found = probe_data(batches)
    >>> found.examples, len(found.validation), found.classes, found.std.tolist()
    (36, 4, ('0', '1'), [1.0, 1.0, 1.0])
    """
    if _is_iterator(data):
        raise ConfigError(
            f"data of type {type(data).__name__}, which can be gone through only once",
            "a probe reads batches and leaves the loader where it was, which an iterator cannot be",
            "pass the DataLoader itself, or a list of its batches",
        )
    if not _holds_batches(data):
        return load(data)
    with untouched(data), torch_stream(seed, "read-loader"):
        x, y, label = _read(data, most_examples)
    x_arrays, y_arrays = (tree.map_leaves(lambda leaf: leaf.numpy(), side) for side in (x, y))
    if tree.is_leaf(x) and tree.is_leaf(y) and special_target("auto", x_arrays, y_arrays) is None:
        return _as_it_is(x, y, type(data).__name__, seed)
    given = {**x_arrays, label: y_arrays} if label is not None else (x_arrays, y_arrays)
    found = load(given, seed=seed, normalise=False, standardise_targets=False)
    return dataclasses.replace(found, name=type(data).__name__)


def lenient_data(data: Any, *, seed: int = 0) -> tuple[DataSet, str | None]:
    """Return the data, and why `surefoot.load` refuses it where that is only for labels that are numbered with gaps.

    Raises:
        ConfigError, DataError: as `probe_data`, for every other mistake.

    >>> found, refused = lenient_data((np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 20 * 3 + 1))
    >>> int(found.train.y.min()), len(found.classes), refused is not None
    (1, 59, True)
    """
    try:
        return probe_data(data, seed=seed), None
    except DataError as error:
        part = _train_part(data)
        if part is None or not (tree.is_leaf(part.y) and tree.is_leaf(part.x)):
            raise
        if part.y.dtype.kind not in "iu" or part.y.ndim != 1 or not len(part.y) or part.y.min() < 1:
            raise
        x = torch.from_numpy(np.array(part.x))
        found = _as_it_is(x, torch.from_numpy(part.y.astype(np.int64)), "arrays", seed)
        if x.dtype == torch.uint8:
            mean, std = image_statistics(part.x)
            return dataclasses.replace(found, kind="images", mean=mean, std=std), str(error)
        mean, std = number_statistics(part.x)
        return dataclasses.replace(found, mean=mean, std=std), str(error)


def _train_part(data: Any) -> RawPart | None:
    """Return the training part of data in memory or in a file, unchecked; None where it has none."""
    problems = Problems("data")
    try:
        raw = read(data, problems, data_dir=None, image_size=None, label=None, target="classes")
    except (ConfigError, DataError):
        return None
    return raw.parts.get("train") if raw.classes is None else None


def _is_iterator(data: Any) -> bool:
    return hasattr(data, "__next__")


def _holds_batches(data: Any) -> bool:
    """Return whether this is gone through batch by batch, and not what `surefoot.load` reads."""
    if isinstance(data, DataLoader):
        return True
    if isinstance(data, (list, tuple)):
        batches = len(data) > 0 and all(_is_batch(each) for each in data[:2])
        return batches and (isinstance(data, list) or len(data) != 2 or _alike(*data))
    known = isinstance(data, (str, bytes, Path, dict, DataSet, Tensor, np.ndarray)) or hasattr(data, "__getitem__")
    return not known and isinstance(data, Iterable)


def _is_batch(each: Any) -> bool:
    """Return whether this is (x [B, D, ...], y [B, ...]) or a mapping of such, where an example of a Dataset would have
    no axis B.
    """
    try:
        x, y, _ = _sides(each)
    except ValueError:
        return False
    leaves = [*tree.leaves(x), *tree.leaves(y)]
    if not all(isinstance(leaf, (Tensor, np.ndarray)) and leaf.ndim >= 1 for leaf in leaves):
        return False
    return max(leaf.ndim for leaf in tree.leaves(x)) >= 2 and len({len(leaf) for leaf in leaves}) == 1


def _alike(first: Any, second: Any) -> bool:
    """Return whether a pair may be two batches of one data set; else its trees are the inputs and the targets."""
    forms = [tree.to_plain(tree.as_tree(each), lambda leaf: leaf.shape[1:]) for each in (first, second)]
    return forms[0] == forms[1]


def _sides(batch: Any) -> tuple[Any, Any, str | None]:
    """Return x and y of a batch as trees, and the name of y where it is a mapping.

    Raises:
        ValueError: it is no batch.
    """
    if isinstance(batch, Mapping) and (label := label_name(batch)) is not None and len(batch) > 1:
        x = {name: value for name, value in batch.items() if name != label}
        return tree.as_tree(x), tree.as_tree(batch[label]), label
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        x, y = batch
        return *(tree.as_tree(each) if isinstance(each, (Mapping, tuple)) else each for each in (x, y)), None
    raise ValueError


def _read(data: Iterable[Any], most_examples: int) -> tuple[Any, Any, str | None]:
    """Return x [N, ...] in float32, or int64, and y [N, ...] of the first batches, N at most `most_examples`, as trees,
    and the name of y where batches are mappings.
    """
    xs, ys, examples, label = [], [], 0, None
    for number, batch in enumerate(data):
        try:
            *sides, label = _sides(batch)
        except ValueError:
            raise ConfigError(
                f"batch {number} of the data is {type(batch).__name__}"
                + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""),
                f"a batch is a pair (x, y) of tensors or arrays, or a mapping with one of {', '.join(LABEL_NAMES)}",
                "wrap the loader so that it yields such pairs",
            ) from None
        x, y = (tree.map_leaves(lambda leaf: _tensor(leaf, number), side) for side in sides)  # noqa: B023  # called now
        leaves = [*tree.leaves(x), *tree.leaves(y)]
        ragged = any(leaf.dim() == 0 for leaf in leaves) or len({len(leaf) for leaf in leaves}) != 1
        if ragged or (xs and tree.shapes(x) != tree.shapes(xs[0])):
            raise ConfigError(
                f"batch {number} of the data has x {described(x)} and y {described(y)}",
                "x and y have one entry per example, [B, ...], and all examples one shape",
                "collect examples into batches with a DataLoader",
            )
        xs.append(tree.map_leaves(_standard, x))
        ys.append(y)
        examples += len(leaves[0])
        if examples >= most_examples:
            break
    if examples < 2:
        raise DataError(f"the data has {examples} examples", "probes need at least 2", "check the loader")
    return *(tree.map_leaves(lambda leaf: leaf[:most_examples], joined(side)) for side in (xs, ys)), label


def _standard(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() or x.dtype in (torch.uint8, torch.bool) else x.long()


def _tensor(value: Any, number: int) -> Tensor:
    try:
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))
    except (TypeError, ValueError):
        raise ConfigError(
            f"batch {number} of the data holds {type(value).__name__}",
            "a batch is a pair (x, y) of tensors or arrays of numbers",
            "convert it in the loader",
        ) from None
    return tensor.detach().cpu().clone()  # a loader may hand out the same memory every time


def _as_it_is(x: Tensor, y: Tensor, name: str, seed: int) -> DataSet:
    """Return examples as data with mean 0 and deviation 1, so that normalising leaves them alone."""
    bad = (~torch.isfinite(x if x.is_floating_point() else x.float())).reshape(len(x), -1).any(1).nonzero()
    if len(bad):
        raise DataError(f"example {int(bad[0])} of the data holds a value that is not finite",
                        "all values must be finite", "mend or remove it")  # fmt: skip
    whole = not y.is_floating_point() and y.dim() == 1
    y = y.long() if whole else y if not y.is_floating_point() else y.float()
    classes = tuple(map(str, range(max(2, int(y.max()) + 1)))) if whole else None
    kept, held = stratified(y.numpy() if whole else None, len(y), VALIDATION, seed)
    digest = hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest()

    def part(rows: np.ndarray) -> Part:
        return Part(x[torch.from_numpy(rows)], y[torch.from_numpy(rows)], Source(index=rows))

    shape = (*x.shape[1:2], *(1 for _ in x.shape[2:]))
    return DataSet(
        name, "numbers", part(kept), part(held) if len(held) else None, None, classes,
        torch.zeros(shape), torch.ones(shape), digest, integers=not x.is_floating_point() and x.dtype != torch.uint8,
    )  # fmt: skip
