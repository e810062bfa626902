"""Is the noise estimate right, and what does measuring cost along a training?

    python benchmarks/noise.py exact --out FILE
    python benchmarks/noise.py overhead --out FILE

exact: five models without batch norm, before training and after some of it; the exact values come from the gradient of
every training example. Each quantity is estimated with 40 draws of its own, and counted is how often the exact value
lies in the 95 % interval: of the first draw, and over all.

overhead: `surefoot train --measure-noise` at the default frequency against the same run without, through the same calls
as the command makes, a run of each advanced row by row in turn, on one thread, by the clock of the process, which
hardly feels what else the machine does; weights are compared by SHA-256, and losses.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import surefoot
from surefoot.config import Config, Recipe
from surefoot.settings import from_dict
from surefoot.steps.batch_size.along_run import SHARE, NoiseLog
from surefoot.steps.batch_size.noise import noise_of
from surefoot.training.loop import advance, start

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))  # the slow twin is the tests'
from per_sample import ExactNoise, exact_noise

DRAWS = 40
QUANTITIES = ("second_moment", "grad_norm_sq", "trace", "noise_scale")
PAIRS = 5


class Tanh(nn.Sequential):
    """Two hidden layers of 48 with tanh."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        width = int(np.prod(input_shape))
        super().__init__(nn.Flatten(), nn.Linear(width, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(),
                         nn.Linear(48, outputs))  # fmt: skip


class PlainCnn(nn.Sequential):
    """Two convolutions of 8 and 16 channels, without normalisation."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__(
            nn.Conv2d(input_shape[0], 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, outputs),
        )  # fmt: skip


class GroupNormCnn(nn.Sequential):
    """The same with group norm, whose statistics are an example's own."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__(
            nn.Conv2d(input_shape[0], 8, 3, padding=1), nn.GroupNorm(4, 8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, outputs),
        )  # fmt: skip


MODELS: dict[str, Any] = {"linear": "linear", "mlp": "mlp", "tanh": Tanh, "plain cnn": PlainCnn,
                          "group norm cnn": GroupNormCnn}  # fmt: skip


def exact_part(result: dict[str, Any]) -> None:
    """Hold estimates against exact values."""
    data = surefoot.load("digits")
    for number, (name, model) in enumerate(MODELS.items()):
        for steps in (0, 20):
            key = f"{name}, after {steps} steps"
            if key in result["exact"]:
                continue
            task = surefoot.task(data, model, threads=1, precision="fp32")
            plan = surefoot.plan(Recipe(lr=0.05, steps=steps or 1, batch_size=128), data.examples)
            state, _ = advance(task, plan, start(task, plan), steps)
            truth = exact_noise(task, state.model)
            first: dict[str, Any] = {}
            inside = {quantity: [0, 0] for quantity in QUANTITIES}
            for draw in range(DRAWS):
                seen = noise_of(
                    task, state.model.train(), batch_size=128, step=1000 * (2 * number + (steps > 0) + 1) + draw
                )
                for layer, exact in zip((seen.total, *seen.layers), truth, strict=True):
                    for quantity in QUANTITIES:
                        estimate = getattr(layer, quantity)
                        inside[quantity][0] += estimate.low <= getattr(exact, quantity) <= estimate.high
                        inside[quantity][1] += 1
                if draw == 0:
                    first = {quantity: compared(seen.total, truth[0], quantity) for quantity in QUANTITIES}
            result["exact"][key] = {
                "total_of_the_first_draw": first, "draws": DRAWS, "layers": len(truth) - 1,
                "inside": {quantity: {"times": a, "of": b} for quantity, (a, b) in inside.items()},
            }  # fmt: skip
            within = [v["low"] <= v["exact"] <= v["high"] for v in first.values()]
            print(f"{key}: {sum(within)} of {len(within)} within; over {DRAWS} draws and {len(truth)} layers "
                  + ", ".join(f"{q} {a / b:.3f}" for q, (a, b) in inside.items()), flush=True)  # fmt: skip


def compared(layer: surefoot.LayerNoise, exact: ExactNoise, quantity: str) -> dict[str, float]:
    """Return an exact value with its estimate and interval."""
    estimate = getattr(layer, quantity)
    return {"exact": getattr(exact, quantity), "estimate": estimate.value, "low": estimate.low, "high": estimate.high}


def runs() -> dict[str, Callable[[], Config]]:
    """Return the trainings whose cost is compared, long enough that noise is measured several times."""

    def config(**more: Any) -> Callable[[], Config]:
        return lambda: from_dict(Config, {"data": "digits", "threads": 1, "checkpoint_seconds": 1000.0, **more})

    return {
        "digits, mlp, 300 epochs": config(model="mlp", recipe={"epochs": 300, "lr": 0.05}),
        "digits, cnn, 60 epochs": config(model="cnn", recipe={"epochs": 60, "lr": 0.05}),
    }


class Arm:
    """A run with or without measuring, advanced a piece at a time, and what that took."""

    def __init__(self, config: Config, folder: Path, *, measured: bool) -> None:
        self.run = surefoot.open_run(config, name=f"{measured}", runs_dir=folder)
        self.log = NoiseLog.of(self.run) if measured else None
        self.seconds, self.measuring = 0.0, 0.0

    def go(self) -> None:
        """Measure if due, train to the next row, and at the end measure again, as the command does."""
        began = time.process_time()
        self._measure()
        steps = next((row for row in self.run.plan.row_steps if row > self.run.state.step), self.run.plan.steps)
        self.run.advance(steps - self.run.state.step)
        if self.run.done:
            self._measure()
        self.seconds += time.process_time() - began

    def _measure(self) -> None:
        began = time.process_time()
        if self.log is not None:
            self.log.measure_if_due()
        self.measuring += time.process_time() - began

    def digest(self) -> str:
        """Return the SHA-256 of the weights."""
        weights = b"".join(value.numpy().tobytes() for value in self.run.state.model.state_dict().values())
        return hashlib.sha256(weights).hexdigest()


def one_pair(config: Config, number: int) -> dict[str, Any]:
    """Train a run with and one without measuring, row by row in turn, so that a slow moment meets both."""
    with tempfile.TemporaryDirectory() as folder:
        arms = [Arm(config, Path(folder), measured=measured) for measured in (True, False)]
        turn = number
        while not all(arm.run.done for arm in arms):
            for arm in arms if turn % 2 else arms[::-1]:
                arm.go()
            turn += 1
        for arm in arms:
            arm.run.close()
        measured, plain = arms
        assert measured.log is not None
        return {
            "without": plain.seconds, "with": measured.seconds, "measuring": measured.measuring,
            "same_weights": measured.digest() == plain.digest(), "measurements": len(measured.log.seen),
            "rows_same": [row.train_loss for row in measured.run.rows] == [row.train_loss for row in plain.run.rows],
        }  # fmt: skip


def overhead_part(result: dict[str, Any]) -> None:
    """Compare runs with and without measuring."""
    for name, make in runs().items():
        own = result["overhead"].setdefault(name, {"pairs": []})
        if len(own["pairs"]) >= PAIRS:
            continue
        for number in range(PAIRS):
            own["pairs"].append(one_pair(make(), number))
        pairs = own["pairs"]
        added = [pair["with"] / pair["without"] - 1 for pair in pairs]
        inside = [pair["measuring"] / (pair["with"] - pair["measuring"]) for pair in pairs]
        own |= {
            "added_share": statistics.median(added), "added_share_of_each_pair": added,
            "added_share_timed_inside": statistics.median(inside),
            "same_weights": all(pair["same_weights"] and pair["rows_same"] for pair in pairs),
        }  # fmt: skip
        each = ", ".join(f"{share:+.2%}" for share in added)
        print(f"{name}: {pairs[-1]['measurements']} measurements add {statistics.median(added):.2%} ({each}), "
              f"{statistics.median(inside):.2%} timed inside; same weights and rows: {own['same_weights']}",
              flush=True)  # fmt: skip


def main() -> None:
    """Measure one part and write it to the output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=["exact", "overhead"])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.is_file() else {"exact": {}, "overhead": {}}
    {"exact": exact_part, "overhead": overhead_part}[options.part](result)
    result |= {
        "what": "gradient noise against its exact values, and what measuring it adds to a training",
        "share_of_examples": SHARE,
        "date": date.today().isoformat(),
        "versions": {"surefoot": surefoot.__version__, "torch": torch.__version__,
                     "python": platform.python_version()},
        "machine": {"cpus": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability(), "threads": 1},
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
