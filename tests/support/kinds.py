"""A small task of each kind: inputs of several tensors, targets of each form, losses that count; networks to match."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from faults import seeded
from torch import Tensor, nn

import surefoot
from surefoot.training.make import task
from surefoot.training.task import Task

WORDS, LENGTH = 11, 12


@dataclass(frozen=True)
class Kind:
    """What a verb is called with: data, a factory of the model, and how it is called and judged."""

    data: Any
    make: Callable[..., nn.Module]
    more: dict[str, Any] = field(default_factory=dict)

    def task(self, **settings: Any) -> Task:
        """Return the task in float32."""
        return task(surefoot.load(self.data), self.make, precision="fp32", **{**self.more, **settings})


class Two(nn.Module):
    """Numbers and codes, by their names."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.codes, self.hidden, self.head = nn.Embedding(5, 4), nn.Linear(4 + 4, 24), nn.Linear(24, outputs)

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        return self.head(self.hidden(torch.cat([numbers, self.codes(codes)], 1)).relu())


class Normed(nn.Module):
    """The same with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.norm, self.hidden = nn.Embedding(5, 4), nn.BatchNorm1d(64), nn.Linear(8, 64, bias=False)
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(64, 3)

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(self.hidden(torch.cat([numbers, self.codes(codes)], 1))).relu()))


class Pixels(nn.Module):
    """A mask from an image: three convolutions."""

    def __init__(self, channels: int = 3, outputs: int = 3) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, outputs, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class LanguageModel(nn.Module):
    """Two layers of a transformer, as PyTorch ships them, with or without a causal mask."""

    def __init__(
        self, causal: bool = True, batch_first: bool = True, words: int = WORDS, padding: bool = False
    ) -> None:
        super().__init__()
        self.causal, self.padding = causal, padding
        self.words, self.places = nn.Embedding(words, 16), nn.Embedding(LENGTH, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=batch_first)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, words)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.words(input_ids) + self.places.weight[: input_ids.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(input_ids.shape[1]) if self.causal else None
        hidden = None
        if self.padding and attention_mask is not None:
            hidden = torch.zeros(attention_mask.shape).masked_fill(attention_mask == 0, -torch.inf)
        return self.head(self.layers(x, mask=mask, src_key_padding_mask=hidden, is_causal=self.causal))


class Shifted(nn.Module):
    """A language model whose attention is `scaled_dot_product_attention` with is_causal."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 16), nn.Embedding(LENGTH, 16)
        self.qkv, self.norm, self.head = nn.Linear(16, 48), nn.LayerNorm(16), nn.Linear(16, WORDS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x) + self.places.weight[: x.shape[1]]
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        return self.head(x + F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def examples(n: int = 160) -> dict[str, np.ndarray]:
    """Return numbers [N, 4], codes [N], and classes [N] that follow from both."""
    rng = np.random.default_rng(0)
    numbers, codes = rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 5, n)
    return {"numbers": numbers, "codes": codes, "y": (numbers[:, 0] + codes > 2).astype(int) + (numbers[:, 1] > 0.5)}


def sentences(n: int = 200, length: int = LENGTH) -> np.ndarray:
    """Return sequences [N, T + 1] of words, each of which mostly follows from the one before."""
    rng = np.random.default_rng(0)
    after = rng.permutation(WORDS - 1) + 1
    ids = rng.integers(1, WORDS, (n, length + 1))
    for at in range(1, length + 1):
        ids[:, at] = np.where(rng.random(n) < 0.8, after[ids[:, at - 1] - 1], ids[:, at])
    return ids


def masks(n: int = 96, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N, 3, S, S] with a bright square, and its pixels' class [N, S, S], ignored along the border."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 90, (n, 3, side, side)), np.zeros((n, side, side), int)
    for i, (row, column, colour) in enumerate(
        zip(*rng.integers(1, side - 4, (2, n)), rng.integers(0, 2, n), strict=True)
    ):
        x[i, colour, row : row + 3, column : column + 3] += 150
        y[i, row : row + 3, column : column + 3] = 1 + colour
    y[:, 0] = -100
    return x.astype(np.uint8), y


def labels(n: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers [N, 4], and which of five statements are true of them."""
    x = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    return x, np.stack([x[:, 0] > 0, x[:, 1] > 0.5, x[:, 0] + x[:, 2] > 0, x[:, 3] > 1, x[:, 1] < x[:, 2]], 1).astype(
        int
    )


def padded(n: int = 200) -> dict[str, np.ndarray]:
    """Return a mapping as the Transformers library has it: ids, their mask, and labels, ignored where padded."""
    ids = sentences(n)
    there = np.arange(LENGTH) < np.random.default_rng(1).integers(4, LENGTH + 1, n)[:, None]
    inputs, targets = ids[:, :-1] * there, np.where(there, ids[:, 1:], -100)
    return {"input_ids": inputs, "attention_mask": there.astype(int), "labels": targets}


def by_name(n: int = 160) -> tuple[dict[str, np.ndarray], np.ndarray]:
    found = examples(n)
    return {name: found[name] for name in ("numbers", "codes")}, found["y"]


def in_order() -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    found = examples()
    return (found["numbers"], found["codes"]), found["y"]


def own(model: nn.Module, batch: Any) -> Tensor:
    """A loss of model and batch: the mean, from a mapping that holds its labels."""
    outputs = model(batch["input_ids"], batch["attention_mask"])
    return F.cross_entropy(outputs.flatten(0, 1), batch["labels"].flatten())


def counted(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of a cross-entropy over tokens, and over how many."""
    return F.cross_entropy(outputs.transpose(1, 2), y, reduction="sum"), (y != -100).sum()


def two_heads(outputs: Tensor, y: tuple[Tensor, Tensor]) -> Tensor:
    """A class and a number at once."""
    return F.cross_entropy(outputs[:, :3], y[0]) + F.mse_loss(outputs[:, 3], y[1])


def heads() -> tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    x, y = by_name()
    return x, (y, x["numbers"][:, 2])


def next_words() -> tuple[np.ndarray, np.ndarray]:
    ids = sentences()
    return ids[:, :-1], ids[:, 1:]


KINDS: dict[str, Kind] = {
    "dict": Kind(by_name(), lambda *_: Two()),
    "tuple": Kind(in_order(), lambda *_: Normed()),
    "mapping and loss_fn": Kind(padded(), lambda *_: LanguageModel(padding=True), {"loss_fn": own}),
    "forward": Kind(by_name(), lambda *_: Two(), {"forward": lambda model, x: model(x["numbers"], codes=x["codes"])}),
    "segmentation": Kind(masks(), lambda *_: Pixels()),
    "tokens": Kind(next_words(), lambda *_: LanguageModel()),
    "tokens, is_causal": Kind(next_words(), lambda *_: Shifted()),
    "multilabel": Kind(labels(), lambda *_: several_yes()),
    "sum and count": Kind(padded(), lambda *_: LanguageModel(padding=True), {"loss": counted}),
    "several heads": Kind(heads(), lambda *_: Two(4), {"loss": two_heads}),
}


def several_yes() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 5)))


def module(kind: Kind) -> nn.Module:
    """Return a module of a kind with weights that are always the same."""
    return seeded(kind.make)
