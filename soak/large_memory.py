"""Train on data that is larger than the memory it may take: 4 GiB on disk in 1 GiB of memory, from loading to scores.

    python soak/large_memory.py --gib 4 --out soak/results/large_memory.json

Each kind of source is made in a temporary folder, trained on by a process of its own, and removed. That process may
have 1 GiB of memory of its own (RLIMIT_DATA: its heap and its private writable mappings; a page of a mapped file is the
system's, which takes it back when it likes), and what it had in memory at most is read from the system: pages of its
own (RssAnon and RssShmem), apart from pages of files. The control is the same data read into memory: it must fail.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

GIB = 2**30
BLOCK = 2**26
"""Bytes that are written at once."""
KINDS = {
    "numbers": ((1024,), "float32"),
    "numbers float64": ((512,), "float64"),
    "images, channels last": ((32, 32, 3), "uint8"),
    "images as floats": ((3, 32, 32), "float32"),
    "tokens": ((256,), "int32"),
}
"""Shape and type of an example, by kind of data."""
RUNS = [
    ("numbers", "mmap"), ("numbers float64", "mmap"), ("images, channels last", "mmap"), ("images as floats", "mmap"),
    ("tokens", "mmap"), ("numbers", "npy"), ("numbers", "npz"), ("numbers", "in memory"),
]  # fmt: skip
"""Kinds of data and the ways in which they are given; the last is the control."""


def examples_of(kind: str, gib: float) -> int:
    """Return how many examples of a kind take so much."""
    shape, dtype = KINDS[kind]
    return int(gib * GIB) // (int(np.prod(shape)) * np.dtype(dtype).itemsize)


def write(folder: Path, kind: str, way: str, gib: float) -> None:
    """Write x.npy and y.npy, or data.npz, of random numbers from which the label can be told."""
    shape, dtype = KINDS[kind]
    examples, rng = examples_of(kind, gib), np.random.default_rng(0)
    y = np.arange(examples) % 2
    np.save(folder / "y.npy", y)
    x = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=dtype, shape=(examples, *shape))
    rows = max(1, BLOCK // x[:1].nbytes)
    for at in range(0, examples, rows):
        piece, label = x[at : at + rows], y[at : at + rows].reshape(-1, *([1] * len(shape)))
        if dtype == "uint8" or kind == "images as floats":
            levels = rng.integers(0, 200, piece.shape, dtype=np.uint8) + 20 * label.astype(np.uint8)
            piece[:] = levels if dtype == "uint8" else levels / np.float32(255)
        elif dtype == "int32":
            piece[:] = rng.integers(0, 90, piece.shape, dtype=np.int32) + 10 * label
        else:
            piece[:] = rng.random(piece.shape, dtype=np.float32) + 0.1 * label
    x.flush()
    if way == "npz":
        np.savez(folder / "data.npz", x=x, y=y)
        (folder / "x.npy").unlink()


def memory() -> dict[str, int]:
    """Return what the system says of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return {name: int(found[name][0]) * 1024 for name in ("RssAnon", "RssShmem", "RssFile", "VmData", "VmHWM")}


def child(folder: Path, kind: str, way: str, limit_gib: float) -> None:
    """Train, watched, and print what it took as JSON."""
    import torch
    from torch import nn

    import surefoot

    resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gib * GIB), int(limit_gib * GIB)))
    peak = memory()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            for name, value in memory().items():
                peak[name] = max(peak[name], value)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    if way in ("mmap", "in memory"):
        source: Any = (np.load(folder / "x.npy", mmap_mode="r" if way == "mmap" else None), np.load(folder / "y.npy"))
    else:
        source = str(folder / ("x.npy" if way == "npy" else "data.npz"))

    def tokens() -> nn.Module:
        return nn.Sequential(nn.Embedding(100, 8), nn.Flatten(), nn.Linear(8 * 256, 2))

    began = time.monotonic()
    loaded = surefoot.load(source)
    load_seconds = time.monotonic() - began
    steps = {"steps": 50, "batch_size": 64, "lr": 0.05, "rows_per_epoch": 1}
    model = tokens if kind == "tokens" else "linear"
    result = surefoot.train(loaded, model, runs_dir=folder / "runs", threads=1, **steps)
    ended.set()
    watcher.join()
    print(json.dumps({
        "outcome": result.summary["outcome"], "val_accuracy": result.record.last.val_accuracy,
        "load_seconds": round(load_seconds, 1), "seconds": round(time.monotonic() - began, 1),
        "peak": {name: round(value / GIB, 3) for name, value in peak.items()}, "torch": torch.__version__,
    }))  # fmt: skip


def one(kind: str, way: str, gib: float, limit_gib: float) -> dict[str, Any]:
    """Make data, train on it in a process of its own, remove it, and return what was seen."""
    folder = Path(tempfile.mkdtemp(prefix="large."))
    try:
        need, free = (2.2 if way == "npz" else 1.1) * gib * GIB, shutil.disk_usage(folder).free
        if free < need + 5 * GIB:
            raise SystemExit(f"{folder} has {free / GIB:.0f} GiB free, and {need / GIB:.0f} GiB + 5 are needed")
        write(folder, kind, way, gib)
        words = [sys.executable, __file__, "--child", kind, way, str(folder), "--limit-gib", str(limit_gib)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SUREFOOT_CACHE": str(folder / "cache")}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        cache = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
        seen = json.loads(lines[-1]) if done.returncode == 0 else {"error": done.stderr.strip().splitlines()[-1:]}
        return {"kind": kind, "way": way, "examples": examples_of(kind, gib), "copied_bytes": cache, **seen}
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Run all, or the child's part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gib", type=float, default=4.0, help="of data")
    parser.add_argument("--limit-gib", type=float, default=1.0, help="of memory of its own")
    parser.add_argument("--only", help="kinds or ways that contain this")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3, metavar=("KIND", "WAY", "FOLDER"))
    asked = parser.parse_args()
    if asked.child:
        kind, way, folder = asked.child
        child(Path(folder), kind, way, asked.limit_gib)
        return
    runs = []
    for kind, way in RUNS:
        if asked.only is None or asked.only in f"{kind} {way}":
            runs.append(one(kind, way, asked.gib, asked.limit_gib))
            print(json.dumps(runs[-1]), flush=True)
    control = [run for run in runs if run["way"] == "in memory"]
    within = all(run.get("outcome") == "finished" for run in runs if run not in control)
    report = {
        "date": date.today().isoformat(), "system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count(),
        "python": platform.python_version(), "data_gib": asked.gib, "limit_gib": asked.limit_gib,
        "all_within": within, "control_fails": bool(control) and all("error" in run for run in control), "runs": runs,
    }  # fmt: skip
    if asked.out:
        asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("all within" if within else "NOT all within")


if __name__ == "__main__":
    main()
