"""Tiny tasks that train in milliseconds, and what the laws compare: every bit of a state, every field of a row."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.data.dataset import DataSet
from surefoot.optim.plan import Plan, plan
from surefoot.record.run import CLOCK_FIELDS, Row
from surefoot.training.make import task
from surefoot.training.state import State, named_tensors
from surefoot.training.task import Task


def image_arrays(examples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images [N, 3, 8, 8] of three classes that differ in colour, and their classes [N]."""
    rng = np.random.default_rng(seed)
    y = np.arange(examples) % 3
    x = rng.integers(0, 160, (examples, 3, 8, 8))
    x[np.arange(examples), y] += 60
    return x.astype(np.uint8), y


def images(train: int = 60) -> DataSet:
    """Return `train` training images, 21 for validation and 21 for the test."""
    parts = {"train": image_arrays(train, 0), "validation": image_arrays(21, 1), "test": image_arrays(21, 2)}
    return surefoot.load(parts)


def number_arrays(examples: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return x [N, 5] and y [N] of a noisy linear relation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, 5)).astype(np.float32)
    return x, (x @ np.array([1, -2, 0.5, 0, 3]) + 0.1 * rng.normal(size=examples)).astype(np.float32)


class BatchNormDropoutNet(nn.Module):
    """Everything in a model that can go wrong on resuming: batch norm and dropout, in two convolutions."""

    def __init__(self, input_shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(input_shape[0], 6, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(6 * 16, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(self.conv(x)).relu().flatten(1)))


def reference_job(schedule: Schedule | None = None) -> tuple[Task, Plan]:
    """Return the job of the resume laws: 16 steps in two and two thirds epochs, with all that a state can hold."""
    work = task(images(), BatchNormDropoutNet, augment=["flip", "crop:1"], seed=3, precision="fp32")
    recipe = Recipe(
        lr=0.2, steps=16, batch_size=10, momentum=0.9, weight_decay=1e-3, clip_norm=5.0, label_smoothing=0.1,
        ema_decay=0.8, schedule=schedule or Schedule(kind="cosine", warmup_epochs=0.5),
    )  # fmt: skip
    return work, plan(recipe, work.data.examples, rows_per_epoch=2)


def plateau_job() -> tuple[Task, Plan]:
    """Return the reference job with a schedule that reads the validation losses, and acts on them."""
    work, made = reference_job(Schedule(kind="plateau", patience_epochs=0, factor=0.5))
    return work, plan(dataclasses.replace(made.recipe, lr=1.0, ema_decay=0.95), work.data.examples, rows_per_epoch=2)


def bare(rows: list[Row] | tuple[Row, ...]) -> list[dict[str, Any]]:
    """Return rows without what a clock wrote, as text, so that NaN equals NaN."""
    return [{k: repr(v) for k, v in dataclasses.asdict(row).items() if k not in CLOCK_FIELDS} for row in rows]


def bits(tensor: Tensor) -> bytes:
    """Return the bits of a tensor, whatever its layout in memory."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def contents(state: State) -> dict[str, Any]:
    """Return all of a state by name, in a form that == compares bit for bit, without what a clock wrote."""
    tally = dataclasses.asdict(state.tally) | {"seconds": None}
    found: dict[str, Any] = {"step": state.step, "tally": repr(tally), "val_losses": repr(state.val_losses)}
    found["outcome"] = state.outcome
    found |= {f"model/{name}": bits(value) for name, value in named_tensors(state.model).items()}
    found |= {f"{name}/{i}": bits(value) for name, each in state.slots.items() for i, value in enumerate(each)}
    found |= {f"average/{name}": bits(value) for name, value in (state.average or {}).items()}
    return found


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return the names at which two `contents` differ."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def sign_manifest(checkpoint: Path) -> None:
    """Write a checkpoint's manifest anew, as if its files had been written so."""
    names = ["model.safetensors", "state.safetensors", "state.json"]
    manifest = {}
    for name in names:
        content = (checkpoint / name).read_bytes()
        manifest[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))
