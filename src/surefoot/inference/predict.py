"""`predict`: what a finished run's model says of examples without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from surefoot.data.dataset import Part, Source
from surefoot.inference.finished import FinishedRun, Which, finished_run
from surefoot.inference.inputs import Expected, Inputs, batches
from surefoot.record.scores import log_softmax
from surefoot.switches import usual_switches
from surefoot.training.integers import Outside, looked_up
from surefoot.training.run import Result


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """One prediction for each of N examples; one that could not be read has an error in its place.

    Attributes:
        names: what each example is called: its file, or its number.
        outputs: [N, C] probabilities of the classes, or [N, D] predicted numbers, float64; NaN where there is an
            error.
        classes: the C names, or None for numbers.
        errors: what is wrong with each example, or None.
        notes: what is to be said of the inputs, such as levels of a category that the training part had not.
    """

    names: tuple[str, ...]
    outputs: NDArray[np.float64]
    classes: tuple[str, ...] | None
    errors: tuple[str | None, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def failed(self) -> int:
        """Number of examples that could not be read."""
        return sum(error is not None for error in self.errors)

    @property
    def labels(self) -> tuple[str | None, ...]:
        """The most probable class of each example; None for numbers, and where there is an error."""
        return tuple(found[0][0] if (found := self.top(i, 1)) else None for i in range(len(self)))

    def top(self, i: int, k: int) -> list[tuple[str, float]]:
        """Return the k most probable classes of example i and their probabilities, the most probable first.

        >>> one = Predictions(names=("a.png",), outputs=np.array([[0.2, 0.8]]), classes=("cat", "dog"), errors=(None,))
        >>> one.top(0, 2)
        [('dog', 0.8), ('cat', 0.2)]
        """
        if self.classes is None or self.errors[i] is not None:
            return []
        order = np.argsort(-self.outputs[i], kind="stable")[:k]
        return [(self.classes[at], float(self.outputs[i, at])) for at in order]

    def to_dicts(self, k: int = 1) -> list[dict[str, Any]]:
        """Return each prediction as JSON values: label and the k most probable classes, or numbers, or an error."""
        rows: list[dict[str, Any]] = []
        for i, (name, error) in enumerate(zip(self.names, self.errors, strict=True)):
            if error is not None:
                rows.append({"name": name, "error": error})
            elif self.classes is None:
                rows.append({"name": name, "values": self.outputs[i].tolist()})
            else:
                best = self.top(i, k)
                rows.append(
                    {"name": name, "label": best[0][0], "probability": best[0][1], "top": [[*each] for each in best]}
                )
        return rows


def joined(pieces: Sequence[Predictions]) -> Predictions:
    """Return pieces of one prediction, at least one, as one."""
    return Predictions(
        names=tuple(name for piece in pieces for name in piece.names),
        outputs=np.concatenate([piece.outputs for piece in pieces]),
        classes=pieces[0].classes,
        errors=tuple(error for piece in pieces for error in piece.errors),
        notes=tuple(note for piece in pieces for note in piece.notes),
    )


_BROKEN = "the model's output is not finite"


@usual_switches
def predict(
    run: str | Path | Result,
    inputs: Any,
    *,
    runs_dir: str | Path = "runs",
    model: nn.Module | None = None,
    device: str | None = None,
    weights: Which | None = None,
) -> Predictions:
    """Return what a finished run's model says of examples without labels.

    Images of another size are brought to the model's as in training, and converted between grey and colour. What
    cannot be read has an error in its place; see `Predictions.errors`.

    Args:
        run: name of the run, its folder, or the result of `train`.
        inputs: an array or tensor [N, ...] or of one example; the path of an image, of a folder of images (nested or
            flat), of an .npz (its x, or its first array) or .npy, of a table with or without labels; a frame of pandas
            or Polars; or a sequence of paths.
        runs_dir, model, device, weights: as in `evaluate`.

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
    pieces = list(predict_batches(run, inputs, runs_dir=runs_dir, model=model, device=device, weights=weights))
    return joined(pieces)


def predict_batches(
    run: str | Path | Result,
    inputs: Any,
    *,
    runs_dir: str | Path = "runs",
    model: nn.Module | None = None,
    device: str | None = None,
    weights: Which | None = None,
) -> Iterator[Predictions]:
    """Yield `predict` batch by batch, so that memory stays bounded and progress can be shown."""
    finished = finished_run(run, runs_dir, model, device, weights)
    trained = finished.trained
    config, about = finished.config, trained.preprocessing
    dtype = {"integers": np.int64}.get(about.input, np.dtype(about.dtype).type)
    expected = Expected(
        trained.kind, trained.input_shape, config.label, config.header, trained.columns, dtype, trained.pixels
    )  # fmt: skip
    notes = () if finished.doubt is None else (finished.doubt,)
    for batch in batches(inputs, expected):
        found = _predicted(finished, batch)
        yield replace(found, notes=(*notes, *found.notes))
        notes = ()


def _predicted(finished: FinishedRun, batch: Inputs) -> Predictions:
    classes, good, said = finished.trained.classes, [error is None for error in batch.errors], list(batch.errors)
    width = int(finished.trained.information["outputs"])
    outputs = np.full((len(batch.names), width), np.nan)
    if any(good):
        raw, unusable = _outputs(finished, batch.x)
        raw[~np.isfinite(raw).all(1)] = np.nan
        outputs[good] = np.exp(log_softmax(raw)) if classes is not None else raw
        for at, error in zip(np.flatnonzero(good), unusable, strict=True):
            said[at] = error
    finite = [bool(np.isfinite(row).all()) for row in outputs]
    errors = tuple(e or (None if fine else _BROKEN) for e, fine in zip(said, finite, strict=True))
    notes = () if batch.note is None else (batch.note,)
    return Predictions(names=batch.names, outputs=outputs, classes=classes, errors=errors, notes=notes)


def _outputs(finished: FinishedRun, x: torch.Tensor) -> tuple[NDArray[np.float64], list[str | None]]:
    """Return logits or numbers of examples, [N, ...], NaN where one holds a number that the model does not embed."""
    try:
        with looked_up(finished.task.template):
            part = Part(x, torch.zeros(len(x), dtype=torch.int64), Source())
            found = finished.outputs(part)[0].double().numpy().reshape(len(x), -1)
        return found, [None] * len(x)
    except Outside as outside:
        if len(x) == 1:
            width = int(finished.trained.information["outputs"])
            said = f"it holds {outside.value}; the model's embedding takes 0 to {outside.places - 1}"
            return np.full((1, width), np.nan), [said]
        each = [_outputs(finished, x[i : i + 1]) for i in range(len(x))]
        return np.concatenate([found for found, _ in each]), [said for _, (said,) in each]
