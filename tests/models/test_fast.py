import pytest
import torch
from small import images
from torch import nn

from surefoot.data.batches import fetch
from surefoot.models.build import SHIPPED, build
from surefoot.models.fast import Fast
from surefoot.seeds import torch_stream
from surefoot.training.make import task


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("side", [3, 4, 7, 8, 15, 16, 23, 32])
def test_it_takes_every_side_from_three_on(side, depth):
    model = Fast((3, side, side), 5, widths=(4, 6), depth=depth).eval()
    assert model(torch.zeros(2, 3, side, side)).shape == (2, 5)


@pytest.mark.parametrize("side", [3, 4, 8, 16, 20, 24])
def test_one_that_is_built_for_large_images_takes_small_ones(side):
    assert Fast((3, 32, 32), 5, widths=(4, 4, 4)).eval()(torch.zeros(2, 3, side, side)).shape == (2, 5)


def test_the_shipped_ones_have_the_multiplications_that_they_say():
    found = {}
    for name in ("fast", "fast-wide", "fast-deep"):
        model, shapes = build(name, (3, 32, 32), 10).eval(), {}
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda conv, _, out, shapes=shapes: shapes.update({conv: out.shape[2:]}))
        model(torch.zeros(1, 3, 32, 32))
        found[name] = round(sum(conv.weight.numel() * size.numel() for conv, size in shapes.items()) / 1e6)
    assert found == {"fast": 33, "fast-wide": 118, "fast-deep": 452}
    assert all(SHIPPED[name].takes == "images" for name in found)


def test_nothing_before_the_first_block_is_trained_and_its_input_needs_no_gradient():
    work = task(images(), "fast", seed=1)
    model = work.fresh_model()
    assert not any(parameter.requires_grad for parameter in model.stem.parameters())
    x, y = fetch(work.data, work.data.train, torch.arange(20).numpy())
    assert not model.stem(x).requires_grad
    nn.functional.cross_entropy(model(x), y).backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_the_stem_whitens_the_data_of_the_task():
    work = task(images(), "fast", seed=1)
    x, _ = fetch(work.data, work.data.train, torch.arange(60).numpy())
    out = work.fresh_model().stem(x)[:, :12].permute(1, 0, 2, 3).reshape(12, -1)
    torch.testing.assert_close(out @ out.T / out.shape[1], torch.eye(12), atol=0.05, rtol=0)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_block_whose_later_convolutions_are_silent_doubles_nothing_but_what_it_pooled(depth):
    block = Fast((3, 8, 8), 5, widths=(24,), depth=depth).blocks[0].eval()
    for conv in list(block.convs)[1:]:
        nn.init.zeros_(conv.weight)
    x = torch.rand(2, 24, 6, 6)
    torch.testing.assert_close(block(x), nn.functional.silu(nn.functional.max_pool2d(x, 2)), atol=1e-4, rtol=1e-4)


def test_its_first_loss_is_near_chance():
    with torch_stream(0, "test"):
        model, x = Fast((3, 32, 32), 10), torch.randn(64, 3, 32, 32)
    model.initialize_from(x)
    loss = nn.functional.cross_entropy(model(x), torch.arange(64) % 10).item()
    assert 2.0 < loss < 2.8, "ln 10 is 2.30"
