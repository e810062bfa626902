"""How many steps lie between two signs of life: from what a step computes, never from a clock.

Where a piece of work ends may decide in which company the next step is computed, and so its last bit. So pieces are
counted: the same call is divided alike on a busy machine and on a quiet one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from surefoot.measure.wiring import batch, forward
from surefoot.training.population.member import Member
from surefoot.training.task import Task

PIECE_SECONDS = 1.0
"""What a piece takes on the nominal machine. Chosen by hand."""
FIRST_STEPS = 8
"""Steps of a first piece at least: an engine that tries its ways needs some to try them on. Chosen by hand."""
_RATE = {"cpu": 3e10, "cuda": 3e12}
"""Floating-point operations per second of the nominal machine, a CPU's for each thread: 3e10 were seen for small CNNs
on one core of an AMD EPYC. Only the length of pieces hangs on it."""
_STEP_SECONDS, _MODULE_SECONDS = 3e-4, 1e-4
"""What a step takes besides, and what each module with weights adds: 0.7 ms for a perceptron of two layers, 3 ms for
one of 13, on the same core."""
_EXAMPLES = 8


def steps_at_once(members: Sequence[Member]) -> int:
    """Return how many steps of all members make a piece of work, at least 1.

    On a nominal machine a piece takes `PIECE_SECONDS`: a step of K members, one after the other, takes
    K (t_0 + t_1 M + 6 W B / r), with M modules and W multiplications of one example's forward pass, each of two
    operations and three times, since the backward pass takes two forward ones.

    Args:
        members: that are computed together, [K]; the first one's model, batch and machine speak for all.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "mlp", threads=1)
    >>> plan = surefoot.plan(surefoot.Recipe(batch_size=64), digits.data.examples)
    >>> steps_at_once([Member(digits, plan)]), steps_at_once([Member(digits, plan)] * 5)
    (1605, 321)
    """
    task, size = members[0].task, members[0].plan.batch_size
    place = task.machine
    rate = _RATE.get(place.device.type, _RATE["cpu"]) * (place.threads if place.device.type == "cpu" else 1)
    modules, multiplications = work_of(task)
    step = _STEP_SECONDS + _MODULE_SECONDS * modules + 6 * multiplications * size / rate
    return max(1, int(PIECE_SECONDS / (len(members) * step)))


def work_of(task: Task) -> tuple[int, int]:
    """Return how many modules with weights of their own a forward pass calls, and about its multiplications an example.

    Each number that such a module returns takes as many multiplications as its weights have for one output. So linear
    and convolutional layers are counted exactly; others roughly, each parameter at least once.

    >>> import surefoot
    >>> work_of(surefoot.task(surefoot.load("digits"), "mlp"))  # 64 x 128 + 128 x 10, and a bias for each output
    (2, 9610)
    """
    x, _ = batch(task, 0, _EXAMPLES)
    model = task.fresh_model().train() if len(x) > 1 else task.fresh_model().eval()
    calls, total = 0, 0

    def count(module: nn.Module, _: Any, outputs: Any) -> None:
        nonlocal calls, total
        first = outputs[0] if isinstance(outputs, tuple) and outputs else outputs
        if isinstance(first, Tensor):
            calls += 1
            fans = sum(each.numel() // max(1, len(each)) if each.dim() else 1 for each in _parameters(module))
            total += first.numel() // len(x) * fans

    for module in model.modules():
        if _parameters(module) and not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
            module.register_forward_hook(count)
    forward(task, model, x)
    return calls, max(total, sum(each.numel() for each in model.parameters()))


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))
