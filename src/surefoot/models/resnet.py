"""ResNet-20 for CIFAR-10 (He et al. 2015, "Deep residual learning", section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class _Block(nn.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x)))))), with the parameter-free shortcut, option A of the paper."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride, self.new_channels = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        if self.stride > 1 or self.new_channels:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return (x + y).relu()


class ResNet20(nn.Module):
    """Three stages of three blocks of 16, 32 and 64 channels: 0.27 M parameters for 3 x 32 x 32 and 10 classes.

    Convolutions start as He et al. 2015 ("Delving deep into rectifiers"), N(0, 2/fan_out).

    Args:
        input_shape: (channels, height, width), each side at least 4.
        outputs: number of classes C, or of target values.

    >>> import torch
    >>> ResNet20((3, 32, 32), 10)(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, input_shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(input_shape[0], 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        stages = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        self.blocks = nn.Sequential(
            *(
                _Block(inputs if i == 0 else outputs_, outputs_, stride if i == 0 else 1)
                for inputs, outputs_, stride in stages
                for i in range(3)
            )
        )
        self.head = nn.Linear(64, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, C] of a batch [B, channels, height, width]."""
        x = self.blocks(self.norm(self.stem(x)).relu())
        return self.head(x.mean((2, 3)))
