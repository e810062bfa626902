"""Progressive resizing: what a step sees, resuming, populations, measurements, and what it is refused with."""

import dataclasses

import numpy as np
import pytest
import torch
from small import bits, images
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.data.batches import batch_indices, fetch, resized
from surefoot.data.loader import Loader
from surefoot.errors import ConfigError
from surefoot.optim.plan import plan
from surefoot.steps.follow import rate_plan
from surefoot.training.loop import advance, start
from surefoot.training.make import task
from surefoot.training.population.member import Member, groups
from surefoot.training.population.stack import advance_stack
from surefoot.training.state import named_tensors

STAGES = ("4:0.25", "6:0.5")
RECIPE = Recipe(lr=0.05, steps=8, batch_size=12, progressive_resizing=STAGES)


def planned(model="fast", recipe=RECIPE, **more):
    work = task(images(), model, device="cpu", precision="fp32", **more)
    return work, plan(recipe, work.data.examples)


def of(state):
    return {name: bits(value) for name, value in named_tensors(state.model).items()}


class Shapes(nn.Module):
    """Notes the shape of each batch in training."""

    def __init__(self):
        super().__init__()
        self.conv, self.head, self.seen = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), []

    def forward(self, x):
        if self.training:
            self.seen.append(tuple(x.shape[2:]))
        return self.head(self.conv(x).mean((2, 3)))


def test_a_step_sees_the_batch_at_the_size_of_its_stage():
    work, made = planned(Shapes())
    state, _ = advance(work, made, start(work, made), 8)
    assert state.model.seen[-8:] == [(4, 4)] * 2 + [(6, 6)] * 2 + [(8, 8)] * 4


def test_a_batch_is_resized_after_augmentation_and_normalising():
    work, made = planned(augment=["flip", "crop:1"])
    loader = Loader(work.data, work.augment, work.seed)
    epoch, rows = batch_indices(made.examples, 12, work.seed, 0)
    whole, y = fetch(work.data, work.data.train, rows, augment=work.augment, seed=work.seed, epoch=epoch)
    small, same = loader.batch(rows, epoch, 4)
    assert torch.equal(small, resized(whole, 4))
    assert torch.equal(y, same)


def test_a_smaller_image_averages_over_what_falls_into_a_pixel():
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:] = 1.0
    left, right = resized(x, 2)[0, 0, 0].tolist()
    assert 0 < left < 0.2
    assert left + right == pytest.approx(1)
    assert torch.equal(resized(torch.ones(1, 2, 8, 8), 5), torch.ones(1, 2, 5, 5))


def test_the_longer_side_keeps_its_ratio_and_the_layout_stays():
    x = torch.rand(2, 3, 8, 12).contiguous(memory_format=torch.channels_last)
    assert resized(x, 4).shape == (2, 3, 4, 6)
    assert resized(x, 4).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_stopping_and_going_on_equals_never_stopping(tmp_path, stop):
    settings = {"lr": 0.05, "steps": 8, "batch_size": 12, "progressive_resizing": list(STAGES), "device": "cpu"}
    whole = surefoot.train(images(), "fast", name="whole", runs_dir=tmp_path, **settings)
    work, made = planned()
    state, _ = advance(work, made, start(work, made), stop)
    state, _ = advance(work, made, state, 8)
    ours = {name: bits(value) for name, value in named_tensors(whole.model.net).items()}
    assert of(state) == ours


def test_a_member_is_the_run_that_it_would_have_been_alone():
    members = [
        Member(work, plan(dataclasses.replace(RECIPE, lr=lr), work.data.examples))
        for work in [task(images(), "fast", device="cpu", precision="fp32")]
        for lr in (0.02, 0.05)
    ]
    states = [start(member.task, member.plan) for member in members]
    alone = [advance(m.task, m.plan, start(m.task, m.plan), 8)[0] for m in members]
    advance_stack(members, states, 8)
    for ours, other in zip(states, alone, strict=True):
        for name, value in named_tensors(ours.model).items():
            torch.testing.assert_close(value, named_tensors(other.model)[name], atol=1e-5, rtol=1e-4)


def test_members_of_other_sizes_are_not_computed_as_one():
    work, made = planned()
    other = plan(dataclasses.replace(RECIPE, progressive_resizing=("4:0.5",)), work.data.examples)
    assert len(groups([Member(work, made), Member(work, other)])) == 2


def test_a_measurement_of_rates_sees_full_size():
    assert rate_plan(RECIPE, 60, np.array([0.1, 0.2])).side_at(0) is None


def test_data_without_images_and_pixels_with_classes_are_refused():
    x = torch.randn(40, 5)
    work = task(surefoot.load((x, (x[:, 0] > 0).long())), "mlp", device="cpu")
    with pytest.raises(ConfigError, match=r"with data that are not images: .* Leave it out"):
        start(work, plan(RECIPE, work.data.examples))


def test_a_side_that_is_not_smaller_is_refused():
    work, made = planned(recipe=dataclasses.replace(RECIPE, progressive_resizing=("8:0.5",)))
    with pytest.raises(ConfigError, match="sides are below 8 pixels here"):
        start(work, made)


def test_a_model_of_one_size_is_refused():
    work, made = planned("mlp")
    with pytest.raises(ConfigError, match="a model that takes no images of 4 pixels"):
        start(work, made)
