"""CIFAR-10: seconds of training and of the whole process to an accuracy, with model fast and with the default model.

    python benchmarks/time_to_accuracy.py --arms 0.9 0.94 default --seeds 0 1 2 --out benchmarks/results/FILE.json
    python benchmarks/time_to_accuracy.py --arms 0.9 0.94 default --slices 12

An arm is the accuracy for which model fast is set up, or `default`. Each run is the command line in a process of its
own, one after the other: `surefoot train cifar10 --model fast --target ...`. Its time is of use where nothing else ran:
`share_of_busy` is the part of all processor time spent on the machine meanwhile that was this process's. A run that is
there already is read and not trained again, so that runs can be made one by one.

With --slices each arm is only timed: so many updates at each size of its images, from fresh weights, the first three
left out; their median times the updates at that size is `estimated_seconds`, without validation.

Accuracy is of the 10,000 test images, plain, and with airbench94's test-time augmentation (--tta flip-shift), of which
all accuracies of airbench are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

import surefoot
from surefoot.optim.plan import plan
from surefoot.training.configure import Objects, make_task, resolve

SKIPPED = 3
"""First updates of a slice, in which kernels are made ready."""


def settings(arm: str, seed: int) -> dict[str, str]:
    """Return the flags of an arm."""
    chosen = {} if arm == "default" else {"model": "fast", "target": arm}
    return {**chosen, "seed": str(seed), "tta": "flip-shift"}


def trained(arm: str, seed: int, folder: Path, data_dir: str | None) -> dict[str, Any]:
    """Train an arm by the command line, unless it is done, and return what was seen."""
    name = f"{arm}-seed{seed}"
    seen = folder / f"{name}.json"
    if not seen.is_file():
        flags = [word for key, value in settings(arm, seed).items() for word in (f"--{key}", value)]
        flags += ["--data-dir", data_dir] if data_dir else []
        command = [sys.executable, "-m", "surefoot", "train", "cifar10", *flags, "--name", name, "--runs-dir"]
        busy, began, used = _busy(), time.perf_counter(), _children()
        subprocess.run([*command, str(folder), "--quiet", "--json"], check=True, stdout=subprocess.DEVNULL)
        seconds, ours = time.perf_counter() - began, _children() - used
        result = json.loads((folder / name / "result.json").read_text(encoding="utf-8"))
        keys = ("test_accuracy", "train_seconds", "epochs", "steps", "model", "device", "precision", "threads")
        found = {"arm": arm, "seed": seed, **{key: result[key] for key in keys}, "tta": result["tta"]["accuracy"]}
        found |= {"process_seconds": seconds, "cpu_seconds": ours, "share_of_busy": ours / max(_busy() - busy, ours)}
        seen.write_text(json.dumps(found), encoding="utf-8")
    return json.loads(seen.read_text(encoding="utf-8"))


def timed(arm: str, updates: int, data_dir: str | None) -> dict[str, Any]:
    """Return what a training of an arm would take, from some updates at each size of its images."""
    chosen = {} if arm == "default" else {"model": "fast", "target": float(arm)}
    config = resolve({"data": "cifar10", **chosen, **({"data_dir": data_dir} if data_dir else {})})
    work = make_task(config, Objects())
    made = plan(config.recipe, work.data.examples)
    sides = [made.side_at(step) for step in range(made.steps)]
    found: dict[str, Any] = {}
    for side in dict.fromkeys(sides):
        first, seconds = sides.index(side), []
        state = surefoot.start(work, made)
        state.step = first
        for step in range(first, min(first + SKIPPED + updates, made.steps - 1)):
            began = time.perf_counter()
            state, _ = surefoot.advance(work, made, state, step + 1)
            seconds.append(time.perf_counter() - began)
        median = statistics.median(seconds[SKIPPED:])
        found[str(side or "full")] = {"updates": sides.count(side), "seconds_each": median}
    total = sum(each["updates"] * each["seconds_each"] for each in found.values())
    return {"arm": arm, "model": config.model, "steps": made.steps, "sizes": found, "estimated_seconds": total}


def _busy() -> float:
    """Return the processor time spent on this machine so far, in seconds; 0 where the system does not say."""
    file = Path("/proc/stat")
    if not file.is_file():
        return 0.0
    user, nice, system, _, _, irq, soft = map(int, file.read_text(encoding="ascii").split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=["0.9", "default"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--slices", type=int, help="updates at each size, in place of trainings")
    parser.add_argument("--data-dir")
    parser.add_argument("--work", type=Path, default=Path("runs/time_to_accuracy"), help="folder of the runs")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.slices:
        rows = [timed(arm, given.slices, given.data_dir) for arm in given.arms]
    else:
        given.work.mkdir(parents=True, exist_ok=True)
        rows = [trained(arm, seed, given.work, given.data_dir) for arm in given.arms for seed in given.seeds]
    for row in rows:
        print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}))
    about = {
        "date": date.today().isoformat(), "surefoot": surefoot.__version__, "torch": torch.__version__,
        "python": platform.python_version(), "cpus": os.cpu_count(), "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }  # fmt: skip
    if given.out is not None:
        given.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
