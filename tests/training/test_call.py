from collections import OrderedDict
from types import SimpleNamespace

import torch
from torch import nn

from surefoot.training.call import Bound, batch_of, bound_names, called, in_fp32


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
