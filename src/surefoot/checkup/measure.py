"""What a processor or a card can do: products, convolutions and copies, each for a quarter of a second at its best.

Nothing random is drawn, and PyTorch's threads and switches come back as they were.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surefoot.checkup.judge import Measured
from surefoot.record.figures import MachineFigures, Operation, Rate
from surefoot.seeds import torch_stream
from surefoot.switches import usual_switches
from surefoot.training.figures import machine_of
from surefoot.training.machine import native_bf16
from surefoot.training.memory import free_bytes
from surefoot.training.population.workload import Counter

SECONDS, LEAST_REPETITIONS = 0.2, 3
"""Of each measurement. Ten of them and the start of PyTorch then take five to eight seconds on two cores."""
LONGEST_REPETITION = 0.1
"""Sizes grow while a repetition stays below, so that the start of the threads is no part of it. Chosen by hand."""
SIDES = (256, 1024, 2048, 4096, 8192)
"""Of the square matrices that are multiplied."""
IMAGES = (2, 16, 64, 256, 1024)
"""Of 64 channels and 32 x 32 pixels that are convolved."""
COPIED_BYTES = 128 * 2**20
"""That are read, and written: beyond the caches."""
_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class _Watch:
    """Seconds of repetitions, and which share of them, for all threads, was this process's own.

    Attributes:
        device: whose work is awaited.
        unsteady: the worst median over the shortest until now.
        used, had: by number of threads: seconds of the processor, and those that there were.
    """

    device: torch.device
    unsteady: float = 1.0
    used: dict[int, float] = field(default_factory=dict)
    had: dict[int, float] = field(default_factory=dict)

    def shortest(self, run: Callable[[], object]) -> float:
        """Return the seconds of the shortest repetition, the first of which warms."""
        self._once(run)
        threads, seconds = torch.get_num_threads(), list[float]()
        began, used = time.perf_counter(), time.process_time()
        while len(seconds) < LEAST_REPETITIONS or time.perf_counter() - began < SECONDS:
            seconds.append(self._once(run))
        self.used[threads] = self.used.get(threads, 0.0) + time.process_time() - used
        self.had[threads] = self.had.get(threads, 0.0) + threads * (time.perf_counter() - began)
        self.unsteady = max(self.unsteady, statistics.median(seconds) / min(seconds))
        return min(seconds)

    def growing(self, sizes: Sequence[int], work: Callable[[int], float], make: Callable[[int], Any]) -> float:
        """Return operations per second at the largest size of which a repetition stays short, at least at the first.

        Args:
            sizes: rising.
            work: operations of a size.
            make: returns what computes a size.
        """
        run, size = make(sizes[0]), sizes[0]
        self._once(run)
        per_second = work(size) / self._once(run)
        for larger in sizes[1:]:
            if work(larger) / per_second > LONGEST_REPETITION:
                break
            run, size = make(larger), larger
            self._once(run)
            per_second = max(per_second, work(size) / self._once(run))
        return work(size) / self.shortest(run)

    def _once(self, run: Callable[[], object]) -> float:
        self._wait()
        began = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@usual_switches
def measure(device: torch.device, say: Callable[[str], None] | None = None) -> Measured:
    """Return what a device can do, with one thread and with all of PyTorch's.

    Args:
        device: a processor or a card.
        say: is told what is measured next; None: nobody is.
    """
    watch, rates, say = _Watch(device), list[Rate](), say or (lambda text: None)
    former = torch.get_num_threads()
    cuda = device.type == "cuda"
    try:
        for threads in sorted({1, 1 if cuda else former}):
            torch.set_num_threads(threads)
            for precision in ("fp32", "tf32", "bf16", "fp16") if cuda else ("fp32", "bf16"):
                say(f"{device}, {precision}" if cuda else f"{device}, {precision}, threads {threads}")
                with _tf32(precision == "tf32"):
                    rates += _rates(watch, precision, threads)
        torch.set_num_threads(1)
        say(f"{device}, operator calls")
        call_seconds, numbers = _step_costs(watch)
    finally:
        torch.set_num_threads(former)
    figures = MachineFigures(
        machine=machine_of(device), date=datetime.date.today().isoformat(), rates=tuple(rates),
        how=f"shortest of at least {LEAST_REPETITIONS} repetitions in {SECONDS:g} s of each, after one that warms",
        call_seconds=call_seconds, numbers_per_second=numbers, cache_bytes=None if cuda else _last_cache(),
    )  # fmt: skip
    shares = {} if cuda else {threads: used / watch.had[threads] for threads, used in watch.used.items()}
    free = free_bytes(device) if cuda else None
    return Measured(
        figures=figures, shares=shares, unsteady=watch.unsteady, native_bf16=native_bf16(device), free_bytes=free
    )


def _rates(watch: _Watch, precision: str, threads: int) -> list[Rate]:
    dtype, device = _DTYPES[precision], watch.device

    def product(side: int) -> Callable[[], object]:
        a = _numbers((side, side), dtype, device)
        return lambda: a @ a

    def convolution(images: int) -> Callable[[], object]:
        x = _numbers((images, 64, 32, 32), dtype, device).contiguous(memory_format=torch.channels_last)
        w = _numbers((64, 64, 3, 3), dtype, device).contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        w.requires_grad_()
        return lambda: torch.autograd.grad(F.conv2d(x, w, padding=1), (x, w), x.detach())

    def copy(count: int) -> Callable[[], object]:
        source = torch.zeros(count, dtype=dtype, device=device)
        target = torch.zeros_like(source)
        return lambda: target.copy_(source)

    forward = 2 * 9 * 64 * 64 * 32 * 32
    seen: list[tuple[Operation, float]] = [
        ("matrix product", watch.growing(SIDES, lambda side: 2.0 * side**3, product)),
        ("convolution", watch.growing(IMAGES, lambda images: 3.0 * forward * images, convolution)),
    ]
    if precision != "tf32":
        size = dtype.itemsize
        most = COPIED_BYTES * (8 if device.type == "cuda" else 1)  # so that the call is no part of it
        copied = watch.growing([most // size], lambda count: 2.0 * count * size, copy)
        seen.append(("copy", copied))
    return [Rate(operation=of, precision=precision, threads=threads, per_second=rate) for of, rate in seen]


def _step_costs(watch: _Watch) -> tuple[float, float]:
    """Return the seconds of an operator call, and the numbers that are written in a second, of training steps.

    A step of a perceptron of eight units is calls alone. That of a small convolutional network is numbers, after its
    calls are taken off.
    """
    device = watch.device
    with torch_stream(0, "checkup"):
        small = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).to(device)
        large = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU()
        ).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's stub lacks it
    calls, _, seconds = _counted(watch, small, _numbers((8, 8), torch.float32, device), 100)
    call_seconds = seconds / calls
    images = _numbers((64, 3, 16, 16), torch.float32, device).contiguous(memory_format=torch.channels_last)
    calls, numbers, seconds = _counted(watch, large, images, 1)
    return call_seconds, numbers / max(seconds - calls * call_seconds, 0.1 * seconds)


def _counted(watch: _Watch, model: nn.Module, x: Tensor, steps: int) -> tuple[int, int, float]:
    """Return calls, numbers and seconds of a forward and backward pass."""

    def once() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        model(x).square().mean().backward()

    def several() -> None:
        for _ in range(steps):
            once()

    with Counter() as counter:
        once()
    return counter.calls, counter.numbers, watch.shortest(several) / steps


def _numbers(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers between -1 and 1, none of them denormal, without a draw."""
    count = 1
    for side in shape:
        count *= side
    return ((torch.arange(count, device=device) % 61).float() / 30 - 1).reshape(shape).to(dtype)


@contextmanager
def _tf32(on: bool) -> Iterator[None]:
    """Let a card round fp32, or not; a CPU computes it whole, whatever the caller's switches are."""
    backends: Any = torch.backends
    with ExitStack() as stack:
        for switch in (backends.cuda.matmul, backends.cudnn.conv):
            stack.callback(setattr, switch, "fp32_precision", switch.fp32_precision)
            switch.fp32_precision = "tf32" if on else "ieee"
        for switch in (backends.mkldnn.matmul, backends.mkldnn.conv):
            stack.callback(setattr, switch, "fp32_precision", switch.fp32_precision)
            switch.fp32_precision = "ieee"
        yield


def _last_cache() -> int | None:
    """Return the bytes of the last cache, where the system tells."""
    units = {"K": 2**10, "M": 2**20}
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = path.read_text(encoding="ascii").strip()
            sizes.append(int(text.rstrip("KM")) * units.get(text[-1], 1))
        except (OSError, ValueError, IndexError):
            continue
    return max(sizes, default=None)
