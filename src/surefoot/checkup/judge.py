"""What the facts about a machine mean, pure and without torch; a threshold stands beside its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from surefoot.record.decision import Finding, passes, suspect
from surefoot.record.figures import MachineFigures

LEAST_SHARE = {1: 0.9}
"""Share of the time of one thread that must have been ours. Chosen by hand; 0.99 and more on a quiet machine."""
LEAST_SHARE_OF_ALL = 0.75
"""The same of all threads, which wait for each other at the ends of a product. Chosen by hand."""
MOST_UNSTEADY = 1.5
"""Median time of a repetition over the shortest, above which something else was at work. Chosen by hand; 1.05 to 1.1
on a quiet machine, 7 where another process took turns with it."""
CLEARLY = 1.15
"""One precision must be so many times as fast as another to be called faster. Chosen by hand."""
LEAST_GAIN = 1.3
"""All threads must be so many times as fast as one. Chosen by hand: two threads of one core are 1.0 to 1.3 times."""
LEAST_MEMORY, LEAST_DISK = 2 * 2**30, 2**30
"""Free bytes below which a training or its checkpoints may not fit. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a training finds around it.

    Attributes:
        cpus, usable, quota, cores: logical processors of the machine; those that this process may run on; of how many
            its control group grants the time, None without a limit; physical cores, None where nobody tells.
        threads: that PyTorch takes by itself.
        variables: of the environment, that change how PyTorch computes.
        memory_bytes, free_memory_bytes, free_disk_bytes: the last where runs would lie.
        runs_dir, runs_problem: the folder for runs, or what of it exists, and why it cannot be written to.
        cache_dir, cache_problem: the same of the cache.
        compiler, headers: C++ compiler for `torch.compile`; whether Python's headers are there, which it needs too.
        mkldnn: whether PyTorch has oneDNN, by which convolutions are fast.
        fp32_switch: `torch.get_float32_matmul_precision()`.
        card, card_of_system: whether PyTorch has a card; whether the system seems to have one.
        versions: by name.
    """

    cpus: int
    usable: int
    quota: float | None
    cores: int | None
    threads: int
    variables: Mapping[str, str]
    memory_bytes: int
    free_memory_bytes: int
    runs_dir: str
    free_disk_bytes: int
    runs_problem: str | None
    cache_dir: str
    cache_problem: str | None
    compiler: str | None
    headers: bool
    mkldnn: bool
    fp32_switch: str
    card: bool
    card_of_system: bool
    versions: Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one device, and how quiet it was meanwhile.

    Attributes:
        figures: the machine's.
        shares: by number of threads, which share of their time was this process's own; empty for a card.
        unsteady: the worst median time of a repetition over the shortest.
        native_bf16: whether the rule of `precision auto` takes bf16 for images here.
        free_bytes: of a card's memory; None for a CPU.
    """

    figures: MachineFigures
    shares: Mapping[int, float]
    unsteady: float
    native_bf16: bool
    free_bytes: int | None = None


def judge(around: Surroundings, devices: Iterable[Measured]) -> list[Finding]:
    """Return a finding for each thing that was looked at, the gravest of them no more than suspect."""
    devices = list(devices)
    findings = [_threads(around), _memory(around), _disk(around), _cache(around), _compiler(around), _build(around)]
    findings += [_switches(around)]
    for device in devices:
        findings.append(_busy(device))
        if busy(device) is None:
            findings += [_precision(device), *_gain(device)]
        if device.free_bytes is not None:
            findings.append(_card_memory(device))
    return findings


def busy(device: Measured) -> str | None:
    """Return why the figures of a device are not to be trusted, None where they are."""
    for threads, share in device.shares.items():
        if share < LEAST_SHARE.get(threads, LEAST_SHARE_OF_ALL):
            return f"only {share:.0%} of the time of {_counted(threads, 'thread')} was this process's own"
    if device.unsteady > MOST_UNSTEADY:
        return f"the same work took from 1 to {device.unsteady:.2f} times as long"
    return None


def _busy(device: Measured) -> Finding:
    name, why = f"busy-{device.figures.machine['device']}", busy(device)
    if why is None:
        return passes(name, "nothing else was at work")
    return suspect(
        name, f"something else was at work: {why}; these figures are not kept",
        "end what else runs here, or take fewer threads, then call surefoot doctor again: a training would be as slow",
    )  # fmt: skip


def _threads(around: Surroundings) -> Finding:
    threads, usable, quota = around.threads, around.usable, around.quota
    fewest = usable if quota is None else min(usable, max(1, int(quota + 0.5)))
    omp = around.variables.get("OMP_NUM_THREADS")
    why = f"PyTorch takes {_counted(threads, 'thread')}"
    if quota is not None and threads > fewest:
        return suspect(
            "threads", f"{why}, and this process's control group grants the time of {quota:g} CPUs",
            f"set --threads {fewest} or OMP_NUM_THREADS={fewest}: threads that wait for each other are far slower",
        )  # fmt: skip
    if threads > usable:
        return suspect(
            "threads", f"{why}, and this process may run on {usable} of {_counted(around.cpus, 'CPU')}",
            f"set --threads {usable} or OMP_NUM_THREADS={usable}",
        )  # fmt: skip
    if around.cores is not None and threads > around.cores:
        return suspect(
            "threads", f"{why} on {_counted(around.cores, 'core')}: two of a core share its arithmetic",
            f"try --threads {around.cores}",
        )  # fmt: skip
    could = min(fewest, around.cores or fewest)
    if threads < could:
        by = f", for OMP_NUM_THREADS is {omp}" if omp else ""
        return suspect(
            "threads", f"{why}{by}, and could take {could}", f"leave OMP_NUM_THREADS out, or set --threads {could}"
        )  # fmt: skip
    return passes("threads", f"{why} on {_counted(around.cores or usable, 'core')}")


def _memory(around: Surroundings) -> Finding:
    what = f"{_gib(around.free_memory_bytes)} of {_gib(around.memory_bytes)} of memory are free"
    if around.free_memory_bytes < LEAST_MEMORY:
        return suspect("memory", what, "end what else holds memory; --micro-batch-size bounds what a step takes")
    return passes("memory", what)


def _disk(around: Surroundings) -> Finding:
    what = f"{_gib(around.free_disk_bytes)} are free where runs lie, {around.runs_dir}"
    if around.runs_problem is not None:
        return suspect(
            "disk", f"{around.runs_dir}, where runs would lie, cannot be written to: {around.runs_problem}",
            "give --runs-dir another folder",
        )  # fmt: skip
    if around.free_disk_bytes < LEAST_DISK:
        return suspect("disk", what, "make room, or give --runs-dir a folder on another disk")
    return passes("disk", what)


def _cache(around: Surroundings) -> Finding:
    if around.cache_problem is None:
        return passes("cache", f"{around.cache_dir} can be written to")
    return suspect(
        "cache", f"the cache folder {around.cache_dir} cannot be written to: {around.cache_problem}",
        "set SUREFOOT_CACHE to such a folder",
    )  # fmt: skip


def _compiler(around: Surroundings) -> Finding:
    lacking = [*([] if around.compiler else ["a C++ compiler"]), *([] if around.headers else ["Python's headers"])]
    if not lacking:
        return passes("compiler", f"torch.compile can take {around.compiler}")
    return suspect(
        "compiler", f"torch.compile lacks {' and '.join(lacking)}: many small models are trained without it",
        "install g++ and the python3-dev package, if you train many small models at once",
    )  # fmt: skip


def _build(around: Surroundings) -> Finding:
    version = around.versions.get("torch")
    if around.card_of_system and not around.card:
        cpu_only = around.versions.get("cuda") is None
        return suspect(
            "build", f"the system seems to have a card, and PyTorch {version} does not see it",
            "install a build of PyTorch with CUDA" if cpu_only
            else "see whether nvidia-smi answers: the driver may be too old for this build",
        )  # fmt: skip
    if not around.mkldnn:
        return suspect(
            "build", f"PyTorch {version} is built without oneDNN: convolutions are slow",
            "install PyTorch's wheel for this system",
        )  # fmt: skip
    return passes("build", f"PyTorch {version}, {'with' if around.card else 'without'} a card")


def _switches(around: Surroundings) -> Finding:
    named = [f"{name}={value}" for name, value in around.variables.items() if name not in _OF_THREADS]
    if around.fp32_switch != "highest":
        named.insert(0, f"torch.set_float32_matmul_precision({around.fp32_switch!r})")
    if not named:
        return passes("switches", "none is set that changes how PyTorch computes")
    return suspect(
        "switches", f"{', '.join(named)}: this changes how fast or how exactly PyTorch computes",
        "leave it out, unless you mean it",
    )  # fmt: skip


_OF_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Variables that do not change how a number is computed."""


def _precision(device: Measured) -> Finding:
    """The rule of `precision auto` is of the processor's instructions; say where its convolutions disagree."""
    figures, where = device.figures, device.figures.machine["device"]
    name = f"precision-{where}"
    threads = max(rate.threads for rate in figures.rates)
    fp32, bf16 = (figures.per_second("convolution", precision, threads) for precision in ("fp32", "bf16"))
    if fp32 is None or bf16 is None:
        return passes(name, "fp32 and bf16 were not both measured")
    if device.native_bf16 and fp32 > CLEARLY * bf16:
        return suspect(
            name, f"--precision auto is bf16 for images here, and fp32 convolves {fp32 / bf16:.2g} times as fast",
            "set --precision fp32",
        )  # fmt: skip
    if not device.native_bf16 and bf16 > CLEARLY * fp32:
        return suspect(
            name, f"--precision auto is fp32 here, and bf16 convolves {bf16 / fp32:.2g} times as fast",
            "try --precision bf16 for images",
        )  # fmt: skip
    return passes(name, f"bf16 convolves {bf16 / fp32:.2g} times as fast as fp32, as --precision auto takes it to")


def _gain(device: Measured) -> list[Finding]:
    """Whether all threads are faster than one."""
    figures = device.figures
    most = max(rate.threads for rate in figures.rates)
    one, all_of_them = (figures.per_second("convolution", "fp32", threads) for threads in (1, most))
    if most == 1 or not one or not all_of_them:
        return []
    gain = f"{most} threads convolve {all_of_them / one:.2g} times as fast as one"
    if all_of_them < LEAST_GAIN * one:
        return [suspect("gain", gain, "they may share a core, or another process has it: try --threads 1")]
    return [passes("gain", gain)]


def _card_memory(device: Measured) -> Finding:
    total, free = device.figures.machine["memory"], device.free_bytes or 0
    what = f"{_gib(free)} of {_gib(total)} of the card's memory are free"
    if free < LEAST_MEMORY:
        return suspect("card-memory", what, "end what else runs on the card; nvidia-smi lists it")
    return passes("card-memory", what)


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
