import pytest
import torch
import torch.nn.functional as F
from small import images
from torch import nn

from surefoot.data.batches import fetch
from surefoot.training.make import task
from surefoot.training.population.network import Network, has_rules
from surefoot.training.state import trainable

SMOOTHING = [0.0, 0.1, 0.3]


def stacked(model):
    work = task(images(), model, seed=1, precision="fp32")
    net = work.fresh_model()
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: torch.stack([value + 0.1 * torch.randn(value.shape, generator=draw) for _ in SMOOTHING]).detach()
        for name, value in trainable(net).items()
    }
    rest = {name: value for name, value in [*net.named_parameters(), *net.named_buffers()] if name not in weights}
    buffers = {name: torch.stack([value.detach()] * len(SMOOTHING)) for name, value in rest.items()}
    return work, net, weights, buffers


@pytest.mark.parametrize("shared", [True, False], ids=["one batch", "batches of their own"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_gradient_of_each_member_is_that_of_the_model_alone(model, shared):
    work, net, weights, buffers = stacked(model)
    rows = torch.arange(36).view(3, 12)
    pairs = [fetch(work.data, work.data.train, rows[0 if shared else k].numpy()) for k in range(3)]
    x, y = pairs[0] if shared else tuple(torch.stack(side) for side in zip(*pairs, strict=True))
    network = Network(work, net, shared, has_rules(net))
    given = {name: value.clone() for name, value in buffers.items()}
    loss, correct, count, grads = network.gradient(weights, given, x, y, torch.tensor(SMOOTHING))
    assert count is None
    for k, (of_x, of_y) in enumerate(pairs):
        alone = work.fresh_model()
        alone.load_state_dict({name: value[k] for name, value in (weights | buffers).items()})
        outputs = alone(of_x)
        expected = F.cross_entropy(outputs, of_y, label_smoothing=SMOOTHING[k])
        expected.backward()
        assert loss[k].item() == pytest.approx(expected.item(), rel=1e-4)
        assert int(correct[k]) == int((outputs.argmax(1) == of_y).sum())
        for name, parameter in trainable(alone).items():
            torch.testing.assert_close(grads[name][k], parameter.grad, rtol=2e-3, atol=2e-5)


def test_what_stands_still_has_no_gradient():
    work, net, weights, buffers = stacked("mlp")
    x, y = fetch(work.data, work.data.train, torch.arange(12).numpy())
    first, *others = weights
    grads = Network(work, net, True, False).gradient(weights, buffers, x, y, None, [first])[3]
    assert list(grads) == others


def test_layers_of_images_have_rules():
    assert [has_rules(each) for each in (nn.Linear(1, 1), nn.Conv2d(1, 1, 1), nn.BatchNorm1d(1))] == [False, True, True]
