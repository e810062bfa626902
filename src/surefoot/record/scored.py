"""What a finished run's model does on the test part, in the run's folder: scores, calibration, worst mistakes.

    scores.json   one JSON object; `examples` is N, `confusion` is [C, C], row: true class, column: predicted

It is what a report shows of the classifier, so that a report needs neither data, model nor torch.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from surefoot.errors import CheckpointError
from surefoot.record.scores import CALIBRATION_BINS, class_scores, log_softmax, number_scores
from surefoot.record.store import read_json, write_json

SCORES = "scores.json"
VERSION = 1
"""Of scores.json; raised when a field changes its meaning or goes."""
MISTAKES = 24
"""Most mistakes that are kept: what fits a screen. Chosen by hand."""
MOST_VALUES = 50_000_000
"""Most outputs N x C that are scored here, 0.4 GB in float64; a larger part is left out. Chosen by hand."""
_POINTS = 2000
"""Most pairs of target and prediction kept of a regression. Chosen by hand."""

Picture = Callable[[int], bytes | None]
"""Takes the number of an example and returns its picture as PNG, or None where it has none."""


def scored_classes(
    outputs: ArrayLike,
    targets: ArrayLike,
    classes: tuple[str, ...],
    *,
    of: str,
    name_of: Callable[[int], str],
    picture: Picture,
) -> dict[str, Any]:
    """Return scores, calibration and the most confident mistakes of a classifier, as JSON values.

    Args:
        outputs: [N, C], logits.
        targets: [N], true classes.
        classes: the C names.
        of: what is scored.
        name_of: the name of example i.
        picture: the picture of example i.

    Raises:
        DataError: as `class_scores`.

    >>> seen = scored_classes([[9.0, 0.0], [0.0, 1.0]], [1, 1], ("cat", "dog"), of="test",
    ...     name_of="row {}".format, picture=lambda i: None)
    >>> [(each["name"], each["true"], each["predicted"]) for each in seen["mistakes"]]
    [('row 0', 1, 0)]
    """
    scores = class_scores(outputs, targets, classes, of)
    logits, y = np.asarray(outputs, np.float64), np.asarray(targets)
    guessed = logits.argmax(1)
    probability = np.exp(log_softmax(logits))
    confidence = probability[np.arange(len(y)), guessed]
    wrong = np.flatnonzero(guessed != y)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    mistakes = [
        {
            "name": name_of(int(i)),
            "true": int(y[i]),
            "predicted": int(guessed[i]),
            "probability": float(confidence[i]),
            "probability_of_true": float(probability[i, y[i]]),
            "png": None if (seen := picture(int(i))) is None else base64.b64encode(seen).decode(),
        }
        for i in worst
    ]
    calibration = _calibration(confidence, guessed == y)
    return {"version": VERSION, "kind": "classes", **scores.to_dict(), "calibration": calibration, "mistakes": mistakes}


def scored_numbers(outputs: ArrayLike, targets: ArrayLike, *, of: str) -> dict[str, Any]:
    """Return scores of a regression and pairs of target and prediction, evenly thinned, as JSON values.

    Raises:
        DataError: as `number_scores`.
    """
    y, f = np.asarray(targets, np.float64).reshape(-1), np.asarray(outputs, np.float64).reshape(-1)
    kept = np.unique(np.linspace(0, len(y) - 1, min(len(y), _POINTS)).round().astype(int))
    pairs = [[float(y[i]), float(f[i])] for i in kept]
    return {"version": VERSION, "kind": "numbers", **number_scores(outputs, targets, of).to_dict(), "pairs": pairs}


def write_scores(folder: Path, scores: dict[str, Any]) -> None:
    """Write scores.json into a run's folder."""
    write_json(folder / SCORES, scores)


def read_scores(folder: Path) -> dict[str, Any] | None:
    """Return what scores.json holds; None where a run has none.

    Raises:
        CheckpointError: it is damaged.
    """
    path = folder / SCORES
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise CheckpointError(
            str(path), f"it must be scores of version {VERSION}", "train again, or remove it: the rest can be shown"
        )
    return found


def _calibration(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Mean confidence and accuracy in bins of equal width, those that hold examples; see `calibration_error`."""
    which = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    found = []
    for at in range(CALIBRATION_BINS):
        inside = which == at
        if inside.any():
            found.append(
                {
                    "low": at / CALIBRATION_BINS,
                    "high": (at + 1) / CALIBRATION_BINS,
                    "examples": int(inside.sum()),
                    "confidence": float(confidence[inside].mean()),
                    "accuracy": float(right[inside].mean()),
                }
            )
    return found
