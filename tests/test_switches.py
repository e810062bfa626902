"""A caller's switches of PyTorch: results do not depend on them, and they are as they were afterwards."""

import pytest
import torch
from torch import nn

import surefoot
from surefoot.switches import usual_switches

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).numpy()
Y = (X[:, 0] > 0).astype("int64")


class Double:
    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *exception):
        torch.set_default_dtype(torch.float32)


def factory(input_shape, outputs):
    return nn.Sequential(nn.Linear(*input_shape, 5), nn.Dropout(0.1), nn.Linear(5, outputs))


def switches():
    return (
        torch.get_default_dtype(), torch.get_default_device().type, torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
    )  # fmt: skip


def trained(folder):
    return surefoot.train((X, Y), factory, epochs=2, lr=0.1, batch_size=16, runs_dir=folder).summary["val_loss"]


def by_hand(folder):
    task = surefoot.task(surefoot.load((X, Y)), factory)
    return surefoot.fit(task, surefoot.plan(surefoot.Recipe(epochs=1, batch_size=16), task.data.examples))[
        1
    ].last.val_loss


def checked(folder):
    return surefoot.check_wiring(factory, (X, Y), most_examples=0).verdict


def searched(folder):
    return surefoot.find_lr(factory, (X, Y), steps=10, seeds=2, range_test=False).evidence["initial_losses"]


INSIDE = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": Double,
    "device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("act", [trained, by_hand, checked, searched])
def test_a_call_does_the_same_whatever_its_caller_has_switched(act, tmp_path):
    usual = act(tmp_path / "usual")
    for name, context in INSIDE.items():
        with context():
            before = switches()
            assert act(tmp_path / name) == usual, name
            assert switches() == before, name


def test_switches_come_back_after_an_error():
    @usual_switches
    def fails():
        raise ValueError(torch.get_default_dtype())

    with Double(), torch.inference_mode(), pytest.raises(ValueError, match="float32"):
        fails()
    with Double(), torch.no_grad():
        with pytest.raises(ValueError, match="float32"):
            fails()
        assert switches()[0] == torch.float64
        assert not torch.is_grad_enabled()
