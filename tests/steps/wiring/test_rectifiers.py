"""Dead units are counted wherever a ReLU is written, by whatever name, and only those that are never active."""

import pytest
import torch
import torch.nn.functional as F
from faults import digits, plain, seeded
from torch import nn

from surefoot.steps.wiring.rectifiers import rectifiers
from surefoot.training.task import task


class Rectified(nn.Module):
    """Two of eight units are below 0 for every input."""

    def __init__(self, relu):
        super().__init__()
        self.first, self.head, self.relu = nn.Linear(64, 8), nn.Linear(8, 10), relu
        with torch.no_grad():
            self.first.bias[2:4] = -100.0

    def forward(self, x):
        return self.head(self.relu(self.first(x.flatten(1))))


@pytest.mark.parametrize(
    "relu",
    [
        torch.relu, F.relu, nn.ReLU(), nn.ReLU(inplace=True), torch.Tensor.relu, torch.relu_, torch.Tensor.relu_,
        lambda x: x.relu(), lambda x: F.relu(x, inplace=True),
    ],
    ids=[
        "torch.relu", "F.relu", "ReLU", "ReLU in place", "Tensor.relu", "torch.relu_", "Tensor.relu_", "a method",
        "F.relu in place",
    ],
)  # fmt: skip
def test_each_way_to_write_a_relu_is_seen_once(relu):
    found, examples = rectifiers(task(digits(), seeded(lambda: Rectified(relu))))
    assert [(each.units, each.dead) for each in found] == [(8, 2)]
    assert examples == 512


def test_other_activations_are_not_counted():
    assert rectifiers(task(digits(), seeded(lambda: plain(activation=nn.LeakyReLU))))[0] == ()


def test_channels_of_images_and_units_of_sequences_are_told_apart():
    class Sequences(Rectified):
        def forward(self, x):
            rows = x.flatten(1)[:, None, :].expand(-1, 5, -1)  # [B, T, D]
            return self.head(self.relu(self.first(rows)).mean(1))

    class Channels(Rectified):
        def forward(self, x):
            maps = self.first(x.flatten(1))[:, :, None, None].expand(-1, -1, 3, 3)
            return self.head(self.relu(maps).mean((2, 3)))

    for kind in (Sequences, Channels):
        found, _ = rectifiers(task(digits(), seeded(lambda kind=kind: kind(F.relu))))
        assert [(each.units, each.dead) for each in found] == [(8, 2)]
