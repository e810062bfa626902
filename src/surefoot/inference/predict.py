"""`predict`: what a finished run's model says of examples without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from surefoot.config import Tta
from surefoot.data import tree
from surefoot.data.dataset import IGNORED, TargetKind
from surefoot.inference.answers import Answers, answers_of, joined_answers, no_answers
from surefoot.inference.finished import FinishedRun, Which, finished_run, holder_of
from surefoot.inference.form import expected_of
from surefoot.inference.inputs import Inputs, batches
from surefoot.models.build import Factory
from surefoot.record.lines import plain as finite
from surefoot.switches import usual_switches
from surefoot.training.call import Forward
from surefoot.training.integers import Outside
from surefoot.training.run import Result
from surefoot.training.test_time import VIEWS


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """One prediction for each of N examples; one that could not be read has an error in its place.

    Attributes:
        names: what each example is called: its file, or its number.
        outputs: by `target`, NaN or `IGNORED` where there is an error. classes: [N, C] probabilities, float64; numbers:
            [N, D] in their unit, float64; multilabel: [N, L] a probability for each label, float64; segmentation:
            [N, H, W] the class of each pixel; tokens: [N, T] that of each position, `IGNORED` behind the end of a
            shorter sequence; any: what the model gives, an array [N, ...] or a tree of such.
        classes: the C names, or None for other targets.
        errors: what is wrong with each example, or None.
        notes: what is to be said of the inputs, such as levels of a category that the training part had not.
        target: what the targets were.
        labels_of: names of the outputs of several labels, of masks and of tokens.
        last: of tokens the logarithm of the probability of each class at the last position, [N, C], float64.
    """

    names: tuple[str, ...]
    outputs: Any
    classes: tuple[str, ...] | None
    errors: tuple[str | None, ...]
    notes: tuple[str, ...] = ()
    target: TargetKind | None = None
    labels_of: tuple[str, ...] = ()
    last: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def kind(self) -> TargetKind:
        """What the outputs are."""
        return self.target or ("numbers" if self.classes is None else "classes")

    @property
    def failed(self) -> int:
        """Number of examples that could not be read."""
        return sum(error is not None for error in self.errors)

    @property
    def labels(self) -> tuple[str | None, ...]:
        """The most probable class of each example; None for other targets, and where there is an error."""
        return tuple(found[0][0] if (found := self.top(i, 1)) else None for i in range(len(self)))

    def top(self, i: int, k: int) -> list[tuple[str, float]]:
        """Return the k most probable classes of example i and their probabilities, the most probable first; of tokens
        those of the last position.

        >>> one = Predictions(names=("a.png",), outputs=np.array([[0.2, 0.8]]), classes=("cat", "dog"), errors=(None,))
        >>> one.top(0, 2)
        [('dog', 0.8), ('cat', 0.2)]
        """
        shares = (
            np.exp(self.last[i]) if self.last is not None else self.outputs[i] if self.classes is not None else None
        )
        if shares is None or self.errors[i] is not None:
            return []
        order = np.argsort(-shares, kind="stable")[:k]
        return [(self.class_name(int(at)), float(shares[at])) for at in order]

    def class_name(self, at: int) -> str:
        """Return what a class or a label is called: its name, or its number."""
        names = self.classes or self.labels_of
        return names[at] if at < len(names) else str(at)

    def to_dicts(self, k: int = 1) -> list[dict[str, Any]]:
        """Return each prediction as JSON values, or its error.

        They have by target label, probability and the k most probable classes; values; the probability of each label,
        and those above a half; a mask as rows of classes; the class of each position, and the k most probable of the
        last; or outputs.
        """
        return [
            {"name": name, "error": error} if error is not None else {"name": name, **self._as_dict(i, k)}
            for i, (name, error) in enumerate(zip(self.names, self.errors, strict=True))
        ]

    def _as_dict(self, i: int, k: int) -> dict[str, Any]:
        match self.kind:
            case "classes":
                best = self.top(i, k)
                return {"label": best[0][0], "probability": best[0][1], "top": [[*each] for each in best]}
            case "numbers":
                return {"values": self.outputs[i].tolist()}
            case "multilabel":
                shares = {self.class_name(at): float(share) for at, share in enumerate(self.outputs[i])}
                return {"labels": [name for name, share in shares.items() if share > 0.5], "probabilities": shares}
            case "segmentation":
                return {"mask": self.outputs[i].tolist()}
            case "tokens":
                said = [int(each) for each in self.outputs[i] if each != IGNORED]
                return {
                    "tokens": [self.class_name(each) for each in said],
                    "next": [[*each] for each in self.top(i, k)],
                }
            case _:
                return {"outputs": tree.map_leaves(lambda leaf: finite(leaf[i].tolist()), self.outputs)}


def joined(pieces: Sequence[Predictions]) -> Predictions:
    """Return pieces of one prediction, at least one, as one."""
    lasts = [piece.last for piece in pieces if piece.last is not None]
    first = pieces[0]
    return Predictions(
        names=tuple(name for piece in pieces for name in piece.names),
        outputs=joined_answers([piece.outputs for piece in pieces]),
        classes=first.classes,
        errors=tuple(error for piece in pieces for error in piece.errors),
        notes=tuple(note for piece in pieces for note in piece.notes),
        target=first.target,
        labels_of=first.labels_of,
        last=joined_answers(lasts) if lasts else None,
    )


_BROKEN = "the model's output is not finite"


@usual_switches
def predict(
    run: str | Path | Result,
    inputs: Any,
    *,
    runs_dir: str | Path = "runs",
    model: nn.Module | Factory | None = None,
    forward: Forward | str | None = None,
    device: str | None = None,
    weights: Which | None = None,
    tta: Tta = "none",
) -> Predictions:
    """Return what a finished run's model says of examples without labels.

    Images of another size are brought to the model's as in training, and converted between grey and colour. What
    cannot be read has an error in its place; see `Predictions.errors`.

    Args:
        run: name of the run, its folder, or the result of `train`.
        inputs: an array or tensor [N, ...] or of one example, or a mapping or tuple of these, as the model takes them;
            a Dataset with or without targets; the path of an image, of a folder of images (nested or flat), of an .npz
            (its x, or its first array; of several inputs those of their names) or .npy, of a table with or without
            labels; a frame of pandas or Polars; or a sequence of paths.
        runs_dir, model, forward, device, weights: as in `evaluate`.
        tta: test-time augmentation of images: "flip" or "flip-shift", see `training.test_time`; the answers are then
            of the mean outputs over its views, and a note says so.

    Raises:
        ConfigError: the run takes no images, and has no such views.
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
    how = {"model": model, "forward": forward, "device": device, "weights": weights}
    pieces = list(predict_batches(run, inputs, runs_dir=runs_dir, tta=tta, **how))
    return joined(pieces)


def predict_batches(
    run: str | Path | Result,
    inputs: Any,
    *,
    runs_dir: str | Path = "runs",
    model: nn.Module | Factory | None = None,
    forward: Forward | str | None = None,
    device: str | None = None,
    weights: Which | None = None,
    tta: Tta = "none",
) -> Iterator[Predictions]:
    """Yield `predict` batch by batch, so that memory stays bounded and progress can be shown."""
    finished = finished_run(run, runs_dir, model, device, weights, forward=forward).with_views(tta)
    trained = finished.trained
    expected = expected_of(trained, finished.config)
    notes = () if finished.doubt is None else (finished.doubt,)
    if tta != "none":
        notes += (f"of the mean outputs over {len(VIEWS[tta])} views of each image (tta = {tta})",)
    for batch in batches(inputs, expected):
        found = _predicted(finished, batch)
        yield replace(found, notes=(*notes, *found.notes))
        notes = ()


def _predicted(finished: FinishedRun, batch: Inputs) -> Predictions:
    trained = finished.trained
    good, said = [error is None for error in batch.errors], list(batch.errors)
    found, unusable = _outputs(finished, batch.x) if any(good) else (no_answers(finished, 0), [])
    for at, error in zip(np.flatnonzero(good), unusable, strict=True):
        said[at] = error
    kind = found.kind
    outputs = tree.map_leaves(lambda leaf: _spread(leaf, good), found.outputs)
    last = None if found.last is None else _spread(found.last, good)
    finite_rows = _finite(last if last is not None else outputs, len(good))
    errors = tuple(e or (None if fine else _BROKEN) for e, fine in zip(said, finite_rows, strict=True))
    return Predictions(
        names=batch.names, outputs=outputs, classes=trained.classes if kind == "classes" else None, errors=errors,
        notes=() if batch.note is None else (batch.note,), target=kind, last=last,
        labels_of=trained.names if kind in ("multilabel", "segmentation", "tokens") else (),
    )  # fmt: skip


def _spread(found: np.ndarray, good: list[bool]) -> np.ndarray:
    """Return answers of the examples that could be read among the others, which have NaN, or `IGNORED` for a class."""
    empty = np.nan if found.dtype.kind == "f" else IGNORED
    whole = np.full((len(good), *found.shape[1:]), empty, found.dtype)
    whole[good] = found
    return whole


def _finite(outputs: Any, count: int) -> list[bool]:
    fine = np.ones(count, bool)
    for leaf in tree.leaves(outputs):
        fine &= np.isfinite(leaf).reshape(count, -1).all(1)
    return fine.tolist()


def _outputs(finished: FinishedRun, x: Any) -> tuple[Answers, list[str | None]]:
    """Return answers of examples, NaN where one holds a number that the model does not embed, and what is wrong."""
    count = len(tree.leaves(x)[0])
    try:
        return answers_of(finished, x), [None] * count
    except Outside as outside:
        if count == 1:
            what = f"it holds {outside.value}"
            if holder_of(x, outside) is None:  # as a position behind the last that the model knows
                what = f"the model looks up {outside.value}, which is none of its inputs"
            said = f"{what}; the model's embedding takes 0 to {outside.places - 1}"
            return no_answers(finished, 1), [said]
        each = [_outputs(finished, tree.taken(x, slice(i, i + 1))) for i in range(count)]
        answers = [found for found, _ in each]
        lasts = [found.last for found in answers if found.last is not None]
        kinds: list[TargetKind] = [found.kind for found in answers if found.kind != finished.trained.target]
        kind = kinds[0] if kinds else finished.trained.target
        whole = Answers(
            kind, joined_answers([found.outputs for found in answers]), joined_answers(lasts) if lasts else None
        )
        return whole, [error for _, (error,) in each]
