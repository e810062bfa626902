"""The worked example: a compact CNN with batch norm that learns CIFAR-10 in minutes on two CPU cores."""

from __future__ import annotations

from torch import Tensor, nn


class _Block(nn.Module):
    """conv - max-pool - norm - relu - conv - norm - relu: halves the sides, sets the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.pool(self.conv1(x))).relu()
        return self.norm2(self.conv2(x)).relu()


class Cnn(nn.Module):
    """A strided stem, three convolutional blocks, a global max-pool and a linear head.

    The shape of the blocks (convolution, pool, norm; the identity written into the convolutions at the start; a
    global max-pool; scaled logits) follows airbench (Jordan 2024, arXiv 2404.00498, section 3). The stem reads
    4 x 4 patches at stride 2, so that no convolution of the blocks runs at full resolution: what a step costs
    falls by about four.

    Args:
        input_shape: (channels, height, width), each side at least 2. Sides under 24 pixels get a stem of stride 1.
        outputs: number of classes C, or of target values.
        stem: channels of the stem.
        widths: channels of each block; blocks beyond what the sides can be halved for are left out.

    >>> import torch
    >>> Cnn((3, 32, 32), 10)(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        outputs: int,
        stem: int = 64,
        widths: tuple[int, ...] = (64, 128, 256),
    ) -> None:
        super().__init__()
        channels, *sides = input_shape
        strided = min(sides) >= 24
        kernel, stride = (4, 2) if strided else (3, 1)
        self.stem = nn.Conv2d(channels, stem, kernel, stride, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(stem)
        side = min(sides) // stride
        blocks: list[nn.Module] = []
        for width in widths:
            if side < 2:
                break
            blocks.append(_Block(stem, width))
            stem, side = width, side // 2
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(stem, outputs)
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d) and module.out_channels >= module.in_channels:
                # The first channels pass their input on, so signal and gradient reach every layer from step 1.
                nn.init.dirac_(module.weight.data[: module.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, C] of a batch [B, channels, height, width]."""
        x = self.blocks(self.stem_norm(self.stem(x)).relu())
        return self.head(self.pool(x).flatten(1)) / 9  # the scale of airbench, which keeps early softmaxes soft
