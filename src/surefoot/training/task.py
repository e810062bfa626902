"""A task is what is to be learned and where: data, model and loss, with augmentation, seed and machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from surefoot.config import LossName
from surefoot.data.augment import Augment
from surefoot.data.dataset import IGNORED, DataSet, TargetKind
from surefoot.data.tree import leaves
from surefoot.errors import ConfigError
from surefoot.models.build import Factory
from surefoot.models.usable import copied
from surefoot.rules.groups import Group
from surefoot.training.call import (
    Bound,
    Forward,
    LossFn,
    arguments,
    batch_of,
    bound_names,
    called,
    in_fp32,
    logits_of,
)
from surefoot.training.groups import freeze_
from surefoot.training.losses import (
    SHIPPED,
    Loss,
    dense_cross_entropy,
    reduced,
    weighted_bce,
)
from surefoot.training.machine import Machine
from surefoot.training.metrics import MetricSet
from surefoot.training.optimizer import OptimizerFactory

_USUAL_LOSS: dict[TargetKind, LossName | None] = {
    "classes": "cross-entropy", "numbers": "mse", "multilabel": "bce", "segmentation": "cross-entropy",
    "tokens": "cross-entropy", "any": None,
}  # fmt: skip
_CLASSES_AT = {"segmentation": 1, "tokens": -1}
"""The axis of the outputs along which the classes of a pixel or a position lie."""


@dataclass(frozen=True)
class Task:
    """Data + model + loss, ready to be trained by any plan.

    Attributes:
        data: the parts, checked and on the device.
        template: the freshly initialised model. Each run trains a copy, so it stays as it is.
        loss: the user's loss, or None for a shipped one.
        loss_name: of the shipped loss; None for cross-entropy (classes) or mean squared error (numbers).
        augment: applied to training batches, or None.
        seed: of the order of examples, augmentation and dropout.
        machine: where it runs.
        model: what the template was built from, a module excepted: see `reseeded`.
        class_weights: what an example of each class counts in the training loss, [C], or of each label a no and a yes,
            [2, L]; None is 1.
        reshapes: whether a user's loss gets outputs in the targets' shape, since as they are they would broadcast.
        draws: whether model or loss draw from NumPy's or Python's generators, which are then set at each step.
        trained: whether the template's weights were learned before, so that no seed makes them anew.
        forward: how the model is called, or None for `training.call.called`.
        loss_fn: the user's loss of model and batch, in place of outputs and loss, or None.
        optimizer: makes the optimizer that moves the weights in place of a rule; None follows the recipe's rule.
        counts_right: whether outputs are answers of which a share is right: accuracy means something.
        metrics: that rows have of the validation part.
    """

    data: DataSet
    template: nn.Module
    loss: Loss | None
    augment: Augment | None
    seed: int
    machine: Machine
    model: str | Factory | None = None
    reshapes: bool = False
    draws: bool = False
    loss_name: LossName | None = None
    class_weights: Tensor | None = None
    trained: bool = False
    forward: Forward | None = None
    loss_fn: LossFn | None = None
    optimizer: OptimizerFactory | None = None
    counts_right: bool = False
    metrics: MetricSet = field(default_factory=MetricSet)

    @property
    def custom_loss(self) -> bool:
        """Whether the loss is the user's."""
        return self.loss is not None or self.loss_fn is not None

    @property
    def criterion(self) -> LossName | None:
        """The shipped loss by its name; None where the loss is the user's."""
        return None if self.custom_loss else self.loss_name or _USUAL_LOSS[self.data.target]

    @property
    def loss_unit(self) -> float:
        """What `objective` is multiplied by to be in the unit of the targets: their variance, or deviation for mae.

        It is 1 where targets are not standardised, and where there are several: a sum of squared dollars and squared
        years means nothing, so the loss stays the mean over targets of the share of their variance.
        """
        std = self.data.target_std
        if std is None or std.numel() != 1:
            return 1.0
        return float(std) if self.criterion == "mae" else float(std) ** 2

    @property
    def classifies(self) -> bool:
        """Whether targets are classes, one for each example."""
        return self.data.classes is not None

    def close(self) -> None:
        """End the processes that read its data ahead; they begin again where a batch is read."""
        if self.augment is not None and self.augment.reader is not None:
            self.augment.reader.close()

    def outputs(self, model: nn.Module, inputs: Any, targets: Any) -> Any:
        """Return what the model makes of a batch, by `forward` or its form; with a `loss_fn` the loss that it returns.

        Args:
            model: in the modes in which it is to compute.
            inputs, targets: trees, as `fetch` gives them.
        """
        if self.loss_fn is not None:
            return self.loss_fn(model, batch_of(inputs, targets, self.data.label_name))
        return (self.forward or called)(model, inputs)

    def outputs_with(
        self, model: nn.Module, tensors: dict[str, Tensor], inputs: Any, targets: Any, *, tie_weights: bool
    ) -> Any:
        """Return the same with other weights and buffers, by name, in the model, which stays as it is.

        Args:
            model, inputs, targets: as above.
            tensors: in place of the model's.
            tie_weights: whether tied weights come under one of their names; if not they come under all, with one value.
        """
        if self.forward is None and self.loss_fn is None:
            args, kwargs = arguments(inputs)
            return logits_of(functional_call(model, tensors, args, kwargs, tie_weights=tie_weights))
        bound = Bound(model, self.outputs)
        return functional_call(bound, bound_names(tensors), (inputs, targets), tie_weights=tie_weights)

    def fresh_model(self, groups: tuple[Group, ...] = ()) -> nn.Module:
        """Return a new copy of the initialised model, its modules in the modes of training: see `training_modes_`.

        What `groups` freeze is frozen in it, see `training.groups.freeze_`, which says what errors there are.
        """
        return freeze_(training_modes_(copied(self.template)), groups)

    def objective(self, outputs: Any, targets: Any, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of a batch in fp32, as a scalar tensor, whose gradient is followed.

        Of standardised targets it is a share of their variance or deviation; the bend of huber is at one deviation.

        Args:
            outputs: logits [B, C], or values [B] or [B, D]; of other targets (`TargetKind`) multilabel [B, L],
                segmentation [B, C, H, W], tokens [B, T, C]; of a loss of the user's whatever the model gives.
            targets: classes [B], or values of the outputs' shape, as `fetch` gives them.
            label_smoothing: of the built-in cross-entropy (Szegedy et al. 2016, section 7); other losses have none, see
                `check_label_smoothing`.
        """
        return self.counted(outputs, targets, label_smoothing)[0]

    def counted(self, outputs: Any, targets: Any, label_smoothing: Any = 0.0) -> tuple[Tensor, Tensor | None]:
        """Return `objective`, and over how many it is the mean; None is over the examples of the batch."""
        outputs = in_fp32(outputs)
        if self.loss_fn is not None:
            return reduced(outputs)
        if self.loss is not None:
            return reduced(self.loss(outputs.reshape(targets.shape) if self.reshapes else outputs, targets))
        if self.data.target in _CLASSES_AT:
            return dense_cross_entropy(outputs, targets, _CLASSES_AT[self.data.target], label_smoothing)
        if self.criterion == "cross-entropy":
            return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing), None
        if self.classifies:  # of two classes: the logit of the second against the first
            return F.binary_cross_entropy_with_logits(outputs[:, 1] - outputs[:, 0], targets.float()), None
        return SHIPPED[self.criterion or "mse"](outputs.reshape(targets.shape), targets), None

    def training_loss(self, outputs: Any, targets: Any, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """Return `counted` with each example weighted by its class, which is what training follows.

        Divided by the number of examples, and not by their weights as torch's `weight` has it: then the mean over the
        pieces of a batch is that over the batch, and a batch of common classes is no larger a step than another.
        """
        if self.class_weights is None:
            return self.counted(outputs, targets, label_smoothing)
        if self.data.target in _CLASSES_AT:
            at = _CLASSES_AT[self.data.target]
            return dense_cross_entropy(outputs, targets, at, label_smoothing, self.class_weights)
        if self.data.target == "multilabel":
            return weighted_bce(outputs.float().reshape(targets.shape), targets, self.class_weights), None
        each = F.cross_entropy(outputs.float(), targets, label_smoothing=label_smoothing, reduction="none")
        return (each * self.class_weights[targets]).mean(), None

    def right(self, outputs: Any, targets: Any) -> Tensor:
        """Return how many examples of a batch are answered right, a scalar; 0 where no answer is right or wrong.

        An example with several answers (pixels, positions, yes or no) counts by the share of them that is right, in the
        mean over the batch.
        """
        if not self.counts_right:
            return torch.zeros(())
        if self.classifies:
            return (outputs.argmax(1) == targets).sum()
        if self.data.target == "multilabel":
            return ((outputs > 0) == (targets > 0.5)).float().mean() * len(targets)
        counted = targets != IGNORED
        guessed = outputs.argmax(_CLASSES_AT[self.data.target])
        return ((guessed == targets) & counted).sum() / counted.sum().clamp_min(1) * len(targets)

    def answers(self, targets: Any) -> int | Tensor:
        """Return how many answers of a batch are right or wrong: those that count, of pixels and positions, as a
        float64 scalar on their device; examples of other targets, of which each has as many.
        """
        if self.data.target in _CLASSES_AT:
            return (targets != IGNORED).sum().double()
        return len(leaves(targets)[0])

    def mean_loss(self, outputs: Any, targets: Any, label_smoothing: float = 0.0) -> Tensor:
        """Return `objective` in the unit of the targets: what is recorded and shown. Arguments as there."""
        loss, unit = self.objective(outputs, targets, label_smoothing), self.loss_unit
        return loss * unit if unit != 1 else loss


def training_modes_(model: nn.Module) -> nn.Module:
    """Put a model into the modes in which it trains, in place, and return it.

    One that is in training mode stays as it is: a module in it that is in evaluation mode was put there on purpose, as
    the batch norm of a body that is not trained. One that is in evaluation mode as a whole was saved or used last, and
    trains, but for the modules whose parameters are all frozen.

    >>> model = nn.Sequential(nn.BatchNorm1d(2).requires_grad_(False), nn.Linear(2, 1)).eval()
    >>> [module.training for module in training_modes_(model)]
    [False, True]
    """
    if not model.training:
        parameters = list(model.parameters())
        if not parameters or any(parameter.requires_grad for parameter in parameters):
            model.training = True
            for module in model.children():
                training_modes_(module)
    return model


def check_label_smoothing(task: Task, label_smoothing: float) -> None:
    """Raise ConfigError where a task's loss is not the cross-entropy that would be smoothed."""
    if label_smoothing and task.criterion != "cross-entropy":
        name = f"loss = {task.criterion or _name(task.loss or task.loss_fn)}"
        raise ConfigError(
            f"label_smoothing = {label_smoothing:g} with {name}",
            "label smoothing belongs to the built-in cross-entropy, and would be without effect",
            "leave label_smoothing out, and smooth inside your loss: torch.nn.CrossEntropyLoss has label_smoothing",
        )


def _name(loss: Any) -> str:
    return getattr(loss, "__name__", type(loss).__name__)


def class_axis(task: Task) -> int | None:
    """Return the axis of the outputs along which classes lie; None where outputs are no classes.

    >>> import surefoot
    >>> class_axis(surefoot.task(surefoot.load("digits"), "linear"))
    1
    """
    return 1 if task.classifies else _CLASSES_AT.get(task.data.target)
