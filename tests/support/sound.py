"""More sound pairs of model and data: regressions, small and lopsided tables, frozen bodies, tiny sets, sequences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch.nn.functional as F
from faults import Case, conv, loader, plain, raw_digits, seeded
from sklearn import datasets
from torch import Tensor, nn

import surefoot
from surefoot.data.dataset import DataSet

Arrays = tuple[np.ndarray, np.ndarray]


def classes(rows: int, columns: int = 5, shares: tuple[float, ...] = (0.5, 0.5), apart: float = 2.0) -> Arrays:
    """Return a table of classes of these shares, each shifted along a column of its own."""
    draw = np.random.default_rng(rows)
    edges = np.cumsum(shares) * rows
    y = draw.permutation(np.searchsorted(edges, np.arange(rows), "right").clip(0, len(shares) - 1))
    x = draw.normal(size=(rows, columns))
    x[np.arange(rows), y % columns] += apart
    return x.astype(np.float32), y


def numbers(kind: str, rows: int = 400, noise: float = 0.2) -> DataSet:
    """Return a regression whose targets have about mean 0 and deviation 1."""
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, (rows, 6))
    y = {
        "linear": x[:, 0] - x[:, 1],
        "sines": np.sin(3 * x[:, 0]) + np.sin(5 * x[:, 1]),
        "friedman": np.sin(np.pi * x[:, 0] * x[:, 1]) + 2 * (x[:, 2] - 0.5) ** 2 + x[:, 3],
        "steps": np.sign(x[:, 0]) + np.sign(x[:, 1]),
        "heavy": x[:, 0] + 0.1 * draw.standard_t(3, rows),
        "two": np.stack([x[:, 0] - x[:, 1], x[:, 2] + x[:, 3]], axis=1),
    }[kind]
    y = y + noise * draw.normal(size=y.shape)
    y = (y - y.mean(0)) / y.std(0)
    return surefoot.load((x.astype(np.float32), y.astype(np.float32)), target="numbers")


def shipped(load: Callable[..., Arrays], target: str = "classes") -> DataSet:
    """Return a table that scikit-learn ships; numbers brought to deviation 1."""
    x, y = load(return_X_y=True)
    y = ((y - y.mean()) / y.std()).astype(np.float32) if target == "numbers" else y
    return surefoot.load((x.astype(np.float32), y), target=target)


def sequences(rows: int = 300) -> Arrays:
    """Return sequences [N, T, F] whose class is the sign of the mean of their first feature."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(rows, 12, 3))
    y = draw.integers(0, 2, rows)
    x[:, :, 0] += 0.8 * (2 * y - 1)[:, None]
    return x.astype(np.float32), y


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.GRU(3, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x)[0].mean(1))


def frozen(body: nn.Module, head: nn.Module) -> nn.Module:
    """Return a body that is frozen and in evaluation mode, before a head that is trained."""
    body.requires_grad_(False).eval()
    return nn.Sequential(body, head)


def small_images(examples: int, channels: int = 1, side: int = 12) -> Arrays:
    draw = np.random.default_rng(examples)
    y = np.arange(examples) % 2
    x = draw.integers(0, 150, (examples, channels, side, side))
    x[y == 1, :, : side // 2] += 100
    return x.astype(np.uint8), y


def absolute(outputs: Tensor, y: Tensor) -> Tensor:
    return F.l1_loss(outputs.squeeze(1), y)


SOUND: dict[str, Callable[[], Case]] = {
    "regression, diabetes": lambda: Case("mlp", shipped(datasets.load_diabetes, "numbers")),
    "regression, diabetes, linear": lambda: Case("linear", shipped(datasets.load_diabetes, "numbers")),
    "regression, linear map": lambda: Case("linear", numbers("linear")),
    "regression, sums of sines": lambda: Case("mlp", numbers("sines")),
    "regression, friedman": lambda: Case("mlp", numbers("friedman")),
    "regression, steps": lambda: Case("mlp", numbers("steps")),
    "regression, heavy tails": lambda: Case("mlp", numbers("heavy")),
    "regression, two targets": lambda: Case("mlp", numbers("two")),
    "regression, 60 rows": lambda: Case("mlp", numbers("linear", 60)),
    "regression, without noise": lambda: Case("mlp", numbers("linear", noise=0.0)),
    "regression, the absolute error": lambda: Case("mlp", numbers("sines"), absolute),
    "table, iris": lambda: Case("mlp", shipped(datasets.load_iris)),
    "table, wine": lambda: Case("mlp", shipped(datasets.load_wine)),
    "table, breast cancer": lambda: Case("mlp", shipped(datasets.load_breast_cancer)),
    "table, breast cancer, linear": lambda: Case("linear", shipped(datasets.load_breast_cancer)),
    "table, 24 rows": lambda: Case("mlp", classes(24, apart=4.0)),
    "table, 30 rows, linear": lambda: Case("linear", classes(30, apart=4.0)),
    "table, 60 rows, three classes": lambda: Case("mlp", classes(60, shares=(0.4, 0.3, 0.3), apart=3.0)),
    "table, 2 columns": lambda: Case("mlp", classes(400, 2, apart=3.0)),
    "table, 200 columns": lambda: Case("mlp", classes(400, 200, apart=4.0)),
    "table, 12 classes": lambda: Case("mlp", classes(1200, 12, (1 / 12,) * 12, apart=4.0)),
    "imbalanced 50 to 1": lambda: Case("mlp", classes(2000, shares=(0.98, 0.02), apart=4.0)),
    "imbalanced, linear": lambda: Case("linear", classes(1000, shares=(0.9, 0.1), apart=3.0)),
    "imbalanced, three classes": lambda: Case("mlp", classes(900, shares=(0.8, 0.15, 0.05), apart=4.0)),
    "frozen layer first": lambda: Case(
        frozen(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())), nn.Linear(64, 10)),
        surefoot.load("digits"),
    ),
    "frozen body with batch norm": lambda: Case(
        frozen(seeded(lambda: conv(channels=1, outputs=32)), nn.Linear(32, 2)), small_images(200)
    ),
    "40 images": lambda: Case(seeded(lambda: conv(norm=False, channels=1, outputs=2)), small_images(40)),
    "24 images, mlp": lambda: Case("mlp", small_images(24)),
    "colour images of 12 pixels": lambda: Case("mlp", small_images(200, 3)),
    "sequences, recurrent": lambda: Case(seeded(Recurrent), sequences()),
    "sequences, mlp": lambda: Case("mlp", sequences()),
    "a loader of small batches": lambda: Case(seeded(plain), loader(*raw_digits(), batch_size=8)),
}  # fmt: skip
