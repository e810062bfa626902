import pytest
import torch
from small import bits, images
from torch import nn

from surefoot.data.batches import fetch
from surefoot.models.cnn import Cnn
from surefoot.seeds import torch_stream
from surefoot.training.make import task


@pytest.mark.parametrize("side", [3, 4, 7, 8, 15, 16, 23, 32, 64])
def test_it_takes_every_side_from_three_on(side):
    assert Cnn((3, side, side), 5, widths=(4, 6)).eval()(torch.zeros(2, 3, side, side)).shape == (2, 5)


def test_a_block_more_than_the_side_can_be_halved_is_left_out():
    assert [len(Cnn((3, side, side), 5).blocks) for side in (3, 4, 5, 8, 9, 16, 32)] == [1, 1, 2, 2, 3, 3, 3]


def test_the_stem_stays_as_the_data_made_it():
    work = task(images(), "cnn", seed=1)
    model = work.fresh_model()
    assert not model.stem.weight.requires_grad
    other = Cnn((3, 8, 8), 3)
    assert bits(other.stem.weight) != bits(model.stem.weight), "the task has shown it the data"
    x, y = fetch(work.data, work.data.train, torch.arange(20).numpy())
    nn.functional.cross_entropy(model(x), y).backward()
    assert model.stem.weight.grad is None
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_its_first_loss_is_near_chance():
    with torch_stream(0, "test"):
        model, x = Cnn((3, 32, 32), 10), torch.randn(64, 3, 32, 32)
    model.initialize_from(x)
    loss = nn.functional.cross_entropy(model(x), torch.arange(64) % 10).item()
    assert 2.0 < loss < 2.8, "ln 10 is 2.30"
