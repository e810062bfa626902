"""Losses by name, and what each needs of the targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from surefoot.config import LossName
from surefoot.data.dataset import IGNORED, DataSet, TargetKind
from surefoot.errors import ConfigError, nearest

Loss = Callable[[Any, Any], Any]
"""(outputs [B, ...], targets [B, ...]) -> a scalar, the mean over the batch; one loss per example, [B]; or two scalars,
the sum of the losses and the number of what was summed, where a mean over examples is not what is meant."""

_OF_CLASSES, _OF_NUMBERS = ("cross-entropy", "bce"), ("mse", "mae", "huber", "bce")
_OF: dict[TargetKind, tuple[str, ...]] = {
    "classes": _OF_CLASSES, "numbers": _OF_NUMBERS, "multilabel": ("bce",), "segmentation": ("cross-entropy",),
    "tokens": ("cross-entropy",), "any": (),
}  # fmt: skip
"""The losses by name that each kind of targets has."""

_WEIGHTED: dict[TargetKind, LossName] = {
    "classes": "cross-entropy", "segmentation": "cross-entropy", "tokens": "cross-entropy", "multilabel": "bce",
}  # fmt: skip
"""The loss in which classes can be weighted, of the kinds of targets that have some."""
_ROWS_AT_ONCE = 1024

SHIPPED: dict[str, Loss] = {
    "mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss, "bce": F.binary_cross_entropy_with_logits,
}  # fmt: skip
"""Losses of numbers by name; the others are in `Task.objective`."""


def check_loss(name: Any, data: DataSet) -> LossName:
    """Return the name of a shipped loss after checking that it is one, and for such targets.

    Raises:
        ConfigError: there is no such loss, or it is for other targets.
    """
    names = _OF[data.target]
    every = tuple(dict.fromkeys(_OF_CLASSES + _OF_NUMBERS))
    if name not in every:
        allowed = f"a loss is one of {', '.join(every)}, or a function (outputs, targets)"
        raise ConfigError(f"loss = {name!r}", allowed, nearest(str(name), every))
    if name not in names:
        for_kinds = [kind for kind, theirs in _OF.items() if name in theirs]
        instead = f"choose {' or '.join(names)}, or set" if names else "give a loss of your own, or set"
        raise ConfigError(
            f"loss = {name!r} for targets that are {data.target}",
            f"{name} is for {', '.join(for_kinds)}",
            f'{instead} target = "{for_kinds[0]}" if these are {for_kinds[0]}',
        )
    if name == "bce" and data.classes is not None and len(data.classes) != 2:
        raise ConfigError(
            f"loss = 'bce' for {len(data.classes)} classes",
            "bce is for two classes, and for numbers from 0 to 1 that are each a yes or no",
            'choose cross-entropy, or give y [N, D] of 0 and 1 with target = "numbers"',
        )
    if name == "bce" and data.target == "numbers" and not bool(((data.train.y >= 0) & (data.train.y <= 1)).all()):
        low, high = float(data.train.y.min()), float(data.train.y.max())
        raise ConfigError(
            f"loss = 'bce' for targets from {low:g} to {high:g}",
            "bce takes targets from 0 to 1",
            "choose mse or huber",
        )
    return name


def reduced(value: Any) -> tuple[Tensor, Tensor | None]:
    """Return the mean of what a loss returned, a scalar, and over how many: None is over the examples of the batch.

    Raises:
        ValueError: it is none of what a `Loss` returns.

    >>> reduced((torch.tensor(6.0), torch.tensor(3)))
    (tensor(2.), tensor(3))
    """
    if isinstance(value, tuple) and len(value) == 2:
        total, count = (torch.as_tensor(each) for each in value)
        if total.numel() == 1 and count.numel() == 1:
            return total.sum() / torch.where(count > 0, count, 1).sum(), count.detach().sum()
    if not isinstance(value, Tensor):
        raise ValueError(f"it returned {type(value).__name__}")
    if not value.is_floating_point():
        raise ValueError(f"it returned {value.dtype}")
    return value.float().mean(), None


def dense_cross_entropy(
    outputs: Tensor, targets: Tensor, classes_at: int, label_smoothing: Any = 0.0, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy over all targets that are not `IGNORED`, and their number.

        sum of w_y (-(1 - s) log p_y - s mean_c log p_c) over positions, by their number

    Args:
        outputs: logits with an axis of classes, [B, C, H, W] or [B, T, C].
        targets: classes without it, [B, H, W] or [B, T].
        classes_at: the axis of the classes, 1 or -1.
        label_smoothing: s (Szegedy et al. 2016, section 7); a number or a scalar tensor.
        weights: w, [C]; None is 1.
    """
    likelihoods = F.log_softmax(outputs.float(), classes_at)
    counted = targets != IGNORED
    right = likelihoods.gather(classes_at, targets.clamp_min(0).unsqueeze(classes_at)).squeeze(classes_at)
    each = -right
    if not isinstance(label_smoothing, float) or label_smoothing:
        each = (1 - label_smoothing) * each - label_smoothing * likelihoods.mean(classes_at)
    if weights is not None:
        each = each * weights[targets.clamp_min(0)]
    count = counted.sum()
    return torch.where(counted, each, 0.0).sum() / count.clamp_min(1), count


def with_targets_for(data: DataSet, loss: Loss | str | None) -> DataSet:
    """Return the data with targets in their own unit where the loss takes them so.

    Raises:
        ConfigError: a loss of the user's would get them in float32, which loses their spread.
    """
    if data.target != "numbers" or not (callable(loss) or loss == "bce"):
        return data
    if data.train.y.dtype == torch.float64:
        raise ConfigError(
            "a loss of your own for targets that vary by less than a thousandth of what float32 can tell apart",
            "such a loss gets targets in their own unit, in float32",
            "subtract a number from the targets first, or choose mse, mae or huber, which standardise them",
        )
    return dataclasses.replace(data, target_mean=None, target_std=None)


def weighted_bce(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over examples and labels, each answer weighted by whether it is no or yes.

    Args:
        outputs, targets: logits, and labels of 0 and 1, [B, L].
        weights: of a no and of a yes, [2, L].
    """
    each = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    return (each * torch.where(targets > 0.5, weights[1], weights[0])).mean()


def balanced_weights(data: DataSet, criterion: LossName | None) -> Tensor:
    """Return N / (C n_c) for each class c of the training part, its mean over examples 1; 0 where there is none.

    Of masks and tokens N and n_c are pixels and positions that count. Of labels each has two classes, no and yes.

    Args:
        data: with classes, labels, masks or tokens.
        criterion: the shipped loss; None where it is the user's.

    Returns:
        [C], or [2, L] of labels.

    Raises:
        ConfigError: the loss is not the built-in one of such targets, which alone is weighted.

    Reference: King & Zeng 2001, "Logistic regression in rare events data"; scikit-learn's `class_weight="balanced"`.
    """
    wanted = _WEIGHTED.get(data.target)
    if wanted is None or criterion != wanted:
        what = f"targets that are {data.target}" if wanted is None else f"loss = {criterion or 'a function'}"
        raise ConfigError(
            f"class_weights = 'balanced' with {what}",
            "classes are weighted in the built-in cross-entropy, and labels in the built-in bce; others would not be",
            "leave class_weights out; a loss of your own can weigh its examples",
        )
    counts, examples = class_counts(data), len(data.train)
    if data.target == "multilabel":
        counts = torch.stack([examples - counts, counts])
        return torch.where(counts > 0, examples / ((counts > 0).sum(0) * counts.clamp_min(1)), 0.0)
    return torch.where(counts > 0, counts.sum() / ((counts > 0).sum() * counts.clamp_min(1)), 0.0)


def class_counts(data: DataSet) -> Tensor:
    """Return how often each class is a target of the training part, float32 [C], or a yes each label's, [L].

    Pixels and positions that are `IGNORED` do not count. It is read some rows at a time: it may lie on disk.
    """
    y = data.train.y
    total = torch.zeros(data.outputs, dtype=torch.int64, device=y.device)
    for at in range(0, len(y), _ROWS_AT_ONCE):
        piece = y[at : at + _ROWS_AT_ONCE]
        if data.target == "multilabel":
            total += (piece > 0.5).sum(0)
        else:
            total += torch.bincount(piece[piece != IGNORED], minlength=data.outputs)
    return total.float()
