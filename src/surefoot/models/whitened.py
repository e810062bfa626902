"""What airbench's networks have in common, as `cnn` and `fast` follow them: a whitening stem, residual blocks, a head.

Reference: Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, section 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_EPSILON = 5e-4
"""Added to the variances before whitening, against division by almost nothing (airbench's value)."""
_LOGIT_SCALE = 1 / 9
"""The scale of airbench's logits, which keeps the first softmaxes soft."""
_NORM_MOMENTUM = 0.4
"""Weight of the newest batch in batch norm's running statistics; runs are short (airbench's value)."""


class Whitened(nn.Module):
    """A whitening stem, blocks that halve the sides, a global max-pool and a linear head; a child says which blocks.

    The stem's 2 x 2 patches are whitened: its filters are the eigenvectors of the patches' covariance over the roots
    of their eigenvalues, each once with either sign, and stay as they are. They come from the training images by
    `initialize_from`, which `surefoot.task` calls.

    Args:
        input_shape, outputs, widths: as in `Cnn`.
        block: (channels in, channels out) -> a block.
        bias: whether the stem has one, which is trained.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], outputs: int, widths: tuple[int, ...],
        block: Callable[[int, int], nn.Module], *, bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        channels, *sides = input_shape
        width, side = 2 * channels * 4, min(sides) - 1
        self.stem = nn.Conv2d(channels, width, 2, bias=bias)
        self.stem.weight.requires_grad_(False)
        if self.stem.bias is not None:
            nn.init.zeros_(self.stem.bias)
        blocks: list[nn.Module] = []
        for of_block in widths:
            if side < 2:
                break
            blocks.append(block(width, of_block))
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


def whitening(x: Tensor) -> Tensor:
    """Return the filters that whiten the 2 x 2 patches of images, the strongest first, [4 channels, channels, 2, 2].

    They are the eigenvectors of the patches' covariance over the roots of their eigenvalues.

    Args:
        x: the images, [N, channels, height, width], normalised.
    """
    channels = x.shape[1]
    patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * 4).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    return (vectors / (values + _EPSILON).sqrt()).T.flip(0).reshape(-1, channels, 2, 2).to(x.dtype)


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution whose first channels pass their input on, where it has as many outputs as inputs.

    So signal and gradient reach every layer from step 1.
    """
    made = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    if outputs >= inputs:
        nn.init.dirac_(made.weight.data[:inputs])
    return made


def norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch norm whose scale stays 1: the next layer's norm would undo any other."""
    made = nn.BatchNorm2d(channels, momentum=_NORM_MOMENTUM)
    made.weight.requires_grad_(False)
    return made
