"""Each rule for stacked layers gives what the layer gives each member alone, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from surefoot.training.population.layers import StackedLayers

K, B, C = 3, 4, 6


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolution(x, weight, groups=1):
    return F.conv2d(x, weight, None, 2, 1, 1, groups)


def grouped(x, weight):
    return convolution(x, weight, groups=2)


def batch_norm(x, weight):
    return F.batch_norm(x, None, None, weight[:, 0, 0, 0], None, training=True)


def group_norm(x, weight):
    return F.group_norm(x, 3, weight[:, 0, 0, 0], None)


def pooled(x, weight):
    return F.max_pool2d(F.avg_pool2d(x * weight[0, 0, 0, 0], 2), 2)


def without_a_batch(x, weight):
    return F.conv2d(x[0], weight)


@pytest.mark.parametrize("shared", [False, True], ids=["own inputs", "one input"])
@pytest.mark.parametrize(
    ("layer", "inputs"),
    [(convolution, C), (grouped, C // 2), (batch_norm, C), (group_norm, C), (pooled, C), (without_a_batch, C)],
)
def test_a_stacked_layer_is_each_members_own(layer, inputs, shared):
    x = values(B, C, 8, 8) if shared else values(K, B, C, 8, 8)
    weight = values(K, C, inputs, 3, 3, seed=1).requires_grad_()
    with StackedLayers():
        stacked = torch.vmap(layer, in_dims=(None if shared else 0, 0))(x, weight)
    alone = torch.stack([layer(x if shared else x[k], weight[k]) for k in range(K)])
    torch.testing.assert_close(stacked, alone)
    (ours,), (theirs,) = (
        torch.autograd.grad(out.square().sum(), [weight], retain_graph=True) for out in (stacked, alone)
    )
    torch.testing.assert_close(ours, theirs)


def test_running_statistics_are_each_members_own():
    x, mean, var = values(K, B, C, 5, 5), torch.zeros(K, C).double(), torch.ones(K, C).double()

    def normed(x, mean, var):
        return F.batch_norm(x, mean, var, None, None, training=True)

    expected = [(torch.zeros(C).double(), torch.ones(C).double()) for _ in range(K)]
    alone = torch.stack([normed(x[k], *expected[k]) for k in range(K)])
    with StackedLayers():
        torch.testing.assert_close(torch.vmap(normed)(x, mean, var), alone)
    torch.testing.assert_close(mean, torch.stack([mean for mean, _ in expected]))
    torch.testing.assert_close(var, torch.stack([var for _, var in expected]))
