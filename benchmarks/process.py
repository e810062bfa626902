"""What each command takes beside its training: start, imports, reading, the test part, the report, the end.

    python benchmarks/process.py --out FILE    # needs a quiet machine; a minute, and one more with --cifar10

Each command runs in a process of its own, REPEATS times. Its wall time is that from outside, of the whole process; what
it spends on what is seen by a clock around the functions that do it, in the process. `train digits` is to take at most
2 s beyond training on a CPU, `train cifar10` 3 s on a card; the second number of each is its share of the wall.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPEATS = 3
COMMANDS = {
    "train digits": ["train", "digits", "--quiet"],
    "train digits --model mlp": ["train", "digits", "--model", "mlp", "--quiet"],
    "evaluate": ["evaluate", "run"],
    "predict": ["predict", "run", "images.npy"],
    "show": ["show", "run"],
    "report": ["report", "run"],
    "check digits": ["check", "digits", "--model", "mlp", "--quiet"],
    "find-lr digits": ["find-lr", "digits", "--model", "mlp", "--quiet"],
    "tune digits": ["tune", "digits", "--model", "mlp", "--budget", "1x", "--epochs", "5", "--quiet"],
}
CIFAR10 = {"train cifar10": ["train", "cifar10", "--epochs", "0.2", "--warmup-epochs", "0.05", "--quiet"]}
CLOCKED = {
    "import": ["surefoot.cli.{command}:loading"],
    "data": ["surefoot.training.configure:load", "surefoot.steps.wiring.inputs:load"],
    "test": ["surefoot.training.run:Run.finish"],
    "report": ["surefoot.cli.train:say_report", "surefoot.cli.tune:say_report", "surefoot.report.page:save_report"],
}
"""What is timed under which name: module:function, where it is called from."""
ASKED = {"train digits": 2.0, "train cifar10 on a card": 3.0}


def main() -> None:
    """Measure every command, and write and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cifar10", action="store_true", help="CIFAR-10 too, which lies in the cache folder")
    parser.add_argument("--only", nargs="*", help="commands, by their names here")
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        sys.exit(clocked(asked.inside))
    commands = COMMANDS | (CIFAR10 if asked.cifar10 else {})
    with tempfile.TemporaryDirectory() as place:
        prepared(Path(place))
        found = {
            name: measured(words, Path(place))
            for name, words in commands.items()
            if not asked.only or name in asked.only
        }
    result = {
        "what": "seconds of each command's process, and beside training", "date": str(date.today()), "asked": ASKED,
        "repeats": REPEATS, "machine": {"system": platform.system(), "cpus": os.cpu_count(), "cuda": cuda()},
        "versions": {name: version(name) for name in ("torch", "numpy", "altair", "vl-convert-python")}
        | {"python": platform.python_version()},
        "commands": found,
    }  # fmt: skip
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'command':<26}{'wall s':>8}{'beyond training':>17}  of it")
    for name, seen in found.items():
        parts = ", ".join(f"{part} {seconds:.2f} ({share:.0%})" for part, (seconds, share) in seen["parts"].items())
        print(f"{name:<26}{seen['wall_seconds']:8.2f}{seen['beyond_seconds']:17.2f}  {parts}")


def prepared(place: Path) -> None:
    """Leave a finished run and some images in a folder, for what needs these; caches are warm then."""
    import numpy as np

    np.save(place / "images.npy", np.zeros((16, 1, 8, 8), np.uint8))
    command = [sys.executable, "-m", "surefoot", "train", "digits", "--epochs", "2", "--name", "run", "--quiet"]
    subprocess.run(command, cwd=place, check=True, capture_output=True, env=environment())


def measured(words: list[str], place: Path) -> dict[str, Any]:
    """Return the medians over some processes: their wall, what is beyond training, and the parts of that."""
    runs = [once(words, place) for _ in range(REPEATS)]
    wall = statistics.median(run["wall"] for run in runs)
    parts = {name: statistics.median(run[name] for run in runs) for name in (*CLOCKED, "training")}
    return {
        "wall_seconds": wall, "training_seconds": parts["training"],
        "beyond_seconds": statistics.median(run["wall"] - run["training"] for run in runs),
        "walls": [run["wall"] for run in runs],
        "parts": {name: (seconds, seconds / wall) for name, seconds in parts.items() if seconds},
    }  # fmt: skip


def once(words: list[str], place: Path) -> dict[str, float]:
    """Run a command in a process of its own and return its wall time, and what was clocked in it."""
    seen = place / "seen.json"
    seen.unlink(missing_ok=True)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--inside", str(seen), *words], cwd=place, capture_output=True, text=True,
        env=environment(), check=False,
    )  # fmt: skip
    wall = time.perf_counter() - began
    if not seen.is_file() or done.returncode not in (0, 3):  # 3: a check failed, which is an answer
        sys.exit(f"{words}: {done.stderr}")
    return {"wall": wall} | json.loads(seen.read_text(encoding="utf-8"))


def clocked(words: list[str]) -> int:
    """Run a command here, with a clock around what `CLOCKED` names; words are the file for what was seen, then its."""
    from surefoot.cli import app
    from surefoot.cli.process import leave

    seconds = dict.fromkeys((*CLOCKED, "training"), 0.0)
    target, command = Path(words[0]), words[1].replace("-", "_")
    for name, places in CLOCKED.items():
        for place in places:
            if name == "import":  # the rest is imported inside of it
                around(place.format(command=command), functools.partial(loading_clock, seconds))
    code = app.run(words[1:])
    folders = sorted(Path("runs").glob("*/result.json"), key=lambda path: path.stat().st_mtime)
    if words[1] in ("train", "tune") and folders:
        seconds["training"] = json.loads(folders[-1].read_text(encoding="utf-8"))["train_seconds"]
    target.write_text(json.dumps(seconds), encoding="utf-8")
    leave(code)


def loading_clock(seconds: dict[str, float], former: Any) -> Any:
    """Return `loading` with a clock, which puts clocks around the rest when it ends: these modules are there then."""

    @contextmanager
    def loading() -> Any:
        began = time.perf_counter()
        with former():
            yield
        seconds["import"] += time.perf_counter() - began
        for name, places in CLOCKED.items():
            for place in places if name != "import" else ():
                if place.partition(":")[0] in sys.modules:
                    around(place, functools.partial(function_clock, seconds, name))

    return loading


def function_clock(seconds: dict[str, float], name: str, former: Any) -> Any:
    """Return a function with a clock around it."""

    @functools.wraps(former)
    def timed(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return former(*given, **named)
        finally:
            seconds[name] += time.perf_counter() - began

    return timed


def around(place: str, wrapped: Any) -> None:
    """Put something around a function, where a module or one of its classes has it."""
    module, _, name = place.partition(":")
    try:
        home: Any = importlib.import_module(module)
    except ImportError:
        return
    *owners, last = name.split(".")
    for owner in owners:
        home = getattr(home, owner)
    if hasattr(home, last):
        setattr(home, last, wrapped(getattr(home, last)))


def cuda() -> str | None:
    """Return the name of the card, if there is one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def environment() -> dict[str, str]:
    """Return the environment of the processes: this one's, with the package that this one has."""
    import surefoot

    return os.environ | {"PYTHONPATH": str(Path(surefoot.__file__).parents[1])}


if __name__ == "__main__":
    main()
