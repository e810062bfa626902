"""`evaluate`: the scores of a finished run on labelled data, its own or other, brought to its classes and shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.config import Tta
from surefoot.data import tree
from surefoot.data.check import Problems
from surefoot.data.dataset import DataSet, Part, RawPart, column_order
from surefoot.data.load import read
from surefoot.data.mapped import Mapped, pieces
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.data.named import NAMED
from surefoot.data.paths import is_table
from surefoot.data.statistics import number_type
from surefoot.data.targets import typed
from surefoot.errors import ConfigError, DataError, nearest
from surefoot.inference.finished import FinishedRun, Which, data_of_run, finished_run, holder_of
from surefoot.inference.form import as_channels, as_pixels, expected_leaves, matched, not_finite
from surefoot.inference.several import task_scores
from surefoot.models.build import Factory
from surefoot.record import store
from surefoot.record.baseline import Baseline, class_baseline
from surefoot.record.intervals import Difference
from surefoot.record.number_scores import NumberScores, number_scores
from surefoot.record.scores import Scores, by_example, class_scores
from surefoot.record.stored import IN_MEMORY
from surefoot.record.task_scores import TaskScores
from surefoot.record.test_time import TestTimeScores
from surefoot.switches import usual_switches
from surefoot.training.call import Forward, LossFn
from surefoot.training.integers import Outside
from surefoot.training.losses import Loss
from surefoot.training.run import Result
from surefoot.training.weights import Trained

if TYPE_CHECKING:
    from surefoot.data.columns import Columns

PARTS = ("train", "validation", "test")
_SHOWN = 5


@usual_switches
def evaluate(
    run: str | Path | Result,
    data: Any = None,
    *,
    part: str | None = None,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    model: nn.Module | Factory | None = None,
    forward: Forward | str | None = None,
    loss: Loss | str | None = None,
    loss_fn: LossFn | str | None = None,
    device: str | None = None,
    weights: Which | None = None,
    tta: Tta = "none",
) -> Scores | TaskScores:
    """Return the scores of a finished run on a part of its own data, or on other labelled data.

    Classes are matched by name, and so are several inputs. Of other data that has no parts, all is scored. Targets that
    are neither classes nor numbers, and a `loss_fn`, have a loss and what goes with their kind: `TaskScores`.

    Args:
        run: name of the run, its folder, or the result of `train`.
        data: whatever `load` takes; None for the data that the run was trained on.
        part: "train", "validation" or "test". None is the test part; of a run without one the validation part, on which
            choices were made, and without that the training part, as the scores then say.
        data_dir: folder or archive that holds the named set, if not where it was.
        runs_dir: where runs lie.
        model: the architecture, for a run whose model was given as an object; it is copied.
        forward, loss, loss_fn: those of the run, where they were given as objects; the result of `train` has them.
        device: as in `Config`; None for the run's, or the CPU where this machine lacks that.
        weights: "best" by the validation part, or "last"; None for those of which the run's result speaks.
        tta: test-time augmentation of images: "flip" or "flip-shift", see `training.test_time`. What it gets comes
            beside the plain scores, as `scores.tta`.

    Raises:
        ConfigError: no such part, weights or views; or the run's data was given as an object, and is not given here.
        DataError: the data cannot be used, has changed, or has a class that the run does not know.
        CheckpointError: the run does not exist, is unfinished or damaged, or had functions that are not given here.

    >>> import surefoot, tempfile
    >>> from surefoot.training.open import train
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scores = evaluate(train("digits", "linear", epochs=3, lr=0.1, runs_dir=folder))
    >>> scores.examples, scores.interval[0] < scores.accuracy < scores.interval[1]
    (359, True)
    """
    if part is not None and part not in PARTS:
        raise ConfigError(f"part = {part!r}", f"part must be one of {', '.join(PARTS)}", "leave it out for test")
    finished = finished_run(
        run, runs_dir, model, device, weights, forward=forward, loss=loss, loss_fn=loss_fn, scored=True
    )
    viewed = finished.with_views(tta)
    if data is None and finished.config.data == IN_MEMORY:
        raise ConfigError(
            f"{finished.folder} was trained on data given in Python",
            "its data is not on disk",
            "give the data to evaluate it on",
        )
    if (of_run := data_of_run(finished, data, data_dir)) is not None:
        if (columns := finished.trained.columns) is not None and not columns.categories:
            from surefoot.data.columns import unembedded  # with pyarrow, which nothing but a table needs

            of_run = unembedded(of_run)
        part = part or next(name for name in reversed(PARTS) if name in of_run.parts)
        title, chosen = _part_of_run(finished.config.data, of_run, part)
    else:
        title, chosen = _part_of_data(data, finished, data_dir, part or "test")
    said = "; ".join(each for each in (title, finished.of_weights(weights), finished.doubt) if each is not None)
    scores = _scored(finished, chosen, part or "test", title, said)
    if viewed is finished:
        return scores
    return replace(scores, tta=_of_views(tta, _scored(viewed, chosen, part or "test", title, said)))


def _scored(finished: FinishedRun, chosen: Part, part: str, title: str, said: str) -> Scores | TaskScores:
    try:
        if finished.trained.target not in ("classes", "numbers") or finished.task.loss_fn is not None:
            return task_scores(finished, chosen, title, said)
        outputs, targets = finished.outputs(chosen.x), chosen.y
    except Outside as outside:
        at = holder_of(chosen.x, outside)
        raise outside.error(title if at is None else chosen.name_of(at)) from None
    if finished.trained.classes is None:
        return number_scores(outputs.numpy(), targets.numpy(), said)
    scores = class_scores(outputs.numpy(), targets.numpy(), finished.trained.classes, said)
    beside = _beside(finished, outputs.numpy(), targets.numpy(), part)
    return replace(scores, baseline=None if beside is None else replace(beside, auc=scores.auc))


def _of_views(tta: Tta, found: Scores | TaskScores) -> TestTimeScores:
    """Return what is told of scores with test-time augmentation, each with its interval."""
    if isinstance(found, NumberScores):
        named = {"rmse": (found.rmse, found.rmse_interval), "mae": (found.mae, found.mae_interval)}
        named |= {} if found.r2 is None else {"r2": (found.r2, found.r2_interval)}
        ends = {name: (value, interval or (-math.inf, math.inf)) for name, (value, interval) in named.items()}
        scores = {name: Difference(value=value, low=low, high=high) for name, (value, (low, high)) in ends.items()}
        return TestTimeScores(tta=tta, loss=None, scores=scores)
    if isinstance(found, TaskScores):
        scores = {} if found.accuracy is None else {"accuracy": found.accuracy}
        return TestTimeScores(tta=tta, loss=found.loss, scores=scores, metrics=found.metrics)
    accuracy = Difference(value=found.accuracy, low=found.interval[0], high=found.interval[1])
    return TestTimeScores(tta=tta, loss=found.loss, scores={"accuracy": accuracy})


def _beside(finished: FinishedRun, outputs: np.ndarray, y: np.ndarray, part: str) -> Baseline | None:
    """Return what always answering the training part's most frequent class gets; None of a run that does not say."""
    result = finished.folder / store.RESULT
    recorded = store.read_sealed(result).get("baseline") if result.is_file() else None
    if not isinstance(recorded, dict) or tuple(recorded.get("prior") or ()) != finished.trained.classes:
        return None
    guessed, _, log_true, _ = by_example(outputs, y)
    weighted = recorded["measure"] == "balanced accuracy"
    return class_baseline(part, guessed == y, log_true, y, recorded["prior"], weighted=weighted)


def _part_of_run(title: str, data: DataSet, part: str) -> tuple[str, Part]:
    """Return a part of the data that the run was trained on, and what to call it.

    Raises:
        DataError: it has no such part.
    """
    if part not in data.parts:
        raise _no_part(title, part, data.parts)
    missing = "" if "test" in data.parts else "there is no test part; "
    remarks = {
        "validation": f" ({missing}choices may have been made on it)",
        "train": f" ({'the model' if len(data.parts) > 1 else 'there is no other; the model'} learned from it)",
    }
    return f"{title}, {part} part{remarks.get(part, '')}", data.parts[part]


def _part_of_data(source: Any, finished: FinishedRun, data_dir: str | Path | None, part: str) -> tuple[str, Part]:
    """Return what to score of data that was given, and what to call it: its part, or all of it if it has no parts.

    Unlike data to train on it may lack classes, and need not vary.

    Raises:
        DataError: it cannot be read, has no such part, or does not fit the run's classes or shape.
    """
    trained, config = finished.trained, finished.config
    if isinstance(source, DataSet):
        name, chosen = _chosen(source.name, source.parts, part)
        _check_target(name, source.target, trained)
        chosen = replace(chosen, x=_by_name(name, chosen.x, source, trained))
        return name, _fitted(name, chosen, source.classes, trained)
    path = Path(source).expanduser() if isinstance(source, (str, Path)) and source not in NAMED else None
    problems = Problems(str(path) if path is not None else "data")
    _, height, width = trained.input_shape if trained.kind == "images" else (0, 0, 1)
    raw = read(
        source,
        problems,
        data_dir=data_dir,
        image_size=height if path is not None and path.is_dir() and height == width else None,
        label=config.label if path is not None and is_table(path) else None,
        target=trained.target,
        header=config.header if path is not None and is_table(path) else "auto",
        columns=trained.columns or _plain_columns(path, trained),
    )
    problems.raise_any()
    name, chosen = _chosen(raw.name, raw.parts, part)
    name += f"; {raw.note}" if raw.note is not None else ""
    if raw.kind != trained.kind:
        raise DataError(
            f"{name}: it holds {_told_kind(raw.kind)}",
            f"the model takes {_told_kind(trained.kind)}"
            + (f": {tree.told_names(trained.preprocessing.leaves)}" if trained.kind == "tree" else ""),
            "give data like the run's own",
        )
    classes = None
    if trained.target in ("classes", "numbers"):
        y, classes = _labels(name, chosen, raw.classes) if trained.classes is not None else (chosen.y, None)
        target = torch.from_numpy(np.asarray(y, np.int64 if classes is not None else number_type(y)))
    else:
        y = typed(name, chosen, trained.target, problems)
        problems.raise_any()
        target = tree.of_arrays(y)
    return name, _fitted(name, Part(_tensors(name, chosen.x, trained), target, chosen.source), classes, trained)


def _told_kind(kind: str) -> str:
    return "several inputs" if kind == "tree" else kind


def _tensors(name: str, given: Any, trained: Trained) -> Any:
    """Return inputs as they were read as tensors; those of several by name are brought to their form later."""
    if trained.kind == "tree":
        return tree.of_arrays(given)
    narrows = given.dtype == np.float64 and trained.preprocessing.dtype == "float32"
    if isinstance(given, Mapped):
        x: Tensor = MappedTensor(given.changed(partial(np.asarray, dtype=np.float32)) if narrows else given)
    else:
        x = torch.from_numpy(np.array(given, np.float32 if narrows else None))
    if trained.kind == "images" and x.shape[1] in (1, 3) and trained.input_shape[0] in (1, 3):
        x = as_pixels(as_channels(x, trained.input_shape[0]), trained.pixels, name)
    return x


def _check_target(name: str, target: str, trained: Trained) -> None:
    if target != trained.target:
        raise DataError(
            f"{name}: its targets are {target}", f"the run's are {trained.target}",
            f'give data like the run\'s own, or load it with target = "{trained.target}"',
        )  # fmt: skip


def _plain_columns(path: Path | None, trained: Trained) -> Columns | None:
    """Return columns of numbers for a table and a model that was trained on arrays."""
    if path is None or not is_table(path) or trained.kind != "numbers" or len(trained.input_shape) != 1:
        return None
    from surefoot.data.columns import Columns

    return Columns.of_numbers(trained.input_shape[0])


def _by_name(name: str, x: Tensor, data: DataSet, trained: Trained) -> Tensor:
    """Return the examples of a table that was loaded in the order of the run's columns.

    Raises:
        DataError: its columns were fitted to itself, and make other numbers of a cell than the run's do.
    """
    if data.columns is None or trained.columns is None or data.columns.columns == trained.columns.columns:
        return x
    theirs, ours = ({column.name: column for column in each.columns} for each in (data.columns, trained.columns))
    order = column_order(name, list(theirs), list(ours)) if data.features and trained.columns.named else None
    plain = all(
        c.use == "number" and not c.gaps and c.reading.kind == "number" for c in (*theirs.values(), *ours.values())
    )
    if not plain:
        raise DataError(
            f"{name}: its columns were fitted when it was loaded",
            "the run has columns of its own, with other levels, medians or dates",
            "give the path or the frame itself in place of what load made of it",
        )
    return x if order is None else x[:, order]


def _chosen(name: str, parts: Mapping[str, Any], part: str) -> tuple[str, Any]:
    if part in parts:
        return f"{name}, {part} part", parts[part]
    if list(parts) == ["train"] and part == "test":
        return f"{name}, all of it", parts["train"]
    raise _no_part(name, part, parts)


def _no_part(name: str, part: str, parts: Mapping[str, Any]) -> DataError:
    return DataError(
        f"{name} has no {part} part", f"it has {', '.join(parts)}", f"choose part {next(reversed(list(parts)))}"
    )


def _labels(name: str, part: RawPart, classes: tuple[str, ...] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as indices and the classes that they index; whole numbers name themselves."""
    y = part.y[:, 0] if part.y.ndim == 2 and part.y.shape[1] == 1 else part.y
    whole = y.ndim == 1 and y.dtype.kind in "iufb" and bool(np.isfinite(y).all() and (y == np.floor(y)).all())
    if not whole:
        raise DataError(
            f"{name}: labels {y.dtype} {list(y.shape)}",
            "labels are whole numbers or text, one for each example",
            "mend the labels",
        )
    y = y.astype(np.int64)
    if classes is not None:
        if len(y) and not 0 <= y.min() <= y.max() < len(classes):
            allowed = f"{len(classes)} classes are named, so labels are 0 to {len(classes) - 1}"
            raise DataError(f"{name}: labels {y.min()} to {y.max()}", allowed, "mend the labels")
        return y, classes
    present = np.unique(y)
    return np.searchsorted(present, y), tuple(str(value) for value in present)


def _fitted(name: str, part: Part, classes: tuple[str, ...] | None, trained: Trained) -> Part:
    """Return the part with the run's class indices, after checking that the model can take it."""
    if not len(part):
        raise DataError(f"{name} has no examples", "scores need at least one", "add examples")
    if trained.kind == "tree":
        part = replace(part, x=matched(part.x, expected_leaves(trained), name))
    shape, expected = tree.shapes(part.x), expected_leaves(trained)
    if trained.kind != "tree" and shape != trained.input_shape and not (expected.any_length and len(shape) == 1):
        raise DataError(
            f"{name}: examples of shape {shape}",
            f"the model takes {trained.input_shape}",
            "give data like the run's own",
        )
    if trained.preprocessing.input == "integers" and any(
        bool((x != x.floor()).any()) for x in (part.x[piece] for piece in pieces(part.x, len(part)))
    ):
        raise DataError(f"{name}: fractions", "the model takes whole numbers", "give whole numbers, as int64")
    bad = not_finite(part.x).nonzero()[:, 0].tolist()
    if bad:
        named = ", ".join(part.name_of(i) for i in bad[:_SHOWN])
        raise DataError(
            f"{name}: {len(bad)} examples hold values that are not finite: {named}",
            "all values must be finite",
            "mend or remove them",
        )
    if classes is None or trained.classes is None:
        return part
    place = {label: i for i, label in enumerate(trained.classes)}
    unknown = [classes[i] for i in torch.unique(part.y).tolist() if classes[i] not in place]
    if unknown:
        raise DataError(
            f"{name}: the run knows no class {_listed(unknown, _SHOWN)}",
            f"it was trained on {_listed(trained.classes, 20)}",
            f"name the classes as the run does: {nearest(unknown[0], trained.classes[:20])}",
        )
    index = torch.tensor([place.get(label, -1) for label in classes])
    return replace(part, y=index[part.y])


def _listed(names: Sequence[str], most: int) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + rest
