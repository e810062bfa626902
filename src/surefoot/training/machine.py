"""The place of a run: device, precision and threads, resolved by rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surefoot.data.dataset import Part
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.data.tree import map_leaves
from surefoot.errors import ConfigError
from surefoot.rules.rule import UpdateRule
from surefoot.switches import repeatable_kernels
from surefoot.training.memory import MEMORY_SHARE, free_bytes

_LEAST_SIDE_FOR_BF16 = 24
"""Images smaller than this stay in fp32 under `auto`: their convolutions are too short for bf16 to pay. Chosen
by hand."""


@dataclass(frozen=True)
class Machine:
    """The resolved place of a run; `auto` has been decided.

    Attributes:
        device: where tensors live.
        precision: "bf16" computes forward and backward under autocast with fp32 weights; "fp32" does not, and on a
            card is TF32 only where the caller allows that for matrix products.
        threads: CPU threads, as PyTorch counts them.
        unrepeatable: operations of the model that have no deterministic form on a card.
    """

    device: torch.device
    precision: Literal["fp32", "bf16"]
    threads: int
    unrepeatable: tuple[str, ...] = ()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Set threads and reproducible kernels for the block, and put PyTorch's switches back afterwards."""
        with ExitStack() as stack:
            former = torch.get_num_threads()
            if former != self.threads:
                torch.set_num_threads(self.threads)
                stack.callback(torch.set_num_threads, former)
            stack.enter_context(self.repeating(quiet=bool(self.unrepeatable)))
            yield

    def repeating(self, *, quiet: bool = True) -> AbstractContextManager[None]:
        """Return the context of reproducible kernels alone: on a card, from its first product on; see there."""
        return repeatable_kernels(quiet=quiet) if self.device.type == "cuda" else nullcontext()

    def autocast(self) -> torch.autocast:
        """Return the autocast context of a forward pass.

        Weights are cast anew where they are used: PyTorch's cache of them is emptied only at the end of the outermost
        context, so within one of the caller's every step would see the first step's weights.
        """
        half = self.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half, cache_enabled=False)

    def updating(self, rule: UpdateRule) -> AbstractContextManager[Any]:
        """Return the context of an update by a rule: its products are in the precision of the forward pass."""
        return self.autocast() if rule.multiplies else nullcontext()

    def place_model(self, model: nn.Module) -> nn.Module:
        """Return the model on the device, its convolutions in channels_last, which is faster on CPU and GPU."""
        model = model.to(self.device)
        if not _has_convolution(model) or not takes_channels_last(model):
            return model
        return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's stub lacks it

    def place(self, x: Any) -> Any:
        """Return a tensor, or a tree of them, on the device."""
        return map_leaves(lambda leaf: leaf.to(self.device, non_blocking=True), x)

    def place_part(self, part: Part) -> Part:
        """Return a part of the data on the device: a tensor that takes more than half of the memory that is free there
        stays where it is, and its rows come when they are asked for, with the same bits.
        """

        def placed(leaf: Tensor) -> Tensor:
            if isinstance(leaf, MappedTensor) or leaf.device.type == self.device.type:
                return self.place(leaf)
            large = leaf.numel() * leaf.element_size() > MEMORY_SHARE * free_bytes(self.device)
            return MappedTensor.of(leaf.cpu(), self.device) if large else self.place(leaf)

        return replace(part, x=map_leaves(placed, part.x), y=map_leaves(placed, part.y))


def machine(device: str, precision: str, threads: int | None, model: nn.Module, input_shape: Any) -> Machine:
    """Resolve `auto` for a model and its input.

    Precision `auto` is bf16 where the processor computes it natively (AVX512-BF16 or AMX on a CPU, compute
    capability 8.0 or later on CUDA) and the model convolves images of 24 pixels or more, else fp32. It is a
    rule and not a timing, so that the same machine always answers the same.

    Raises:
        ConfigError: the device is unknown or absent, or precision or threads are not what `Config` takes.
    """
    place = device_named(device)
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision = {precision!r}", "a precision is auto, fp32 or bf16", "leave precision out")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads = {threads}", "threads must be at least 1", "leave threads out to use all cores")
    if precision == "auto":
        large = any(len(each) == 3 and min(each[1:]) >= _LEAST_SIDE_FOR_BF16 for each in _flat(input_shape))
        precision = "bf16" if large and _has_convolution(model) and native_bf16(place) else "fp32"
    return Machine(place, "bf16" if precision == "bf16" else "fp32", threads or torch.get_num_threads())


def native_bf16(device: torch.device) -> bool:
    """Return whether the device computes bf16 faster than fp32 by its own instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def device_named(name: str) -> torch.device:
    """Return the device of a name; `auto` is a card where there is one.

    Raises:
        ConfigError: it is unknown or absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"device = {name!r}", "a device is auto, cpu, cuda or cuda:N", "leave device out to choose by itself"
        )
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= present:
        raise ConfigError(f"device = {name!r}", f"this machine has {present} CUDA devices", "use device cpu or auto")
    return device


def takes_channels_last(model: nn.Module) -> bool:
    """Return whether a model can be given batches in channels_last.

    The backward pass of group norm in torch 2.13 ends the process where such an input needs no gradient.
    """
    return not any(isinstance(module, nn.GroupNorm) for module in model.modules())


def _flat(input_shape: Any) -> list[tuple[int, ...]]:
    """Return the shapes of a tree of shapes."""
    if isinstance(input_shape, dict):
        return [shape for each in input_shape.values() for shape in _flat(each)]
    if any(isinstance(each, tuple | dict) for each in input_shape):
        return [shape for each in input_shape for shape in _flat(each)]
    return [input_shape]


def _has_convolution(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in model.modules())
