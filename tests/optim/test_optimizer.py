"""surefoot.SGD behaves as a PyTorch optimizer: PyTorch's own inputs and error inputs, and everyday use.

The inputs and error inputs are those of `torch.testing._internal.common_optimizers`, which PyTorch's suite runs on
`torch.optim.SGD`.
"""

import copy
import io
import pickle
import re

import pytest
import torch
from torch.testing._internal.common_optimizers import optim_error_inputs_func_sgd, optim_inputs_func_sgd

from surefoot.optim.optimizer import SGD

CPU = torch.device("cpu")
INPUTS = [(each.desc, each.kwargs) for each in optim_inputs_func_sgd(CPU)]
EVERY = [
    *INPUTS,
    ("sutskever", {"momentum": 0.9, "momentum_form": "sutskever"}),
    ("nesterov by its form", {"momentum": 0.9, "momentum_form": "nesterov"}),
    ("decoupled", {"momentum": 0.9, "weight_decay": 0.1, "weight_decay_form": "decoupled"}),
    ("clipped", {"momentum": 0.9, "clip_norm": 0.5}),
]
kwargs_of_pytorch = pytest.mark.parametrize("kwargs", [k for _, k in INPUTS], ids=[d for d, _ in INPUTS])
every_kwargs = pytest.mark.parametrize("kwargs", [k for _, k in EVERY], ids=[d for d, _ in EVERY])


def model_and_data(dtype=torch.float64):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 1)).to(dtype)
    return model, torch.randn(8, 2, dtype=dtype), torch.randn(8, 1, dtype=dtype)


def train(make, steps=7, model=None, optimizer=None):
    made, x, y = model_and_data()
    model = model or made
    optimizer = optimizer or make(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model, optimizer


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def lr(kwargs):
    return {"lr": 0.05, **kwargs}


@kwargs_of_pytorch
def test_pytorch_s_own_inputs_give_pytorch_s_weights_and_state(kwargs):
    ours, our_optimizer = train(lambda p: SGD(p, **lr(kwargs)))
    theirs, their_optimizer = train(lambda p: torch.optim.SGD(p, **lr(kwargs)))
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-12, atol=1e-14)
    mine, other = our_optimizer.state_dict()["state"], their_optimizer.state_dict()["state"]
    assert mine.keys() == other.keys()
    for key, state in other.items():
        assert mine[key].keys() == state.keys()
        torch.testing.assert_close(mine[key], state, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "error", optim_error_inputs_func_sgd(CPU, torch.float32), ids=lambda e: e.optimizer_error_input.desc
)
def test_pytorch_s_own_error_inputs_give_its_errors(error):
    given = error.optimizer_error_input
    params = [torch.nn.Parameter(torch.randn(1))] if given.params is None else given.params
    expectation = pytest.warns if issubclass(error.error_type, Warning) else pytest.raises
    with expectation(error.error_type, match=error.error_regex):
        SGD(params, **given.kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lr": -1}, "Invalid learning rate"),
        ({"weight_decay": -1}, "Invalid weight_decay"),
        ({"nesterov": True}, "Nesterov momentum requires"),
        ({"momentum": 0.9, "dampening": 0.1, "momentum_form": "nesterov"}, "Nesterov momentum requires"),
        ({"momentum": 0.9, "nesterov": True, "momentum_form": "sutskever"}, "choose one"),
        ({"momentum_form": "polyak"}, "one of pytorch, sutskever, nesterov"),
        ({"weight_decay_form": "l2"}, "one of coupled, decoupled"),
        ({"clip_norm": 0.0}, "must be above 0"),
    ],
)
def test_our_own_error_inputs(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SGD([torch.nn.Parameter(torch.ones(1))], **kwargs)


@pytest.mark.parametrize("kwargs", [{"fused": True, "foreach": True}, {"fused": True, "differentiable": True}])
def test_implementations_that_exclude_each_other(kwargs):
    with pytest.raises(RuntimeError):
        SGD([torch.nn.Parameter(torch.ones(1))], **kwargs)


@every_kwargs
def test_stop_save_load_and_go_on_is_never_stopping_bit_for_bit(kwargs):
    whole, _ = train(lambda p: SGD(p, **lr(kwargs)), 10)
    half, optimizer = train(lambda p: SGD(p, **lr(kwargs)), 5)
    file = io.BytesIO()
    torch.save({"model": half.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    model, _, _ = model_and_data()
    model.load_state_dict(saved["model"])
    other = SGD(model.parameters(), lr=123.0)
    other.load_state_dict(saved["optimizer"])
    train(None, 5, model, other)
    assert torch.equal(weights(whole), weights(model))


@every_kwargs
def test_deepcopy_and_pickle_keep_everything(kwargs):
    _, optimizer = train(lambda p: SGD(p, **lr(kwargs)), 3)
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        for group in (*copied.param_groups, copied.defaults):
            assert group["momentum_form"] == optimizer.defaults["momentum_form"]
            assert group["clip_norm"] == optimizer.defaults["clip_norm"]
        first, second = copied.state_dict()["state"], optimizer.state_dict()["state"]
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_state_of_torch_optim_sgd_is_taken_over(nesterov):
    def theirs(p):
        return torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=nesterov)

    whole, _ = train(theirs, 10)
    model, optimizer = train(theirs, 5)
    ours = SGD(model.parameters(), lr=1.0)
    ours.load_state_dict(optimizer.state_dict())
    train(None, 5, model, ours)
    torch.testing.assert_close(weights(model), weights(whole), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("second", [{"lr": 0.2}, {"weight_decay": 0.3}, {"momentum": 0.5, "nesterov": True}], ids=str)
def test_groups_have_their_own_settings(second):
    def groups(model):
        return [{"params": model[0].parameters()}, {"params": model[2].parameters(), **second}]

    results = []
    for cls in (SGD, torch.optim.SGD):
        model, _, _ = model_and_data()
        train(None, 5, model, cls(groups(model), lr=0.05, momentum=0.9))
        results.append(weights(model))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


def test_a_group_may_have_another_form_of_momentum():
    model, _, _ = model_and_data()
    params = list(model.parameters())
    optimizer = SGD([{"params": params[:2]}, {"params": params[2:], "momentum_form": "nesterov"}], 0.05, momentum=0.9)
    train(None, 5, model, optimizer)
    other, _, _ = model_and_data()
    params = list(other.parameters())
    train(
        None, 5, other, torch.optim.SGD([{"params": params[:2]}, {"params": params[2:], "nesterov": True}], 0.05, 0.9)
    )
    torch.testing.assert_close(weights(model), weights(other), rtol=1e-12, atol=1e-14)


def test_a_closure_is_called_once_with_gradients_on_and_its_loss_comes_back():
    w = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer, calls = SGD([w], lr=0.1), []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert calls == [True]
    assert w.item() == pytest.approx(1.6)


def test_parameters_without_gradients_stay_and_late_ones_start_their_velocity_late():
    results = []
    for cls in (SGD, torch.optim.SGD):
        a, b, c = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3))
        optimizer = cls([a, b, c], lr=0.1, momentum=0.9, dampening=0.5)
        for t in range(6):
            a.grad = torch.full_like(a, t + 1.0)
            b.grad = None if t < 3 else torch.full_like(b, t + 1.0)
            optimizer.step()
        results.append(torch.stack([a, b, c]).detach())
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)
    assert torch.equal(results[0][2], torch.ones(2, dtype=torch.float64))


def test_named_parameters_are_kept_in_the_state():
    model, _, _ = model_and_data()
    optimizer = SGD(model.named_parameters(), lr=0.1)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == [name for name, _ in model.named_parameters()]


@kwargs_of_pytorch
def test_complex_parameters_step_as_pytorch_s_do(kwargs):
    results = []
    for cls in (SGD, torch.optim.SGD):
        generator = torch.Generator().manual_seed(0)
        w = torch.nn.Parameter(torch.randn(5, dtype=torch.complex128, generator=generator))
        optimizer = cls([w], **lr(kwargs))
        for _ in range(4):
            optimizer.zero_grad()
            (w * w.conj()).real.sum().backward()
            optimizer.step()
        results.append(w.detach())
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("kwargs", [{}, {"momentum": 0.9}, {"maximize": True}], ids=str)
def test_sparse_gradients_step_as_pytorch_s_do(kwargs):
    results = []
    for cls in (SGD, torch.optim.SGD):
        torch.manual_seed(0)
        table = torch.nn.Embedding(6, 3, sparse=True)
        optimizer = cls(table.parameters(), lr=0.1, **kwargs)
        for _ in range(4):
            optimizer.zero_grad()
            table(torch.tensor([1, 4, 4])).pow(2).sum().backward()
            optimizer.step()
        results.append(table.weight.detach())
    torch.testing.assert_close(*results)


def test_sutskever_with_sparse_gradients_is_refused_in_words():
    table = torch.nn.Embedding(6, 3, sparse=True)
    optimizer = SGD(table.parameters(), lr=0.1, momentum=0.9, momentum_form="sutskever")
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="momentum_form='pytorch'"):
        optimizer.step()


def test_a_differentiable_step_passes_gradients_to_its_learning_rate():
    w = torch.tensor([1.0], requires_grad=True)
    rate = torch.tensor(0.1, requires_grad=True)
    copied = w.clone()
    copied.grad = torch.tensor([3.0])
    SGD([copied], lr=rate, differentiable=True).step()
    copied.sum().backward()
    assert rate.grad is not None
    assert rate.grad.item() == -3.0


def test_clipping_is_over_all_groups_together():
    a, b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = SGD([{"params": [a]}, {"params": [b]}], lr=1.0, clip_norm=1.0)
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.step()
    torch.testing.assert_close(torch.cat([a, b]).detach(), torch.tensor([-0.6, -0.8]))


@pytest.mark.parametrize("implementation", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_decoupled_decay_is_the_same_in_every_implementation(implementation):
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "weight_decay_form": "decoupled"}
    expected, _ = train(lambda p: SGD(p, **options))
    model, _ = train(lambda p: SGD(p, **options, **implementation))
    torch.testing.assert_close(weights(model), weights(expected), rtol=1e-12, atol=1e-14)


def test_hooks_run_around_the_step():
    w, seen = torch.nn.Parameter(torch.ones(1)), []
    optimizer = SGD([w], lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    w.grad = torch.ones(1)
    optimizer.step()
    assert seen == ["before", "after"]


@pytest.mark.parametrize("implementation", [{}, {"fused": True}], ids=str)
def test_a_gradient_scaler_skips_the_step_on_inf_and_unscales_otherwise(implementation):
    w = torch.nn.Parameter(torch.ones(1))
    optimizer = SGD([w], lr=0.5, **implementation)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor, expected in ((1.0, 0.5), (float("inf"), 0.5)):
        optimizer.zero_grad()
        scaler.scale((w * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert w.item() == expected


@pytest.mark.parametrize("unscaled_first", [True, False], ids=["after unscale_", "without unscale_"])
@pytest.mark.parametrize("implementation", [{}, {"fused": True}, {"foreach": True}], ids=str)
@pytest.mark.parametrize(
    "kwargs",
    [{"clip_norm": 0.5}, {"clip_norm": 0.5, "momentum": 0.9, "weight_decay": 0.1, "weight_decay_form": "decoupled"}],
    ids=["clipped", "decoupled"],
)
def test_a_scaled_gradient_steps_as_it_would_without_the_scale(kwargs, implementation, unscaled_first):
    expected, _ = train(lambda p: SGD(p, lr=0.05, **kwargs))
    model, x, y = model_and_data()
    optimizer, scaler = SGD(model.parameters(), lr=0.05, **kwargs, **implementation), torch.amp.GradScaler("cpu")
    for overflow in (True, *[False] * 7):  # the first update is skipped: it may leave no trace
        optimizer.zero_grad()
        scaler.scale(torch.nn.functional.mse_loss(model(x), y)).backward()
        if overflow:
            model[0].bias.grad.fill_(float("inf"))
        if unscaled_first:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    torch.testing.assert_close(weights(model), weights(expected), rtol=1e-6, atol=1e-8)


def test_sparse_gradients_are_clipped_as_dense_ones_are():
    results = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = torch.nn.Embedding(6, 3, sparse=sparse)
        optimizer = SGD([*table.parameters(), other := torch.nn.Parameter(torch.ones(2))], lr=0.1, clip_norm=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            (table(torch.tensor([1, 4, 4])).pow(2).sum() + other.sum()).backward()
            optimizer.step()
        results.append(torch.cat([table.weight.detach().flatten(), other.detach()]))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("size", [0.3, 3.0, 0.0])
def test_a_differentiable_step_differentiates_the_clipping_too(size):
    def moved(scale):
        w = torch.zeros(2, dtype=torch.float64, requires_grad=True).clone()
        w.grad = scale * torch.tensor([0.6, 0.8], dtype=torch.float64)
        SGD([w], lr=0.1, differentiable=True, clip_norm=1.0).step()
        return w

    assert torch.autograd.gradcheck(moved, torch.tensor(size, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"weight_decay_form": "decopled"}, "one of coupled, decoupled"),
        ({"momentum_form": "heavy-ball"}, "one of pytorch, sutskever, nesterov"),
        ({"clip_norm": float("nan")}, "must be above 0"),
        ({"lr": float("nan")}, "Invalid learning rate"),
        ({"momentum": torch.ones(2)}, "1-element"),
    ],
)
def test_a_group_s_settings_are_checked_like_the_optimizer_s(group, message):
    w = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=message):
        SGD([{"params": [w], **group}], lr=0.1)
    optimizer = SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [w], **group})


@pytest.mark.parametrize(
    ("everywhere", "group", "form"),
    [
        ({"nesterov": True}, {"momentum_form": "sutskever"}, "sutskever"),
        ({"momentum_form": "nesterov"}, {"nesterov": False}, "pytorch"),
        ({"momentum_form": "nesterov"}, {}, "nesterov"),
        ({"nesterov": True}, {"momentum": 0.0}, "nesterov"),
    ],
)
def test_what_a_group_says_of_its_momentum_counts(everywhere, group, form):
    results = []
    for settings in ({**everywhere}, {"momentum_form": form}):
        model, _, _ = model_and_data()
        rest = group if not results else {"momentum": group.get("momentum", 0.9)}
        optimizer = SGD([{"params": model.parameters(), **rest}], lr=0.05, momentum=0.9, **settings)
        for rate in (0.05, 0.02):  # the forms differ where the rate changes
            optimizer.param_groups[0]["lr"] = rate
            train(None, 2, model, optimizer)
        results.append(weights(model))
    assert torch.equal(*results)


def test_a_state_of_torch_optim_sgd_leaves_clipping_and_the_decay_s_form_as_they_are():
    _, theirs = train(lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1), 2)
    model, _, _ = model_and_data()
    ours = SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay_form="decoupled", clip_norm=0.5)
    ours.load_state_dict(theirs.state_dict())
    group = ours.param_groups[0]
    assert (group["weight_decay_form"], group["clip_norm"], group["lr"]) == ("decoupled", 0.5, 0.05)
    other = SGD(model.parameters(), lr=1.0, momentum=0.9, momentum_form="sutskever")
    with pytest.raises(ValueError, match="without the learning rate"):
        other.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("name", ["momentum", "weight_decay", "dampening", "lr"])
@pytest.mark.parametrize("implementation", [{}, {"fused": True}, {"foreach": True}], ids=str)
def test_a_setting_may_be_a_tensor_of_one_element(name, implementation):
    values = {"lr": 0.25, "momentum": 0.5, "weight_decay": 0.125, "dampening": 0.25}
    expected, _ = train(lambda p: SGD(p, **values))
    model, _ = train(lambda p: SGD(p, **{**values, name: torch.tensor(values[name])}, **implementation))
    torch.testing.assert_close(weights(model), weights(expected), rtol=1e-12, atol=1e-14)


def test_fused_on_meta_parameters_is_refused_and_other_implementations_step():
    for kwargs in ({"fused": True}, {}):
        w = torch.nn.Parameter(torch.ones(2, device="meta"))
        w.grad = torch.ones(2, device="meta")
        if kwargs:
            with pytest.raises(RuntimeError, match="requires all the params to be floating point"):
                SGD([w], **kwargs).step()
        else:
            SGD([w], lr=0.1, momentum=0.9, clip_norm=1.0).step()


def test_fused_with_a_gradient_of_another_layout_is_right():
    w = torch.nn.Parameter(torch.zeros(2, 3, 4, 5))
    w.grad = torch.arange(120.0).reshape(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    SGD([w], lr=1.0, fused=True).step()
    assert torch.equal(w.detach(), -w.grad)
