"""A task is what is to be learned and where: data, model and loss, with augmentation, seed and machine."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from surefoot.config import LossName
from surefoot.data.augment import Augment, Call, listed, parse
from surefoot.data.batches import epoch_order, fetch
from surefoot.data.columns import unembedded
from surefoot.data.dataset import IGNORED, DataSet, TargetKind
from surefoot.errors import ConfigError
from surefoot.models.build import Factory, build, embeds
from surefoot.models.usable import copied
from surefoot.rules.groups import Group
from surefoot.seeds import generator_states, torch_stream
from surefoot.switches import usual_switches
from surefoot.training.call import (
    Bound,
    Forward,
    LossFn,
    arguments,
    batch_of,
    bound_names,
    called,
    function_of,
    in_fp32,
    logits_of,
)
from surefoot.training.groups import freeze_
from surefoot.training.integers import check_embedded, with_integers_for
from surefoot.training.losses import (
    SHIPPED,
    Loss,
    balanced_weights,
    check_loss,
    dense_cross_entropy,
    reduced,
    weighted_bce,
    with_targets_for,
)
from surefoot.training.machine import Machine, machine, takes_channels_last
from surefoot.training.metrics import Metric, MetricSet, asked_metrics, metrics_of, tried_metrics
from surefoot.training.optimizer import OptimizerFactory, try_optimizer
from surefoot.training.outputs import (
    answers_fit,
    check_gradient,
    check_shifted,
    copied_targets,
    described,
    outputs_of_trial,
)
from surefoot.training.preprocessed import Preprocessed
from surefoot.training.state import packed_extra_state

_INITIAL_EXAMPLES = 1000
"""Training examples shown to a model that initialises itself from data. Chosen by hand."""

_USUAL_LOSS: dict[TargetKind, LossName | None] = {
    "classes": "cross-entropy", "numbers": "mse", "multilabel": "bce", "segmentation": "cross-entropy",
    "tokens": "cross-entropy", "any": None,
}  # fmt: skip
_CLASSES_AT = {"segmentation": 1, "tokens": -1}
"""The axis of the outputs along which the classes of a pixel or a position lie."""

_FAR = 10.0
"""Mean or deviation of targets, or one over it, from which a network at its start is far from them. Chosen by hand."""


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

    def mean_loss(self, outputs: Any, targets: Any, label_smoothing: float = 0.0) -> Tensor:
        """Return `objective` in the unit of the targets: what is recorded and shown. Arguments as there."""
        loss, unit = self.objective(outputs, targets, label_smoothing), self.loss_unit
        return loss * unit if unit != 1 else loss


@usual_switches
def task(
    data: DataSet,
    model: str | nn.Module | Factory,
    *,
    loss: Loss | str | None = None,
    augment: str | Sequence[str | Callable[[Tensor], Tensor]] | Callable[[Tensor], Tensor] | Augment = (),
    class_weights: Literal["balanced"] | None = None,
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    metrics: str | Metric | Sequence[str | Metric] | Mapping[str, Metric | str | None] | None = None,
    optimizer: OptimizerFactory | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Task:
    """Return the task, having tried one small batch through model and loss.

    Args:
        data: from `surefoot.load`.
        model: a shipped name, "package.module:factory", a factory, or a module, which is copied. A fresh model with a
            method `initialize_from(x)` is shown 1,000 normalised training examples by it.
        loss: the name of a shipped loss, as in `Config`; or (outputs, targets) -> scalar, [B] or (sum, count), which
            gets targets in their own unit, not standardised, and may be named as "package.module:function", as
            `forward` and `loss_fn` may be; None chooses by the targets.
        augment: a name of an augmentation, a callable on a batch of images, or a list of these.
        class_weights: as in `Config`.
        forward: (model, inputs) -> outputs; None calls the model by the form of its inputs, see `training.call.called`.
        loss_fn: (model, batch) -> a loss as above, in place of `forward` and `loss`; a batch is (x, y), or the mapping
            that an example was.
        metrics: that rows have of the validation part: names as in `Config`, functions (outputs, targets) -> a number,
            or a mapping of names to these, see `training.metrics.Metric`; None is what is usual for the targets.
        optimizer: as in `surefoot.train`; plans for it are of Recipe(rule="optimizer", lr=its rate).
        seed: of everything random in the task, the initialisation included.
        device, precision, threads: as in `Config`.

    Raises:
        ConfigError: model, loss, augmentation, optimizer or device cannot be used with this data.

    >>> import surefoot
    >>> digits = surefoot.load("digits")
    >>> task(digits, "linear").classifies
    True
    """
    model, asked = model.net if isinstance(model, Preprocessed) else model, asked_metrics(metrics)
    forward, loss_fn = function_of(forward, "forward"), function_of(loss_fn, "loss_fn")
    loss = function_of(loss, "loss")
    if isinstance(loss, type):
        raise ConfigError(
            f"loss = {loss.__name__}, a class", "a loss is a function (outputs, targets)", f"pass {loss.__name__}()"
        )
    if loss_fn is not None and (loss is not None or forward is not None):
        raise ConfigError(
            f"loss_fn with {'loss' if loss is not None else 'forward'}",
            "loss_fn(model, batch) calls the model and computes the loss",
            "give loss_fn alone, or forward and loss without it",
        )
    if data.target == "any" and not (callable(loss) or loss_fn is not None):
        raise ConfigError(
            "targets of any form with a loss by name" if loss else "targets of any form without a loss",
            "only a loss of your own can take them",
            "give loss=(outputs, targets) -> loss, or loss_fn=(model, batch) -> loss",
        )
    name = None if loss is None or callable(loss) else check_loss(loss, data)
    data = with_targets_for(data if embeds(model) else unembedded(data), loss_fn or loss)
    template = build(model, data.input_shape, data.outputs, seed, data.categories)
    data = with_integers_for(data, template)
    packed_extra_state(template)  # what cannot be saved is said now, and not at the first checkpoint
    where = machine(device, precision, threads, template, data.input_shape)
    moves = _augmentation(augment, data)
    placed = dataclasses.replace(
        data,
        channels_last=data.channels_last and takes_channels_last(template),
        **{name: where.place_part(part) for name, part in data.parts.items()},
    )
    origin = None if isinstance(model, nn.Module) else model
    own = loss if callable(loss) else None
    built = Task(
        placed, where.place_model(template), own, moves, seed, where, origin, loss_name=name, forward=forward,
        loss_fn=loss_fn, optimizer=optimizer,
    )  # fmt: skip
    if class_weights is not None:
        built = dataclasses.replace(built, class_weights=balanced_weights(built.data, built.criterion))
    if not isinstance(model, nn.Module):
        _initialize_from_data(built)
    check_embedded(built)
    return _tried(built, asked)


def remarks(task: Task) -> list[str]:
    """Return what a user may not expect of a task's inputs and targets, a sentence each."""
    data, said = task.data, list[str]()
    if not task.custom_loss and (name := copied_targets(task)) is not None:
        said.append(f"targets are {name} itself, position by position: to predict the next token, shift them by one")
    if data.kind == "numbers" and data.target != "tokens" and not data.train.x.is_floating_point():
        said.append("integers are given to the model as they are, since it embeds them")
    narrow = {
        p.dtype for p in task.template.parameters() if p.requires_grad and p.is_floating_point() and p.itemsize < 4
    }
    if narrow:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in narrow))
        said.append(
            f"weights are {names}, in which small updates are lost: model.float() keeps them, with precision = "
            '"bf16" to compute in it'
        )
    y = data.train.y
    if task.custom_loss and data.target == "numbers" and y.is_floating_point():
        mean, std = float(y.double().mean()), float(y.double().std(correction=0))
        if max(abs(mean), std) > _FAR or std < 1 / _FAR:
            said.append(
                f"your loss gets targets in their own unit, mean {mean:.3g} and deviation {std:.3g}; "
                "mse, mae and huber, by name, would standardise them"
            )
    return said


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


def _augmentation(augment: Any, data: DataSet) -> Augment | None:
    moves = augment if isinstance(augment, Augment) else parse(listed(augment))
    draw = "draw in the Dataset's __getitem__: it is read anew in each epoch"
    if moves.operations and data.kind == "tree":
        raise ConfigError(
            "augment with inputs of several tensors", "an augmentation changes one tensor of inputs, and leaves others",
            draw,
        )  # fmt: skip
    if moves.operations and data.target == "segmentation":
        if any(isinstance(each, Call) for each in moves.operations):
            raise ConfigError(
                "augment with a function of your own, and masks as targets",
                "it would move the pixels of images and leave their masks; flip, crop and cutout move both", draw,
            )  # fmt: skip
        shape = tuple(data.train.y.shape[1:])
        if shape != tuple(data.input_shape[-2:]):
            raise ConfigError(
                f"augment with images of {'x'.join(map(str, data.input_shape[-2:]))} and masks of "
                f"{'x'.join(map(str, shape))}",
                "masks move with the pixels of their images, so they need the same size", draw,
            )  # fmt: skip
    if data.kind != "tree":
        moves.check(data.kind, data.input_shape)
    moves = dataclasses.replace(moves, reader=data.train.reader and data.train.reader.begun())
    return moves if moves.operations or moves.reader is not None else None


@usual_switches
def reseeded(task: Task, seed: int, *, same_batches: bool = False) -> Task:
    """Return the task with another seed: other initial weights, and another order, augmentation and dropout.

    A task made from a module, or from trained weights, keeps these.

    Args:
        task: the task, which stays as it is.
        seed: of the new one.
        same_batches: keep the order, augmentation and dropout, so that runs of both are compared on the same batches.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "mlp")
    >>> other = reseeded(digits, 1, same_batches=True)
    >>> other.seed == digits.seed, bool((other.template.head.weight == digits.template.head.weight).all())
    (True, False)
    """
    if task.model is None or task.trained:
        return task if same_batches else dataclasses.replace(task, seed=seed)
    template = task.machine.place_model(
        build(task.model, task.data.input_shape, task.data.outputs, seed, task.data.categories)
    )
    fresh = dataclasses.replace(task, template=template, seed=seed)
    _initialize_from_data(fresh)
    return dataclasses.replace(fresh, seed=task.seed) if same_batches else fresh


def _initialize_from_data(task: Task) -> None:
    """Show a fresh model some training images, if it asks for them by having a method `initialize_from`.

    For initialisations that depend on data (Krahenbuhl et al. 2016, arXiv 1511.06856). A module that was given keeps
    its weights.
    """
    initialize = getattr(task.template, "initialize_from", None)
    if initialize is None:
        return
    rows = epoch_order(len(task.data.train), task.seed, 0)[:_INITIAL_EXAMPLES]
    x, _ = fetch(task.data, task.data.train, rows, augment=None, seed=task.seed, epoch=0)
    with torch_stream(task.seed, "initialize-from"):
        initialize(*x) if isinstance(x, tuple) else initialize(x)


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


def _tried(task: Task, asked: Mapping[str, Metric | None] | None) -> Task:
    """Return the task, its loss told whether it needs outputs in the targets' shape, what draws looked for, with its
    metrics.

    Raises:
        ConfigError: a batch of two does not go through copies of the model, in evaluation mode and as it trains, and
            through the loss and its gradient.
    """
    check_shifted(task)
    part = task.data.train
    rows = torch.arange(min(2, len(part))).numpy()
    x, y = fetch(task.data, part, rows, augment=None, seed=task.seed, epoch=0)
    with torch_stream(task.seed, "tried"):
        outputs = outputs_of_trial(task, task.fresh_model().eval(), x, y)
        task = dataclasses.replace(
            task, reshapes=must_reshape(task, outputs, y), counts_right=answers_fit(task, outputs, y)
        )
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Using a (target|input) size")  # torch's losses, where they broadcast
                task.mean_loss(outputs, y)
        except Exception as error:
            what = f"outputs {described(outputs)} and targets {described(y)}: {error}"
            raise ConfigError(
                f"loss_fn: {error}" if task.loss_fn is not None else f"the loss cannot take {what}",
                "a loss is a function (outputs, targets) -> scalar, [batch] or (sum, count)"
                if task.loss_fn is None
                else "loss_fn(model, batch) returns a scalar, [batch] or (sum, count)",
                "check its arguments' shapes and types",
            ) from error
        task = dataclasses.replace(task, metrics=metrics_of(task, asked, outputs, y))
        tried_metrics(task, outputs, y)
    with torch_stream(task.seed, "tried"):
        _, *before = generator_states()
        model = task.fresh_model()
        outputs = outputs_of_trial(task, model, x, y)
        check_gradient(model, task.mean_loss(outputs, y))
        if task.optimizer is not None:
            try_optimizer(task.optimizer, model, task.mean_loss(outputs_of_trial(task, model, x, y), y))
        _, *after = generator_states()
    return dataclasses.replace(task, draws=after != before)


def class_axis(task: Task) -> int | None:
    """Return the axis of the outputs along which classes lie; None where outputs are no classes.

    >>> import surefoot
    >>> class_axis(surefoot.task(surefoot.load("digits"), "linear"))
    1
    """
    return 1 if task.classifies else _CLASSES_AT.get(task.data.target)


def must_reshape(task: Task, outputs: Any, y: Any) -> bool:
    """Return whether a user's loss is for outputs of the targets' shape, and these have another with as many numbers.

    [B, 1] against [B] broadcasts to [B, B] in most losses, so that each output is compared with every target. A loss
    that brings shapes together by itself mixes no examples, and gets outputs as they are.
    """
    if task.loss is None or task.data.target not in ("numbers", "multilabel") or not isinstance(outputs, Tensor):
        return False
    if outputs.shape == y.shape or outputs.numel() != y.numel():
        return False
    mixes, mixes_reshaped = (_mixes(task, shape) for shape in (outputs.shape, y.shape))
    return mixes is not False and mixes_reshaped is not None


def _mixes(task: Task, shape: Sequence[int]) -> bool | None:
    """Return whether a user's loss of one example's outputs depends on the target of another; None if it fails.

    The outputs of a batch of that shape are all half-way between the least and the largest target. The gradient of the
    first must not change where the targets of the others go from the least to the largest.
    """
    assert task.loss is not None
    low, high = task.data.train.y.amin(0), task.data.train.y.amax(0)
    middle = ((low + high) / 2).expand(shape[0], *low.shape)
    found: list[Tensor] = []
    for others in (low, high):
        outputs = middle.reshape(shape).clone().requires_grad_()
        targets = torch.cat([middle[:1], others.expand(shape[0] - 1, *low.shape)])
        try:
            with warnings.catch_warnings(), torch.enable_grad():
                warnings.simplefilter("ignore")
                found.append(torch.autograd.grad(task.loss(outputs, targets).mean(), outputs)[0][0])
        except Exception:  # the loss may be anyone's, and raise anything
            return None
    return not torch.allclose(found[0], found[1], equal_nan=True)
