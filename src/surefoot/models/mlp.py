"""A multilayer perceptron with ReLU."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


def embedding_width(codes: int) -> int:
    """Return the numbers in the vector of each of that many codes: min(600, 1.6 n^0.56), fastai's rule of thumb.

    >>> embedding_width(51), embedding_width(100_000)
    (14, 600)
    """
    return min(600, round(1.6 * codes**0.56))


class Mlp(nn.Module):
    """Hidden layers of `widths` with ReLU, then a linear head.

    Hidden weights start as He et al. 2015 ("Delving deep into rectifiers", eq. 10) say for ReLU, N(0, 2/fan_in);
    the head starts at PyTorch's default; biases start at zero.

    Args:
        input_shape: shape of one example.
        outputs: number of classes C, or of target values.
        widths: units of each hidden layer. The default, (128,), was chosen by hand.
        categories: which of the numbers of an example are codes of categories, and how many codes there are: each code
            has a vector that is learned (Guo & Berkhahn 2016, arXiv 1604.06737), of `embedding_width` numbers.

    >>> import torch
    >>> Mlp((1, 8, 8), 10)(torch.randn(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    >>> Mlp((3,), 2, categories=((1, 70),))(torch.tensor([[0.5, 69.0, -1.0]])).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        widths: tuple[int, ...] = (128,),
        categories: tuple[tuple[int, int], ...] = (),
    ) -> None:
        super().__init__()
        wide = [embedding_width(codes) for _, codes in categories]
        sizes = (math.prod(input_shape) - len(categories) + sum(wide), *widths)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], outputs)
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.categories = categories
        self.embeddings = nn.ModuleList(
            nn.Embedding(codes, width) for (_, codes), width in zip(categories, wide, strict=True)
        )
        for table in self.embeddings:
            assert isinstance(table, nn.Embedding)
            nn.init.trunc_normal_(table.weight, std=0.01)  # as fastai's tabular model (fastai/layers.py, Embedding)
        if categories:
            numbers = sorted(set(range(math.prod(input_shape))) - {at for at, _ in categories})
            self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, C] of a batch [B, *input_shape]."""
        x = x.flatten(1)
        if self.categories:
            codes = [x[:, at].round().clamp(0, codes - 1).long() for at, codes in self.categories]
            found = [table(code) for table, code in zip(self.embeddings, codes, strict=True)]
            assert isinstance(self.numbers, Tensor)
            x = torch.cat([x.index_select(1, self.numbers), *found], 1)
        for layer in self.hidden:
            x = layer(x).relu()
        return self.head(x)
