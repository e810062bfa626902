"""What outputs depend on: each tensor of the inputs, other examples, later positions. By exchanging and looking."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from surefoot.data import tree
from surefoot.data.dataset import IGNORED
from surefoot.seeds import generator
from surefoot.steps.answers import equal, floats
from surefoot.steps.wiring.judge_inputs import NEXT, InputFacts
from surefoot.steps.wiring.measure import batch, batch_size, seen_outputs
from surefoot.training.task import Task

STIRRED = 0.1
"""Deviation of what is added to each weight, over their root mean square, or over that of He's start where that is
larger: a head or a gate that starts at zero lets something through then. Chosen by hand."""
_APART = {"fp32": (1e-3, 1e-5), "bf16": (5e-2, 2e-2)}
"""Change of outputs that is more than rounding: as a share of what sets examples apart, and of the largest. Chosen by
hand."""


def measure_inputs(task: Task) -> InputFacts:
    """Return what the outputs of a first batch depend on, by a copy of the model in evaluation mode.

    >>> import surefoot
    >>> measure_inputs(surefoot.task(surefoot.load("digits"), "mlp"))
    InputFacts(unused=(), asked=0, mixes=False, copied=None, next_token=None, looks_ahead=None, evaluated_examples=256)
    """
    x, y = batch(task)
    size = len(tree.leaves(y)[0])
    model = stirred(task)
    passes = 0

    def outputs_at(x: Any) -> Any:
        nonlocal passes
        passes += 1
        with torch.no_grad():
            return seen_outputs(task, model, x, y)

    outputs = outputs_at(x)
    unused, asked = [], 0
    named = dict(tree.named_leaves(x))
    for name, leaf in named.items() if task.data.kind == "tree" else ():
        if torch.equal(rolled := leaf.roll(1, 0), leaf):
            continue
        asked += 1
        found = _or_none(lambda: outputs_at(tree.from_named(x, {**named, name: rolled})))  # noqa: B023  # called now
        if found is not None and equal(found, outputs):
            unused.append(name)
    mixes = None
    if isinstance(outputs, Tensor) and task.loss_fn is None and size > 1 and not _by_batch(model):
        ends, rows = max(1, size // 4), torch.arange(size, device=outputs.device)
        stays = slice(ends, max(ends + 1, size - ends))  # between others: a recurrent layer looks back only
        others = rows.clone()
        others[:ends], others[stays.stop :] = rows[stays][:1], rows[stays][-1:]
        mixes = _changed(task, outputs, _or_none(lambda: outputs_at(tree.taken(x, others))), stays)
    copied, next_token = _repeated(task, x, y)
    looks_ahead = None
    if (next_token or 0.0) >= NEXT and isinstance(outputs, Tensor) and task.loss_fn is None:
        cut = y.shape[1] // 2
        later = {
            name: torch.cat([leaf[:, :cut], leaf.roll(1, 0)[:, cut:]], 1) if _are_ids(leaf, y) else leaf
            for name, leaf in named.items()
        }
        found = _or_none(lambda: outputs_at(tree.from_named(x, later)))
        looks_ahead = _changed(task, outputs, found, (slice(None), slice(cut)))
    return InputFacts(tuple(unused), asked, mixes, copied, next_token, looks_ahead, passes * size)


def inputs_examples(task: Task) -> int:
    """Return for how many examples `measure_inputs` computes outputs at most."""
    leaves = tree.leaves(task.data.train.x)
    return (2 + (len(leaves) if task.data.kind == "tree" else 0) + (task.data.target == "tokens")) * batch_size(task)


def stirred(task: Task) -> nn.Module:
    """Return a copy of the model in evaluation mode whose weights are moved at random, each by about a tenth."""
    model, rng = task.fresh_model().eval(), generator(task.seed, "stirred")
    with torch.no_grad():
        for parameter in model.parameters():
            size = float(parameter.float().square().mean().sqrt()) if parameter.numel() else 0.0
            usual = math.sqrt(2 / max(2, parameter[0].numel())) if parameter.dim() > 1 else STIRRED
            noise = torch.from_numpy(rng.normal(size=tuple(parameter.shape))).to(parameter)
            parameter.add_(STIRRED * max(size, usual) * noise)
    return model


def _by_batch(model: nn.Module) -> bool:
    """Whether a layer takes the statistics of the batch in evaluation mode too, which is its owner's plan."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    return any(not norm.track_running_stats and isinstance(norm, nn.modules.batchnorm._BatchNorm) for norm in norms)


def _or_none(outputs: Any) -> Any:
    try:
        return outputs()
    except Exception:  # the model may be anyone's, and such inputs none that it takes
        return None


def _changed(task: Task, outputs: Tensor, now: Any, where: Any) -> bool | None:
    """Return whether outputs differ there by more than rounding; None where they cannot be compared."""
    if not isinstance(now, Tensor) or now.shape != outputs.shape or not floats(outputs):
        return None
    spread = float((outputs - outputs.mean(0)).abs().max())
    apart, largest = float((now - outputs)[where].abs().max()), float(outputs.abs().max())
    share, rounding = _APART[task.machine.precision]
    return apart > share * spread + rounding * largest if math.isfinite(apart + largest) else None


def _repeated(task: Task, x: Any, y: Any) -> tuple[float | None, float | None]:
    """Return the shares of counted tokens that are the input at their position, and at the one after it."""
    ids = [leaf for leaf in tree.leaves(x) if _are_ids(leaf, y)] if task.data.target == "tokens" else []
    if not ids:
        return None, None
    copied = None if task.custom_loss else _share(y, ids)  # a loss of the user's may shift them by itself
    return copied, _share(y[:, :-1], [leaf[:, 1:] for leaf in ids])


def _share(targets: Tensor, leaves: list[Tensor]) -> float | None:
    """Return the share of counted targets that are equal to a leaf, the most over leaves; None where none counts."""
    counted = targets != IGNORED
    if not bool(counted.any()):
        return None
    return max(float((targets == leaf)[counted].float().mean()) for leaf in leaves)


def _are_ids(leaf: Tensor, y: Any) -> bool:
    return isinstance(y, Tensor) and not leaf.is_floating_point() and leaf.shape == y.shape and y.dim() == 2
