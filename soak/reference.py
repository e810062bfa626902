"""The job that is killed in `soak/kills.py`: every part of a state that training can have is in it."""

from __future__ import annotations

from torch import Tensor, nn

SETTINGS = """
augment = ["flip", "crop:1"]
rows_per_epoch = 5
checkpoint_seconds = 0.0

[recipe]
lr = 0.4
epochs = 24
batch_size = 64
momentum = 0.9
weight_decay = 0.0005
label_smoothing = 0.1
ema_decay = 0.98

[recipe.schedule]
kind = "plateau"
warmup_epochs = 0.5
patience_epochs = 0
factor = 0.5
"""
"""`surefoot train --config`: momentum, warmup, a plateau schedule that reads the record, a moving average."""


class Reference(nn.Module):
    """Convolutions with batch norm (buffers) and dropout (randomness in the model)."""

    def __init__(self, input_shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        channels = input_shape[0]
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Dropout(0.3),
        )  # fmt: skip
        self.head = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, C] of images [B, channels, height, width]."""
        return self.head(self.body(x).mean((2, 3)))
