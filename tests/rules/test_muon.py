"""Muon: its step against the singular value decomposition, torch.optim.Muon and SGD, and what it refuses."""

import dataclasses

import pytest
import torch
from small import images
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.optim.kernels import KERNELS, update_
from surefoot.rules import update_rules
from surefoot.rules.groups import Factors
from surefoot.rules.muon import COEFFICIENTS, orthogonalised
from surefoot.training.compiled import Compiled
from surefoot.training.device import OnDevice
from surefoot.training.loop import advance_alike, fit, start
from surefoot.training.make import task
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import fit_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import Way

SHAPES = ((6, 4), (4, 6), (5, 5), (1, 7), (7, 1))


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walk(recipe, start, grads):
    """Return the weights after updates by these gradients, one list of tensors each."""
    weights, slots = [w.clone() for w in start], {}
    for some in grads:
        slots = update_(recipe, weights, [g.clone() for g in some], slots, recipe.lr, [Factors()] * len(weights))
    return weights


def by_torch(optimizer, weights, grads):
    for some in grads:
        for w, g in zip(weights, some, strict=True):
            w.grad = g.to(w.dtype)
        optimizer.step()
    return [w.detach() for w in weights]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_the_iteration_s_polynomial_of_the_singular_values(shape):
    d = draw(2, *shape)
    values = torch.linalg.svdvals(d) / d.norm(dim=(1, 2), keepdim=True)[..., 0]
    for _ in range(5):
        values = sum(c * values**power for c, power in zip(COEFFICIENTS, (1, 3, 5), strict=True))
    u, _, v = torch.linalg.svd(d, full_matrices=False)
    scale = max(1, shape[0] / shape[1]) ** 0.5
    torch.testing.assert_close(orthogonalised(d), scale * (u * values[:, None]) @ v, rtol=1e-9, atol=1e-10)
    assert 0.68 < values.min() <= values.max() < 1.21, "the band of what is not far below the largest"


def test_directions_of_any_length_give_the_same_step_and_none_gives_none():
    d = draw(1, 4, 6)
    for scale in (1e-5, 1e6):
        torch.testing.assert_close(orthogonalised(d * scale), orthogonalised(d), rtol=1e-9, atol=1e-12)
    assert torch.equal(orthogonalised(torch.zeros(1, 4, 6)), torch.zeros(1, 4, 6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_precisions_are_computed_in_bfloat16_whose_range_holds_the_norm(dtype):
    d = (draw(1, 8, 6) * 3e4 / 4).to(dtype)  # its norm is above what float16 holds
    step = orthogonalised(d)
    assert step.dtype == dtype
    torch.testing.assert_close(step.double(), orthogonalised(d.double()), rtol=0, atol=0.05)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.95])
def test_500_updates_of_matrices_are_those_of_torch_optim(momentum, decay, monkeypatch):
    # PyTorch computes in bfloat16 whatever the weights are: without that the formulas are one to the last digits.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    begin = [draw(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    grads = [[draw(*shape, seed=100 * t + i) for i, shape in enumerate(SHAPES)] for t in range(1, 501)]
    theirs = [nn.Parameter(w.clone()) for w in begin]
    twin = torch.optim.Muon(theirs, lr=0.02, momentum=momentum, weight_decay=decay)
    ours = walk(Recipe(rule="muon", momentum=momentum, weight_decay=decay), begin, grads)
    for a, b in zip(ours, by_torch(twin, theirs, grads), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_in_pytorch_s_bfloat16_they_differ_by_its_rounding():
    begin = [draw(24, 48).float()]
    grads = [[draw(24, 48, seed=t).float()] for t in range(1, 21)]
    theirs = [nn.Parameter(begin[0].clone())]
    (ours,) = walk(Recipe(rule="muon", weight_decay=0.1), begin, grads)
    (other,) = by_torch(torch.optim.Muon(theirs, lr=0.02), theirs, grads)
    assert 1e-5 < (ours - other).norm() / (other - begin[0]).norm() < 0.02


def test_a_convolution_is_a_matrix_with_a_row_for_each_channel_whatever_its_layout():
    begin = draw(4, 3, 2, 2)
    grads = [[draw(4, 3, 2, 2, seed=t)] for t in range(1, 6)]
    recipe = Recipe(rule="muon")
    (flat,) = walk(recipe, [begin.flatten(1)], [[g.flatten(1)] for (g,) in grads])
    for layout in (torch.contiguous_format, torch.channels_last):
        strided = [[g.contiguous(memory_format=layout)] for (g,) in grads]
        (ours,) = walk(recipe, [begin.contiguous(memory_format=layout)], strided)
        torch.testing.assert_close(ours.flatten(1), flat, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("momentum", [0.6, 0.95])
def test_other_weights_are_moved_by_sgd_with_nesterov_s_momentum(momentum):
    begin, grads = [draw(5), draw()], [[draw(5, seed=t), draw(seed=t + 50)] for t in range(1, 31)]
    theirs = [nn.Parameter(w.clone()) for w in begin]
    twin = torch.optim.SGD(theirs, lr=0.02, momentum=momentum, nesterov=True)
    ours = walk(Recipe(rule="muon", momentum=momentum, weight_decay=0.0), begin, grads)
    for a, b in zip(ours, by_torch(twin, theirs, grads), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    decayed = walk(Recipe(rule="muon", lr=0.02, weight_decay=0.5), begin, [[0 * begin[0], 0 * begin[1]]])
    torch.testing.assert_close(decayed, [w * 0.99 for w in begin], rtol=1e-6, atol=1e-9)


def test_weights_of_a_shape_are_moved_as_each_alone():
    begin = [draw(4, 6, seed=i) for i in range(3)]
    grads = [[draw(4, 6, seed=10 * t + i) for i in range(3)] for t in range(1, 6)]
    together = walk(Recipe(rule="muon"), begin, grads)
    for i in range(3):
        (alone,) = walk(Recipe(rule="muon"), [begin[i]], [[some[i]] for some in grads])
        torch.testing.assert_close(together[i], alone, rtol=1e-12, atol=1e-13)


class Shifts(nn.Module):
    """Weights of one dimension, and one matrix, which may be complex."""

    def __init__(self, matrix=None):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(10))
        self.matrix = None if matrix is None else nn.Parameter(matrix)

    def forward(self, x):
        outputs = x.flatten(1)[:, :10] + self.shift
        return outputs if self.matrix is None else outputs @ (self.matrix + self.matrix.mH).abs()


@pytest.mark.parametrize(
    ("make", "groups", "message"),
    [
        (lambda: Shifts(), None, "none of whose trained weights is a matrix.*momentum_form = nesterov"),
        (lambda: Shifts(torch.eye(10)), {"matrix": "frozen"}, "none of whose trained weights is a matrix"),
        (lambda: Shifts(torch.eye(10, dtype=torch.complex64)), None, r"complex weight of shape \[10, 10\].*Choose sgd"),
    ],
)
def test_a_model_that_it_is_not_for_is_refused_before_the_first_step(make, groups, message):
    work = task(surefoot.load("digits"), make, threads=1, precision="fp32")
    plan = surefoot.plan(Recipe(rule="muon", steps=2, groups=groups), work.data.examples)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        start(work, plan)
    sgd = surefoot.plan(Recipe(steps=2, groups=groups), work.data.examples)
    assert fit(work, sgd)[1].outcome.kind == "finished"


def by_stepper(made, work, plan):
    state = start(work, plan)
    advance_alike([(work, plan)], [state], plan.steps, made(work, plan, state))
    return state


WAYS = {
    "alone": lambda work, plan: fit(work, plan)[0],
    "on a device": lambda work, plan: by_stepper(OnDevice, work, plan),
    "stacked": lambda work, plan: fit_many([Member(work, plan)] * 2, Engine(Way("stacked", 2)))[0][1],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("rule", "precision"), [("muon", "bf16"), ("muon", "fp32"), ("rmsprop", "bf16")])
def test_the_products_of_an_update_are_in_the_precision_of_the_run(way, rule, precision, monkeypatch):
    seen = []

    def spied(function):
        return lambda *given: seen.append(torch.is_autocast_enabled("cpu")) or function(*given)

    of_rule = update_rules()[rule]
    monkeypatch.setitem(update_rules(), rule, dataclasses.replace(of_rule, formula=spied(of_rule.formula)))
    monkeypatch.setitem(KERNELS, rule, spied(KERNELS[rule]))
    work = task(images(), "mlp", threads=1, precision=precision)
    state = WAYS[way](work, surefoot.plan(Recipe(rule=rule, steps=3, batch_size=20), work.data.examples))
    assert set(seen) == {rule == "muon" and precision == "bf16"}
    assert all(weight.dtype == torch.float32 for weight in state.model.parameters())


def test_so_they_are_in_a_compiled_step():
    work = task(images(), "linear", threads=1, precision="bf16")
    plan = surefoot.plan(Recipe(rule="muon", steps=3, batch_size=20), work.data.examples)
    state = by_stepper(lambda *run: Compiled(*run, backend="eager"), work, plan)
    assert state.computed == "compiled"
    for a, b in zip(fit(work, plan)[0].model.parameters(), state.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    other = task(images(), "linear", threads=1, precision="fp32")
    assert (fit(other, plan)[0].model.head.weight - state.model.head.weight).abs().max() > 1e-4


def test_a_network_learns_by_it_in_every_way_of_a_run():
    work = task(surefoot.load("digits"), "cnn", threads=1, precision="bf16")
    recipe = Recipe(
        rule="muon", lr=0.1, steps=30, batch_size=32, micro_batch_size=16, clip_norm=1.0, ema_decay=0.8,
        groups={"*.bias": {"lr": 2, "weight_decay": 0}},
    )  # fmt: skip
    _, record = fit(work, surefoot.plan(recipe, work.data.examples))
    assert record.rows[-1].val_accuracy > 0.7
