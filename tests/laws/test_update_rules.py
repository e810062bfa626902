"""The update rules keep their promises: PyTorch's steps, the two forms of momentum, contraction on a quadratic."""

import math

import pytest
import torch

from surefoot.optim.optimizer import SGD
from surefoot.optim.update import sgd_

OPTIONS = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.5},
    {"momentum": 0.9, "weight_decay": 0.1},
    {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
]


def walk(make, steps):
    """Descend sum(1 - cos 2w) / 2 plus noise, in float64, for so many steps; return the weights after each."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (5,))]
    noise = torch.randn(steps, 17, generator=generator, dtype=torch.float64)
    optimizer = make([p.requires_grad_() for p in params])
    path = []
    for t in range(steps):
        for p, n in zip(params, (noise[t, :12].view(4, 3), noise[t, 12:]), strict=True):
            p.grad = torch.sin(2 * p.detach()) + 0.3 * n
        optimizer.step()
        path.append(torch.cat([p.detach().flatten() for p in params]))
    return torch.stack(path)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_500_steps_are_pytorch_s_step_for_step(options, maximize):
    options = {"lr": 0.05, "maximize": maximize, **options}
    theirs = walk(lambda p: torch.optim.SGD(p, **options), 500)
    ours = walk(lambda p: SGD(p, **options), 500)
    assert torch.isfinite(theirs).all()
    assert (theirs[-1] - theirs[0]).norm() > 0.1, "a run that stands still would prove nothing"
    # Ours runs the fused kernel, theirs the foreach one; in float64 they differ by rounding alone.
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    fused = walk(lambda p: torch.optim.SGD(p, fused=True, **options), 500)
    assert torch.equal(ours, fused), "the same kernel gives the same bits"


@pytest.mark.parametrize("implementation", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_implementation_that_is_asked_for_gives_pytorch_s_bits(options, implementation):
    both = [walk(lambda p, cls=cls: cls(p, lr=0.05, **options, **implementation), 20) for cls in (torch.optim.SGD, SGD)]
    assert torch.equal(*both)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_two_forms_of_momentum_agree_while_the_rate_is_constant(decay):
    paths = [
        walk(lambda p, form=form: SGD(p, lr=0.05, momentum=0.9, weight_decay=decay, momentum_form=form), 200)
        for form in ("pytorch", "sutskever")
    ]
    torch.testing.assert_close(*paths, rtol=1e-10, atol=1e-12)


def test_at_a_drop_the_two_forms_differ_by_the_closed_form():
    """With the same gradients, n updates after the rate fell from a to b, W differs by the sum of a geometric series:

    W_pytorch - W_sutskever = (a - b) V beta (1 - beta^n) / (1 - beta), V being PyTorch's velocity before the drop.
    """
    beta, a, b, before, after = 0.9, 0.1, 0.01, 30, 50
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(before + after, 7, generator=generator, dtype=torch.float64)
    start = torch.randn(7, generator=generator, dtype=torch.float64)
    w = {form: [start.clone()] for form in ("pytorch", "sutskever")}
    v = {"pytorch": None, "sutskever": None}
    at_drop = None
    for t, grad in enumerate(grads):
        for form in w:
            lr = a if t < before else b
            v[form] = sgd_(w[form], [grad], v[form], lr=lr, momentum=beta, momentum_form=form)
        if t == before - 1:
            at_drop = v["pytorch"][0].clone()
            torch.testing.assert_close(*(w[form][0] for form in w), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(v["sutskever"][0], a * at_drop, rtol=1e-12, atol=1e-12)
        if t >= before:
            n = t - before + 1
            expected = (a - b) * at_drop * beta * (1 - beta**n) / (1 - beta)
            assert expected.norm() > 0.05
            torch.testing.assert_close(w["pytorch"][0] - w["sutskever"][0], expected, rtol=1e-9, atol=1e-12)


def test_rescaling_the_velocity_at_the_drop_makes_the_forms_agree_again():
    """The momentum correction of Goyal et al. 2017, section 3: V <- (b / a) V when the rate goes from a to b."""
    w = [[torch.tensor([1.0], dtype=torch.float64)] for _ in range(2)]
    v = [None, None]
    for t in range(40):
        lr, grads = (0.1 if t < 20 else 0.02), [[torch.cos(each[0] * (t + 1))] for each in w]
        if t == 20:
            v[1][0].mul_(0.02 / 0.1)
        for i, form in enumerate(("pytorch", "sutskever")):
            v[i] = sgd_(w[i], grads[i], v[i], lr=lr, momentum=0.9, momentum_form=form)
    torch.testing.assert_close(w[0], w[1], rtol=1e-10, atol=1e-12)


def descend(curvature, steps, **options):
    """Minimise sum h w^2 / 2 from w = 1; return w after each step, [steps + 1, len(h)]."""
    h = torch.tensor(curvature, dtype=torch.float64)
    w, velocity, path = [torch.ones_like(h)], None, []
    for _ in range(steps):
        path.append(w[0].clone())
        velocity = sgd_(w, [h * w[0]], velocity, **options)
    return torch.stack([*path, w[0]])


def test_gradient_descent_contracts_a_quadratic_by_its_closed_form():
    # w_t = (1 - lr h)^t w_0, in every direction; with lr h = 1 in one step, with lr h > 2 it grows.
    h = [0.1, 1.0, 4.0, 9.0]
    path = descend(h, 50, lr=0.25, momentum=0.0)
    for t in (1, 2, 10, 50):
        expected = torch.tensor([(1 - 0.25 * each) ** t for each in h], dtype=torch.float64)
        torch.testing.assert_close(path[t], expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("form", ["pytorch", "sutskever"])
@pytest.mark.parametrize(("lr", "beta"), [(0.05, 0.5), (0.4, 0.81), (0.3, 0.9)])
def test_heavy_ball_follows_the_closed_form_of_its_recurrence(form, lr, beta):
    """w_{t+1} = (1 + beta - lr h) w_t - beta w_{t-1} (Polyak 1964), whose solution is A r1^t + B r2^t."""
    for h in (0.3, 1.0, 2.5):
        path = descend([h], 60, lr=lr, momentum=beta, momentum_form=form)[:, 0]
        trace = 1 + beta - lr * h
        root = complex(trace**2 - 4 * beta) ** 0.5
        r1, r2 = (trace + root) / 2, (trace - root) / 2
        w0, w1 = 1.0, 1 - lr * h
        first = (w1 - r2 * w0) / (r1 - r2)
        expected = [(first * r1**t + (w0 - first) * r2**t).real for t in range(61)]
        torch.testing.assert_close(path, torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=1e-12)


def test_polyak_s_choice_contracts_every_direction_by_the_square_root_of_beta():
    """With lr = (2 / (sqrt L + sqrt m))^2 and beta = ((sqrt L - sqrt m) / (sqrt L + sqrt m))^2 (Polyak 1964)."""
    m, big = 0.25, 4.0
    lr = (2 / (math.sqrt(big) + math.sqrt(m))) ** 2
    beta = ((math.sqrt(big) - math.sqrt(m)) / (math.sqrt(big) + math.sqrt(m))) ** 2
    path = descend([m, 1.0, 2.0, big], 200, lr=lr, momentum=beta)
    # At both ends of the spectrum the roots coincide, which multiplies the rate by at most t + 1.
    bound = 2 * (1 + torch.arange(201)) * math.sqrt(beta) ** torch.arange(201, dtype=torch.float64)
    assert torch.all(path.abs() <= bound[:, None] + 1e-15)
    plain = descend([m, 1.0, 2.0, big], 200, lr=2 / (m + big), momentum=0.0)
    assert path[20].norm() < 0.1 * plain[20].norm(), "and beats gradient descent with its own best rate"


def test_decoupled_decay_shrinks_by_lr_times_wd_whatever_the_velocity():
    # With gradient 0 the velocity stays 0 and W_t = (1 - lr wd)^t W_0; coupled decay would build up velocity.
    w, v = [torch.tensor([1.0], dtype=torch.float64)], None
    for _ in range(25):
        v = sgd_(w, [torch.zeros(1, dtype=torch.float64)], v, lr=0.1, momentum=0.9, weight_decay=0.5,
                 weight_decay_form="decoupled")  # fmt: skip
    assert w[0].item() == pytest.approx(0.95**25, rel=1e-12)
    assert v[0].item() == 0
