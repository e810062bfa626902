"""`predict`: what a finished run's model says of examples without labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from surefoot.data.dataset import Part, Source
from surefoot.inference.finished import FinishedRun, finished_run
from surefoot.inference.inputs import Expected, Inputs, batches
from surefoot.record.predictions import Predictions, joined
from surefoot.record.scores import log_softmax
from surefoot.training.run import Result

_BROKEN = "the model's output is not finite"


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
    finished = finished_run(run, runs_dir, model, device)
    trained = finished.trained
    for batch in batches(inputs, Expected(trained.kind, trained.input_shape, finished.config.label)):
        yield _predicted(finished, batch)


def _predicted(finished: FinishedRun, batch: Inputs) -> Predictions:
    classes, good = finished.trained.classes, [error is None for error in batch.errors]
    width = int(finished.trained.information["outputs"])
    outputs = np.full((len(batch.names), width), np.nan)
    if any(good):
        part = Part(batch.x, torch.zeros(len(batch.x), dtype=torch.int64), Source())
        raw = finished.outputs(part)[0].double().numpy().reshape(len(batch.x), -1)
        raw[~np.isfinite(raw).all(1)] = np.nan
        outputs[good] = np.exp(log_softmax(raw)) if classes is not None else raw
    finite = [bool(np.isfinite(row).all()) for row in outputs]
    errors = tuple(e or (None if fine else _BROKEN) for e, fine in zip(batch.errors, finite, strict=True))
    return Predictions(names=batch.names, outputs=outputs, classes=classes, errors=errors)
