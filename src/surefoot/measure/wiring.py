"""What is measured on one batch of an untrained copy: does it fit, and do loss, gradient and modes agree."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surefoot.data.batches import epoch_order, fetch
from surefoot.data.dataset import DataSet
from surefoot.seeds import generator, torch_stream
from surefoot.training.machine import Machine
from surefoot.training.task import Task

BATCH = 128
"""Examples of a batch. Chosen by hand."""
_MOST_NUMBERS = 2_000_000
_LEAST = 16
"""A batch holds no more input numbers than this, nor fewer examples: 13 images of 224 x 224 would take minutes to
look at in batches of 128. Chosen by hand."""
_CLOSE = 1e-4
"""Relative difference below which two float32 losses are one. Chosen by hand, a hundred times their rounding."""
_STEPS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Step sizes along -g, as the share of the loss that they would take off if it were linear. Chosen by hand."""
_WARMING = 10
"""Forward passes that fill batch norm's statistics before both modes are compared. Chosen by hand."""
MODES_PASSES = _WARMING + 2
"""Forward passes of a batch that `modes` takes."""
DESCENT_PASSES = 1 + len(_STEPS)
"""Forward passes that `descent` takes besides that of its gradient."""
_RESHAPING = ("View", "UnsafeView", "Squeeze", "Unsqueeze", "Reshape", "Select", "ToCopy")
"""What may come after a sigmoid without computing anything, as autograd names it."""
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def batch(task: Task, number: int = 0, examples: int = BATCH) -> tuple[Tensor, Tensor]:
    """Return a batch of training examples, x [B, ...] and y [B]: those of the first epoch's order, going round."""
    order = epoch_order(task.data.examples, task.seed, 0)
    size = min(examples, len(order), max(_LEAST, _MOST_NUMBERS // max(1, math.prod(task.data.input_shape))))
    rows = order[np.arange(number * size, (number + 1) * size) % len(order)]
    return fetch(task.data, task.data.train, rows, augment=None, seed=task.seed, epoch=0)


def forward(task: Task, model: nn.Module, x: Tensor) -> Tensor:
    """Return the outputs in fp32, with the randomness of dropout at a fixed address."""
    with torch_stream(task.seed, "probe"), task.machine.autocast():
        return model(x).float()


@dataclass(frozen=True)
class Fit:
    """Whether a batch goes through the model, and what labels it must answer.

    Attributes:
        batch: examples in it.
        input_shape: of one example.
        outputs: shape of what came out; None where nothing or no tensor came out, and then `problem` says why.
        targets: shape of the batch's targets.
        labels: least and largest label in the training part; None for numbers.
        classes: labels that occur.
        problem: the model's own words.
    """

    batch: int
    input_shape: tuple[int, ...]
    outputs: tuple[int, ...] | None
    targets: tuple[int, ...]
    labels: tuple[int, int] | None
    classes: int
    problem: str | None = None


def fit(data: DataSet, template: nn.Module, machine: Machine, seed: int) -> Fit:
    """Return whether a small batch goes through a copy of the model. The loss is not asked yet."""
    part = data.train
    rows = np.arange(min(4, len(part.y)))
    x, y = fetch(data, part, rows, augment=None, seed=seed, epoch=0)
    present = torch.unique(part.y) if not part.y.is_floating_point() and part.y.dim() == 1 else None
    labels = (int(present.min()), int(present.max())) if present is not None and data.classes is not None else None
    known: dict[str, Any] = {
        "batch": len(rows),
        "input_shape": data.input_shape,
        "targets": tuple(y.shape),
        "labels": labels,
        "classes": len(present) if labels is not None and present is not None else 0,
    }
    try:
        with torch_stream(seed, "probe"), torch.no_grad(), machine.autocast():
            outputs = machine.place_model(copy.deepcopy(template)).eval()(machine.place(x))
    except Exception as error:  # the model may be anyone's, and raise anything
        problem = (str(error) or repr(error)).splitlines()[0]
        return Fit(**known, outputs=None, problem=problem)
    if not isinstance(outputs, Tensor):
        return Fit(**known, outputs=None, problem=f"it returned {type(outputs).__name__}, no tensor")
    return Fit(**known, outputs=tuple(outputs.shape))


@dataclass(frozen=True)
class LossKind:
    """What the loss is in fact, found by trying it on made-up outputs.

    Attributes:
        cross_entropy: it takes logits and is the cross-entropy.
        log_likelihood: it takes log-probabilities and is the negative log-likelihood.
        binary: it takes one logit for each target of 0 or 1 and is the cross-entropy of two classes.
        sums: it adds up over the batch where it should average.
        right, wrong: its value where the outputs speak for the targets, and where they speak against them.
    """

    cross_entropy: bool
    log_likelihood: bool
    binary: bool
    sums: bool
    right: float
    wrong: float


def loss_kind(task: Task, outputs: Tensor, y: Tensor) -> LossKind:
    """Return what the task's loss is, from made-up outputs of the shape of `outputs`, [B, ...], and targets y."""
    rng = generator(task.seed, "probe-loss")
    made = torch.from_numpy(rng.normal(size=tuple(outputs.shape)).astype(np.float32)).to(outputs.device)
    value = _value(task, made, y)
    doubled = _value(task, torch.cat([made, made]), torch.cat([y, y]))
    right, wrong = _directions(task, made, y)
    kinds = {"cross_entropy": F.cross_entropy, "log_likelihood": F.nll_loss}
    is_kind = {name: task.classifies and _near(value, float(kind(made, y))) for name, kind in kinds.items()}
    return LossKind(
        **is_kind,
        binary=_is_zero_or_one(task, y, made) and _near(value, _binary(made, y)),
        sums=task.loss is not None and not _near(value, doubled) and _near(2 * value, doubled),
        right=right,
        wrong=wrong,
    )


def _is_zero_or_one(task: Task, y: Tensor, outputs: Tensor) -> bool:
    return not task.classifies and outputs.numel() == y.numel() and set(torch.unique(y).tolist()) <= {0, 1}


def _binary(outputs: Tensor, y: Tensor) -> float:
    return float(F.binary_cross_entropy_with_logits(outputs.reshape(y.shape), y.float()))


def _directions(task: Task, made: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the loss of outputs that speak for the targets, and of outputs that speak against them; NaN: no answer.

    Numbers: the targets themselves, and the targets of other examples, which no sensible loss prefers (for squared and
    absolute error, and for likelihoods in one parameter, by the rearrangement inequality).
    """
    if task.classifies:
        right = 3.0 * F.one_hot(y, made.shape[1]).float()
        return _value(task, right, y), _value(task, right.roll(1, dims=1), y)
    if made.numel() != y.numel():
        return math.nan, math.nan
    values = y.float().reshape(made.shape)
    if _is_zero_or_one(task, y, made):  # perhaps the logits of two classes
        values = 6.0 * values - 3.0
        return _value(task, values, y), _value(task, -values, y)
    order = torch.argsort(values.reshape(len(values), -1)[:, 0])
    against = torch.empty_like(values)
    against[order] = values[order.flip(0)]
    return _value(task, values, y), _value(task, against, y)


def _value(task: Task, outputs: Tensor, y: Tensor) -> float:
    try:
        return float(task.mean_loss(outputs, y))
    except Exception:  # the user's loss may refuse what is made up, which then answers nothing
        return math.nan


def _near(a: float, b: float) -> bool:
    return math.isfinite(a) and abs(a - b) <= _CLOSE * max(abs(a), abs(b), 1e-3)


@dataclass(frozen=True)
class Modes:
    """One batch in training mode without dropout, and in evaluation mode after batch norm has seen some batches.

    Attributes:
        train_loss, eval_loss: mean losses, the same examples in both.
        train_probabilities, eval_probabilities: every row of the outputs is at least 0 and sums to 1.
        train_log_probabilities: the exponentials of every row sum to 1.
        ends_in_sigmoid: the last thing that computes the outputs is a sigmoid. Outputs between 0 and 1 would not say
            so: those of a fresh network may all lie there by chance.
    """

    train_loss: float
    eval_loss: float
    train_probabilities: bool
    eval_probabilities: bool
    train_log_probabilities: bool
    ends_in_sigmoid: bool


def modes(task: Task) -> Modes:
    """Return what both modes give for the first batch, on a copy whose batch norms have taken averages of ten."""
    model = task.fresh_model().train()
    for module in model.modules():
        if isinstance(module, _DROPOUTS):
            module.eval()
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # statistics become the plain average of what was seen
            module.reset_running_stats()
    x, y = batch(task)
    ends_in_sigmoid = _ends_in_sigmoid(forward(task, model, x))
    with torch.no_grad():
        for number in range(1, _WARMING):
            forward(task, model, batch(task, number)[0])
        trained = forward(task, model, x)
        evaluated = forward(task, model.eval(), x)
        return Modes(
            train_loss=float(task.mean_loss(trained, y)),
            eval_loss=float(task.mean_loss(evaluated, y)),
            train_probabilities=task.classifies and _are_probabilities(trained),
            eval_probabilities=task.classifies and _are_probabilities(evaluated),
            train_log_probabilities=task.classifies and _are_probabilities(trained.exp()),
            ends_in_sigmoid=ends_in_sigmoid,
        )


def _ends_in_sigmoid(outputs: Tensor) -> bool:
    node = outputs.grad_fn
    while node is not None and node.name().startswith(_RESHAPING):
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith("SigmoidBackward")


def _are_probabilities(outputs: Tensor) -> bool:
    sums = outputs.sum(1)
    return bool((outputs >= 0).all()) and bool(torch.allclose(sums, torch.ones_like(sums), atol=2e-2))


@dataclass(frozen=True)
class Descent:
    """What a small step along the negative gradient does to the loss of the same batch.

    Attributes:
        loss: before it.
        noise: how far two values of it at the same weights lie apart.
        grad_norm: length of the gradient over all parameters.
        changes: of the loss, one for each step size.
        shares: those step sizes, as the share of the loss that a linear loss would lose.
    """

    loss: float
    noise: float
    grad_norm: float
    changes: tuple[float, ...]
    shares: tuple[float, ...] = _STEPS


def descent(task: Task) -> Descent:
    """Return what small steps along -g do to the loss, in training mode with the same dropout every time."""
    model = task.fresh_model().train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    x, y = batch(task)

    def loss_now() -> Tensor:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        return task.mean_loss(forward(task, model, x), y)

    loss = loss_now()
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    value = float(loss.detach())
    squared = sum(float(grad.double().square().sum()) for grad in grads if grad is not None)
    with torch.no_grad():
        noise = abs(float(loss_now()) - value)
        if not (squared > 0 and math.isfinite(squared) and math.isfinite(value)):
            return Descent(value, noise, math.sqrt(squared) if squared >= 0 else math.nan, ())
        before = [parameter.clone() for parameter in parameters]
        changes = []
        for share in _STEPS:
            size = share * max(abs(value), 1e-3) / squared
            for parameter, old, grad in zip(parameters, before, grads, strict=True):
                if grad is not None:
                    parameter.copy_(old - size * grad)
            changes.append(float(loss_now()) - value)
    return Descent(value, noise, math.sqrt(squared), tuple(changes))
