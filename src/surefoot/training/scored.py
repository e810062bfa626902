"""What a finished run leaves about its model on the test part: `scores.json`, see `record.scores`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from surefoot.data.dataset import Part
from surefoot.errors import DataError
from surefoot.record import store
from surefoot.record.scores import SCORES, scored_classes, scored_numbers
from surefoot.training.task import Task

_MOST_VALUES = 50_000_000
"""Most outputs N x C that are kept to be scored, 0.2 GB; a larger part has no scores. Chosen by hand."""
_LARGEST_PICTURE = 96
"""Pixels on the longer side of a kept picture; larger ones are reduced. Chosen by hand."""


def may_be_scored(task: Task) -> bool:
    """Return whether the outputs on the test part fit into memory a few times over."""
    test = task.data.test
    return test is not None and len(test) * task.data.outputs <= _MOST_VALUES


def write_scored(folder: Path, task: Task, part: Part, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Write the scores of a part. Outputs that are not finite have none, and nothing is written.

    Args:
        folder: of the run.
        task: that was learned.
        part: that the outputs are of, in its order.
        pairs: outputs and targets of its batches.
    """
    outputs = torch.cat([each for each, _ in pairs]).numpy()
    targets = torch.cat([each for _, each in pairs]).numpy()
    of, classes = f"{task.data.name}, test part", task.data.classes
    try:
        if task.classifies and classes is not None and outputs.shape == (len(targets), len(classes)):
            images = task.data.kind == "images"
            seen = scored_classes(
                outputs, targets, classes, of=of, name_of=part.name_of,
                picture=lambda i: _png(part.x[i]) if images else None,
            )  # fmt: skip
        elif not task.classifies and outputs.size == targets.size:
            seen = scored_numbers(outputs, targets, of=of)
        else:
            return  # a loss of the user's own, whose outputs mean what we cannot know
    except DataError:
        return  # not finite: the result says that the run diverged
    store.write_json(folder / SCORES, seen)


def _png(x: Tensor) -> bytes | None:
    """Return an image [C, H, W] of uint8, C 1 or 3, as PNG."""
    from PIL import Image

    if x.dtype != torch.uint8 or x.dim() != 3 or len(x) not in (1, 3):
        return None
    pixels = x.cpu().numpy()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy())
    image.thumbnail((_LARGEST_PICTURE, _LARGEST_PICTURE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
