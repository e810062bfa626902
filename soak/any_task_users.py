"""What users of ten kinds of task would write: a function each, which returns what `surefoot.train` gets.

Data is real and is read at run time from packages: the digits and the diabetes study of scikit-learn (both shipped with
it), and the rules of all time zones from `tzdata`, whose file says that it is in the public domain.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

import surefoot

TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {}
IMAGES, NUMBERS = load_digits().images.astype("float32"), load_digits().target
SHADES = (IMAGES[:, None] * 15).astype("uint8")


def task(make: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    """Keep a task under its name. It gets the folder of runs."""
    TASKS[make.__name__.replace("_", "-")] = make
    return make


@task
def multi_label(runs: Path) -> dict[str, Any]:
    """Four properties of a digit: it is even, larger than four, has a loop, is drawn with straight strokes."""
    sets = [(0, 2, 4, 6, 8), (5, 6, 7, 8, 9), (0, 6, 8, 9), (1, 4, 7)]
    return {"data": (SHADES, np.stack([np.isin(NUMBERS, each) for each in sets], 1).astype(int)), "model": "mlp"}


@task
def segmentation(runs: Path) -> dict[str, Any]:
    """Of each pixel under noise: paper, ink of an even digit, ink of an odd one."""
    masks = np.where(IMAGES > 6, 1 + NUMBERS[:, None, None] % 2, 0)
    noise = np.random.default_rng(0).normal(0, 20, SHADES.shape)
    net = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 3, 5, padding=2))
    return {"data": ((SHADES + noise).clip(0, 255).astype("uint8"), masks), "model": net}


class Characters(nn.Module):
    """A transformer of two layers, which sees what comes before."""

    def __init__(self, outputs: int, width: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(outputs, width), nn.Parameter(torch.zeros(32, width))
        layer = nn.TransformerEncoderLayer(width, 2, 64, dropout=0.1, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.layers(self.embed(x) + self.place, mask=mask, is_causal=True))


@task
def characters(runs: Path) -> dict[str, Any]:
    """The next character of the rules of all time zones (tzdata.zi: "in the public domain"), with AdamW."""
    text = (importlib.resources.files("tzdata") / "zoneinfo" / "tzdata.zi").read_text()[:20_000]
    codes = np.unique(list(text), return_inverse=True)[1][: len(text) // 33 * 33].reshape(-1, 33)
    return {"data": (codes[:, :-1], codes[:, 1:]), "model": Characters, "rule": "adamw", "lr": 3e-3}


class Two(nn.Module):
    """An image and numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(24))
        self.head = nn.Linear(24 + 8, 10)
        self.image(torch.zeros(1, 1, 8, 4))

    def forward(self, image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.image(image).relu(), numbers], 1))


@task
def two_inputs(runs: Path) -> dict[str, Any]:
    """A digit by its left half and the sums of the rows of its right half."""
    return {"data": ((SHADES[..., :4], IMAGES[..., 4:].sum(2)), NUMBERS), "model": Two}


class ByName(nn.Module):
    """Two groups of numbers by name."""

    def __init__(self) -> None:
        super().__init__()
        self.person, self.blood = nn.Linear(4, 32), nn.Linear(6, 32)
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, *, blood: torch.Tensor, person: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.person(person), self.blood(blood)], 1).relu())


@task
def dict_model(runs: Path) -> dict[str, Any]:
    """How diabetes went on after a year, by the person and their blood."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    return {"data": {"person": x[:, :4], "blood": x[:, 4:], "label": y}, "model": ByName, "target": "numbers"}


@task
def hugging_face(runs: Path) -> dict[str, Any]:
    """A tiny BERT from a config that reads a digit as 16 tokens, each the shade of four pixels."""
    from transformers import BertConfig, BertForSequenceClassification

    tokens = IMAGES.reshape(-1, 4, 2, 4, 2).mean((2, 4)).round().astype(int).reshape(-1, 16)
    config = BertConfig(vocab_size=17, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=10,
                        intermediate_size=64, max_position_embeddings=16, initializer_range=0.1)  # fmt: skip
    batch = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "labels": NUMBERS}
    return {"data": batch, "model": lambda: BertForSequenceClassification(config), "rule": "adamw", "lr": 3e-3}


@task
def frozen_body(runs: Path) -> dict[str, Any]:
    """A body that learned the digits 0 to 4, frozen, and a new head for 5 to 9."""
    low = NUMBERS < 5  # the body is trained once: later calls with its name give what the run came to
    body = surefoot.train((SHADES[low], NUMBERS[low]), "cnn", epochs=3, name="body", runs_dir=runs).model.net
    body.head = nn.Linear(body.head.in_features, 5)
    return {"data": (SHADES[~low], NUMBERS[~low] - 5), "model": body, "groups": {"*": "frozen", "head": "trained"}}


class Stream(IterableDataset):
    """Digits one after the other."""

    def __iter__(self) -> Any:
        yield from zip(torch.from_numpy(SHADES), NUMBERS.tolist(), strict=True)


@task
def iterable(runs: Path) -> dict[str, Any]:
    """A stream that is gone through from front to back."""
    return {"data": Stream(), "model": "mlp"}


class Shifted(Dataset):
    """Digits shifted at random by a pixel, drawn anew in each epoch."""

    def __len__(self) -> int:
        return 600

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        shift = torch.randint(-1, 2, (2,)).tolist()
        return torch.from_numpy(SHADES[at]).roll(shift, (1, 2)), int(NUMBERS[at])


@task
def loader_with_workers(runs: Path) -> dict[str, Any]:
    """A DataLoader with two workers."""
    return {"data": DataLoader(Shifted(), batch_size=32, shuffle=True, num_workers=2), "model": "mlp"}
