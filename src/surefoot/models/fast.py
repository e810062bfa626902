"""The network of CIFAR-10 in the least time: airbench's, narrower where a CPU trains it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from surefoot.models.cnn import whitening

_LOGIT_SCALE = 1 / 9
"""The scale of airbench's logits, which keeps the first softmaxes soft."""
_NORM_MOMENTUM = 0.4
"""Weight of the newest batch in batch norm's running statistics; runs are short (airbench's value)."""


class _Block(nn.Module):
    """conv - max-pool - norm - silu, then one or two of conv - norm - silu around which a shortcut leads."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        channels = [inputs] + [outputs] * depth
        convs = [nn.Conv2d(channels[i], outputs, 3, padding=1, bias=False) for i in range(depth)]
        norms = [nn.BatchNorm2d(outputs, momentum=_NORM_MOMENTUM) for _ in range(depth)]
        for norm in norms:
            norm.weight.requires_grad_(False)  # a scale of 1: the next layer's norm would undo any other
        for conv in convs:
            if conv.out_channels >= conv.in_channels:
                # The first channels pass their input on, so signal and gradient reach every layer from step 1.
                nn.init.dirac_(conv.weight.data[: conv.in_channels])
        self.convs, self.norms, self.pool = nn.ModuleList(convs), nn.ModuleList(norms), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = zip(self.convs, self.norms, strict=True)
        x = first[0](x)
        x = self.pool(x) if min(x.shape[2:]) > 1 else x  # of images that are shown smaller than they are
        x = y = silu(first[1](x))
        for conv, norm in others:
            y = silu(norm(conv(y)))
        return x + y


class Fast(nn.Module):
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

    >>> Fast((3, 32, 32), 10)(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        outputs: int,
        widths: tuple[int, ...] = (32, 128, 128),
        depth: int = 2,
    ) -> None:
        super().__init__()
        channels, *sides = input_shape
        width, side = 2 * channels * 4, min(sides) - 1
        self.stem = nn.Conv2d(channels, width, 2, bias=False)
        self.stem.weight.requires_grad_(False)
        blocks: list[nn.Module] = []
        for of_block in widths:
            if side < 2:
                break
            blocks.append(_Block(width, of_block, depth))
            width, side = of_block, side // 2
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(width, outputs, bias=False)

    def initialize_from(self, x: Tensor) -> None:
        """Set the stem's filters to whiten the patches of these images, [N, channels, height, width], normalised."""
        filters = whitening(x)
        with torch.no_grad():
            self.stem.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, C] of a batch [B, channels, height, width]."""
        x = self.blocks(self.stem(x).relu())
        return self.head(self.pool(x).flatten(1)) * _LOGIT_SCALE
