"""What one call of a step did is measured in numbers that can be computed by hand."""

import pytest
import torch
import torch.nn.functional as F
from faults import digits, plain, seeded
from small import bits

from surefoot.steps.wiring.user_step import try_user_step
from surefoot.training.make import task


def facts(zero_grad=True, sign=1.0, lr=0.1, calls=1, maximize=False):
    model = seeded(plain)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, maximize=maximize)
    called = []

    def step(model, x, y):
        called.append(len(x))
        if zero_grad:
            optimizer.zero_grad()
        (sign * F.cross_entropy(model(x), y)).backward()
        if len(called) % calls == 0:
            optimizer.step()

    before = [bits(each) for each in model.parameters()]
    found = try_user_step(task(digits(), model), model, step, optimizer)
    assert [bits(each) for each in model.parameters()] == before
    assert all(each.grad is None for each in model.parameters())
    return found


def test_plain_descent_goes_exactly_against_the_gradient_and_forgets_the_last_one():
    found = facts()
    assert found.uphill == pytest.approx(-1, abs=1e-5)
    assert found.stale == 0
    assert found.ratio == pytest.approx(1)
    assert (found.calls, found.still, found.not_held, found.lr, found.fresh) == (1, (), (), 0.1, True)


def test_without_zero_grad_the_second_update_is_twice_the_first():
    found = facts(zero_grad=False)
    assert found.ratio == pytest.approx(2, rel=1e-5)
    assert found.stale == pytest.approx(3, rel=1e-4)  # the gradient and minus three times the gradient: g - 3 g


@pytest.mark.parametrize("wrong", [{"sign": -1.0}, {"maximize": True}])
def test_either_wrong_sign_goes_uphill(wrong):
    assert facts(**wrong).uphill == pytest.approx(1, abs=1e-5)


def test_a_step_that_waits_for_more_calls_is_called_until_it_moves():
    assert facts(calls=4).calls == 4
    assert facts(calls=100).calls is None
