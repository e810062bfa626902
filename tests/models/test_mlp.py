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


def test_codes_have_vectors_of_their_own_and_the_other_numbers_stay():
    model = Mlp((4,), 2, widths=(5,), categories=((1, 60), (3, 100)))
    assert [tuple(table.weight.shape) for table in model.embeddings] == [(60, 16), (100, 21)]
    x = torch.tensor([[0.5, 59.0, -1.0, 3.0], [0.5, 0.0, -1.0, 99.0]])
    joined = torch.cat([x[:, [0, 2]], model.embeddings[0].weight[[59, 0]], model.embeddings[1].weight[[3, 99]]], 1)
    torch.testing.assert_close(model(x), model.head(model.hidden[0](joined).relu()))
    assert "numbers" not in model.state_dict()
    beyond = torch.tensor([[0.5, 1e9, -1.0, -7.0]])  # what no table gives, and a probe of the wiring may
    torch.testing.assert_close(model(beyond), model(torch.tensor([[0.5, 59.0, -1.0, 0.0]])))


def test_members_of_a_population_embed_as_each_would_alone():
    draw = torch.Generator().manual_seed(0)
    codes = torch.randint(61, (80, 1), generator=draw).float()
    x = torch.cat([torch.randn(80, 2, generator=draw), codes], 1)
    models = [Mlp((3,), 2, categories=((2, 61),)) for _ in range(3)]
    weights = torch.func.stack_module_state(models)
    stacked = torch.func.vmap(lambda w, b, x: torch.func.functional_call(models[0], (w, b), (x,)), (0, 0, None))(
        *weights, x
    )
    for member, model in enumerate(models):
        torch.testing.assert_close(stacked[member], model(x))
