"""Small data of the kinds of targets that are neither one class nor numbers, each with a model that can learn it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from surefoot.data.dataset import IGNORED


def labels(examples: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return x [N, 6] and labels [N, 3], the last of them rare."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, 6)).astype(np.float32)
    return x, (x @ rng.normal(size=(6, 3)) > np.array([0.0, 0.5, 3.0])).astype(np.int64)


def masks(examples: int = 24, seed: int = 0, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return images of bytes [N, 1, H, W] and the class of each pixel, its level in four; a corner does not count."""
    x = np.random.default_rng(seed).integers(0, 256, (examples, 1, side, side), dtype=np.uint8)
    y = x[:, 0].astype(np.int64) // 64
    y[:, :2, :3] = IGNORED
    return x, y


def tokens(examples: int = 40, seed: int = 0, length: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens [N, T] and what comes next; of the last nothing is asked."""
    x = np.random.default_rng(seed).integers(0, 9, (examples, length))
    y = np.roll(x, -1, 1)
    y[:, -1] = IGNORED
    return x, y


def kinds() -> dict[str, tuple[Any, nn.Module]]:
    """Return data and a model of each kind, whose weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "multilabel": (labels(), nn.Linear(6, 3)),
            "segmentation": (masks(), nn.Conv2d(1, 4, 1)),
            "tokens": (tokens(), nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 9))),
        }
