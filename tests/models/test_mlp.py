import math

import torch

from surefoot.models.mlp import Mlp
from surefoot.seeds import torch_stream


def test_it_is_layers_with_relu_between_them():
    model = Mlp((1, 2, 2), 3, widths=(5, 6))
    x = torch.randn(7, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    a = model.hidden[0](x.flatten(1)).clamp(min=0)
    torch.testing.assert_close(model(x), model.head(model.hidden[1](a).clamp(min=0)))
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [(5, 4), (6, 5), (3, 6)]


def test_without_hidden_layers_it_is_affine():
    assert Mlp((4,), 3, widths=()).hidden.__len__() == 0


def test_hidden_weights_start_as_he_et_al_say():
    with torch_stream(0, "test"):
        model = Mlp((400,), 3, widths=(500,))
    # The standard deviation of 200,000 draws is within 0.5 % of its own with a probability of 0.998.
    assert abs(model.hidden[0].weight.std().item() / math.sqrt(2 / 400) - 1) < 0.005
    assert model.hidden[0].bias.abs().max() == 0
