import pytest
import torch

from surefoot.models.resnet import ResNet20


def test_it_has_the_parameters_of_the_paper():
    """Table 6 of He et al. 2015: 20 layers, 0.27 M parameters."""
    model = ResNet20((3, 32, 32), 10)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == 0.27
    layers = [p for p in model.parameters() if p.ndim >= 2]
    assert len(layers) == 20


@pytest.mark.parametrize("side", [4, 5, 9, 32])
def test_it_takes_every_side_from_four_on(side):
    assert ResNet20((1, side, side), 3).eval()(torch.zeros(2, 1, side, side)).shape == (2, 3)


def test_a_block_that_adds_nothing_passes_its_input_on_and_a_wider_one_pads_with_zeros():
    model = ResNet20((3, 8, 8), 3).eval()
    for block in model.blocks:
        torch.nn.init.zeros_(block.norm2.weight)
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(model.blocks[0](x), x)
    wider = model.blocks[3](x)
    assert torch.equal(wider[:, :16], x[:, :, ::2, ::2])
    assert wider.shape == (2, 32, 4, 4)
    assert wider[:, 16:].abs().max() == 0
