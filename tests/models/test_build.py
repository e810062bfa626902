import math
import random
import sys

import pytest
import torch
from small import bits
from torch import nn

from surefoot.errors import ConfigError
from surefoot.models.build import SHIPPED, build, embeds
from surefoot.models.linear import Linear
from surefoot.models.mlp import Mlp

IMAGE = (3, 8, 8)


def weights(model: nn.Module) -> list[bytes]:
    return [bits(value) for value in model.state_dict().values()]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 17, 40)])
def test_a_shipped_model_takes_images_and_gives_an_output_per_class(name, shape):
    model = build(name, shape, 7)
    out = model(torch.zeros(2, *shape))
    assert out.shape == (2, 7)
    out.sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_takes_the_least_side_that_it_names_and_refuses_less(name):
    shipped = SHIPPED[name]
    least = (1, shipped.least_side, shipped.least_side)
    assert build(name, least, 2).eval()(torch.zeros(2, *least)).shape == (2, 2)
    if shipped.takes == "images":
        for shape in [(1, shipped.least_side - 1, 9), (5,), (8, 8)]:
            with pytest.raises(ConfigError, match=f"{name} takes images of at least"):
                build(name, shape, 2)
    else:
        assert build(name, (5,), 2)(torch.zeros(3, 5)).shape == (3, 2)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20"])
def test_the_seed_decides_the_weights_and_the_callers_random_state_does_not(name):
    first = build(name, IMAGE, 3, seed=1)
    torch.rand(5)
    before = torch.get_rng_state()
    assert weights(build(name, IMAGE, 3, seed=1)) == weights(first)
    assert weights(build(name, IMAGE, 3, seed=2)) != weights(first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_is_copied_and_keeps_its_weights():
    mine = nn.Linear(4, 3)
    built = build(mine, (4,), 3, seed=9)
    assert built is not mine
    assert weights(built) == weights(mine)
    assert built.weight.data_ptr() != mine.weight.data_ptr()


class NamesBoth(nn.Module):
    def __init__(self, outputs, input_shape, extra=5):
        super().__init__()
        self.given = (input_shape, outputs, extra)


class NamesNothing(nn.Module):
    pass


@pytest.mark.parametrize(
    ("factory", "given"),
    [
        (NamesBoth, (IMAGE, 3, 5)),
        (lambda outputs: NamesBoth(outputs, "none"), ("none", 3, 5)),
        (lambda: NamesBoth(0, "none"), ("none", 0, 5)),
    ],
)
def test_a_factory_is_given_what_it_names(factory, given):
    assert build(factory, IMAGE, 3).given == given
    assert isinstance(build(NamesNothing, IMAGE, 3), NamesNothing)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda width: nn.Linear(width, 2), "takes no required argument"),
        (lambda: "a model", "returned str"),
        (lambda: None, "returned NoneType"),
    ],
)
def test_a_factory_that_cannot_be_used_is_refused(factory, message):
    with pytest.raises(ConfigError, match=message):
        build(factory, IMAGE, 3)


@pytest.fixture
def package(tmp_path, monkeypatch):
    name = f"pkg_{random.Random(str(tmp_path)).randrange(10**9)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n    def __init__(self, input_shape, outputs):\n"
        "        super().__init__(input_shape[0], outputs)\n"
        "def make(outputs):\n    return nn.Linear(4, outputs)\n"
        "ready = nn.Linear(4, 3)\nnumber = 5\n"
    )
    (tmp_path / name / "broken.py").write_text("import a_module_that_is_not_there\n")
    (tmp_path / name / "buggy.py").write_text("(1).attribute\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for each in [each for each in sys.modules if each.startswith(name)]:
        del sys.modules[each]


def test_a_name_may_point_at_a_class_a_function_or_a_module_of_ones_own(package):
    assert build(f"{package}.nets:Net", (4,), 3)(torch.zeros(2, 4)).shape == (2, 3)
    assert build(f"{package}.nets:make", (4,), 3)(torch.zeros(2, 4)).shape == (2, 3)
    first, second = (build(f"{package}.nets:ready", (4,), 3) for _ in range(2))
    assert weights(first) == weights(second)
    assert first is not second
    assert first.weight.data_ptr() != second.weight.data_ptr(), "each training has its own copy"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}.nets:nosuch", "has no 'nosuch'"),
        ("{}.nets:", "has no ''"),
        ("{}.nets:number", "must be a function or class"),
        ("{}.nosuch:x", "importable"),
        ("{}.broken:x", "a_module_that_is_not_there"),
        ("..x:y", "not a module's name"),
        (":y", "not a module's name"),
        ("a b:y", "not a module's name"),
        ("a/b.py:y", "not a module's name"),
        ("resnet", "id you mean 'resnet20'"),
        ("", "shipped name or package.module:factory"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name, message, package):
    with pytest.raises(ConfigError, match=message):
        build(name.format(package), (4,), 3)


def test_a_bug_in_the_users_module_is_named_with_its_place(package):
    with pytest.raises(
        ConfigError, match=r"AttributeError: 'int' object has no attribute 'attribute' \(buggy.py, line 1"
    ):
        build(f"{package}.buggy:x", (4,), 3)


def test_shipped_factories_are_what_their_names_say():
    assert SHIPPED["linear"].factory is Linear
    assert SHIPPED["mlp"].factory is Mlp
    assert all(shipped.summary and shipped.takes in ("images", "anything") for shipped in SHIPPED.values())


def test_codes_go_to_a_factory_that_takes_them():
    def takes(input_shape, outputs, categories):
        model = torch.nn.Linear(math.prod(input_shape), outputs)
        model.found = categories
        return model

    assert embeds(takes)
    assert embeds("mlp")
    assert not embeds("linear")
    assert not embeds(torch.nn.Linear(2, 2))
    assert build(takes, (3,), 2, categories=((1, 60),)).found == ((1, 60),)
    assert build("mlp", (3,), 2, categories=((1, 60),)).embeddings[0].num_embeddings == 60
    assert build("linear", (3,), 2, categories=((1, 60),)).head.in_features == 3
