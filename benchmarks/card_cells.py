"""What the sections of `card.py` measure; each in a process of its own, a line of JSON as soon as a cell is done."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import surefoot
from surefoot.data.batches import batch_indices, fetch
from surefoot.data.dataset import DataSet
from surefoot.training.loop import advance, start
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.task import Task

STEPS = {  # data, model, batch size, precision
    "mlp, digits, 64": ("digits", "mlp", 64, "fp32"),
    "cnn, CIFAR-10, 512, bf16": ("cifar10", "cnn", 512, "bf16"),
    "resnet20, CIFAR-10, 128, bf16": ("cifar10", "resnet20", 128, "bf16"),
    "fast, CIFAR-10, 1024, bf16": ("cifar10", "fast", 1024, "bf16"),
    "linear, digits, 64": ("digits", "linear", 64, "fp32"),
    "cnn, digits, 64": ("digits", "cnn", 64, "fp32"),
    "resnet20, digits, 64": ("digits", "resnet20", 64, "fp32"),
}
MEMBERS = {
    "mlp": ("digits", "mlp", 64, "fp32"),
    "cnn": ("cifar10", "cnn", 512, "bf16"),
    "resnet20": ("cifar10", "resnet20", 128, "bf16"),
}
"""The three of which the figures of before are known, the same batches."""
WARM_SECONDS, ROUND_SECONDS, ROUNDS = 1.0, 0.4, 3
"""Time for which a cell is warmed up and timed, and how often; the shortest round counts. Chosen by hand."""
RECIPE = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
PLAN_STEPS = 20_000
"""Steps of a plan: a run of one to several minutes, by which the engine chooses. At its end it begins anew."""
TILES = 16
"""How many times the digits stand in their data, so that an epoch has 449 steps of 64, and few rows are due."""


class Device:
    """Where cells are computed; on the CPU sizes are small, and a graph is the function itself."""

    def __init__(self, name: str, cifar10: str | None) -> None:
        self.name, self.cifar10, self.small = name, cifar10, name == "cpu"
        self._data: dict[str, DataSet] = {}

    def data(self, name: str) -> DataSet | None:
        """Return a data set without a validation part; None of CIFAR-10 where it is not here."""
        if name not in self._data:
            if name == "cifar10" and self.cifar10 is None and not self.small:
                return None
            self._data[name] = surefoot.load(self._arrays(name), validation=0)
        return self._data[name]

    def _arrays(self, name: str) -> tuple[Any, Any]:
        if name == "cifar10" and self.small:
            draw = np.random.default_rng(0)
            return draw.integers(0, 256, (256, 3, 32, 32), dtype=np.uint8), np.arange(256) % 10
        if name == "cifar10":
            train = surefoot.load(name, validation=0, data_dir=self.cifar10).train
            return np.asarray(train.x), np.asarray(train.y)
        train, times = surefoot.load(name, validation=0).train, 1 if self.small else TILES
        return np.tile(np.asarray(train.x), (times, 1, 1, 1)), np.tile(np.asarray(train.y), times)

    def task(self, data: str, model: str, precision: str) -> Task | None:
        """Return the task of a cell; None where its data or its model is not here."""
        there = self.data(data)
        if there is None or model not in surefoot.models.build.SHIPPED:
            return None
        augment = ["flip", "crop:2"] if data == "cifar10" else ()
        return surefoot.task(
            there, model, device=self.name, precision=precision, augment=augment, threads=1 if self.small else None
        )

    def wait(self) -> None:
        """Wait for all that the device has to do."""
        if self.name == "cuda":
            torch.cuda.synchronize()

    def rate(self, some: Callable[[int], None]) -> float:
        """Return calls a second of what does so many at once: the fastest of a few rounds, after warming up."""
        seconds = (0.05, 0.05) if self.small else (WARM_SECONDS, ROUND_SECONDS)
        fastest, many = 0.0, 2 if self.small else 16
        for round_seconds, rounds in zip(seconds, (1, ROUNDS), strict=True):
            for _ in range(rounds):
                began, done = time.perf_counter(), 0
                while done == 0 or time.perf_counter() - began < round_seconds:
                    some(many)
                    self.wait()
                    done += many
                each = (time.perf_counter() - began) / done
                fastest = max(fastest, 1 / each) if rounds > 1 else 0.0
            many = max(many, min(10 if self.small else 2000, int(ROUND_SECONDS / 4 / each)))
        return fastest


def steps(device: Device, _: Any) -> Iterator[dict[str, Any]]:
    """Yield milliseconds of a step of each model: ours, of a plain loop on a fixed batch, and of its graph."""
    for cell, (data, model, batch, precision) in STEPS.items():
        task = device.task(data, model, precision)
        if task is None:
            yield {"cell": cell, "left out": f"no {data}" if device.data(data) is None else f"no model {model}"}
            continue
        batch = 16 if device.small else batch
        ours, began = _ours(device, task, batch)
        plain, graphed = _plain(device, task, batch)
        yield {
            "cell": cell, "ours_ms": ours, "plain_ms": plain, "graph_ms": graphed, "to_plain": ours / plain,
            "to_graph": ours / graphed, "first_steps_seconds": began, "computed": _computed(task, batch),
        }  # fmt: skip


def _ours(device: Device, task: Task, batch: int) -> tuple[float, float]:
    """Return milliseconds of a step of ours, and the seconds of its first steps with all that is made ready in them."""
    plan = surefoot.plan(surefoot.Recipe(**RECIPE, batch_size=batch, steps=PLAN_STEPS), task.data.examples)
    state = [start(task, plan)]

    def some(many: int) -> None:
        state[0], _ = advance(task, plan, state[0], state[0].step + many)

    began = time.perf_counter()
    some(4)
    device.wait()
    first = time.perf_counter() - began
    return 1000 / device.rate(some), first


def _computed(task: Task, batch: int) -> str:
    """Return how steps of a task are computed, as its record would say it."""
    recipe = surefoot.Recipe(**RECIPE, batch_size=batch, steps=4)
    _, record = surefoot.fit(task, surefoot.plan(recipe, task.data.examples))
    return record.computed or ""


def _plain(device: Device, task: Task, batch: int) -> tuple[float, float]:
    """Return milliseconds of forward, backward and `torch.optim.SGD` on a fixed batch, and of the same as one graph."""
    x, y = fetch(task.data, task.data.train, batch_indices(task.data.examples, batch, 0, 0)[1])
    model = task.fresh_model().train()
    rule = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], **RECIPE)

    def step() -> None:
        rule.zero_grad(set_to_none=True)
        with task.machine.autocast():
            outputs = model(x)
        F.cross_entropy(outputs.float(), y).backward()
        rule.step()

    def many_of(one: Callable[[], Any]) -> Callable[[int], None]:
        return lambda many: [one() for _ in range(many)] and None

    with task.machine.computing():
        plain = 1000 / device.rate(many_of(step))
        if device.name == "cpu":
            return plain, 1000 / device.rate(many_of(step))
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        rule.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return plain, 1000 / device.rate(many_of(graph.replay))


def members(device: Device, _: Any) -> Iterator[dict[str, Any]]:
    """Yield member-steps a second of K members, as the engine computes them, and the seconds of its first call."""
    counts = (1, 4, 8) if device.small else (1, 32, 8, 128)
    for model, (data, name, batch, precision) in MEMBERS.items():
        task = device.task(data, name, precision)
        if task is None:
            yield {"model": model, "left out": f"no {data}"}
            continue
        batch = 16 if device.small else batch
        alone = None
        for count in counts if not (device.small and model != "mlp") else counts[:1]:
            if count > 32 and model != "mlp":
                continue
            rate, first, computed = _members(device, task, count, batch)
            alone = alone or rate
            yield {
                "model": model, "members": count, "steps_a_second": rate, "to_one": rate / alone,
                "first_seconds": first, "computed": computed,
            }  # fmt: skip


def _members(device: Device, task: Task, count: int, batch: int) -> tuple[float, float, str]:
    length = 20 if device.small else PLAN_STEPS  # on the CPU none is long enough to be compiled
    rates = [1e-4 * 1.02**k for k in range(count)]
    recipes = [surefoot.Recipe(**(RECIPE | {"lr": lr}), batch_size=batch, steps=length) for lr in rates]
    group = [Member(task, surefoot.plan(recipe, task.data.examples)) for recipe in recipes]
    engine, states = Engine(), [start_many(group)]

    def some(many: int) -> None:
        if states[0][0].step + many > length:
            states[0] = start_many(group)
        states[0], _ = advance_many(group, states[0], states[0][0].step + many, engine)

    began = time.perf_counter()
    some(2)
    device.wait()
    first = time.perf_counter() - began
    return count * device.rate(some), first, engine.computed(group)[0]


def fast(device: Device, given: Any) -> Iterator[dict[str, Any]]:
    """Yield seconds of training and of the process, and test accuracy, of the command line, seed by seed."""
    if not device.small and device.cifar10 is None:
        yield {"left out": "no cifar10"}
        return
    flags = ["cifar10", "--model", "fast", "--target", "0.94", "--data-dir", str(device.cifar10)]
    flags = ["digits", "--model", "linear", "--epochs", "1"] if device.small else flags
    for seed in range(2 if device.small else 5):
        name, began = f"fast-{seed}", time.perf_counter()
        command = [sys.executable, "-m", "surefoot", "train", *flags, "--seed", str(seed), "--name", name]
        command += ["--runs-dir", given.folder, "--device", device.name, "--quiet", "--json"]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        took = time.perf_counter() - began
        if ended.returncode != 0:
            yield {"seed": seed, "failed": (ended.stderr.strip().splitlines() or ["no word"])[-1][:200]}
            continue
        result = json.loads((Path(given.folder) / name / "result.json").read_text(encoding="utf-8"))
        keys = ("test_accuracy", "train_seconds", "epochs", "steps")
        yield {"seed": seed, **{key: result.get(key) for key in keys}, "process_seconds": took}


def airbench(device: Device, given: Any) -> Iterator[dict[str, Any]]:
    """Yield seconds and accuracy of airbench94's own `main`, run by run, after its warming up.

    It asks torchvision for nothing but a normalisation and a download: a module of ours stands in for that, and the
    data lies where it looks.
    """
    if device.small:
        yield {"left out": "it needs a card"}
        return
    if device.cifar10 is None:
        yield {"left out": "no cifar10"}
        return
    folder = Path(given.folder) / "airbench"
    _standing_in(folder)
    _laid_out(folder / "cifar10", str(device.cifar10))
    with contextlib.chdir(folder):
        sys.path.insert(0, str(folder))
        run = runpy.run_path(str(Path(given.airbench).resolve()), run_name="airbench")["main"]
        for seed in ("warmup", *range(5)):
            said = io.StringIO()
            torch.cuda.synchronize()
            began = time.perf_counter()
            with contextlib.redirect_stdout(said):
                accuracy = run(seed)
            torch.cuda.synchronize()
            wall = time.perf_counter() - began
            numbers = re.findall(r"\d+\.\d+", said.getvalue())
            own = float(numbers[-1]) if numbers else wall  # its table ends with seconds of training by its own clock
            if seed != "warmup":
                yield {"run": seed, "accuracy": float(accuracy), "seconds": own, "wall_seconds": wall}


def _standing_in(folder: Path) -> None:
    package = folder / "torchvision"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("from . import transforms\n", encoding="utf-8")
    (package / "transforms.py").write_text(
        "import torch\n\n\nclass Normalize:\n    def __init__(self, mean, std):\n"
        "        self.mean, self.std = torch.as_tensor(mean), torch.as_tensor(std)\n\n    def __call__(self, x):\n"
        "        mean, std = (each.to(x.device, x.dtype).view(-1, 1, 1) for each in (self.mean, self.std))\n"
        "        return (x - mean) / std\n",
        encoding="utf-8",
    )


def _laid_out(folder: Path, cifar10: str) -> None:
    """Write CIFAR-10 as airbench keeps it: uint8 [N, 32, 32, 3], labels, names."""
    folder.mkdir(parents=True, exist_ok=True)
    data = surefoot.load("cifar10", validation=0, data_dir=cifar10)
    for name, part in (("train", data.train), ("test", data.test)):
        assert part is not None
        images = part.x.permute(0, 2, 3, 1).contiguous()
        torch.save({"images": images, "labels": part.y, "classes": list(data.classes or ())}, folder / f"{name}.pt")


SECTIONS = {"steps": steps, "members": members, "fast": fast, "airbench": airbench}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("section", choices=list(SECTIONS))
    parser.add_argument("--device", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--cifar10")
    parser.add_argument("--airbench")
    given = parser.parse_args()
    began = time.perf_counter()
    with Path(given.rows).open("a", encoding="utf-8") as file:
        for row in SECTIONS[given.section](Device(given.device, given.cifar10), given):
            file.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}) + "\n")
            file.flush()
            if time.perf_counter() - began > 0.9 * given.seconds:
                break


if __name__ == "__main__":
    main()
