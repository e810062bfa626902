"""Every rule against torch.optim for 500 updates in every option that a recipe has, and against its own formula."""

import itertools

import pytest
import torch

from surefoot.config import Recipe
from surefoot.optim.kernels import KERNELS, update_
from surefoot.rules import update_rules
from surefoot.rules.groups import Factors

TORCH = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
OPTIONS = {
    "sgd": {
        "momentum": (0.0, 0.9), "momentum_form": ("pytorch", "nesterov"), "dampening": (0.0, 0.3),
        "weight_decay": (0.0, 0.01),
    },
    "adam": {"beta1": (0.0, 0.9), "beta2": (0.0, 0.95, 0.999), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1)},
    "rmsprop": {
        "alpha": (0.0, 0.99), "momentum": (0.0, 0.9), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1),
    },
}  # fmt: skip
OPTIONS["adamw"] = OPTIONS["adam"]


FACTORS = (Factors(), Factors(4.0, 0.0), Factors(1.0, 0.0), Factors(0.5, 3.0))
"""Of rate and weight decay of each weight: torch's parameter groups."""


def recipes(name):
    for values in itertools.product(*OPTIONS[name].values()):
        options = dict(zip(OPTIONS[name], values, strict=True))
        if options.get("momentum_form") == "nesterov" and (not options["momentum"] or options["dampening"]):
            continue
        yield Recipe(rule=name, lr=0.01, **options)


def of_torch(recipe, params):
    """torch.optim's own optimizer in the words of a recipe, each weight in a group of its own."""
    words = {name: value for name, value in recipe.rule_values.items() if name not in ("momentum_form", "weight_decay")}
    words.pop("weight_decay_form", None)
    if recipe.momentum_form == "nesterov":
        words["nesterov"] = True
    if recipe.beta1 is not None:
        words["betas"] = (words.pop("beta1"), words.pop("beta2"))
    groups = [
        {"params": [w], "weight_decay": recipe.weight_decay * factor.weight_decay}
        for w, factor in zip(params, FACTORS, strict=True)
    ]
    return TORCH[recipe.rule](groups, **words)


def weights(dtype, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in ((3, 2, 2, 2), (4,), (), (2, 3))]
    made[0] = made[0].contiguous(memory_format=layout)
    return made


def gradients(step, dtype):
    generator = torch.Generator().manual_seed(1000 + step)
    grads = [torch.randn(shape, generator=generator).to(dtype) for shape in ((3, 2, 2, 2), (4,), (), (2, 3))]
    if step % 7 == 3:
        grads[1] = None  # a weight that a step does not use stays as it is, and its count too
    return grads


def walk(recipe, dtype, updates=500, layout=torch.contiguous_format, formula=False):
    """Return our weights and torch's after updates with changing rates."""
    ours, theirs = weights(dtype, layout), [torch.nn.Parameter(w) for w in weights(dtype, layout)]
    optimizer = None if formula else of_torch(recipe, theirs)
    slots = {}
    for t in range(updates):
        grads, lr = gradients(t, dtype), 0.01 / (1 + t / 100)
        at = [i for i, grad in enumerate(grads) if grad is not None]
        some = {name: [each[i] for i in at] for name, each in slots.items()}
        factors = [FACTORS[i] for i in at]
        new = update_(recipe, [ours[i] for i in at], [grads[i].clone() for i in at], some, lr, factors)
        slots = slots or new
        if optimizer is not None:
            for group, factor in zip(optimizer.param_groups, FACTORS, strict=True):
                group["lr"] = lr * factor.lr
            for parameter, grad in zip(theirs, grads, strict=True):
                parameter.grad = grad
            optimizer.step()
    return ours, [parameter.data for parameter in theirs]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("recipe", [each for name in TORCH for each in recipes(name)], ids=str)
def test_500_updates_are_those_of_torch(recipe, dtype):
    ours, theirs = walk(recipe, dtype, 500 if dtype == torch.float64 else 50)
    for a, b in zip(ours, theirs, strict=True):
        # In float32 PyTorch's fused kernel rounds otherwise than its plain one: 50 updates of rounding.
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("name", [name for name in update_rules() if name != "sgd"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_does_what_the_formula_says(name, layout, monkeypatch):
    recipe = Recipe(rule=name, weight_decay=0.05)
    fast, _ = walk(recipe, torch.float32, 30, layout, formula=True)
    monkeypatch.delitem(KERNELS, name)
    slow, _ = walk(recipe, torch.float32, 30, layout, formula=True)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert not torch.equal(fast[3], weights(torch.float32)[3])


@pytest.mark.parametrize("name", list(TORCH))
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
def test_another_default_precision_changes_nothing(name, default):
    fast, _ = walk(Recipe(rule=name), torch.float32, 300, formula=True)  # a count in bfloat16 ends at 256
    before = torch.get_default_dtype()
    slots, ours = {}, weights(torch.float32)
    grads = [[None if g is None else g.clone() for g in gradients(t, torch.float32)] for t in range(300)]
    torch.set_default_dtype(default)
    try:
        for t, each in enumerate(grads):
            at = [i for i, grad in enumerate(each) if grad is not None]
            some = {key: [value[i] for i in at] for key, value in slots.items()}
            new = update_(Recipe(rule=name), [ours[i] for i in at], [each[i] for i in at], some,
                          0.01 / (1 + t / 100), [FACTORS[i] for i in at])  # fmt: skip
            slots = slots or new
    finally:
        torch.set_default_dtype(before)
    assert all(torch.equal(a, b) for a, b in zip(fast, ours, strict=True))
