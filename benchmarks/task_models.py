"""The networks of the benchmarks of choosing, each a factory that is called with `input_shape` and `outputs`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import surefoot
from surefoot.config import Recipe
from surefoot.data.dataset import DataSet

Factory = Callable[..., nn.Module]


@cache
def mlp(widths: tuple[int, ...], activation: type[nn.Module] = nn.ReLU, norm: bool = False) -> Factory:
    """Return a factory of a perceptron with these hidden widths, with or without batch norm, without shortcuts."""

    def make(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        before = math.prod(input_shape)
        for width in widths:
            layers += [nn.Linear(before, width), *[nn.BatchNorm1d(width)] * norm, activation()]
            before = width
        return nn.Sequential(*layers, nn.Linear(before, outputs))

    return make


@cache
def small_cnn(norm: bool, widths: tuple[int, ...] = (16, 32, 64)) -> Factory:
    """Return a factory of convolutions, each with a maximum over 2 x 2, with or without batch norm."""

    def make(input_shape: tuple[int, int, int], outputs: int) -> nn.Module:
        layers: list[nn.Module] = []
        before = input_shape[0]
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=not norm)]
            layers += [nn.BatchNorm2d(width)] * norm + [nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs))

    return make


@cache
def deep_cnn(width: int, depth: int) -> Factory:
    """Return a factory of convolutions one after the other, the first of stride 2, without norm and shortcuts.

    Initial weights as in He et al. 2015 (arXiv 1502.01852), equation 10: with PyTorch's own it learns at no rate.
    """

    def make(input_shape: tuple[int, int, int], outputs: int) -> nn.Module:
        layers: list[nn.Module] = []
        for i in range(depth):
            convolution = nn.Conv2d(width if i else input_shape[0], width, 3, 1 if i else 2, 1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, outputs))

    return make


@cache
def small_conv1d(norm: bool, widths: tuple[int, ...] = (16, 32)) -> Factory:
    """Return a factory of convolutions over time, each with a maximum over 2, then one over all of it."""

    def make(input_shape: tuple[int, int], outputs: int) -> nn.Module:
        layers: list[nn.Module] = []
        before = input_shape[0]
        for width in widths:
            layers += [nn.Conv1d(before, width, 5, padding=2, bias=not norm)]
            layers += [nn.BatchNorm1d(width)] * norm + [nn.ReLU(), nn.MaxPool1d(2)]
            before = width
        return nn.Sequential(*layers, nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(before, outputs))

    return make


class Attention(nn.Module):
    """Letters embedded with their places, one block of two heads and a perceptron, and the mean over places."""

    def __init__(self, letters: int, length: int, outputs: int, width: int) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(letters, width), nn.Parameter(0.1 * torch.randn(length, width))
        self.before, self.between, self.after = (nn.LayerNorm(width) for _ in range(3))
        self.mixed, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.letters(x) + self.places
        q, k, v = (each.unflatten(-1, (2, -1)).transpose(1, 2) for each in self.mixed(self.before(h)).chunk(3, -1))
        seen = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        h = h + self.joined(seen.transpose(1, 2).flatten(2))
        h = h + self.wide(self.between(h))
        return self.head(self.after(h).mean(1))


@cache
def attention(letters: int, width: int = 16) -> Factory:
    """Return a factory of `Attention` over so many letters."""

    def make(input_shape: tuple[int], outputs: int) -> nn.Module:
        return Attention(letters, input_shape[0], outputs, width)

    return make


@cache
def frozen_body(learned: Callable[[], DataSet]) -> Factory:
    """Return a factory of a head on a body that was trained on other data and stays as it is.

    Args:
        learned: the data that the body has learned; the body is trained once in a process, always to the same weights.
    """

    def make(input_shape: tuple[int, int, int], outputs: int) -> nn.Module:
        body = _body(learned)(input_shape)
        return nn.Sequential(body, nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, outputs))

    return make


@cache
def _body(learned: Callable[[], DataSet]) -> Callable[..., Any]:
    net = small_cnn(norm=False, widths=(12, 24, 48))
    task = surefoot.task(learned(), net, seed=77, precision="fp32", threads=1)
    recipe = Recipe(lr=0.05, batch_size=32, epochs=12)
    state, record = surefoot.fit(task, surefoot.plan(recipe, task.data.examples))
    assert record.outcome.kind == "finished"
    weights = {name: value.clone() for name, value in state.weights.items()}

    def make(input_shape: tuple[int, int, int]) -> nn.Module:
        model: Any = net(input_shape, task.data.outputs)
        model.load_state_dict(weights)
        return nn.Sequential(*list(model)[:-1]).requires_grad_(False)

    return make
