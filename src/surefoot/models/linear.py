"""Softmax regression: one affine map. With squared error it is linear regression."""

from __future__ import annotations

import math

from torch import Tensor, nn


class Linear(nn.Module):
    """logits = W x + b, with x flattened.

    The weights start at zero: the loss is convex, so the start does not matter, and the first loss is exactly
    ln C (chance).

    Args:
        input_shape: shape of one example, for example (1, 8, 8).
        outputs: number of classes C, or of target values.

    >>> import torch
    >>> Linear((1, 8, 8), 10)(torch.randn(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(input_shape), outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, C] of a batch [B, *input_shape]."""
        return self.head(x.flatten(1))
