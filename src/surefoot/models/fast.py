"""The network of CIFAR-10 in the least time: airbench's, narrower where a CPU trains it."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import silu

from surefoot.models.whitened import Whitened, conv, norm


class _Block(nn.Module):
    """conv - max-pool - norm - silu, then one or two of conv - norm - silu around which a shortcut leads."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        channels = [inputs] + [outputs] * depth
        self.convs = nn.ModuleList(conv(channels[i], outputs) for i in range(depth))
        self.norms, self.pool = nn.ModuleList(norm(outputs) for _ in range(depth)), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = zip(self.convs, self.norms, strict=True)
        x = first[0](x)
        x = self.pool(x) if min(x.shape[2:]) > 1 else x  # of images that are shown smaller than they are
        x = y = silu(first[1](x))
        for later, its_norm in others:
            y = silu(its_norm(later(y)))
        return x + y


class Fast(Whitened):
    """A whitening stem that never learns, residual convolutional blocks, a global max-pool and a linear head.

    It follows airbench (Jordan 2024, arXiv 2404.00498, section 3, and airbench96 for three convolutions a block), with
    SiLU in its blocks, a shortcut in every block, and no bias in the stem: nothing is trained before the first block,
    whose input then needs no gradient. Its norms' shifts are meant to learn at a far larger rate, as the recipes for
    CIFAR-10 say it: with SGD groups = ["*norms*.lr=64", "*norms*.weight_decay=0.015625"].

    Multiplications for a 3 x 32 x 32 image: 33 million with the widths of `fast`, 118 with those of `fast-wide`.

    Args:
        input_shape: (channels, height, width), each side at least 3.
        outputs: number of classes C, or of target values.
        widths: channels of each block; blocks beyond what the sides can be halved for are left out.
        depth: convolutions a block, 2 or 3.

    >>> import torch
    >>> Fast((3, 32, 32), 10)(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, input_shape: tuple[int, int, int], outputs: int, widths: tuple[int, ...] = (32, 128, 128), depth: int = 2
    ) -> None:
        super().__init__(input_shape, outputs, widths, partial(_Block, depth=depth), bias=False)
