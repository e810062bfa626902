"""A training step of ours beside a plain loop, a DataLoader, Lightning and skorch; time to the first step; memory.

    python benchmarks/loop.py --cifar10 FOLDER --peers FOLDER --out benchmarks/results/loop.json

`benchmarks/arms.py` says what each arm does. Steps are timed in one process, the arms in turn, so that a slow minute of
the machine meets all of them; what counts is the median over rounds of the ratio within a round. Time to the first step
(from the start of the process, with its imports) and peak memory (after an epoch more) are those of processes of their
own. Lightning and skorch are dependencies of this benchmark only, and bring no PyTorch of theirs in this way:

    pip install --no-deps --target FOLDER lightning skorch lightning-utilities torchmetrics tabulate pyyaml tqdm
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import ARMS, Case, Run

import surefoot

CIFAR_STEPS = 8
"""Steps of CIFAR-10 that an epoch of the cell has: it is cut to so many batches, for a whole one takes 40 s."""
WARM_STEPS = 3


@dataclass(frozen=True)
class Cell:
    """A model on data, and how many epochs a round of its steps has: a quarter of a second or more."""

    data: str
    model: str
    batch_size: int
    epochs: int
    threads: int = 1
    precision: str = "fp32"
    augment: bool = False


CELLS = {
    "linear, digits, batch 32": Cell("digits", "linear", 32, 25),
    "mlp, digits, batch 32": Cell("digits", "mlp", 32, 25),
    "mlp, digits, batch 64": Cell("digits", "mlp", 64, 40),
    "cnn, digits, batch 64": Cell("digits", "cnn", 64, 4),
    "resnet20, digits, batch 64": Cell("digits", "resnet20", 64, 1),
    "cnn, cifar10, batch 512, bf16": Cell("cifar10", "cnn", 512, 1, os.cpu_count() or 1, "bf16"),
    "cnn, cifar10, batch 512, bf16, flip and crop": Cell("cifar10", "cnn", 512, 1, os.cpu_count() or 1, "bf16", True),
}


def case_of(cell: Cell, cifar10: str | None, folder: Path) -> Case:
    """Write the arrays of a cell, and return its case."""
    data = surefoot.load(cell.data, validation=0, data_dir=cifar10 if cell.data == "cifar10" else None)
    rows = CIFAR_STEPS * cell.batch_size if cell.data == "cifar10" else len(data.train)
    path = folder / f"{cell.data}-{rows}.npz"
    np.savez(path, x=np.asarray(data.train.x[:rows]), y=np.asarray(data.train.y[:rows]))
    return Case(str(path), cell.model, cell.batch_size, cell.threads, cell.precision, cell.augment)


def arms_of(case: Case) -> dict[str, Callable[[Case], Run]]:
    """Return the arms that this case has and that can be imported."""
    absent = {name for name in ("lightning", "skorch") if importlib.util.find_spec(name) is None}
    arms = {name: make for name, make in ARMS.items() if name.lower() not in absent}
    return {name: make for name, make in arms.items() if case.augment or name != "DataLoader, 2"}


def timed(case: Case, steps: int, rounds: int, arms: Mapping[str, Callable[[Case], Run]]) -> dict[str, list[float]]:
    """Return the seconds a step of each arm in each round, the arms in turn."""
    torch.set_num_threads(case.threads)
    made = {name: make(case) for name, make in arms.items()}
    for run in made.values():
        run(WARM_STEPS)
        run(steps)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, run in made.items():
            seconds[name].append(run(steps) / steps)
    return seconds


def ratio(seconds: Mapping[str, list[float]], arm: str, other: str) -> float:
    """Return the median over rounds of an arm's time over another's."""
    return statistics.median(a / b for a, b in zip(seconds[arm], seconds[other], strict=True))


def started(case: Case, arm: str, peers: str | None) -> dict[str, float]:
    """Return the seconds from the start of a process to the end of its first step, and its peak memory."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "src"), *([peers] if peers else []), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONWARNINGS": "ignore"}
    words = [sys.executable, str(here / "arms.py"), arm, json.dumps(dataclasses.asdict(case))]
    began = time.monotonic()
    done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seen = json.loads(done.stdout.splitlines()[-1])
    return {"first_step_seconds": seen["first_step_at"] - began, "peak_mib": seen["peak_mib"]}


def share_of_machine() -> Callable[[], float]:
    """Return a function that gives this process's share of busy CPU time since the last call; 1 where none tells."""

    def read() -> tuple[float, float]:
        fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        times = os.times()
        return sum(fields) - fields[3] - fields[4], (sum(times[:4])) * os.sysconf("SC_CLK_TCK")

    if not Path("/proc/stat").is_file():
        return lambda: 1.0
    before = read()

    def share() -> float:
        nonlocal before
        now = read()
        busy, used = now[0] - before[0], now[1] - before[1]
        before = now
        return min(1.0, used / busy) if busy > 0 else 1.0

    return share


def measured(cell: Cell, case: Case, options: argparse.Namespace, entry: dict[str, Any]) -> None:
    """Put what was asked for into the entry of a cell."""
    arms, examples = arms_of(case), len(case.arrays()[1])
    if options.what in ("steps", "all"):
        share = share_of_machine()
        seconds = timed(case, cell.epochs * (examples // cell.batch_size), options.rounds, arms)
        whole = 50_000 if cell.data == "cifar10" else examples
        step = {name: statistics.median(values) for name, values in seconds.items()}
        entry |= {
            "seconds_per_step": step,
            "seconds_per_epoch": {name: value * (whole // cell.batch_size) for name, value in step.items()},
            "surefoot_over": {name: ratio(seconds, "surefoot", name) for name in seconds if name != "surefoot"},
            "all_seconds_per_step": seconds,
            "share_of_busy_cpu_that_was_ours": share(),
        }
    if options.what in ("starts", "all"):
        seen = {name: [started(case, name, options.peers) for _ in range(options.starts)] for name in arms}
        for what in ("first_step_seconds", "peak_mib"):
            entry[what] = {name: statistics.median(one[what] for one in each) for name, each in seen.items()}


COLUMNS = {
    "ms a step": ("seconds_per_step", 1000), "surefoot over it": ("surefoot_over", 1),
    "s an epoch": ("seconds_per_epoch", 1), "first step s": ("first_step_seconds", 1), "peak MiB": ("peak_mib", 1),
}  # fmt: skip
"""Of the table: where the entry of a cell has it, and in which unit it is shown."""


def table(cell: str, entry: Mapping[str, Any]) -> str:
    """Return what was measured of a cell as text, a line an arm."""
    lines = [f"{cell}\n{'':14}" + "".join(f"{title:>18}" for title in COLUMNS)]
    for name in entry.get("seconds_per_step", entry.get("peak_mib", {})):
        values = [(entry.get(key, {}).get(name), unit) for key, unit in COLUMNS.values()]
        shown = ("-" if value is None else f"{value * unit:.3f}" for value, unit in values)
        lines.append(f"{name:14}" + "".join(f"{text:>18}" for text in shown))
    return "\n".join(lines)


def main() -> None:
    """Measure what was asked for, one cell after the other, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("steps", "starts", "all"), default="all")
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="folder or archive of CIFAR-10")
    parser.add_argument("--peers", help="folder with lightning and skorch")
    parser.add_argument("--cells", nargs="+", default=[""], help="names of cells, or words in them")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--starts", type=int, default=3, help="processes of each arm")
    parser.add_argument("--out", type=Path, help="gone on with where it is there")
    options = parser.parse_args()
    if options.peers:
        sys.path.append(options.peers)
    report: dict[str, Any] = {"cells": {}}
    if options.out and options.out.is_file():
        report["cells"] = json.loads(options.out.read_text())["cells"]
    report |= {
        "date": date.today().isoformat(), "rounds": options.rounds, "starts": options.starts,
        "versions": {"surefoot": surefoot.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"cpus": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability()},
    }  # fmt: skip
    for name in ("lightning", "skorch"):
        if importlib.util.find_spec(name) is None:
            print(f"{name} is left out: it is not installed; --peers names a folder that has it", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        chosen = [name for name in CELLS if name in options.cells]
        for name in chosen or [name for name in CELLS if any(word in name for word in options.cells)]:
            cell = CELLS[name]
            if cell.data == "cifar10" and not options.cifar10:
                print(f"{name} is left out: --cifar10 names no folder", file=sys.stderr)
                continue
            entry = report["cells"].setdefault(name, {})
            measured(cell, case_of(cell, options.cifar10, Path(folder)), options, entry)
            entry |= {"threads": cell.threads, "precision": cell.precision, "batch_size": cell.batch_size}
            print(table(name, entry), flush=True)
            if options.out:
                options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
