import importlib
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.record.stored import read_config
from surefoot.training.call import Bound, batch_of, bound_names, called, function_of, in_fp32
from surefoot.training.open import open_run


class Args(nn.Module):
    def forward(self, *args, **kwargs):
        return torch.tensor([len(args), len(kwargs)])


def test_a_model_is_called_by_the_form_of_its_inputs():
    one = torch.zeros(2, 3)
    assert called(Args(), one).tolist() == [1, 0]
    assert called(Args(), (one, one)).tolist() == [2, 0]
    assert called(Args(), {"a": one, "b": one, "c": one}).tolist() == [0, 3]


def test_logits_are_taken_out_of_what_has_them():
    one, other = torch.zeros(2), torch.ones(2)
    for outputs in (OrderedDict(loss=other, logits=one), SimpleNamespace(logits=one), {"logits": one}):
        assert called(lambda _, outputs=outputs: outputs, one) is one
    assert called(lambda _: (one, other), one) == (one, other)
    assert called(lambda _: {"out": one}, one) == {"out": one}


def test_the_tensors_of_a_bound_model_are_exchanged():
    net = nn.Linear(2, 1)
    bound = Bound(net, lambda model, x, y: model(x) - y)
    zeros = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    found = torch.func.functional_call(bound, bound_names(zeros), (torch.ones(3, 2), torch.ones(3, 1)))
    assert found.flatten().tolist() == [-1, -1, -1]


def test_a_batch_is_what_examples_were():
    assert batch_of({"ids": 1}, 2, "labels") == {"ids": 1, "labels": 2}
    assert batch_of({"ids": 1}, 2, None) == ({"ids": 1}, 2)


def test_only_floating_point_becomes_fp32():
    made = in_fp32((torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.int64), 3))
    assert [getattr(each, "dtype", None) for each in made] == [torch.float32, torch.int64, None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("torch.nn:nothing", "has no 'nothing'"),
        ("absent_module:f", "importable"),
        ("torch.nn:Linear", "without arguments"),
        ("math:pi", "must be a function"),
        ("f", "package.module:function"),
        ("os.path:", "has no"),
        ("1+1:f", "not a module's name"),
    ],
)
def test_a_name_of_no_function_is_one_message(given, message):
    with pytest.raises(ConfigError, match=message):
        function_of(given, "forward")


def test_a_function_may_be_named_and_a_class_of_losses_is_made():
    assert function_of("torch.nn.functional:mse_loss", "loss") is nn.functional.mse_loss
    assert isinstance(function_of("torch.nn:SmoothL1Loss", "loss"), nn.SmoothL1Loss)
    assert function_of(called, "forward") is called
    assert function_of("mse", "loss") == "mse"


CODE = """
import torch


def loss_fn(model, batch):
    x, y = batch
    return torch.nn.functional.cross_entropy(model(x), y, reduction="none")


def forward(model, x):
    return SIGN * model(x)


SIGN = -1


class Factor:
    def __call__(self, outputs, y):
        return torch.nn.functional.cross_entropy(outputs, y)
"""


def test_a_run_of_named_functions_is_that_of_the_objects_and_goes_on_by_its_settings_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_functions.py").write_text(CODE)
    words = {"epochs": 1, "batch_size": 64, "lr": 0.1, "device": "cpu", "runs_dir": tmp_path}
    first = surefoot.train("digits", "linear", forward="own_functions:forward", loss="own_functions:Factor", **words)
    assert (first.config.forward, first.config.loss) == ("own_functions:forward", "own_functions:Factor")
    import own_functions

    twin = surefoot.train("digits", "linear", forward=own_functions.forward, loss=own_functions.Factor(), **words)
    assert twin.config.forward is None
    torch.testing.assert_close(first.model.net.state_dict(), twin.model.net.state_dict(), rtol=0, atol=0)
    assert surefoot.evaluate(first.folder).accuracy == surefoot.evaluate(twin).accuracy > 0.5
    with open_run(read_config(first.folder), name="half", runs_dir=tmp_path) as run:
        run.advance(5)
        run.save()
    with open_run(read_config(tmp_path / "half"), name="half", runs_dir=tmp_path, resumed=True) as run:
        while not run.done:
            run.advance()
        found = run.finish().model.net.state_dict()
    torch.testing.assert_close(found, first.model.net.state_dict(), rtol=0, atol=0)
    changed = CODE.replace("SIGN * model(x)", "SIGN * model(x) * 2")
    (tmp_path / "own_functions.py").write_text(changed)
    importlib.reload(own_functions)
    with pytest.raises(ConfigError, match="forward given here differ"):
        open_run(read_config(tmp_path / "half"), name="half", runs_dir=tmp_path, resumed=True)
    with pytest.warns(UserWarning, match="code of own_functions:forward"):
        surefoot.load_trained(first.folder)
