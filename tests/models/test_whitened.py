import pytest
import torch
from torch import nn

from surefoot.models.build import build
from surefoot.models.cnn import Cnn
from surefoot.models.fast import Fast
from surefoot.seeds import torch_stream

NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
OF_A_BLOCK = {
    "cnn": ["conv1.weight", *(f"norm1.{name}" for name in NORM), "conv2.weight", *(f"norm2.{name}" for name in NORM)],
    "fast": ["convs.0.weight", "convs.1.weight", *(f"norms.{i}.{name}" for i in (0, 1) for name in NORM)],
}


@pytest.mark.parametrize(("name", "stem"), [("cnn", ["stem.weight", "stem.bias"]), ("fast", ["stem.weight"])])
def test_the_names_of_saved_weights_stay(name, stem):
    blocks = [f"blocks.{i}.{weight}" for i in range(3) for weight in OF_A_BLOCK[name]]
    assert list(build(name, (3, 32, 32), 10).state_dict()) == [*stem, *blocks, "head.weight"]


@pytest.mark.parametrize("made", [Cnn, Fast])
def test_the_first_channels_of_a_convolution_start_as_the_identity(made):
    model, found = made((3, 32, 32), 5), 0
    for module in model.blocks.modules():
        if isinstance(module, nn.Conv2d) and module.out_channels >= module.in_channels:
            expected = torch.zeros_like(module.weight[: module.in_channels])
            for channel in range(module.in_channels):
                expected[channel, channel, 1, 1] = 1
            assert torch.equal(module.weight[: module.in_channels], expected)
            found += 1
    assert found == 6


@pytest.mark.parametrize("made", [Cnn, Fast])
def test_whitened_patches_have_no_correlation_and_a_variance_of_one(made):
    with torch_stream(0, "test"):
        model = made((3, 8, 8), 5)
        x = torch.randn(200, 1, 8, 8) + 0.5 * torch.randn(200, 3, 8, 8)  # correlated channels
    model.initialize_from(x)
    out = model.stem(x)[:, :12].permute(1, 0, 2, 3).reshape(12, -1)
    torch.testing.assert_close(out @ out.T / out.shape[1], torch.eye(12), atol=0.01, rtol=0)
    assert torch.equal(model.stem.weight[:12], -model.stem.weight[12:])
