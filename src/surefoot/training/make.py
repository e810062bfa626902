"""Making a task: data, model and loss brought together, tried on a small batch, and placed where they compute."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surefoot.data.augment import Augment, Call, listed, parse
from surefoot.data.batches import epoch_order, fetch
from surefoot.data.dataset import DataSet
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.data.tree import leaves
from surefoot.errors import ConfigError
from surefoot.models.build import Factory, build, embeds
from surefoot.seeds import generator_states, torch_stream
from surefoot.switches import unrepeatable_noted, usual_switches
from surefoot.training.call import (
    Forward,
    LossFn,
    arguments,
    function_of,
)
from surefoot.training.integers import check_embedded, with_integers_for
from surefoot.training.losses import (
    Loss,
    balanced_weights,
    check_loss,
    with_targets_for,
)
from surefoot.training.machine import machine, takes_channels_last
from surefoot.training.metrics import Metric, asked_metrics, metrics_of, tried_metrics
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
from surefoot.training.task import Task

_INITIAL_EXAMPLES = 1000
"""Training examples shown to a model that initialises itself from data. Chosen by hand."""


_FAR = 10.0
"""Mean or deviation of targets, or one over it, from which a network at its start is far from them. Chosen by hand."""


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
    if data.columns is not None and not embeds(model):
        from surefoot.data.columns import unembedded  # with pyarrow, which nothing but a table needs

        data = unembedded(data)
    data = with_targets_for(data, loss_fn or loss)
    template = build(model, data.input_shape, data.outputs, seed, data.categories)
    data = with_integers_for(data, template)
    packed_extra_state(template)  # what cannot be saved is said now, and not at the first checkpoint
    where = machine(device, precision, threads, template, data.input_shape)
    moves = _augmentation(augment, data)
    with where.repeating():
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
    if task.machine.device.type == "cuda" and any(isinstance(leaf, MappedTensor) for leaf in leaves(data.train.x)):
        said.append("the data is too large for the card: its batches are moved there one by one")
    if task.machine.unrepeatable:
        said.append(
            f"on this card {', '.join(task.machine.unrepeatable)} has no deterministic form: the same run done again, "
            "or resumed, may differ in the last bits"
        )
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
    with torch_stream(task.seed, "initialize-from"), task.machine.repeating():
        args, kwargs = arguments(x)
        initialize(*args, **kwargs)


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
        with _noted(task) as unrepeatable:
            outputs = outputs_of_trial(task, model, x, y)
            check_gradient(model, task.mean_loss(outputs, y))
        if task.optimizer is not None:
            try_optimizer(task.optimizer, model, task.mean_loss(outputs_of_trial(task, model, x, y), y))
        _, *after = generator_states()
    where = dataclasses.replace(task.machine, unrepeatable=tuple(unrepeatable))
    return dataclasses.replace(task, draws=after != before, machine=where)


def _noted(task: Task) -> AbstractContextManager[list[str]]:
    """Note what a card cannot repeat bit for bit; a CPU does."""
    return unrepeatable_noted() if task.machine.device.type == "cuda" else nullcontext([])


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
