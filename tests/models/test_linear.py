import math

import torch
import torch.nn.functional as F

from surefoot.models.linear import Linear


def test_it_starts_at_chance_for_any_input_and_is_affine():
    model = Linear((1, 4, 4), 10)
    x = torch.arange(48.0).view(3, 1, 4, 4)
    assert abs(F.cross_entropy(model(x), torch.tensor([0, 5, 9])).item() - math.log(10)) < 1e-6
    with torch.no_grad():
        model.head.weight.fill_(0.5)
        model.head.bias.fill_(2.0)
    torch.testing.assert_close(model(x), (0.5 * x.flatten(1).sum(1) + 2)[:, None].expand(3, 10))
