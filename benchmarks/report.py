"""What the report of a long run and of a large search weighs, and how long it takes to make and to open.

    python benchmarks/report.py --out FILE    # needs a quiet machine; under two minutes

Two folders are made up: a run of 100,000 steps with a row every ten, each mini-batch loss and two numbers of 54 layers
kept, spikes among them, and a search of 200 members with their decisions. Each page is made three times by
`surefoot report` in a process of its own, and opened in headless Chromium, where it is installed, at the width of a
desktop and of a phone: until all charts are drawn. A third number is what the report adds to a small `surefoot train`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

import surefoot
from surefoot.config import Config, Recipe
from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.record.run import Row, append_rows
from surefoot.record.scores import SCORES, scored_classes
from surefoot.record.trial import Trial, TrialResult
from surefoot.settings import to_dict

STEPS, PER_ROW, PER_EPOCH = 100_000, 10, 400
LAYERS = 54
"""Of the long run's model: as many as a ResNet-50 has (He et al. 2016), more than a page draws."""
MEMBERS = 200
REPEATS = 3
MOST_BYTES, MOST_SECONDS = 5_000_000, 10.0
"""What was asked: a page under 5 MB, made in under 10 s."""
SPIKE = 54_321
"""A step whose loss is far above all others: it has to be seen in the page."""


def main() -> None:
    """Make both pages, measure, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as place:
        pages = {"run of 100,000 steps": long_run(Path(place)), "search of 200 members": large_search(Path(place))}
        found = {name: measured(folder) for name, folder in pages.items()}
        found["run of 100,000 steps"]["spike_shown"] = "7.77" in (
            pages["run of 100,000 steps"] / "report.html"
        ).read_text(encoding="utf-8")
        training = small_train(Path(place))
    result = {
        "what": "size of reports, seconds to make and to open them", "date": str(date.today()),
        "asked": {"bytes": MOST_BYTES, "seconds": MOST_SECONDS}, "repeats": REPEATS,
        "versions": {name: version(name) for name in ("surefoot", "altair", "vl-convert-python", "jinja2")}
        | {"python": platform.python_version(), "chromium": chromium_version()},
        "machine": {"system": platform.system(), "cpus": os.cpu_count()}, "pages": found, "small_train": training,
    }  # fmt: skip
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    for name, page in found.items():
        if page["bytes"] > MOST_BYTES or max(page["made_seconds"]) > MOST_SECONDS:
            sys.exit(f"{name}: over what was asked")


def long_run(place: Path) -> Path:
    """Return the folder of a run of 100,000 steps, made up."""
    rng = np.random.default_rng(0)
    steps = np.arange(1, STEPS + 1)
    losses = 2.3 * np.exp(-steps / 2e4) + 0.2 + 0.1 * rng.standard_normal(STEPS)
    losses[SPIKE] = 7.77
    rows = []
    for end in range(PER_ROW, STEPS + 1, PER_ROW):
        own = losses[end - PER_ROW : end]
        layers = rng.lognormal(size=(LAYERS, 2))
        accuracy = 0.9 - 0.8 * float(np.exp(-end / 2e4))
        rows.append(
            Row(
                step=end,
                epoch=end / PER_EPOCH,
                examples=end * 128,
                lr=0.05 * (1 + float(np.cos(np.pi * end / STEPS))),
                train_loss=float(own.mean()),
                train_accuracy=accuracy,
                val_loss=float(own.mean()) + 0.1,
                val_accuracy=accuracy - 0.05,
                grad_norm=float(rng.lognormal()),
                update_ratio=float(1e-3 * rng.lognormal()),
                losses=tuple(map(float, own)),
                seconds=end / 100,
                examples_per_second=12800.0,
                layers={f"stage.{k}.conv": (float(a), float(1e-3 * b)) for k, (a, b) in enumerate(layers)},
            )
        )
    folder = _folder(place / "long", "surefoot train cifar10 --steps 100000", Config(recipe=Recipe(lr=0.1)))
    append_rows(folder, rows)
    _finished(folder, STEPS)
    classes = tuple(f"class {i}" for i in range(10))
    outputs, targets = rng.standard_normal((10_000, 10)), rng.integers(0, 10, 10_000)
    outputs[np.arange(10_000), targets] += 2.0
    store.write_json(
        folder / SCORES, scored_classes(outputs, targets, classes, of="test", name_of=str, picture=lambda _: None)
    )
    return folder


def large_search(place: Path) -> Path:
    """Return the folder of a search of 200 members and the run that came of it, made up."""
    rng = np.random.default_rng(1)
    folder = _folder(place / "search", "surefoot tune cifar10 --budget 3x", Config(recipe=Recipe(lr=0.1)))
    tried = []
    for i in range(MEMBERS):
        lr, decay = float(10 ** rng.choice(np.linspace(-3, 0, 10))), float(10 ** rng.choice(np.linspace(-5, -3, 5)))
        stage = "coarse-grid" if i < MEMBERS * 3 // 4 else "refine"
        loss = float(abs(np.log10(lr) + 1) + rng.normal(1, 0.05))
        trial = Trial(stage=stage, recipe=Recipe(lr=lr, weight_decay=decay, momentum=0.9), seed=i, share=0.2)
        tried.append(
            TrialResult(trial=trial, outcome="finished", examples=10_000, train_loss=loss, val_loss=loss,
                        val_accuracy=0.5, seconds=3.0)
        )  # fmt: skip
    (folder / store.TRIALS).write_text("".join(json.dumps(each.to_dict()) + "\n" for each in tried), encoding="utf-8")
    decisions = [
        Decision(step=step, name=name, verdict="pass", claim=f"{name} does", reason=f"best of {MEMBERS}", seconds=9.0,
                 value={"lr": 0.1}, evidence={"members": [e.trial.key for e in tried if e.trial.stage == name]})
        for step, name in ((4, "coarse-grid"), (5, "refine"))
    ]  # fmt: skip
    lines = "".join(json.dumps(each.to_dict()) + "\n" for each in decisions)
    (folder / store.DECISIONS).write_text(lines, encoding="utf-8")
    row = Row(step=400, epoch=1.0, examples=51_200, lr=0.1, train_loss=1.0, train_accuracy=0.5, val_loss=1.0,
              val_accuracy=0.5, grad_norm=1.0, update_ratio=1e-3, losses=(2.0, 1.0), seconds=3.0,
              examples_per_second=1e4)  # fmt: skip
    append_rows(folder, [row, dataclasses.replace(row, step=800, epoch=2.0)])
    _finished(folder, 800)
    return folder


def measured(folder: Path) -> dict[str, Any]:
    """Return what the page of a folder weighs, and the seconds to make it and to open it."""
    made = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "surefoot", "report", str(folder)], check=True, capture_output=True)
        made.append(round(time.perf_counter() - start, 2))
    page = folder / "report.html"
    seen = {"bytes": page.stat().st_size, "made_seconds": made, "made_seconds_median": statistics.median(made)}
    return seen | {f"opened_{width}": opened(page, width) for width in (1280, 500)}


def opened(page: Path, width: int) -> dict[str, Any] | None:
    """Return the seconds of Chromium from its start until all charts are drawn, and its console; None without it.

    A copy of the page carries one more script, with its hash in the policy: it notes when the last chart is there.
    Headless Chromium has no window narrower than 500.
    """
    from surefoot.report.page import hashed

    program = _chromium()
    if program is None:
        return None
    script = """(() => { const wait = () => document.querySelector("figure.chart:not(.drawn)") ? setTimeout(wait, 20)
      : Object.assign(document.body.dataset, {ms: Math.round(performance.now()),
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth}); wait(); })();"""
    text = page.read_text(encoding="utf-8").replace("script-src ", f"script-src {hashed(script)} ", 1)
    head, _, tail = text.rpartition("</body>")
    copy = page.with_name("opened.html")
    copy.write_text(f"{head}<script>{script}</script></body>{tail}", encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        start = time.perf_counter()
        done = subprocess.run(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             f"--user-data-dir={profile}", f"--window-size={width},4000", "--enable-logging=stderr",
             "--virtual-time-budget=60000", "--dump-dom", copy.as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        seconds = round(time.perf_counter() - start, 2)
    return {
        "process_seconds": seconds,
        "all_drawn": re.search(r'<body[^>]* data-ms="', done.stdout) is not None,
        "page_wider_than_window": re.search(r'<body[^>]* data-wide="0"', done.stdout) is None,
        "console": [line[-200:] for line in done.stderr.splitlines() if "CONSOLE" in line],
    }


def small_train(place: Path) -> dict[str, Any]:
    """Return the seconds of a training of one pass over digits with its report and without."""
    words = [sys.executable, "-m", "surefoot", "train", "digits", "--model", "linear", "--epochs", "1", "--lr", "0.1",
             "--quiet", "--runs-dir", str(place)]  # fmt: skip
    seen: dict[str, list[float]] = {"with_report": [], "without": []}
    for i in range(REPEATS):
        for kind, more in (("with_report", []), ("without", ["--no-report"])):
            start = time.perf_counter()
            subprocess.run([*words, "--name", f"{kind}{i}", *more], check=True, capture_output=True)
            seen[kind].append(round(time.perf_counter() - start, 2))
    adds = statistics.median(seen["with_report"]) - statistics.median(seen["without"])
    return {**seen, "report_adds_seconds": round(adds, 2)}


def chromium_version() -> str | None:
    """Return what Chromium calls itself; None where there is none."""
    program = _chromium()
    return subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip() if program else None


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _folder(folder: Path, command: str, config: Config) -> Path:
    def known(values: dict[str, Any]) -> dict[str, Any]:
        return {k: known(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}

    folder.mkdir()
    chosen = dataclasses.replace(config, data="cifar10")
    (folder / store.CONFIG).write_text(tomli_w.dumps(known(to_dict(chosen))), encoding="utf-8")
    (folder / store.COMMAND).write_text(command, encoding="utf-8")
    store.write_json(
        folder / store.ENVIRONMENT, {"python": platform.python_version(), "surefoot": surefoot.__version__}
    )
    return folder


def _finished(folder: Path, steps: int) -> None:
    store.write_json(
        folder / store.RESULT,
        {"outcome": "finished", "reason": f"all {steps:,} steps were done", "test_accuracy": 0.9,
         "test_examples": 10_000, "test_loss": 0.4, "train_seconds": steps / 100,
         "epochs": steps / PER_EPOCH, "steps": steps},
    )  # fmt: skip


if __name__ == "__main__":
    main()
