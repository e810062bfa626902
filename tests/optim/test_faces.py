"""surefoot.Adam, AdamW, RMSProp, Muon and SGD as PyTorch optimizers: what PyTorch's suite asks of each one, and more.

Inputs, error inputs and schedulers are those of `torch.testing._internal.common_optimizers`, which PyTorch's suite runs
on its own. What only SGD has is in `test_optimizer.py`.
"""

import copy
import inspect
import io
import itertools
import pickle

import pytest
import torch
from torch.nn import Parameter
from torch.optim import lr_scheduler
from torch.testing._internal.common_optimizers import optim_db

import surefoot
from surefoot.errors import ConfigError
from surefoot.optim.kernels import KERNELS
from surefoot.rules import update_rule

CPU = torch.device("cpu")
TWINS = {
    surefoot.SGD: torch.optim.SGD, surefoot.Adam: torch.optim.Adam, surefoot.AdamW: torch.optim.AdamW,
    surefoot.RMSProp: torch.optim.RMSprop,
}  # fmt: skip
BY_RULE = [face for face in TWINS if face is not surefoot.SGD]
FACES = {**TWINS, surefoot.Muon: torch.optim.Muon}
"""With the one whose twin takes matrices alone: it is compared with it at the end of this file."""
INFO = {face: next(info for info in optim_db if info.optim_cls is twin) for face, twin in FACES.items()}
MORE = {
    surefoot.SGD: [{"momentum": 0.9, "momentum_form": "sutskever", "clip_norm": 1.0}],
    surefoot.Adam: [{"betas": (0.8, 0.95)}, {"eps": 1e-3, "weight_decay": 0.1}],
    surefoot.AdamW: [{"betas": (0.8, 0.95)}, {"eps": 1e-3, "weight_decay": 0.0}],
    surefoot.RMSProp: [{"alpha": 0.9}, {"momentum": 0.9, "weight_decay": 0.1}],
    surefoot.Muon: [{"momentum": 0.0, "adjust_lr_fn": "original"}, {"weight_decay": 0.0, "clip_norm": 1.0}],
}
"""Options beside those of PyTorch's inputs."""


def lacks(face, kwargs):
    """Whether a face refuses these options."""
    lacking = ("maximize", "amsgrad", "centered", "ns_steps", "ns_coefficients")
    return face is not surefoot.SGD and any(kwargs.get(name) for name in lacking)


def inputs(*faces, implementations=({},)):
    """Every face with each of its inputs, as parameters of a test."""
    found = []
    for face in faces or FACES:
        named = [(each.desc, each.kwargs) for each in INFO[face].optim_inputs_func(CPU)]
        named += [(", ".join(more), more) for more in MORE[face]]
        if face is not surefoot.SGD:
            named.append(("Tensor lr", {"lr": torch.tensor(0.01)}))
        for (name, kwargs), how in itertools.product(named, implementations):
            if not lacks(face, kwargs) and not (how and "momentum_form" in kwargs):
                found.append(pytest.param(face, kwargs | how, id=f"{face.__name__}: {name} {how or ''}"))
    return pytest.mark.parametrize(("face", "kwargs"), found)


each_face = pytest.mark.parametrize("face", list(TWINS), ids=lambda face: face.__name__)
each_rule_face = pytest.mark.parametrize("face", BY_RULE, ids=lambda face: face.__name__)
each_rule_face_and_muon = pytest.mark.parametrize("face", [*BY_RULE, surefoot.Muon], ids=lambda face: face.__name__)


def weights(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 2), (4,), (), (2, 2, 2, 2))]
    made[3] = made[3].contiguous(memory_format=torch.channels_last)
    return [Parameter(each.to(dtype)) for each in made]


def give_gradients(params, step):
    generator = torch.Generator().manual_seed(1000 + step)
    for i, p in enumerate(params):
        grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        p.grad = None if (i == 1 and (step < 2 or step % 7 == 3)) else grad


def walk(optimizer, params, steps, start=0, rate=None):
    """Give gradients and step; the second weight's first gradient comes late, and some are missing."""
    for step in range(start, start + steps):
        give_gradients(params, step)
        if rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = rate / (1 + step / 100)
        optimizer.step()
    return [p.detach() for p in params]


def together(params):
    """Return all values in one row."""
    return torch.cat([p.detach().flatten() for p in params])


def without_names(state):
    return [{name: value for name, value in group.items() if name != "param_names"} for group in state["param_groups"]]


# What PyTorch's suite asks


@pytest.mark.parametrize(
    ("face", "error"),
    [
        pytest.param(face, error, id=f"{face.__name__}: {error.optimizer_error_input.desc}")
        for face in TWINS
        for error in INFO[face].optim_error_inputs_func(CPU, torch.float32)
        # Read as numbers, tensors need no such care.
        if "foreach" not in error.error_regex and "both Tensors" not in error.error_regex
    ],
)
def test_pytorch_s_error_inputs_give_its_errors(face, error):
    given = error.optimizer_error_input
    params = [Parameter(torch.randn(1))] if given.params is None else given.params
    expectation = pytest.warns if issubclass(error.error_type, Warning) else pytest.raises
    with expectation(error.error_type, match=error.error_regex):
        face(params, **given.kwargs)


@inputs(implementations=({}, {"foreach": True}, {"fused": True}, {"foreach": False}))
@pytest.mark.parametrize("contiguous", [True, False], ids=["contiguous", "strided"])
def test_a_loop_goes_in_the_right_direction(face, kwargs, contiguous):
    generator = torch.Generator().manual_seed(0)
    if contiguous:
        weight, bias = (torch.randn(shape, generator=generator) for shape in ((10, 5), (10,)))
    else:
        weight, bias = (torch.randn(shape, generator=generator)[..., 0] for shape in ((10, 5, 2), (10, 2)))
    weight, bias, x = Parameter(weight), Parameter(bias), torch.randn(5, generator=generator)
    optimizer = face([weight, bias], **kwargs)

    def closure():
        optimizer.zero_grad()
        loss = (weight.mv(x) + bias).pow(2).sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(20)]
    rising = kwargs.get("maximize", False)
    assert losses[-1] > losses[0] if rising else losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("face", "number"),
    [(face, i) for face in TWINS for i in range(len(INFO[face].scheduler_inputs))],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("rate", [0.01, torch.tensor(0.01, dtype=torch.float64)], ids=["number", "tensor"])
def test_pytorch_s_schedulers_drive_a_face_as_its_twin(face, number, rate):
    rows = []
    for cls in (face, TWINS[face]):
        params = weights()
        optimizer = cls([{"params": params[:2]}, {"params": params[2:], "lr": 0.003}], lr=copy.deepcopy(rate))
        schedulers = [make(optimizer) for make in INFO[face].scheduler_inputs[number]]
        for step in range(30):
            walk(optimizer, params, 1, step)
            for scheduler in schedulers:
                loss = (float(step % 5),) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else ()
                scheduler.step(*loss)
        rows.append([together(params), torch.tensor([float(group["lr"]) for group in optimizer.param_groups])])
    torch.testing.assert_close(*rows, rtol=1e-9, atol=1e-12)


@inputs()
def test_a_rate_as_a_tensor_is_a_rate_as_a_number(face, kwargs):
    rate = float(kwargs.get("lr", 0.01))
    params, others = weights(), weights()
    walk(face(params, **{**kwargs, "lr": torch.tensor(rate, dtype=torch.float64)}), params, 10)
    walk(face(others, **{**kwargs, "lr": rate}), others, 10)
    torch.testing.assert_close(together(params), together(others), rtol=1e-12, atol=1e-14)


@inputs()
def test_a_group_s_rate_and_decay_count_for_it_alone(face, kwargs):
    kwargs = {name: value for name, value in kwargs.items() if name != "clip_norm"}  # which is over all groups
    p, q, alone = (Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(3))
    for each in (p, q, alone):
        each.grad = torch.full_like(each, 0.5)
    face([{"params": [p]}, {"params": [q], "lr": 1e-28, "weight_decay": 0.0}], **kwargs).step()
    face([alone], **kwargs).step()
    assert torch.equal(p, alone)
    assert not torch.equal(p, torch.ones_like(p))
    torch.testing.assert_close(q, torch.ones_like(q))


@inputs()
def test_without_gradients_a_step_does_nothing_but_call_the_closure(face, kwargs):
    params = [torch.randn(2, 3), Parameter(torch.randn(2))]
    before = copy.deepcopy(params)
    optimizer = face(params, **kwargs)
    assert optimizer.step(lambda: torch.tensor(1.0)).item() == 1.0
    assert all(torch.equal(a, b) for a, b in zip(params, before, strict=True))
    assert optimizer.state_dict()["state"] == {}


@inputs()
def test_gradients_of_zero_without_decay_move_nothing(face, kwargs):
    p = Parameter(torch.randn(5, 1))
    before, p.grad = p.detach().clone(), torch.zeros_like(p)
    face([p], **{**kwargs, "weight_decay": 0.0}).step()
    assert torch.equal(p, before)


@inputs()
@pytest.mark.parametrize("named", list(itertools.product((False, True), repeat=2)), ids=str)
def test_a_state_goes_to_another_of_the_same_kind_and_both_go_on_alike(face, kwargs, named):
    def optimizer_of(params, with_names):
        return face([(f"w{i}", p) for i, p in enumerate(params)] if with_names else params, **kwargs)

    params = weights()
    first = optimizer_of(params, named[0])
    walk(first, params, 5)
    others = copy.deepcopy(params)
    second = optimizer_of(others, named[1])
    given = copy.deepcopy(first.state_dict())
    second.load_state_dict(given)
    names = second.state_dict()["param_groups"][0].get("param_names")
    assert names == (["w0", "w1", "w2", "w3"] if any(named) else None)
    walk(first, params, 5, 5), walk(second, others, 5, 5)
    assert torch.equal(together(params), together(others))
    one, other = first.state_dict(), second.state_dict()
    torch.testing.assert_close(one["state"], other["state"], rtol=0, atol=0)
    assert without_names(one) == without_names(other)
    second.param_groups.extend(second.param_groups)  # a weight that stands twice has one number
    assert without_names(one)[-1] == without_names(second.state_dict())[-1]


@inputs()
def test_a_state_of_an_older_version_lacks_options_and_has_a_count_without_tensor(face, kwargs):
    params = weights()
    optimizer = face(params, **kwargs)
    walk(optimizer, params, 5)
    others = copy.deepcopy(params)
    older = copy.deepcopy(optimizer.state_dict())
    for group in older["param_groups"]:
        for name in ("foreach", "maximize", "differentiable", "capturable", "fused"):
            group.pop(name, None)
    for state in older["state"].values():
        if "step" in state:
            state["step"] = state["step"].item()
    second = face(others, **kwargs)
    second.load_state_dict(older)
    second.param_groups[0]["maximize"] = kwargs.get("maximize", False)
    assert torch.equal(together(walk(optimizer, params, 5, 5)), together(walk(second, others, 5, 5)))


@inputs()
def test_a_state_is_saved_and_loaded_with_weights_only(face, kwargs):
    params = weights()
    optimizer = face(params, **kwargs)
    walk(optimizer, params, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    torch.testing.assert_close(loaded["state"], optimizer.state_dict()["state"], rtol=0, atol=0)
    assert str(loaded["param_groups"]) == str(optimizer.state_dict()["param_groups"])


@inputs()
def test_copies_have_all_attributes_and_go_on_alike(face, kwargs):
    params = weights()
    optimizer = face(params, **kwargs)
    walk(optimizer, params, 3)
    assert face.__name__ in repr(optimizer)
    public = {name for name in vars(optimizer) if not name.startswith("_")}
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert {name for name in vars(copied) if not name.startswith("_")} == public
        assert str(copied.defaults) == str(optimizer.defaults)
        theirs = copied.param_groups[0]["params"]
        mine = copy.deepcopy(params)
        twin = face(mine, **kwargs)
        twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert torch.equal(together(walk(copied, theirs, 4, 3)), together(walk(twin, mine, 4, 3)))


@inputs()
def test_a_step_leaves_a_state_and_a_gradient_as_they_should_be(face, kwargs):
    params = weights()
    optimizer = face(params, **kwargs)
    give_gradients(params, 5)
    grads = [p.grad.clone() for p in params]
    optimizer.step()
    clipped = kwargs.get("clip_norm") is not None
    assert clipped or all(torch.equal(p.grad, grad) for p, grad in zip(params, grads, strict=True))
    if face is not surefoot.SGD or kwargs.get("momentum"):
        assert all(optimizer.state[p] for p in params)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


@each_face
def test_hooks_of_the_step_and_of_the_state_run(face):
    p, seen = Parameter(torch.ones(1)), []
    optimizer = face([p], lr=0.1)
    handles = [
        optimizer.register_step_pre_hook(lambda *_: seen.append("before")),
        optimizer.register_step_post_hook(lambda *_: seen.append("after")),
    ]
    p.grad = torch.ones(1)
    optimizer.step()
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert seen == ["before", "after"]

    def first(one):
        one.state["test"] = 1

    def last(one, state):
        state["seen"] = state["state"].pop("test")

    optimizer.register_state_dict_pre_hook(first)
    removed = optimizer.register_state_dict_post_hook(last)
    assert optimizer.state_dict()["seen"] == 1
    removed.remove()

    def slower(one, state):
        state = copy.deepcopy(state)
        state["param_groups"][0]["lr"] = 0.003
        return state

    def loaded(one):
        one.state["loaded"] = one.param_groups[0]["lr"] == 0.003

    optimizer.register_load_state_dict_pre_hook(slower)
    optimizer.register_load_state_dict_post_hook(loaded)
    optimizer.load_state_dict(optimizer.state_dict())  # with what a hook put beside the weights
    assert optimizer.state["loaded"]
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()


@each_face
def test_weights_of_several_precisions_are_moved_as_by_its_twin(face):
    rows = []
    for cls in (face, TWINS[face]):
        params = [Parameter(w.to(kind)) for w, kind in zip(
            weights(), (torch.float32, torch.float64, torch.float32, torch.bfloat16), strict=True)]  # fmt: skip
        walk(cls(params, lr=0.01), params, 5)
        rows.append(params)
    for a, b in zip(*rows, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b)


# 500 steps in every option


OPTIONS = {
    surefoot.Adam: {
        "betas": ((0.0, 0.999), (0.9, 0.95), (0.9, 0.0)), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1),
    },
    surefoot.RMSProp: {"alpha": (0.0, 0.99), "momentum": (0.0, 0.9), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1)},
}  # fmt: skip
OPTIONS[surefoot.AdamW] = OPTIONS[surefoot.Adam]
EVERY = [
    pytest.param(face, kwargs, id=f"{face.__name__} {kwargs}")
    for face, options in OPTIONS.items()
    for kwargs in (dict(zip(options, values, strict=True)) for values in itertools.product(*options.values()))
]


@pytest.mark.parametrize(("face", "kwargs"), EVERY)
def test_500_steps_are_those_of_torch_optim_with_its_state_and_groups(face, kwargs):
    def run(cls, dtype, steps):
        params = weights(dtype)
        groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.3, "eps": 1e-4}]
        optimizer = cls(groups, lr=0.01, **kwargs)
        walk(optimizer, params, steps, rate=0.01)
        return params, optimizer.state_dict()["state"]

    for dtype, steps, most in ((torch.float64, 500, 1e-9), (torch.float32, 50, 1e-6)):
        ours, theirs = run(face, dtype, steps), run(TWINS[face], dtype, steps)
        torch.testing.assert_close(together(ours[0]), together(theirs[0]), rtol=most, atol=most)
        assert ours[1].keys() == theirs[1].keys()
        for key, state in theirs[1].items():
            assert ours[1][key].keys() == state.keys()
            torch.testing.assert_close(ours[1][key], state, rtol=most, atol=most)


@pytest.mark.parametrize(("face", "kwargs"), EVERY)
@pytest.mark.parametrize("to_torch", [True, False], ids=["to torch", "from torch"])
def test_a_state_goes_to_and_from_torch_optim(face, kwargs, to_torch):
    first, second = (face, TWINS[face]) if to_torch else (TWINS[face], face)
    params = weights()
    optimizer = first(params, lr=0.01, **kwargs)
    walk(optimizer, params, 6)
    others = copy.deepcopy(params)
    taken = second(others, lr=123.0)
    taken.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    walk(optimizer, params, 6, 6), walk(taken, others, 6, 6)
    torch.testing.assert_close(together(params), together(others), rtol=1e-9, atol=1e-12)


@each_rule_face_and_muon
def test_the_formula_does_what_the_kernel_does(face, monkeypatch):
    rows = []
    for _ in range(2):
        params = weights()
        walk(face(params, lr=0.01, weight_decay=0.1, clip_norm=1.0), params, 30)
        rows.append(together(params))
        monkeypatch.delitem(KERNELS, face.rule, raising=False)
    torch.testing.assert_close(*rows, rtol=1e-6, atol=1e-7)


# What is ours


@each_rule_face_and_muon
def test_what_is_left_out_is_the_rule_s_default(face):
    defaults = {name: each.default for name, each in inspect.signature(face).parameters.items()}
    beta1, beta2 = defaults.pop("betas", (None, None))
    wanted = update_rule(face.rule).defaults
    assert {name: defaults.get(name, {"beta1": beta1, "beta2": beta2}.get(name)) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("face", "kwargs", "message"),
    [
        (surefoot.AdamW, {"maximize": True}, "take the negative of the loss, or use torch.optim.AdamW"),
        (surefoot.Adam, {"amsgrad": True}, "leave amsgrad out, or use torch.optim.Adam"),
        (surefoot.RMSProp, {"centered": True}, "leave centered out, or use torch.optim.RMSprop"),
        (surefoot.RMSProp, {"maximize": True}, "the negative of the loss"),
        (surefoot.AdamW, {"differentiable": True}, "has differentiable = False alone"),
        (surefoot.AdamW, {"capturable": True}, "has capturable = False alone"),
        (surefoot.Adam, {"decoupled_weight_decay": True}, "take the other of surefoot.Adam and AdamW"),
        (surefoot.AdamW, {"momentum": 0.9}, "it is no setting of surefoot.AdamW"),
        (surefoot.RMSProp, {"betas": (0.9, 0.99)}, "it is no setting of surefoot.RMSProp"),
        (surefoot.AdamW, {"weight_decy": 0.1}, "did you mean 'weight_decay'"),
        (surefoot.Muon, {"nesterov": False}, "leave nesterov out, or use torch.optim.Muon"),
        (surefoot.Muon, {"ns_steps": 3}, "has ns_steps = 5 alone"),
        (surefoot.Muon, {"adjust_lr_fn": "match_rms_adamw"}, "has adjust_lr_fn = original alone"),
        (surefoot.Muon, {"momentum": 1.0}, "momentum = 1.0 of muon: it is the weight of a mean, below 1"),
    ],
)
def test_an_option_that_the_rule_does_not_have_is_refused(face, kwargs, message):
    p = Parameter(torch.ones(1))
    with pytest.raises(ConfigError, match=f"(?i){message}"):
        face([p], **kwargs)
    optimizer = face([Parameter(torch.ones(1))])
    if "is no setting" not in message and "mean" not in message:  # PyTorch's groups may have words of anybody's
        with pytest.raises(ConfigError, match=f"(?i){message}"):
            optimizer.add_param_group({"params": [p], **kwargs})


@pytest.mark.parametrize(
    ("face", "kwargs", "message"),
    [
        (surefoot.Adam, {"lr": -1}, "Invalid learning rate: -1. It must be at least 0"),
        (surefoot.AdamW, {"lr": float("nan")}, "Invalid learning rate: nan"),
        (surefoot.AdamW, {"lr": "0.1"}, "Invalid learning rate: '0.1'"),
        (surefoot.AdamW, {"lr": [0.1]}, "Invalid learning rate: "),
        (surefoot.SGD, {"momentum": "0.9"}, "Invalid momentum value: '0.9'"),
        (surefoot.SGD, {"dampening": None}, "Invalid dampening value: None. It must be a number"),
        (surefoot.Adam, {"clip_norm": "1"}, "Invalid clip_norm value: '1'"),
        (surefoot.Adam, {"weight_decay": 1j}, "Invalid weight_decay value: 1j"),
        (surefoot.AdamW, {"lr": None}, "Invalid learning rate: None"),
        (surefoot.AdamW, {"betas": (0.9, 1.0)}, "index 1: 1.0. It must be at least 0 and below 1"),
        (surefoot.AdamW, {"betas": (torch.ones(2), 0.9)}, "Tensor beta1 must be 1-element"),
        (surefoot.AdamW, {"betas": 0.9}, "They must be two numbers"),
        (surefoot.Adam, {"betas": (0.9,)}, "They must be two numbers"),
        (surefoot.Adam, {"eps": -1e-8}, "Invalid epsilon value"),
        (surefoot.RMSProp, {"alpha": 1.0}, "Invalid alpha value: 1.0. It must be at least 0 and below 1"),
        (surefoot.RMSProp, {"weight_decay": -1}, "Invalid weight_decay value"),
        (surefoot.RMSProp, {"clip_norm": 0.0}, "must be above 0"),
    ],
)
def test_a_value_out_of_its_range_is_refused_here_and_in_a_group(face, kwargs, message):
    p = Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=message):
        face([p], **kwargs)
    with pytest.raises(ValueError, match=message):
        face([{"params": [p], **kwargs}])
    optimizer = face([Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [p], **kwargs})
    assert len(optimizer.param_groups) == 1


@each_rule_face_and_muon
@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_sparse_and_complex_gradients_are_refused_in_one_sentence_and_nothing_is_moved(face, kind):
    first = Parameter(torch.ones(2))
    first.grad = torch.ones(2)
    other = Parameter(torch.ones(6, 3, dtype=torch.complex64 if kind == "complex" else torch.float32))
    other.grad = torch.ones_like(other) if kind == "complex" else torch.eye(6, 3).to_sparse()
    optimizer = face([{"params": [first]}, {"params": [other]}], lr=0.1)
    with pytest.raises(ConfigError, match=rf"a {kind} gradient of a weight of shape \[6, 3\]: .*Use surefoot.SGD"):
        optimizer.step()
    assert torch.equal(first, torch.ones(2))
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize(
    ("face", "saved_by", "message"),
    [
        (
            surefoot.AdamW,
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
            "without betas, eps, exp_avg, exp_avg_sq, step: ",
        ),
        (surefoot.AdamW, lambda p: torch.optim.RMSprop(p), "without betas"),
        (surefoot.Adam, lambda p: torch.optim.Adamax(p), "without exp_avg_sq"),
        (surefoot.RMSProp, lambda p: torch.optim.Adam(p), "without alpha, momentum, square_avg"),
        (surefoot.Adam, lambda p: torch.optim.Adam(p, amsgrad=True), "amsgrad = True"),
        (surefoot.AdamW, lambda p: torch.optim.AdamW(p, maximize=True), "maximize = True"),
        (surefoot.Adam, lambda p: torch.optim.AdamW(p), "the other of surefoot.Adam and AdamW"),
        (surefoot.AdamW, surefoot.Adam, "the other of surefoot.Adam and AdamW"),
        (surefoot.RMSProp, lambda p: torch.optim.RMSprop(p, centered=True), "centered = True"),
        (surefoot.SGD, lambda p: torch.optim.AdamW(p), "without momentum, dampening"),
        (surefoot.Muon, lambda p: torch.optim.AdamW(p), "without momentum, momentum_buffer"),
    ],
)
def test_another_optimizer_s_state_is_refused_and_nothing_is_changed(face, saved_by, message):
    params = weights()
    other = saved_by(params)
    walk(other, params, 3)
    mine = weights()
    optimizer = face(mine, lr=0.01)
    walk(optimizer, mine, 3)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ConfigError, match=message):
        optimizer.load_state_dict(other.state_dict())
    torch.testing.assert_close(optimizer.state_dict()["state"], before["state"], rtol=0, atol=0)
    assert str(optimizer.state_dict()["param_groups"]) == str(before["param_groups"])
    walk(optimizer, mine, 1, 3)


@each_face
def test_the_gradients_are_clipped_over_all_groups_together(face):
    rows = []
    for ours in (True, False):
        params = weights()
        groups = [{"params": params[:2]}, {"params": params[2:]}]
        optimizer = face(groups, lr=0.01, clip_norm=0.5) if ours else TWINS[face](groups, lr=0.01)
        for step in range(5):
            give_gradients(params, step)
            if not ours:
                torch.nn.utils.clip_grad_norm_(params, 0.5)
            optimizer.step()
        rows.append(together(params))
    torch.testing.assert_close(*rows, rtol=1e-5, atol=1e-7)  # PyTorch adds 1e-6 to the norm


@each_rule_face
def test_clipping_stays_where_a_state_of_torch_optim_says_nothing_of_it(face):
    params = weights()
    theirs = TWINS[face](params, lr=0.01)
    walk(theirs, params, 2)
    optimizer = face(params, clip_norm=0.5)
    optimizer.load_state_dict(theirs.state_dict())
    assert (optimizer.param_groups[0]["clip_norm"], optimizer.param_groups[0]["lr"]) == (0.5, 0.01)


@each_face
def test_a_gradient_scaler_skips_what_overflowed_and_unscales_the_rest(face):
    x, rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), []
    for scaled in (True, False):
        w = Parameter(torch.ones(3))
        optimizer, scaler = face([w], lr=0.01, clip_norm=0.5), torch.amp.GradScaler("cpu", enabled=scaled)
        for overflow in (*[True] * scaled, *[False] * 5):
            optimizer.zero_grad()
            scaler.scale((x @ w).pow(2).mean()).backward()
            if overflow:
                w.grad.fill_(float("inf"))
            scaler.step(optimizer)
            scaler.update()
        rows.append(w.detach())
    torch.testing.assert_close(*rows)


@each_rule_face
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
def test_the_count_of_updates_does_not_stop_where_another_precision_is_the_default(face, default):
    rows = []
    before = torch.get_default_dtype()
    for kind in (torch.float32, default):
        torch.set_default_dtype(kind)
        try:
            w = Parameter(torch.ones(3, dtype=torch.float32))
            optimizer = face([w], lr=1e-3)
            for _ in range(300):  # bfloat16 counts to 256
                w.grad = torch.ones_like(w)
                optimizer.step()
        finally:
            torch.set_default_dtype(before)
        rows.append(w.detach())
        assert optimizer.state[w]["step"].item() == 300
    assert torch.equal(*rows)


def test_momentum_that_begins_later_begins_with_a_velocity_of_zero():
    rows = []
    for fresh in (True, False):
        w = Parameter(torch.ones(2))
        optimizer = surefoot.RMSProp([w], lr=0.01)
        for step in range(5):
            w.grad = torch.ones(2)
            if step == 3:
                optimizer.param_groups[0]["momentum"] = 0.9
                if fresh:
                    optimizer.state[w]["momentum_buffer"] = torch.zeros(2)
            optimizer.step()
        rows.append(w.detach())
    assert torch.equal(*rows)


@each_face
def test_a_schedule_of_ours_sets_the_rate_of_each_group(face):
    params = weights()
    optimizer = face([{"params": params[:2]}, {"params": params[2:], "lr": 0.1}], lr=0.01)
    scheduler = surefoot.lr_scheduler(optimizer, "bert", steps=100)
    rates = []
    for step in range(12):
        walk(optimizer, params, 1, step)
        scheduler.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates[11][0] != rates[0][0]
    assert all(second == pytest.approx(10 * first) for first, second in rates)


@each_rule_face
def test_one_cycle_cycles_the_momentum_too(face):
    rows = []
    for cls in (face, TWINS[face]):
        params = weights()
        optimizer = cls(params, lr=0.01, **({"momentum": 0.9} if face is surefoot.RMSProp else {}))
        scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=12)
        for step in range(10):
            walk(optimizer, params, 1, step)
            scheduler.step()
        rows.append(together(params))
    torch.testing.assert_close(*rows, rtol=1e-9, atol=1e-12)


# Muon, whose twin takes matrices alone


@pytest.fixture
def exact(monkeypatch):
    """PyTorch's Muon computes in bfloat16 whatever the weights are; without that the two are one to the last digits."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


def matrices(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = ((6, 3), (3, 6), (3, 6), (5, 5))
    return [Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in shapes]


@pytest.mark.parametrize("kwargs", [{}, {"momentum": 0.6, "weight_decay": 0.0}], ids=str)
def test_500_steps_of_muon_are_torch_s_with_its_state_and_groups(kwargs, exact):
    def run(cls):
        params = matrices()
        groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.3, "lr": 0.003}]
        optimizer = cls(groups, lr=0.01, **kwargs)
        walk(optimizer, params, 500)
        return together(params), optimizer.state_dict()["state"]

    ours, theirs = run(surefoot.Muon), run(torch.optim.Muon)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("to_torch", [True, False], ids=["to torch", "from torch"])
def test_muon_s_state_goes_to_and_from_torch_optim(to_torch, exact):
    first, second = (surefoot.Muon, torch.optim.Muon) if to_torch else (torch.optim.Muon, surefoot.Muon)
    params = matrices()
    optimizer = first(params, lr=0.01, momentum=0.9)
    walk(optimizer, params, 6)
    others = copy.deepcopy(params)
    taken = second(others, lr=123.0)
    taken.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    walk(optimizer, params, 6, 6), walk(taken, others, 6, 6)
    torch.testing.assert_close(together(params), together(others), rtol=1e-9, atol=1e-12)


def test_pytorch_s_schedulers_drive_muon_as_its_twin(exact):
    rows = []
    for cls in (surefoot.Muon, torch.optim.Muon):
        params = matrices()
        optimizer = cls(params, lr=0.01)
        scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=12)
        for step in range(10):
            walk(optimizer, params, 1, step)
            scheduler.step()
        rows.append(together(params))
    torch.testing.assert_close(*rows, rtol=1e-9, atol=1e-12)
