"""A multilayer perceptron with ReLU."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn


class Mlp(nn.Module):
    """Hidden layers of `widths` with ReLU, then a linear head.

    Hidden weights start as He et al. 2015 ("Delving deep into rectifiers", eq. 10) say for ReLU, N(0, 2/fan_in);
    the head starts at PyTorch's default; biases start at zero.

    Args:
        input_shape: shape of one example.
        outputs: number of classes C, or of target values.
        widths: units of each hidden layer. The default, (128,), was chosen by hand.

    >>> import torch
    >>> Mlp((1, 8, 8), 10)(torch.randn(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int, widths: tuple[int, ...] = (128,)) -> None:
        super().__init__()
        sizes = (math.prod(input_shape), *widths)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], outputs)
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, C] of a batch [B, *input_shape]."""
        x = x.flatten(1)
        for layer in self.hidden:
            x = layer(x).relu()
        return self.head(x)
