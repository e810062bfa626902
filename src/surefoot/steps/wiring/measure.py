"""What is measured on single batches of an untrained copy: do data, model, loss, gradients and modes fit together."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from surefoot.data import tree
from surefoot.data.batches import epoch_order, fetch
from surefoot.data.dataset import DataSet
from surefoot.seeds import generator, torch_stream
from surefoot.steps.answers import class_logits, joined, numbers_of, one_class_each
from surefoot.steps.wiring.judge import Descent, Facts, Fit, LossKind, Modes, Reach, Rectifier
from surefoot.training.call import Forward, called, in_fp32
from surefoot.training.evaluate import are_probabilities, examples_at_once
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
_WARMING = 10
"""Forward passes that fill batch norm's statistics before both modes are compared. Chosen by hand."""
_REACH_BATCHES = 3
"""Batches that a parameter may stay without gradient before it counts: some networks skip layers at random."""
_REACH_STEPS = 8
"""Small updates before a gradient of zero counts: a head or a branch that starts at zero, one in the other, lets the
gradient through after one update each. Chosen by hand."""
_RELATIVE = 1e-2
"""Length of those updates over that of the weights. Chosen by hand."""
_RELU_BATCHES = 4
"""Batches of 128 examples: a unit that is active for one example in 100 looks dead in 0.6 % of cases."""
_SHARES = (1e-1, 1e-2, 1e-3, 1e-4)
"""Step sizes along -g, as the share of the loss that they would take off if it were linear. Chosen by hand."""
_FORWARD_PASSES = 1 + (_WARMING + 2) + _RELU_BATCHES + 1
"""Batches that only go forward: for the kind of the loss, both modes, the ReLUs, and the noise of the loss. Each step
downhill adds one."""
_RESHAPING = ("View", "UnsafeView", "Squeeze", "Unsqueeze", "Reshape", "Select", "ToCopy")
"""What may come after a sigmoid without computing anything, as autograd names it."""
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
_RELUS = {torch.relu, torch.relu_, F.relu, F.relu_, Tensor.relu, Tensor.relu_}


def measure(task: Task) -> Facts:
    """Return what copies of an untrained model show on a few batches each."""
    x, y = batch(task)
    with torch.no_grad():
        outputs = seen_outputs(task, task.fresh_model(), x, y)
    loss, modes = loss_kind(task, outputs, y), compare_modes(task)
    rectifiers, examples = watch_rectifiers(task)
    reach, descent, size = reach_of_loss(task), step_downhill(task), len(tree.leaves(y)[0])
    return Facts(
        classes=_classes(task, outputs, y),
        loss=loss,
        modes=modes,
        reach=reach,
        rectifiers=rectifiers,
        examples=examples,
        descent=descent,
        trained_examples=(reach.batches + 1) * size,
        evaluated_examples=(_FORWARD_PASSES + len(descent.changes)) * size,
    )


def _classes(task: Task, outputs: Any, y: Any) -> int | None:
    found = class_logits(task, outputs, y)
    return None if found is None else found[0].shape[1]


def measured_examples(task: Task) -> tuple[int, int]:
    """Return how many examples `measure` takes gradients of where nothing is wrong, and how many it only looks at."""
    size = batch_size(task)
    return 2 * size, (_FORWARD_PASSES + len(_SHARES)) * size


def batch_size(task: Task, examples: int = BATCH) -> int:
    """Return how many examples a batch has: fewer where they are large, or have many answers."""
    few = max(_LEAST, _MOST_NUMBERS // max(1, numbers_of(task.data.train)))
    return min(examples, task.data.examples, few, max(2, examples_at_once(task)))


def batch(task: Task, number: int = 0, examples: int = BATCH) -> tuple[Any, Any]:
    """Return a batch of training examples, x [B, ...] and y [B, ...]: those of the first epoch's order, going round."""
    order = epoch_order(task.data.examples, task.seed, 0)
    size = batch_size(task, examples)
    rows = order[np.arange(number * size, (number + 1) * size) % len(order)]
    return fetch(task.data, task.data.train, rows, augment=None, seed=task.seed, epoch=0)


def seen_outputs(task: Task, model: nn.Module, x: Any, y: Any) -> Any:
    """Return the outputs in fp32, or what a `loss_fn` returns, with the randomness of dropout at a fixed address."""
    with torch_stream(task.seed, "probe"), task.machine.autocast():
        return in_fp32(task.outputs(model, x, y))


def loss_or_nan(task: Task, outputs: Any, y: Any) -> float:
    """Return the objective of made-up outputs; NaN where the user's loss refuses them, or shows none."""
    if task.loss_fn is not None:
        return math.nan
    try:
        return float(task.objective(outputs, y))
    except Exception:
        return math.nan


def measure_fit(
    data: DataSet, template: nn.Module, machine: Machine, seed: int, call: Forward | None = None
) -> Fit:  # fmt: skip
    """Return whether a small batch goes through a copy of the model. The loss is not asked yet.

    Args:
        data: with classes or numbers as targets.
        template: the model.
        machine: where it computes.
        seed: of its dropout.
        call: how it is called; None: by the form of its inputs.
    """
    part = data.train
    rows = np.arange(min(4, len(part)))
    x, y = fetch(data, part, rows, augment=None, seed=seed, epoch=0)
    labels = torch.unique(part.y) if data.classes is not None and part.y.dim() == 1 else torch.empty(0)
    shape, problem = None, None
    try:
        with torch_stream(seed, "probe"), torch.no_grad(), machine.autocast():
            outputs = (call or called)(machine.place_model(copy.deepcopy(template)).eval(), machine.place(x))
        if isinstance(outputs, Tensor):
            shape = tuple(outputs.shape)
        else:
            problem = f"it returned {type(outputs).__name__}, no tensor"
    except Exception as error:  # the model may be anyone's, and raise anything
        problem = (str(error) or repr(error)).splitlines()[0]
    return Fit(
        batch=len(rows),
        input_shape=data.input_shape,
        outputs=shape,
        targets=tuple(y.shape),
        labels=(int(labels.min()), int(labels.max())) if len(labels) else None,
        classes=len(labels),
        problem=problem,
    )


def loss_kind(task: Task, outputs: Any, y: Any) -> LossKind:
    """Return what the task's loss is, from made-up outputs of the shape of `outputs`, [B, ...], and targets y.

    Of a `loss_fn`, which shows no outputs, only whether it is a sum.
    """
    if task.loss_fn is not None:
        return LossKind(False, False, False, _sums_up(task), math.nan, math.nan)
    rng = generator(task.seed, "probe-loss")
    made = tree.map_leaves(lambda leaf: _made(leaf, rng), outputs)
    value = loss_or_nan(task, made, y)
    doubled = loss_or_nan(task, joined([made, made]), joined([y, y]))
    right, wrong = _for_and_against(task, made, y)
    answers, binary = class_logits(task, made, y), _is_zero_or_one(task, y, made)
    return LossKind(
        cross_entropy=answers is not None and _near(value, float(F.cross_entropy(*answers))),
        log_likelihood=answers is not None and _near(value, float(F.nll_loss(*answers))),
        binary=binary and _near(value, float(F.binary_cross_entropy_with_logits(made.reshape(y.shape), y.float()))),
        sums=task.custom_loss and _doubles(value, doubled),
        right=right,
        wrong=wrong,
    )


def _made(leaf: Any, rng: np.random.Generator) -> Any:
    if not (isinstance(leaf, Tensor) and leaf.is_floating_point()):
        return leaf
    return torch.from_numpy(rng.normal(size=tuple(leaf.shape)).astype(np.float32)).to(leaf.device)


def _doubles(value: float, doubled: float) -> bool:
    return not _near(value, doubled) and _near(2 * value, doubled)


def _sums_up(task: Task) -> bool:
    """Whether a `loss_fn` of a batch that is there twice is twice as large, in evaluation mode."""
    x, y = batch(task)
    with torch.no_grad():
        pairs = ((x, y), (joined([x, x]), joined([y, y])))
        once, twice = (
            float(task.objective(seen_outputs(task, task.fresh_model().eval(), *each), each[1])) for each in pairs
        )
    return _doubles(once, twice)


def _is_zero_or_one(task: Task, y: Any, outputs: Any) -> bool:
    if one_class_each(task) or not (isinstance(outputs, Tensor) and isinstance(y, Tensor)):
        return False
    return outputs.numel() == y.numel() and set(torch.unique(y).tolist()) <= {0, 1}


def _for_and_against(task: Task, made: Any, y: Any) -> tuple[float, float]:
    """Return the loss of outputs that speak for the targets, and of outputs that speak against them; NaN: no answer.

    Numbers: the targets themselves, and the targets of other examples, which no sensible loss prefers (for squared and
    absolute error, and for likelihoods in one parameter, by the rearrangement inequality).
    """
    if one_class_each(task):
        axis = 1 if task.data.target == "segmentation" else -1
        right = 3.0 * F.one_hot(y.clamp_min(0), made.shape[axis]).movedim(-1, axis).float()
        return loss_or_nan(task, right, y), loss_or_nan(task, right.roll(1, dims=axis), y)
    if not (isinstance(made, Tensor) and isinstance(y, Tensor)) or made.numel() != y.numel():
        return math.nan, math.nan
    right = y.float().reshape(made.shape)
    if _is_zero_or_one(task, y, made):  # perhaps the logits of two classes
        right = 6.0 * right - 3.0
        return loss_or_nan(task, right, y), loss_or_nan(task, -right, y)
    if task.data.target == "any":
        return math.nan, math.nan  # whether outputs are to equal such targets is not known
    order = torch.argsort(right.reshape(len(right), -1)[:, 0])
    against = torch.empty_like(right)
    against[order] = right[order.flip(0)]
    return loss_or_nan(task, right, y), loss_or_nan(task, against, y)


def _near(a: float, b: float) -> bool:
    return math.isfinite(a) and abs(a - b) <= _CLOSE * max(abs(a), abs(b), 1e-3)


def compare_modes(task: Task) -> Modes:
    """Return what both modes give for the first batch, on a copy whose batch norms have taken averages of ten."""
    model = task.fresh_model()
    for module in model.modules():
        if isinstance(module, _DROPOUTS):
            module.eval()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            module.momentum = None  # statistics become the plain average over batches
            module.reset_running_stats()
    x, y = batch(task)
    ends_in_sigmoid = _ends_in_sigmoid(seen_outputs(task, model, x, y))
    with torch.no_grad():
        for number in range(1, _WARMING):
            seen_outputs(task, model, *batch(task, number))
        trained = seen_outputs(task, model, x, y)
        evaluated = seen_outputs(task, model.eval(), x, y)
        in_training, in_evaluation = (class_logits(task, outputs, y) for outputs in (trained, evaluated))
        return Modes(
            train_loss=float(task.objective(trained, y)),
            eval_loss=float(task.objective(evaluated, y)),
            train_probabilities=in_training is not None and are_probabilities(in_training[0]),
            eval_probabilities=in_evaluation is not None and are_probabilities(in_evaluation[0]),
            train_log_probabilities=in_training is not None and are_probabilities(in_training[0].exp()),
            ends_in_sigmoid=ends_in_sigmoid,
        )


def _ends_in_sigmoid(outputs: Any) -> bool:
    node = outputs.grad_fn if isinstance(outputs, Tensor) else None
    while node is not None and node.name().startswith(_RESHAPING):
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith("SigmoidBackward")


def reach_of_loss(task: Task) -> Reach:
    """Return which parameters get a gradient, measured on a copy in training mode."""
    model = task.fresh_model()
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    absent, zero = set(named), {name for name, parameter in named.items() if parameter.dim() >= 2}
    number = 0
    for number in range(_REACH_BATCHES + _REACH_STEPS):
        x, y = batch(task, number)
        loss = task.objective(seen_outputs(task, model, x, y), y)
        grads = zip(named, torch.autograd.grad(loss, list(named.values()), allow_unused=True), strict=True)
        reached = {name: grad for name, grad in grads if grad is not None}
        absent -= reached.keys()
        zero -= {name for name, grad in reached.items() if bool((grad != 0).any())}
        if not (zero or absent) or (number >= _REACH_BATCHES - 1 and not zero - absent):
            break
        if number >= _REACH_BATCHES - 1:
            _small_update(named, reached)
    frozen = [parameter.numel() for parameter in model.parameters() if not parameter.requires_grad]
    return Reach(
        trainable=tuple(named),
        absent=tuple(name for name in named if name in absent),
        zero=tuple(name for name in named if name in zero and name not in absent),
        frozen_after=tuple(_frozen_after_trainable(model)),
        frozen_share=sum(frozen) / max(1, sum(parameter.numel() for parameter in model.parameters())),
        frozen=len(frozen),
        batches=number + 1,
    )


def _small_update(named: dict[str, nn.Parameter], grads: dict[str, Tensor]) -> None:
    """Step along -g by a hundredth of the weights' length, so that what waits for an update gets one."""
    with torch.no_grad():
        length = torch.stack([grad.double().norm() for grad in grads.values()]).norm()
        size = torch.stack([parameter.double().norm() for parameter in named.values()]).norm()
        if length > 0 and torch.isfinite(length):
            scale = float(_RELATIVE * torch.clamp(size, min=1.0) / length)
            for name, grad in grads.items():
                named[name].sub_(scale * grad)


def _frozen_after_trainable(model: nn.Module) -> list[str]:
    after_trainable, names = False, []
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                after_trainable = after_trainable or parameter.dim() >= 2
            elif after_trainable and name == "weight" and isinstance(module, _WEIGHTED):
                names.append(f"{path}.{name}" if path else name)
    return names


def watch_rectifiers(task: Task) -> tuple[tuple[Rectifier, ...], int]:
    """Return the ReLUs of the model with their dead units, and on how many examples they were watched.

    Units are channels, axis 1. Of [B, T, D], where units may lie on either axis, that with the larger share of dead
    units counts.

    >>> import surefoot
    >>> watch_rectifiers(surefoot.task(surefoot.load("digits"), "mlp"))
    ((Rectifier(units=128, dead=0),), 512)
    """
    model, hook = task.fresh_model(), _RectifierHook()
    with torch.no_grad(), hook:
        for number in range(_RELU_BATCHES):
            hook.place = 0
            seen_outputs(task, model, *batch(task, number))
    most_dead = [max(axes.values(), key=lambda active: float((~active).float().mean())) for axes in hook.active]
    rectifiers = tuple(Rectifier(len(active), int((~active).sum())) for active in most_dead)
    return rectifiers, min(_RELU_BATCHES * BATCH, task.data.examples)


class _RectifierHook(TorchFunctionMode):
    """Notes for each ReLU, by its place in the forward pass, which units were active: by axis, bool [units]."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.active = 0, list[dict[int, Tensor]]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _RELUS and isinstance(result, Tensor) and result.dim() >= 2:
            self._note(result)
        return result

    def _note(self, result: Tensor) -> None:
        axes = (1, 2) if result.dim() == 3 else (1,)
        now = {axis: (result > 0).transpose(0, axis).flatten(1).any(1) for axis in axes}
        if self.place == len(self.active):
            self.active.append(now)
        for axis, noted in self.active[self.place].items():
            if axis in now and now[axis].shape == noted.shape:
                noted |= now[axis]
        self.place += 1


def step_downhill(task: Task) -> Descent:
    """Return what small steps along -g do to the loss, in training mode with the same dropout every time."""
    model = task.fresh_model()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    x, y = batch(task)

    def loss_now() -> Tensor:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        return task.objective(seen_outputs(task, model, x, y), y)

    loss = loss_now()
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    value = float(loss.detach())
    squared = sum(float(grad.double().square().sum()) for grad in grads if grad is not None)
    changes = []
    with torch.no_grad():
        noise = abs(float(loss_now()) - value)
        if squared > 0 and math.isfinite(squared) and math.isfinite(value):
            starts = [parameter.clone() for parameter in parameters]
            for share in _SHARES:
                size = share * max(abs(value), 1e-3) / squared
                for parameter, start, grad in zip(parameters, starts, grads, strict=True):
                    if grad is not None:
                        parameter.copy_(start - size * grad)
                changes.append(float(loss_now()) - value)
    grad_norm = math.sqrt(squared) if squared >= 0 else math.nan
    return Descent(loss=value, noise=noise, grad_norm=grad_norm, changes=tuple(changes), shares=_SHARES)
