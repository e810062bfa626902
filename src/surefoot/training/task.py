"""A task is what is to be learned and where: data, model and loss, with augmentation, seed and machine."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surefoot.data.augment import Augment, parse
from surefoot.data.batches import epoch_order, fetch
from surefoot.data.dataset import DataSet
from surefoot.errors import ConfigError
from surefoot.models.build import Factory, build
from surefoot.seeds import torch_stream
from surefoot.training.machine import Machine, machine, takes_channels_last
from surefoot.training.state import packed_extra_state

_INITIAL_EXAMPLES = 1000
"""Training examples shown to a model that initialises itself from data. Chosen by hand."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs [B, ...], targets [B, ...]) -> a scalar, the mean over the batch, or one loss per example, [B]."""


@dataclass(frozen=True)
class Task:
    """Data + model + loss, ready to be trained by any plan.

    Attributes:
        data: the parts, checked and on the device.
        template: the freshly initialised model. Each run trains a copy, so it stays as it is.
        loss: the user's loss, or None for cross-entropy (classes) or mean squared error (numbers).
        augment: applied to training batches, or None.
        seed: of the order of examples, augmentation and dropout.
        machine: where it runs.
        model: what the template was built from, a module excepted: see `reseeded`.
        class_weights: what an example of each class counts in the training loss, [C]; None is 1.
        reshapes: whether a user's loss gets outputs in the targets' shape, since as they are they would broadcast.
    """

    data: DataSet
    template: nn.Module
    loss: Loss | None
    augment: Augment | None
    seed: int
    machine: Machine
    model: str | Factory | None = None
    reshapes: bool = False
    class_weights: Tensor | None = None

    @property
    def classifies(self) -> bool:
        """Whether targets are classes, so that accuracy means something."""
        return self.data.classes is not None

    def fresh_model(self) -> nn.Module:
        """Return a new copy of the initialised model, its modules in the modes of training: see `training_modes_`."""
        return training_modes_(copy.deepcopy(self.template))

    def mean_loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of a batch in fp32, as a scalar tensor.

        Args:
            outputs: logits [B, C], or values [B] or [B, D].
            targets: classes [B], or values of the outputs' shape.
            label_smoothing: of the built-in cross-entropy (Szegedy et al. 2016, section 7); other losses have none, see
                `check_label_smoothing`.
        """
        outputs = outputs.float()
        if self.loss is not None:
            return self.loss(outputs.reshape(targets.shape) if self.reshapes else outputs, targets).mean()
        if self.classifies:
            return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)
        return F.mse_loss(outputs.reshape(targets.shape), targets)

    def training_loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return `mean_loss` with each example weighted by its class, which is what training follows.

        Divided by the number of examples, and not by their weights as torch's `weight` has it: then the mean over the
        pieces of a batch is that over the batch, and a batch of common classes is no larger a step than another.
        """
        if self.class_weights is None:
            return self.mean_loss(outputs, targets, label_smoothing)
        each = F.cross_entropy(outputs.float(), targets, label_smoothing=label_smoothing, reduction="none")
        return (each * self.class_weights[targets]).mean()


def task(
    data: DataSet,
    model: str | nn.Module | Factory,
    *,
    loss: Loss | None = None,
    augment: Sequence[str | Callable[[Tensor], Tensor]] | Callable[[Tensor], Tensor] | Augment = (),
    class_weights: Literal["balanced"] | None = None,
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
        loss: (outputs, targets) -> scalar or [B]; None chooses by the targets.
        augment: names of augmentations, or a callable on a batch of images.
        class_weights: as in `Config`.
        seed: of everything random in the task, the initialisation included.
        device, precision, threads: as in `Config`.

    Raises:
        ConfigError: model, loss, augmentation or device cannot be used with this data.

    >>> import surefoot
    >>> digits = surefoot.load("digits")
    >>> task(digits, "linear").classifies
    True
    """
    template = build(model, data.input_shape, data.outputs, seed)
    packed_extra_state(template)  # what cannot be saved is said now, and not at the first checkpoint
    where = machine(device, precision, threads, template, data.input_shape)
    moves = _augmentation(augment, data)
    placed = dataclasses.replace(
        data,
        channels_last=data.channels_last and takes_channels_last(template),
        **{
            name: dataclasses.replace(part, x=where.place(part.x), y=where.place(part.y))
            for name in ("train", "validation", "test")
            if (part := getattr(data, name)) is not None
        },
    )
    origin = None if isinstance(model, nn.Module) else model
    built = Task(placed, where.place_model(template), loss, moves, seed, where, origin)
    if class_weights is not None:
        built = dataclasses.replace(built, class_weights=_balanced(built))
    if not isinstance(model, nn.Module):
        _initialize_from_data(built)
    return _tried(built)


def _balanced(task: Task) -> Tensor:
    """Return N / (C n_c) for each class c of the training part, its mean over examples 1; 0 where there is none.

    Reference: King & Zeng 2001, "Logistic regression in rare events data"; scikit-learn's `class_weight="balanced"`.
    """
    if task.loss is not None or not task.classifies:
        what = "numbers as targets" if not task.classifies else f"loss = {_name(task.loss)}"
        raise ConfigError(
            f"class_weights = 'balanced' with {what}",
            "classes are weighted in the built-in cross-entropy, and would not be here",
            "leave class_weights out; a loss of your own can weigh its examples",
        )
    y = task.data.train.y
    counts = torch.bincount(y, minlength=task.data.outputs).float()
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(y) / (present * counts.clamp_min(1)), torch.zeros_like(counts))


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
    if not callable(augment) and not augment:
        return None
    names: Any = [augment] if callable(augment) else augment
    moves = augment if isinstance(augment, Augment) else parse(names)
    moves.check(data.kind, data.input_shape)
    return moves if moves.operations else None


def reseeded(task: Task, seed: int, *, same_batches: bool = False) -> Task:
    """Return the task with another seed: other initial weights, and another order, augmentation and dropout.

    A task made from a module keeps that module's weights.

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
    if task.model is None:
        return task if same_batches else dataclasses.replace(task, seed=seed)
    template = task.machine.place_model(build(task.model, task.data.input_shape, task.data.outputs, seed))
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
    rows = epoch_order(len(task.data.train.y), task.seed, 0)[:_INITIAL_EXAMPLES]
    x, _ = fetch(task.data, task.data.train, rows, augment=None, seed=task.seed, epoch=0)
    with torch_stream(task.seed, "initialize-from"):
        initialize(x)


def check_label_smoothing(task: Task, label_smoothing: float) -> None:
    """Raise ConfigError where a task's loss is not the cross-entropy that would be smoothed."""
    if label_smoothing and (task.loss is not None or not task.classifies):
        name = "the squared error" if task.loss is None else f"loss = {_name(task.loss)}"
        raise ConfigError(
            f"label_smoothing = {label_smoothing:g} with {name}",
            "label smoothing belongs to the built-in cross-entropy, and would be without effect",
            "leave label_smoothing out, and smooth inside your loss: torch.nn.CrossEntropyLoss has label_smoothing",
        )


def _name(loss: Loss | None) -> str:
    return getattr(loss, "__name__", type(loss).__name__)


def _tried(task: Task) -> Task:
    """Return the task, its loss told whether it needs outputs in the targets' shape.

    Raises:
        ConfigError: a batch of two does not go through a copy of the model and the loss.
    """
    part = task.data.train
    rows = torch.arange(min(2, len(part.y))).numpy()
    x, y = fetch(task.data, part, rows, augment=None, seed=task.seed, epoch=0)
    model = task.fresh_model().eval()
    shape = tuple(task.data.input_shape)
    with torch.random.fork_rng(devices=[]):
        try:
            with task.machine.autocast():
                outputs = model(x)
        except Exception as error:  # the model may be anyone's, and raise anything
            first = (str(error) or repr(error)).splitlines()[0]
            raise ConfigError(
                f"the model cannot take a batch of shape {tuple(x.shape)}: {first}",
                f"it must accept [batch, {', '.join(map(str, shape))}]",
                "choose a model for this input, or change the input's shape",
            ) from error
        _check_outputs(task, outputs, y)
        task = dataclasses.replace(task, reshapes=_must_reshape(task, outputs, y))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Using a (target|input) size")  # torch's losses, where they broadcast
                loss = task.mean_loss(outputs, y)
        except Exception as error:
            raise ConfigError(
                f"the loss cannot take outputs {tuple(outputs.shape)} and targets {tuple(y.shape)}: {error}",
                "a loss is a function (outputs, targets) -> scalar or [batch]",
                "check its arguments' shapes and types",
            ) from error
    if loss.dim() != 0 or not loss.is_floating_point():
        raise ConfigError(
            f"a loss of shape {tuple(loss.shape)}", "a loss is a scalar or one number per example", "reduce it"
        )
    if not loss.requires_grad:
        raise ConfigError(
            "a loss that no trainable parameter of the model acts on",
            "at least one parameter with requires_grad must lead to the loss",
            "unfreeze a part of the model, and compute the loss with torch's own functions",
        )
    return task


def _must_reshape(task: Task, outputs: Tensor, y: Tensor) -> bool:
    """Return whether a user's loss is for outputs of the targets' shape, and these have another with as many numbers.

    [B, 1] against [B] broadcasts to [B, B] in most losses, so that each output is compared with every target. A loss
    that brings shapes together by itself mixes no examples, and gets outputs as they are.
    """
    if task.loss is None or task.classifies or outputs.shape == y.shape or outputs.numel() != y.numel():
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


def _check_outputs(task: Task, outputs: object, y: Tensor) -> None:
    if not isinstance(outputs, Tensor):
        raise ConfigError(
            f"the model returned {type(outputs).__name__}",
            "it must return one tensor",
            "wrap it so that it returns the logits",
        )
    if task.loss is not None and not task.classifies:
        return
    wanted = (len(y), task.data.outputs) if task.classifies else tuple(y.shape)
    column = not task.classifies and y.dim() == 1 and tuple(outputs.shape) == (len(y), 1)
    if tuple(outputs.shape) != wanted and not column:
        raise ConfigError(
            f"the model's output has shape {tuple(outputs.shape)} for a batch of {len(y)}",
            f"this data needs {wanted}",
            f"give the model's last layer {task.data.outputs} outputs",
        )
