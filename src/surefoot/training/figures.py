"""Which machine this is, what was measured of it, and what share of that a training step reaches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from surefoot.data.batches import batch_indices, fetch
from surefoot.optim.plan import Plan
from surefoot.record.figures import MachineFigures, Operation, read_figures
from surefoot.seeds import torch_stream
from surefoot.training.groups import thaw
from surefoot.training.machine import native_bf16
from surefoot.training.population.strategy import FIGURES, Figures, measured
from surefoot.training.task import Task

_COUNTED_EXAMPLES = 2
"""Of which the operations are counted; those of a batch are in proportion. Batch norm needs two: 1 to 20 ms."""
_WITHOUT_FORMULA = ("rnn", "attention")
"""In the names of operators that are most of a step, and for which PyTorch has no formula."""
_PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def machine_of(device: torch.device) -> dict[str, Any]:
    """Return what identifies a processor or a card for its figures.

    >>> machine_of(torch.device("cpu"))["device"]
    'cpu'
    """
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        return {
            "device": "cuda", "name": about.name, "capability": f"{about.major}.{about.minor}",
            "memory": about.total_memory, "torch": torch.__version__, "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }  # fmt: skip
    bf16 = " with bf16" if native_bf16(device) else ""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": "cpu", "name": processor(), "capability": f"{torch.backends.cpu.get_cpu_capability()}{bf16}",
        "cpus": usable, "torch": torch.__version__,
    }  # fmt: skip


def processor() -> str:
    """Return the processor's name, or its kind where the system does not tell."""
    import platform

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return str(capabilities.get("cpu_name") or platform.processor() or platform.machine())


def figures_of(device: torch.device) -> tuple[MachineFigures | None, str | None]:
    """Return what was measured of a device, and why what lies there does not count, as `read_figures`."""
    return read_figures(machine_of(device))


def rule_figures(device: torch.device) -> Figures:
    """Return by which figures the rule for members goes: the doctor's where a CPU was measured, else `FIGURES`.

    >>> rule_figures(torch.device("cuda")) == FIGURES["cuda"]  # no fit on a card has shown yet what its figures mean
    True
    """
    seen = figures_of(device)[0] if device.type == "cpu" else None
    if seen is None:
        return FIGURES[device.type]
    return measured(seen.call_seconds, seen.numbers_per_second, seen.cache_bytes)


def reached(task: Task, plan: Plan, step_seconds: float, figures: MachineFigures | None) -> dict[str, Any] | None:
    """Return which share of a machine a training step reaches; None where that cannot be said.

    The share is the time that the step's matrix products and convolutions, 2 operations for each multiplication, would
    take at the rates of the figures, over the time that the step takes. What else a step does is not work that counts.

    Args:
        task, plan: of the run. Model and random states stay as they are: a copy computes.
        step_seconds: of a whole batch.
        figures: of the task's device.

    Returns:
        `step_seconds`; `operations` of a step; `most`, the kind of work that has most of them; `share`; `figures`, the
        date of those.
    """
    if figures is None or not step_seconds > 0:
        return None
    if plan.recipe.progressive_resizing or thaw(plan.recipe.groups):  # no step stands for all of them
        return None
    try:
        counted, examples = _counted(task, plan)
    except Exception:  # the model may be anyone's, and what counts is not what trains: no error of a finished run
        return None
    threads = task.machine.threads if task.machine.device.type == "cpu" else 1
    ideal, scale = 0.0, plan.batch_size / examples
    totals: dict[str, float] = {}
    for (operation, precision), count in counted.items():
        rate = figures.per_second(operation, precision, threads)
        if rate is None:
            return None
        ideal += scale * count / rate
        totals[operation] = totals.get(operation, 0.0) + scale * count
    if not totals:
        return None
    return {
        "step_seconds": step_seconds, "operations": sum(totals.values()), "most": max(totals, key=totals.__getitem__),
        "share": ideal / step_seconds, "figures": figures.date,
    }  # fmt: skip


def _counted(task: Task, plan: Plan) -> tuple[Mapping[tuple[Operation, str], int], int]:
    """Return the operations of a forward and backward pass, by kind and precision, and of how many examples."""
    _, indices = batch_indices(plan.examples, plan.batch_size, task.seed, 0)
    few = min(_COUNTED_EXAMPLES, len(indices))
    model = task.fresh_model(plan.recipe.groups)
    model = model if few > 1 else model.eval()
    with torch_stream(task.seed, "count"), task.machine.computing(), torch.enable_grad(), _Operations() as mode:
        x, y = fetch(task.data, task.data.train, indices[:few], seed=task.seed)
        with task.machine.autocast():
            outputs = task.outputs(model, x, y)
        task.training_loss(outputs, y, plan.recipe.label_smoothing)[0].backward()
    return mode.counts, few


class _Operations(TorchDispatchMode):
    """Counts floating-point operations by PyTorch's formulas. Its own counter loads the compiler, for a second."""

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry

        super().__init__()
        self.formulas, self.counts = flop_registry, dict[tuple[Operation, str], int]()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # what skips it loads the compiler first

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = self.formulas.get(func._overloadpacket)
        if formula is None and any(word in func.name() for word in _WITHOUT_FORMULA):
            raise LookupError(f"no formula for {func.name()}")
        if formula is not None:
            operation: Operation = "convolution" if "conv" in func.name() else "matrix product"
            key = operation, _precision(operation, next(value for value in args if isinstance(value, Tensor)))
            self.counts[key] = self.counts.get(key, 0) + formula(*args, **(kwargs or {}), out_val=out)
        return out


def _precision(operation: Operation, value: Tensor) -> str:
    """Return in which precision an operator computes with a tensor: a card may round fp32, as its switches are now."""
    if value.dtype == torch.float32 and value.device.type == "cuda":
        cudnn: Any = torch.backends.cudnn
        switch = cudnn.conv if operation == "convolution" else torch.backends.cuda.matmul
        return "tf32" if switch.fp32_precision == "tf32" else "fp32"
    return _PRECISIONS.get(value.dtype, str(value.dtype))
