"""What a training finds around it: cores, limits, memory, disk, compiler, versions, switches."""

from __future__ import annotations

import os
import platform
import shutil
import sysconfig
import uuid
from pathlib import Path

import torch

from surefoot.checkup.judge import Surroundings
from surefoot.config import __version__
from surefoot.settings import cache_folder
from surefoot.training.memory import free_bytes, total_bytes

VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "KMP_AFFINITY", "GOMP_CPU_AFFINITY",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING",
)  # fmt: skip
"""Of the environment, that change how fast or in which precision PyTorch computes."""


def surroundings(runs_dir: Path) -> Surroundings:
    """Return what is around this process; nothing is measured by a clock.

    Args:
        runs_dir: where runs would lie.

    >>> surroundings(Path("runs")).cpus >= 1
    True
    """
    cpu = torch.device("cpu")
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    cores = capabilities.get("num_physical_cores")
    there = next(folder for folder in (runs_dir.absolute(), *runs_dir.absolute().parents) if folder.exists())
    return Surroundings(
        cpus=os.cpu_count() or 1,
        usable=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        quota=_quota(),
        cores=cores if isinstance(cores, int) and cores > 0 else None,
        threads=torch.get_num_threads(),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        memory_bytes=total_bytes(cpu),
        free_memory_bytes=free_bytes(cpu),
        runs_dir=str(there),
        free_disk_bytes=shutil.disk_usage(there).free,
        runs_problem=_unwritable(there),
        cache_dir=str(cache_folder()),
        cache_problem=_unwritable(cache_folder(), make=True),
        compiler=_compiler(),
        headers=Path(sysconfig.get_paths()["include"], "Python.h").is_file(),
        mkldnn=torch.backends.mkldnn.is_available(),
        fp32_switch=torch.get_float32_matmul_precision(),
        card=torch.cuda.is_available(),
        card_of_system=shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists(),
        versions={
            "surefoot": __version__, "torch": torch.__version__, "python": platform.python_version(),
            "cuda": torch.version.cuda, "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
    )  # fmt: skip


def _quota() -> float | None:
    """Return of how many cores this process's control group may use the time; None without a limit."""
    places = (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    )
    for path, period in places:
        try:
            words = Path(path).read_text(encoding="ascii").split()
            words += Path(period).read_text(encoding="ascii").split() if period else []
            return float(words[0]) / float(words[1]) if float(words[0]) > 0 else None
        except (OSError, ValueError, IndexError, ZeroDivisionError):  # no such file, or "max"
            continue
    return None


def _unwritable(folder: Path, *, make: bool = False) -> str | None:
    """Return why no file can be made in a folder, None where one can."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}.tmp"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _compiler() -> str | None:
    """Return the C++ compiler that `torch.compile` would take on a CPU: $CXX, or the first of the usual names."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++", *(["cl"] if os.name == "nt" else [])]
    return next((path for name in names if name and (path := shutil.which(name.split()[0]))), None)
