"""Which parameters the loss reaches: planted gaps are found, and what starts at zero is not one."""

import torch
from faults import Detached, Residual, Tied, digits, plain, seeded
from torch import nn

from surefoot.steps.wiring.gradients import reach
from surefoot.training.task import task


def of(make):
    return reach(task(digits(), seeded(make)))


def test_all_of_a_plain_network_is_reached():
    found = of(plain)
    assert len(found.trainable) == 6
    assert found.absent == found.zero == found.frozen_after == ()


def test_a_detached_layer_gets_no_gradient():
    assert of(Detached).absent == ("first.weight", "first.bias")


def test_an_unused_layer_gets_no_gradient():
    class Unused(nn.Sequential):
        def __init__(self):
            super().__init__(*plain())
            self.spare = nn.Linear(2, 2)

        def forward(self, x):
            for layer in list(self)[:-1]:
                x = layer(x)
            return x

    assert of(Unused).absent == ("spare.weight", "spare.bias")


def test_a_layer_that_is_used_in_some_batches_only_is_reached():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.extra, self.batches = plain(), nn.Linear(10, 10), 0

        def forward(self, x):
            self.batches += 1
            x = self.body(x)
            return x + self.extra(x) if self.batches % 2 == 0 else x

    assert of(Skips).absent == ()


def test_branches_and_heads_that_start_at_zero_are_reached_after_some_updates():
    assert of(Residual).zero == ()
    assert of(Tied).zero == ()


def test_weights_that_all_start_at_zero_are_never_reached():
    def zeros():
        model = plain(activation=nn.Tanh)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        return model

    assert of(zeros).zero == ("1.weight", "3.weight", "5.weight")


def test_frozen_layers_are_named_only_behind_trainable_ones():
    def frozen(*places):
        model = plain(depth=3)
        for place in places:
            model[place].requires_grad_(False)
        return model

    assert of(lambda: frozen(1)).frozen_after == ()
    assert of(lambda: frozen(1, 3)).frozen_after == ()
    found = of(lambda: frozen(3))
    assert (found.frozen_after, found.frozen) == (("3.weight",), 2)
    assert 0 < found.frozen_share < 0.5


def test_scales_of_norms_and_fixed_positions_may_be_frozen():
    def model():
        made = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
        made[2].weight.requires_grad_(False)
        made.positions = nn.Parameter(torch.zeros(1, 4), requires_grad=False)
        return made

    found = of(model)
    assert found.frozen_after == ()
    assert found.frozen == 2
