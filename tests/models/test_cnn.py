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


def test_the_first_channels_of_a_convolution_start_as_the_identity():
    model = Cnn((3, 32, 32), 5)
    found = 0
    for module in model.blocks.modules():
        if isinstance(module, nn.Conv2d) and module.out_channels >= module.in_channels:
            expected = torch.zeros_like(module.weight[: module.in_channels])
            for channel in range(module.in_channels):
                expected[channel, channel, 1, 1] = 1
            assert torch.equal(module.weight[: module.in_channels], expected)
            found += 1
    assert found == 6


def test_whitened_patches_have_no_correlation_and_a_variance_of_one():
    with torch_stream(0, "test"):
        model = Cnn((3, 8, 8), 5)
        x = torch.randn(200, 1, 8, 8) + 0.5 * torch.randn(200, 3, 8, 8)  # correlated channels
    model.initialize_from(x)
    out = model.stem(x)[:, :12].permute(1, 0, 2, 3).reshape(12, -1)
    torch.testing.assert_close(out @ out.T / out.shape[1], torch.eye(12), atol=0.01, rtol=0)
    assert torch.equal(model.stem.weight[:12], -model.stem.weight[12:])


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
