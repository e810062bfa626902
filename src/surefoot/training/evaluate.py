"""Loss, accuracy and scores of weights on a part of the data, in evaluation mode, with nothing changed by it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.data import tree
from surefoot.data.batches import fetch_slice
from surefoot.data.dataset import IGNORED, Part
from surefoot.errors import DataError, is_out_of_memory
from surefoot.record import store
from surefoot.record.scores import SCORES, VERSION, scored_classes, scored_numbers
from surefoot.training.answers import AnswerCounts, prior_of
from surefoot.training.call import in_fp32
from surefoot.training.gathered import Gathered
from surefoot.training.memory import total_bytes
from surefoot.training.metrics import Meter
from surefoot.training.outputs import are_answers
from surefoot.training.state import named_tensors
from surefoot.training.task import Task

_BATCH_EXAMPLES = 1000
"""Examples evaluated at once. Larger was not faster on a CPU, and this bounds memory. Chosen by hand."""
_CARD_EXAMPLES = 4096
"""The same on a card, which has more units to fill. Chosen by hand."""
_CARD_SHARE, _SIZES = 0.125, 64
"""Share of a card's memory for what a model makes of them, and how many times their own numbers that is. Chosen by
hand; what does not fit is halved."""
_VALUES_AT_ONCE = 2**24
"""Outputs of pixels or tokens at once, 64 MB. Chosen by hand."""
_MOST_VALUES = 50_000_000
"""Most outputs N x C that are kept to be scored, 0.2 GB; a larger part has no scores. Chosen by hand."""
_GOLDEN = 0.6180339887
"""The golden ratio less 1: hues so far apart, of 1, never meet."""
_LARGEST_PICTURE = 96
"""Pixels on the longer side of a kept picture; larger ones are reduced. Chosen by hand."""

_ROUNDING = 2e-2
"""How far the sum of a softmax may be from 1: bfloat16 is off by up to 0.4 %, and the exponential of
its -7 by 1.6 %. Chosen by hand."""
_JUDGED = 100
"""Training examples by which a model is seen to end in a softmax. Chosen by hand."""


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, in the targets' unit, share of right answers over a part, None where none is right or wrong, and the
    task's metrics by name.
    """

    loss: float
    accuracy: float | None
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


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
        many = min(size, len(part) - first)
        try:
            x, y = fetch_slice(task.data, part, first, first + many)
            with evaluation_mode(model), torch.no_grad(), task.machine.autocast():
                outputs = task.outputs_with(model, used, x, y, tie_weights=False)
        except (RuntimeError, MemoryError) as error:
            if many == 1 or not is_out_of_memory(error):
                raise
            size = many // 2  # a mean over examples is the same in smaller pieces
            continue
        yield in_fp32(outputs), y
        first += many


def examples_at_once(task: Task) -> int:
    """Return how many examples are evaluated at once: fewer where each has many answers, as pixels and tokens are."""
    y = tree.leaves(task.data.train.y)[0]
    answers = task.data.outputs * math.prod(y.shape[1:]) if task.data.target in ("segmentation", "tokens") else 1
    return max(1, min(_most_examples(task), _VALUES_AT_ONCE // answers))


def _most_examples(task: Task) -> int:
    """Return the most examples that are evaluated at once: a rule by the memory of the device."""
    device = task.machine.device
    if device.type == "cpu":
        return _BATCH_EXAMPLES
    values = sum(math.prod(leaf.shape[1:]) for leaf in tree.leaves(task.data.train.x))
    return max(1, min(_CARD_EXAMPLES, int(_CARD_SHARE * total_bytes(device)) // (4 * _SIZES * max(1, values))))


def evaluate_part(
    task: Task,
    model: nn.Module,
    weights: Mapping[str, Tensor],
    part: Part,
    keep: list[tuple[Tensor, Tensor]] | None = None,
    *,
    metrics: bool = False,
    counts: AnswerCounts | None = None,
) -> Evaluation:
    """Return mean loss and accuracy of `weights` in `model` over a part, and the task's metrics if these are wanted.

    Label smoothing is left out, so that the loss means the same under every recipe. Outputs and targets of every batch
    are added to `keep`, on the CPU, where that is a list; and answers of which each example has several to `counts`.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> model = digits.fresh_model()
    >>> round(evaluate_part(digits, model, model.state_dict(), digits.data.train).loss, 4)  # ln 10
    2.3026
    """
    loss: Any = 0.0  # sums stay on the device: what is read back waits there for all that is computed
    correct, counted, examples, answers = loss, loss, 0, loss
    meter = Meter(task, len(part)) if metrics and task.metrics.every else None
    pair = Gathered(len(part))
    for outputs, targets in outputs_of(task, model, weights, part):
        here = len(tree.leaves(targets)[0])
        mean, count = task.counted(outputs, targets)
        count = here if count is None else count.detach().double()
        loss = loss + mean.detach().double() * task.loss_unit * count
        counted = counted + count
        if task.counts_right:  # a batch weighs by its answers, so that the share is of all, however they are batched
            of_batch = task.answers(targets)
            correct = correct + task.right(outputs, targets).double() * (of_batch / here)
            answers = answers + of_batch
        examples += here
        if counts is not None:
            counts.add(outputs, targets)
        if meter is not None:
            meter.update(outputs, targets)
        if keep is not None:
            pair.add((outputs, targets))
    if keep is not None and pair.whole is not None:
        keep.append(pair.whole)
    loss, correct, counted, answers = map(float, (loss, correct, counted, answers))
    accuracy = correct / answers if answers else None
    found = {} if meter is None else meter.compute(accuracy)
    return Evaluation(loss / counted if counted else math.nan, accuracy, examples, found)


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
    return all(are_probabilities(outputs) for outputs, _ in outputs_of(task, model, weights, few))


def judged_part(task: Task) -> tuple[str, Part | None]:
    """Return the part that a finished model is judged on, and its name: test, or else the validation part."""
    data = task.data
    return ("test", data.test) if data.test is not None else ("validation", data.validation)


def may_be_scored(task: Task) -> bool:
    """Return whether the outputs on the part that is judged mean what scores take them for, and fit into memory."""
    _, part = judged_part(task)
    few = part is not None and len(part) * task.data.outputs <= _MOST_VALUES
    return few and task.data.target in ("classes", "numbers") and task.loss_fn is None and are_answers(task)


def answer_counts(task: Task, examples: int) -> AnswerCounts | None:
    """Return what counts the answers of a part, several of each example; None where that means nothing."""
    if task.data.target not in ("multilabel", "segmentation", "tokens") or not task.counts_right:
        return None
    return AnswerCounts(task, examples, tuple(task.data.names or ()), prior_of(task))


def scored_name(task: Task, name: str) -> str:
    """Return what scores are of.

    Args:
        task: that was learned.
        name: of the part.
    """
    chosen_on = " (there is no test part; choices may have been made on it)" if name == "validation" else ""
    return f"{task.data.name}, {name} part{chosen_on}"


def write_answers(
    folder: Path, task: Task, name: str, part: Part, counts: AnswerCounts, judged: Evaluation
) -> None:  # fmt: skip
    """Write `scores.json` of answers of which each example has several; none of a loss that is not finite.

    Args:
        folder: of the run.
        task: that was learned.
        name: of the part.
        part: the part itself.
        counts, judged: what was seen of it.
    """
    if counts.answers and math.isfinite(judged.loss):
        scores = counts.scores(scored_name(task, name), judged.examples, judged.loss)
        images = task.data.kind == "images"
        masks = [
            {"name": part.name_of(at), "right": share,
             "png": _encoded(_png(part.x[at])) if images else None,
             "true_png": _encoded(_mask_png(part.y[at])), "predicted_png": _encoded(_mask_png(guessed))}
            for share, at, guessed in counts.worst
        ]  # fmt: skip
        seen = {"version": VERSION, "kind": scores.target, **scores.to_dict()}
        store.write_sealed(folder / SCORES, seen | ({"masks": masks} if masks else {}))


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
    of, classes = scored_name(task, name), task.data.classes
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
    return _saved(image)


def _mask_png(classes: Tensor) -> bytes:
    """Return classes of pixels [H, W] as PNG, each class in a colour of its own, `IGNORED` in white.

    Colours are hues a golden angle apart, so that those of neighbouring classes differ (Vogel 1979, of seeds).
    """
    from PIL import Image

    hues = (classes.cpu().double().clamp_min(0) * _GOLDEN * 255 % 256).to(torch.uint8)
    ignored = classes.cpu() == IGNORED
    saturation = torch.where(ignored, 0, 170).to(torch.uint8)
    layers = torch.stack([hues, saturation, torch.where(ignored, 255, 220).to(torch.uint8)], -1)
    image = Image.fromarray(layers.numpy(), "HSV").convert("RGB")
    image.thumbnail((_LARGEST_PICTURE, _LARGEST_PICTURE), Image.Resampling.NEAREST)
    return _saved(image)


def _saved(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _encoded(png: bytes | None) -> str | None:
    return None if png is None else base64.b64encode(png).decode()
