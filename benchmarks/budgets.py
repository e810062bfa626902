"""How a budget in time is kept: tuning runs at different budgets on two data sets, planned against used.

    python benchmarks/budgets.py --cifar10 FOLDER --out benchmarks/results/budgets.json

A run is one `surefoot tune` in a process of its own. `used` is what the budget is of: the search and the final
training with its validation, as the result says. `wall` is the whole process, with imports, test part and files.
Nothing else may run here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

import surefoot

RUNS = (  # data, model, budget in seconds
    ("digits", "mlp", 20), ("digits", "cnn", 30), ("digits", "mlp", 45), ("digits", "cnn", 90),
    ("digits", "resnet20", 120),
    ("cifar10", "mlp", 45), ("cifar10", "mlp", 90), ("cifar10", "linear", 60), ("cifar10", "mlp", 150),
    ("cifar10", "cnn", 1200),
)  # fmt: skip


def measure(data: str, model: str, seconds: int, cifar10: Path, runs: Path) -> dict[str, Any]:
    words = ["--model", model, "--budget", f"{seconds}s", "--json", "--quiet", "--no-report", "--runs-dir", str(runs)]
    words += ["--data-dir", str(cifar10)] if data == "cifar10" else []
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "surefoot", "tune", data, *words], capture_output=True, text=True, check=False
    )
    wall, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    seen: dict[str, Any] = {"data": data, "model": model, "planned": seconds, "wall": wall, "exit": done.returncode,
                            "cpu share": cpu / wall / (os.cpu_count() or 1)}  # fmt: skip
    if done.returncode != 0:
        return {**seen, "said": done.stderr[-500:] + done.stdout[-500:]}
    result = json.loads(done.stdout)
    search, final = result["cost"]["search_seconds"], result["train_seconds"]
    return {
        **seen, "search": search, "final": final, "used": search + final, "used / planned": (search + final) / seconds,
        "wall / planned": wall / seconds, "epochs": result["epochs"], "test accuracy": result["test_accuracy"],
        "recipe": result["recipe"], "unchecked": result["unchecked"],
        "steps": {name: each["seconds"] for name, each in result["cost"]["steps"].items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="folder that holds CIFAR-10; without it its runs are left out")
    parser.add_argument("--only", nargs="+", type=int, help="numbers of the runs to do, from 0")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    report: dict[str, Any] = {
        "date": date.today().isoformat(), "surefoot": surefoot.__version__, "python": platform.python_version(),
        "torch": torch.__version__, "cpus": os.cpu_count(), "cpu": torch.backends.cpu.get_cpu_capability(), "runs": {},
    }  # fmt: skip
    if given.out.is_file():  # go on with what an earlier call has measured
        report["runs"] = json.loads(given.out.read_text())["runs"]
    for number, (data, model, seconds) in enumerate(RUNS):
        if (data == "cifar10" and not given.cifar10) or (given.only and number not in given.only):
            continue
        with tempfile.TemporaryDirectory() as runs:
            seen = measure(data, model, seconds, given.cifar10, Path(runs))
        report["runs"][str(number)] = seen
        given.out.write_text(json.dumps(report, indent=1) + "\n")
        shown = {name: round(value, 3) if isinstance(value, float) else value for name, value in seen.items()
                 if name not in ("recipe", "unchecked", "steps")}  # fmt: skip
        print(shown, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
