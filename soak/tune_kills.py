"""Kill a tuning run with SIGKILL at random moments, start the same command again, and compare what comes out.

    python soak/tune_kills.py --runs 20 --out soak/results/tune_kills.json

Against an undisturbed run of the same command: the decisions (without what a clock wrote, numbers to six digits),
the recipe, the finished trials and the final weights must be the same. No trial may be there twice, and the line of a
trial that was finished before a kill must stay byte for byte, its time included: so it was not trained again. The
budget is in examples and there is one thread, so that nothing depends on a clock.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from surefoot import __version__

CLOCKED = ("seconds", "untouched")
"""Of decisions and trials: what a clock wrote, or is a hash of random states."""


def command(name: str, folder: Path, settings: list[str]) -> list[str]:
    """Return the one command that begins, continues and reports the run."""
    return [
        sys.executable, "-m", "surefoot", "tune", "digits", *settings, "--name", name, "--runs-dir",
        str(folder / "runs"), "--threads", "1", "--json", "--quiet", "--no-report",
    ]  # fmt: skip


def begin(name: str, folder: Path, settings: list[str]) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own."""
    return subprocess.Popen(
        command(name, folder, settings), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(name: str, folder: Path, settings: list[str]) -> None:
    """Run the command to its end."""
    process = begin(name, folder, settings)
    _, errors = process.communicate(timeout=900)
    if process.returncode != 0:
        raise SystemExit(f"{name}: exit code {process.returncode}\n{errors.decode()}")


def lines(path: Path) -> list[str]:
    """Return the whole lines of a file."""
    if not path.is_file():
        return []
    content = path.read_text()
    return content[: content.rfind("\n") + 1].splitlines()


def timeless(value: Any) -> Any:
    """Return JSON values without what a clock wrote, numbers to six digits."""
    if isinstance(value, dict):
        return {name: timeless(each) for name, each in value.items() if name not in CLOCKED}
    if isinstance(value, list):
        return [timeless(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def came_to(run: Path) -> dict[str, Any]:
    """Return what must be the same."""
    result = json.loads((run / "result.json").read_text())
    tried = {(each := json.loads(line))["key"]: timeless(each) for line in lines(run / "members.jsonl")}
    return {
        "recipe": result["recipe"],
        "decisions": timeless(result["decisions"]),
        "unchecked": result["unchecked"],
        "trials": tried,
        "weights": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(),
        "accuracy": result["test_accuracy"],
    }


def trial(number: int, folder: Path, settings: list[str], expected: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Kill one run one to four times, let it end, and compare; one that ended before its first kill is repeated."""
    chance, name = random.Random(number), f"killed-{number}"
    run, kills, kept = folder / "runs" / name, list[str](), list[str]()
    wanted, repeated = chance.choice((1, 2, 3, 4)), 0
    while len(kills) < wanted:
        process = begin(name, folder, settings)
        time.sleep(chance.uniform(0.1, 0.9) * seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that trials are spread over
            process.communicate()
            now = lines(run / "members.jsonl")
            repeated += now[: len(kept)] != kept
            kept = now
            phase = "final training" if (run / "config.toml").is_file() else f"after {len(kept)} trials"
            kills.append(phase if (run / "tune.toml").is_file() else "before the search")
        else:
            process.communicate()
            if kills:
                break
            shutil.rmtree(run)
            kept = []
    finish(name, folder, settings)
    now = lines(run / "members.jsonl")
    repeated += now[: len(kept)] != kept
    keys = [json.loads(line)["key"] for line in now]
    found = came_to(run)
    shutil.rmtree(run)
    return {
        "run": number, "kills": kills, "equal": found == expected, "trials twice": len(keys) - len(set(keys)),
        "trials repeated": repeated, "differs": [name for name in found if found[name] != expected[name]],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    settings = ["--model", "cnn", "--budget", "2x", "--epochs", "10", "--batch-size", "32"]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        seconds = 0.0
        for name in ("first", "undisturbed"):  # the first fills caches; the second is timed
            began = time.perf_counter()
            finish(name, folder, settings)
            seconds = time.perf_counter() - began
        expected = came_to(folder / "runs" / "undisturbed")
        alike = came_to(folder / "runs" / "first") == expected
        print(f"undisturbed: {seconds:.1f} s, twice the same: {alike}, {expected['recipe']}", file=sys.stderr)
        trials = []
        for number in range(given.runs):
            trials.append(trial(number, folder, settings, expected, seconds))
            print(trials[-1], file=sys.stderr, flush=True)
            report = {
                "date": date.today().isoformat(), "surefoot": __version__, "python": platform.python_version(),
                "torch": torch.__version__, "machine": platform.machine(), "cpus": os.cpu_count(),
                "command": ["surefoot", "tune", "digits", *settings], "undisturbed_seconds": seconds,
                "two undisturbed runs are the same": alike, "trials_each": len(expected["trials"]),
                "runs": len(trials), "kills": sum(len(each["kills"]) for each in trials),
                "equal": sum(each["equal"] for each in trials),
                "trials_trained_twice": sum(each["trials twice"] + each["trials repeated"] for each in trials),
                "each": trials,
            }  # fmt: skip
            given.out.write_text(json.dumps(report, indent=1) + "\n")
    bad = [each for each in trials if not each["equal"] or each["trials twice"] or each["trials repeated"]]
    if bad:
        raise SystemExit(f"{len(bad)} of {len(trials)} runs came to something else: {bad}")


if __name__ == "__main__":
    main()
