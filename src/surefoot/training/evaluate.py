"""Loss, accuracy and scores of weights on a part of the data, in evaluation mode, with nothing changed by it."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.data import tree
from surefoot.data.batches import fetch
from surefoot.data.dataset import Part
from surefoot.errors import DataError, is_out_of_memory
from surefoot.record import store
from surefoot.record.scores import SCORES, scored_classes, scored_numbers
from surefoot.training.call import in_fp32
from surefoot.training.state import named_tensors
from surefoot.training.task import Task

_BATCH_EXAMPLES = 1000
"""Examples evaluated at once. Larger was not faster on a CPU, and this bounds memory. Chosen by hand."""
_VALUES_AT_ONCE = 2**24
"""Outputs of pixels or tokens at once, 64 MB. Chosen by hand."""
_MOST_VALUES = 50_000_000
"""Most outputs N x C that are kept to be scored, 0.2 GB; a larger part has no scores. Chosen by hand."""
_LARGEST_PICTURE = 96
"""Pixels on the longer side of a kept picture; larger ones are reduced. Chosen by hand."""

_ROUNDING = 2e-2
"""How far the sum of a softmax may be from 1: bfloat16 is off by up to 0.4 %, and the exponential of
its -7 by 1.6 %. Chosen by hand."""
_JUDGED = 100
"""Training examples by which a model is seen to end in a softmax, and a loss to be of answers. Chosen by hand."""
_MOVED = 0.1
"""Of a deviation, by which targets are moved to see whether a loss is least at them. Chosen by hand."""


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, in the targets' unit, and share of right answers over a part; None where none is right or wrong."""

    loss: float
    accuracy: float | None
    examples: int


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode for the block, and each back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def outputs_of(task: Task, model: nn.Module, weights: Mapping[str, Tensor], part: Part) -> Iterator[tuple[Any, Any]]:
    """Yield (outputs [B, ...] in fp32, targets [B, ...]) over a part, in order, both as the model learns them.

    Between two batches the model is in its own mode, and gradients are on or off as the caller has them.
    """
    used = {name: weights[name] for name in named_tensors(model)}
    first, size = 0, examples_at_once(task)
    while first < len(part):
        rows = np.arange(first, min(first + size, len(part)))
        try:
            x, y = fetch(task.data, part, rows, augment=None, seed=task.seed, epoch=0)
            with evaluation_mode(model), torch.no_grad(), task.machine.autocast():
                outputs = task.outputs_with(model, used, x, y, tie_weights=False)
        except (RuntimeError, MemoryError) as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
            size = len(rows) // 2  # a mean over examples is the same in smaller pieces
            continue
        yield in_fp32(outputs), y
        first += len(rows)


def examples_at_once(task: Task) -> int:
    """Return how many examples are evaluated at once: fewer where each has many answers, as pixels and tokens are."""
    y = tree.leaves(task.data.train.y)[0]
    answers = task.data.outputs * math.prod(y.shape[1:]) if task.data.target in ("segmentation", "tokens") else 1
    return max(1, min(_BATCH_EXAMPLES, _VALUES_AT_ONCE // answers))


def evaluate_part(
    task: Task,
    model: nn.Module,
    weights: Mapping[str, Tensor],
    part: Part,
    keep: list[tuple[Tensor, Tensor]] | None = None,
) -> Evaluation:
    """Return mean loss and accuracy of `weights` in `model` over a part.

    Label smoothing is left out, so that the loss means the same under every recipe. Outputs and targets of every batch
    are added to `keep`, on the CPU, where that is a list.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> model = digits.fresh_model()
    >>> round(evaluate_part(digits, model, model.state_dict(), digits.data.train).loss, 4)  # ln 10
    2.3026
    """
    loss, correct, counted, examples = 0.0, 0.0, 0.0, 0
    pair: tuple[Tensor, Tensor] | None = None
    for outputs, targets in outputs_of(task, model, weights, part):
        here = len(tree.leaves(targets)[0])
        mean, count = task.counted(outputs, targets)
        count = here if count is None else float(count)
        loss += float(mean) * task.loss_unit * count
        counted += count
        correct += float(task.right(outputs, targets)) if task.counts_right else 0.0
        if keep is not None:
            # Into one block: small tensors that stay, between the large ones of each batch, would keep malloc from
            # using the gaps again, and the heap grows by the activations of every batch: 8 MB each of 1,000 sequences.
            pair = pair or (_whole(outputs, len(part)), _whole(targets, len(part)))
            for memory, each in zip(pair, (outputs, targets), strict=True):
                memory[examples : examples + here] = each
        examples += here
    if keep is not None and pair is not None:
        keep.append(pair)
    return Evaluation(loss / (counted or 1), correct / examples if task.counts_right else None, examples)


def _whole(first: Tensor, examples: int) -> Tensor:
    """Return memory on the CPU for so many examples like those of a batch."""
    return torch.empty((examples, *first.shape[1:]), dtype=first.dtype)


def are_probabilities(outputs: Tensor) -> bool:
    """Return whether every row of outputs, [B, C, ...], is at least 0 and sums to 1.

    >>> [are_probabilities(torch.tensor([row])) for row in ([0.2, 0.8], [1.2, -0.2], [0.2, 0.9])]
    [True, False, False]
    """
    return bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() <= _ROUNDING).all())


def ends_in_probabilities(task: Task, model: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Return whether a classifier with a loss of the user's gives probabilities in place of logits.

    The built-in cross-entropy takes outputs for logits, whatever they are, and so does all that scores such a model.
    """
    if task.loss is None or not task.classifies:
        return False
    few = task.data.train.taken(np.arange(min(_JUDGED, len(task.data.train))))
    return all(
        isinstance(outputs, Tensor) and are_probabilities(outputs)
        for outputs, _ in outputs_of(task, model, weights, few)
    )


def judged_part(task: Task) -> tuple[str, Part | None]:
    """Return the part that a finished model is judged on, and its name: test, or else the validation part."""
    data = task.data
    return ("test", data.test) if data.test is not None else ("validation", data.validation)


def may_be_scored(task: Task) -> bool:
    """Return whether the outputs on the part that is judged mean what scores take them for, and fit into memory."""
    _, part = judged_part(task)
    few = part is not None and len(part) * task.data.outputs <= _MOST_VALUES
    if task.classifies and not task.counts_right:  # outputs are something else than one tensor
        return False
    return few and task.data.target in ("classes", "numbers") and task.loss_fn is None and are_answers(task)


def are_answers(task: Task) -> bool:
    """Return whether outputs are meant to equal the targets, or are of classes.

    Those that a loss of the user's for numbers takes may be logits, or the logarithm of a rate: then it is not least
    where they equal the targets, but lower with all of them moved or stretched by a tenth.

    >>> import surefoot
    >>> data = surefoot.load((torch.randn(30, 2), torch.arange(30.0) / 7), target="numbers")
    >>> [are_answers(surefoot.task(data, "linear", loss=loss)) for loss in (nn.L1Loss(), nn.PoissonNLLLoss())]
    [True, False]
    """
    if not task.custom_loss or task.classifies:
        return True
    y = task.data.train.y[:_JUDGED].float()
    tenth = _MOVED * y.std(correction=0)
    try:
        moved = (y, y + tenth, y - tenth, y * (1 + _MOVED), y * (1 - _MOVED))
        at, *others = (float(task.objective(each, y)) for each in moved)
    except Exception:  # a loss may be anyone's, and of other outputs than targets
        return False
    return all(at <= other + 1e-6 * abs(other) for other in others)


def write_scored(folder: Path, task: Task, name: str, part: Part, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Write `scores.json`, see `record.scores`. Outputs that are not finite have none, and nothing is written.

    Args:
        folder: of the run.
        task: that was learned.
        name: of the part.
        part: that the outputs are of, in its order.
        pairs: outputs and targets of its batches, numbers in the unit of the part's targets.
    """
    outputs = torch.cat([each for each, _ in pairs]).numpy()
    targets = torch.cat([each for _, each in pairs]).numpy()
    chosen_on = " (there is no test part; choices may have been made on it)" if name == "validation" else ""
    of, classes = f"{task.data.name}, {name} part{chosen_on}", task.data.classes
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
    store.write_sealed(folder / SCORES, seen)


def _png(x: Tensor) -> bytes | None:
    """Return an image [C, H, W], C 1 or 3, as PNG; what is not uint8 from its darkest to its brightest pixel."""
    from PIL import Image

    if x.dim() != 3 or len(x) not in (1, 3):
        return None
    if x.dtype != torch.uint8:
        x = x.cpu().float()
        x = ((x - x.min()) / (x.max() - x.min()).clamp_min(1e-30) * 255).round().to(torch.uint8)
    pixels = x.cpu().numpy()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy())
    image.thumbnail((_LARGEST_PICTURE, _LARGEST_PICTURE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
