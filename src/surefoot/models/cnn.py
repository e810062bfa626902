"""The worked example: a compact CNN with batch norm that learns CIFAR-10 in minutes on two CPU cores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EPSILON = 5e-4
"""Added to the variances before whitening, against division by almost nothing (airbench's value)."""
_LOGIT_SCALE = 1 / 9
"""The scale of airbench's logits, which keeps the first softmaxes soft."""
_NORM_MOMENTUM = 0.4
"""Weight of the newest batch in batch norm's running statistics; runs are short (airbench's value)."""


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


class _Block(nn.Module):
    """conv - max-pool - norm - relu, then x + relu(norm(conv(x))): halves the sides, sets the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = nn.BatchNorm2d(outputs, momentum=_NORM_MOMENTUM)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs, momentum=_NORM_MOMENTUM)
        for norm in (self.norm1, self.norm2):
            norm.weight.requires_grad_(False)  # a scale of 1: the next layer's norm would undo any other
        for conv in (self.conv1, self.conv2):
            if conv.out_channels >= conv.in_channels:
                # The first channels pass their input on, so signal and gradient reach every layer from step 1.
                nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.pool(self.conv1(x))).relu()
        return x + self.norm2(self.conv2(x)).relu()


class Cnn(nn.Module):
    """A whitening stem, three residual convolutional blocks, a global max-pool and a linear head.

    It follows airbench (Jordan 2024, arXiv 2404.00498, section 3), narrower, with ReLU and a shortcut in each block:
    33 million multiplications and 0.5 million weights for a 3 x 32 x 32 image.

    The stem's 2 x 2 patches are whitened: its filters are the eigenvectors of the patches' covariance over the roots
    of their eigenvalues, each once with either sign, and stay as they are. They come from the training images by
    `initialize_from`, which `surefoot.task` calls. On CIFAR-10 whitening (then of 4 x 4 patches)
    gained 1.5 points of validation accuracy over a learned stem in a run of two epochs (docs/log.md, 2026-11-23).

    Args:
        input_shape: (channels, height, width), each side at least 3.
        outputs: number of classes C, or of target values.
        widths: channels of each block; blocks beyond what the sides can be halved for are left out.

    >>> Cnn((3, 32, 32), 10)(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, input_shape: tuple[int, int, int], outputs: int, widths: tuple[int, ...] = (32, 128, 128)
    ) -> None:
        super().__init__()
        channels, *sides = input_shape
        stem = 2 * channels * 4
        self.stem = nn.Conv2d(channels, stem, 2)
        self.stem.weight.requires_grad_(False)
        assert self.stem.bias is not None
        nn.init.zeros_(self.stem.bias)
        side = min(sides) - 1
        blocks: list[nn.Module] = []
        for width in widths:
            if side < 2:
                break
            blocks.append(_Block(stem, width))
            stem, side = width, side // 2
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(stem, outputs, bias=False)

    def initialize_from(self, x: Tensor) -> None:
        """Set the stem's filters to whiten the patches of these images, [N, channels, height, width], normalised."""
        filters = whitening(x)
        with torch.no_grad():
            self.stem.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, C] of a batch [B, channels, height, width]."""
        x = self.blocks(self.stem(x).relu())
        return self.head(self.pool(x).flatten(1)) * _LOGIT_SCALE
