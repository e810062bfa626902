"""Losses by name, and what each needs of the targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from surefoot.config import LossName
from surefoot.data.dataset import DataSet
from surefoot.errors import ConfigError, nearest

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs [B, ...], targets [B, ...]) -> a scalar, the mean over the batch, or one loss per example, [B]."""

_OF_CLASSES, _OF_NUMBERS = ("cross-entropy", "bce"), ("mse", "mae", "huber", "bce")

SHIPPED: dict[str, Loss] = {
    "mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss, "bce": F.binary_cross_entropy_with_logits,
}  # fmt: skip
"""Losses of numbers by name; the others are in `Task.objective`."""


def check_loss(name: Any, data: DataSet) -> LossName:
    """Return the name of a shipped loss after checking that it is one, and for such targets.

    Raises:
        ConfigError: there is no such loss, or it is for other targets.
    """
    names = _OF_NUMBERS if data.classes is None else _OF_CLASSES
    every = tuple(dict.fromkeys(_OF_CLASSES + _OF_NUMBERS))
    if name not in every:
        allowed = f"a loss is one of {', '.join(every)}, or a function (outputs, targets)"
        raise ConfigError(f"loss = {name!r}", allowed, nearest(str(name), every))
    if name not in names:
        kind, other = ("numbers", "classes") if data.classes is None else ("classes", "numbers")
        advice = f'choose {" or ".join(names)}, or set target = "{other}" if these are {other}'
        raise ConfigError(f"loss = {name!r} for targets that are {kind}", f"{name} is for {other}", advice)
    if name == "bce" and data.classes is not None and len(data.classes) != 2:
        raise ConfigError(
            f"loss = 'bce' for {len(data.classes)} classes",
            "bce is for two classes, and for numbers from 0 to 1 that are each a yes or no",
            'choose cross-entropy, or give y [N, D] of 0 and 1 with target = "numbers"',
        )
    if name == "bce" and data.classes is None and not bool(((data.train.y >= 0) & (data.train.y <= 1)).all()):
        low, high = float(data.train.y.min()), float(data.train.y.max())
        raise ConfigError(
            f"loss = 'bce' for targets from {low:g} to {high:g}",
            "bce takes targets from 0 to 1",
            "choose mse or huber",
        )
    return name


def with_targets_for(data: DataSet, loss: Loss | str | None) -> DataSet:
    """Return the data with targets in their own unit where the loss takes them so.

    Raises:
        ConfigError: a loss of the user's would get them in float32, which loses their spread.
    """
    if data.classes is not None or not (callable(loss) or loss == "bce"):
        return data
    if data.train.y.dtype == torch.float64:
        raise ConfigError(
            "a loss of your own for targets that vary by less than a thousandth of what float32 can tell apart",
            "such a loss gets targets in their own unit, in float32",
            "subtract a number from the targets first, or choose mse, mae or huber, which standardise them",
        )
    return dataclasses.replace(data, target_mean=None, target_std=None)


def balanced_weights(data: DataSet, criterion: LossName | None) -> Tensor:
    """Return N / (C n_c) for each class c of the training part, its mean over examples 1; 0 where there is none.

    Args:
        data: with classes.
        criterion: the shipped loss; None where it is the user's.

    Raises:
        ConfigError: the loss is not the cross-entropy, which alone is weighted.

    Reference: King & Zeng 2001, "Logistic regression in rare events data"; scikit-learn's `class_weight="balanced"`.
    """
    if criterion != "cross-entropy":
        what = "numbers as targets" if data.classes is None else f"loss = {criterion or 'a function'}"
        raise ConfigError(
            f"class_weights = 'balanced' with {what}",
            "classes are weighted in the built-in cross-entropy, and would not be here",
            "leave class_weights out; a loss of your own can weigh its examples",
        )
    y = data.train.y
    counts = torch.bincount(y, minlength=data.outputs).float()
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(y) / (present * counts.clamp_min(1)), torch.zeros_like(counts))
