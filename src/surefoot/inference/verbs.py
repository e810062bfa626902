"""What is done with a trained model: `evaluate` it on labelled data, `predict` what has no labels.

Both use the run's finished weights, normalisation and precision, in evaluation mode. They change nothing: no file,
no random state, not the given model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.config import Config
from surefoot.data.dataset import DataSet, Part, Source
from surefoot.errors import ConfigError
from surefoot.inference.inputs import Expected, Inputs, batches
from surefoot.inference.labelled import given_part, own_part
from surefoot.record import store
from surefoot.record.predictions import Predictions, joined
from surefoot.record.scores import Scores, class_scores, log_softmax, number_scores
from surefoot.record.stored import IN_MEMORY, read_config
from surefoot.seeds import torch_stream
from surefoot.training.evaluate import outputs_of
from surefoot.training.machine import machine
from surefoot.training.run import Result
from surefoot.training.task import Task
from surefoot.training.weights import Trained, load_trained

PARTS = ("train", "validation", "test")
_BROKEN = "the model's output is not finite"


@dataclass(frozen=True)
class _Ready:
    """A finished run, ready to be applied to examples."""

    folder: Path
    config: Config
    trained: Trained
    task: Task

    def outputs(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the model's outputs [N, ...] in fp32 and the targets [N, ...] for a part, on the CPU."""
        model, place = self.task.template, self.task.machine
        placed = replace(part, x=place.place(part.x), y=place.place(part.y))
        with place.computing(), torch_stream(self.task.seed, "test"):
            pairs = [(o.cpu(), y.cpu()) for o, y in outputs_of(self.task, model, model.state_dict(), placed)]
        return torch.cat([outputs for outputs, _ in pairs]), torch.cat([targets for _, targets in pairs])


def evaluate(
    run: str | Path | Result,
    data: Any = None,
    *,
    part: str = "test",
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    model: nn.Module | None = None,
    device: str | None = None,
) -> Scores:
    """Return the scores of a finished run on a part of its own data, or on other labelled data.

    Classes are matched by name. Of other data that has no parts, all is scored.

    Args:
        run: name of the run, its folder, or the result of `train`.
        data: whatever `load` takes; None for the data that the run was trained on.
        part: "train", "validation" or "test".
        data_dir: folder or archive that holds the named set, if not where it was.
        runs_dir: where runs lie.
        model: the architecture, for a run whose model was given as an object; it is copied.
        device: as in `Config`; None for the run's, or the CPU where this machine lacks that.

    Raises:
        ConfigError: no such part; or the run's data was given as an object, and is not given here.
        DataError: the data cannot be used, has changed, or has a class that the run does not know.
        CheckpointError: the run does not exist, is unfinished or damaged.

    >>> import surefoot, tempfile
    >>> from surefoot.training.open import train
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scores = evaluate(train("digits", "linear", epochs=3, lr=0.1, runs_dir=folder))
    >>> scores.examples, scores.interval[0] < scores.accuracy < scores.interval[1]
    (359, True)
    """
    if part not in PARTS:
        raise ConfigError(f"part = {part!r}", f"part must be one of {', '.join(PARTS)}", "leave it out for test")
    ready = _ready(run, runs_dir, model, device)
    if data is None and ready.config.data == IN_MEMORY:
        raise ConfigError(
            f"{ready.folder} was trained on data given in Python",
            "its data is not on disk",
            "give the data to evaluate it on",
        )
    if data is None:
        title, chosen = own_part(ready.folder, ready.config, data_dir, part)
    else:
        title, chosen = given_part(data, ready.trained, ready.config, data_dir, part)
    outputs, targets = ready.outputs(chosen)
    if ready.trained.classes is None:
        return number_scores(outputs.numpy(), targets.numpy(), title)
    return class_scores(outputs.numpy(), targets.numpy(), ready.trained.classes, title)


def predict(
    run: str | Path | Result,
    inputs: Any,
    *,
    runs_dir: str | Path = "runs",
    model: nn.Module | None = None,
    device: str | None = None,
) -> Predictions:
    """Return what a finished run's model says of examples without labels.

    Images of another size are brought to the model's as in training, and converted between grey and colour. What
    cannot be read has an error in its place; see `Predictions.errors`.

    Args:
        run: name of the run, its folder, or the result of `train`.
        inputs: an array or tensor [N, ...] or of one example; the path of an image, of a folder of images (nested or
            flat), of an .npz (its x, or its first array), of a .csv without labels; or a sequence of paths.
        runs_dir, model, device: as in `evaluate`.

    Raises:
        DataError: an array, table or folder as a whole does not fit the model.
        CheckpointError: the run does not exist, is unfinished or damaged.

    >>> import surefoot, tempfile
    >>> from surefoot.training.open import train
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = train("digits", "linear", epochs=3, lr=0.1, runs_dir=folder)
    ...     predictions = predict(result, surefoot.load("digits").test.x[:2])
    >>> len(predictions.labels), predictions.outputs.shape
    (2, (2, 10))
    """
    pieces = list(predict_batches(run, inputs, runs_dir=runs_dir, model=model, device=device))
    return joined(pieces)


def predict_batches(
    run: str | Path | Result,
    inputs: Any,
    *,
    runs_dir: str | Path = "runs",
    model: nn.Module | None = None,
    device: str | None = None,
) -> Iterator[Predictions]:
    """Yield `predict` batch by batch, so that memory stays bounded and progress can be shown."""
    ready = _ready(run, runs_dir, model, device)
    trained = ready.trained
    for batch in batches(inputs, Expected(trained.kind, trained.input_shape, ready.config.label)):
        yield _predicted(ready, batch)


def _predicted(ready: _Ready, batch: Inputs) -> Predictions:
    classes, good = ready.trained.classes, [error is None for error in batch.errors]
    width = int(ready.trained.information["outputs"])
    outputs = np.full((len(batch.names), width), np.nan)
    if any(good):
        part = Part(batch.x, torch.zeros(len(batch.x), dtype=torch.int64), Source())
        raw = ready.outputs(part)[0].double().numpy().reshape(len(batch.x), -1)
        raw[~np.isfinite(raw).all(1)] = np.nan
        outputs[good] = np.exp(log_softmax(raw)) if classes is not None else raw
    finite = [bool(np.isfinite(row).all()) for row in outputs]
    errors = tuple(e or (None if fine else _BROKEN) for e, fine in zip(batch.errors, finite, strict=True))
    return Predictions(names=batch.names, outputs=outputs, classes=classes, errors=errors)


def _ready(run: str | Path | Result, runs_dir: str | Path, model: nn.Module | None, device: str | None) -> _Ready:
    """Load a finished run onto its own device, or onto the CPU where this machine lacks that one."""
    if isinstance(run, Result):
        run, model = run.folder, run.model if model is None else model
    folder = store.run_folder(run, runs_dir)
    config = read_config(folder)
    trained = load_trained(folder, model)
    if device is None:
        device = config.device if torch.cuda.is_available() else "cpu"
    place = machine(device, config.precision, config.threads, trained.model, trained.input_shape)
    y = torch.zeros(1, dtype=torch.int64)
    data = DataSet(
        name=config.data,
        kind="images" if trained.kind == "images" else "numbers",
        train=Part(torch.zeros(1, *trained.input_shape), y, Source()),
        validation=None,
        test=None,
        classes=trained.classes,
        mean=trained.mean,
        std=trained.std,
        fingerprint="",
    )
    return _Ready(folder, config, trained, Task(data, place.place_model(trained.model), None, None, config.seed, place))
