"""The step that faces share, on one that only notes what it is asked to do."""

import pytest
import torch
from torch.nn import Parameter

from surefoot.errors import ConfigError
from surefoot.optim.face import Face, check_settings, check_state, states_of


class Notes(Face):
    twin = "Twin"

    def __init__(self, params, clip_norm=None):
        super().__init__(params, {"lr": 0.1, "clip_norm": clip_norm, "differentiable": False})
        self.moved = []

    def _check_gradients(self, group, params):
        if any(p.grad.isnan().any() for p in params):
            raise ConfigError("a gradient", "it must be a number", "mend it")

    def _step_group(self, group, params):
        self.moved += [p.grad.clone() for p in params]


def weights():
    first, second, idle = (Parameter(torch.ones(2)) for _ in range(3))
    first.grad, second.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    return first, second, idle


def test_a_step_asks_the_closure_with_gradients_and_moves_what_has_one():
    first, second, idle = weights()
    optimizer = Notes([{"params": [first, idle]}, {"params": [second]}, {"params": []}])
    assert optimizer.step(lambda: float(torch.is_grad_enabled())) == 1.0
    assert [grad.tolist() for grad in optimizer.moved] == [[3.0, 0.0], [0.0, 4.0]]


def test_gradients_are_clipped_over_all_groups_where_a_group_asks_for_it():
    first, second, _ = weights()
    optimizer = Notes([{"params": [first], "clip_norm": 1.0}, {"params": [second]}])
    optimizer.step()
    assert optimizer.moved[0].tolist() == pytest.approx([0.6, 0.0])
    assert optimizer.moved[1].tolist() == [0.0, 4.0]


def test_a_step_that_is_refused_in_one_group_moves_none():
    first, second, _ = weights()
    optimizer = Notes([{"params": [first]}, {"params": [second]}])
    second.grad[0] = torch.nan
    with pytest.raises(ConfigError, match="it must be a number"):
        optimizer.step()
    assert optimizer.moved == []


def test_a_scaler_s_infinity_skips_the_step_and_its_scale_is_divided_out():
    first, second, _ = weights()
    optimizer = Notes([first, second])
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(1.0)
    optimizer.step()
    assert optimizer.moved == []
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert [grad.tolist() for grad in optimizer.moved] == [[1.5, 0.0], [0.0, 2.0]]


def test_settings_out_of_range_and_states_of_others_are_refused():
    check_settings({"lr": 0.1, "clip_norm": None})
    with pytest.raises(ValueError, match="Invalid epsilon value: -1"):
        check_settings({"eps": -1})
    with pytest.raises(RuntimeError, match="cannot be `True` together"):
        check_settings({"fused": True, "foreach": True})
    first, *_ = weights()
    optimizer = Notes([first])
    state = {"param_groups": optimizer.param_groups, "state": {first: {"buffer": torch.ones(2)}}}
    assert states_of(state) == [(first, state["state"][first])]
    check_state(optimizer, state, ["lr"], ["buffer"])
    with pytest.raises(ConfigError, match=r"a state without momentum, step: surefoot.Notes goes on .*torch.optim.Twin"):
        check_state(optimizer, state, ["lr", "momentum"], ["step"])
