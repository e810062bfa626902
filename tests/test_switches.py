"""A caller's switches of PyTorch: results do not depend on them, and they are as they were afterwards."""

import os
import warnings

import pytest
import torch
from torch import nn

import surefoot
from surefoot.switches import repeatable_kernels, tf32_allowed, unrepeatable_noted, usual_switches

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


def of_a_card():
    """Return every switch of a card that a caller may have set; what PyTorch refuses to read is that."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def read(thing, name):
        try:
            return getattr(thing, name)
        except RuntimeError:
            return "mixed"

    pairs = [(cudnn, name) for name in ("enabled", "benchmark", "deterministic", "allow_tf32", "fp32_precision")]
    pairs += [(cudnn.conv, "fp32_precision"), (cudnn.rnn, "fp32_precision"), (matmul, "fp32_precision")]
    pairs += [(matmul, "allow_tf32"), (torch.backends, "fp32_precision")]
    pairs += [(torch.utils.deterministic, "fill_uninitialized_memory")]
    return [read(*pair) for pair in pairs] + [torch.get_deterministic_debug_mode(), os.environ.get(WORKSPACE)]


WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
ASKED = {
    "nothing": lambda: None,
    "older, forbidden": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "older, allowed": lambda: torch.set_float32_matmul_precision("high"),
    "older, products": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "newer, forbidden": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    "newer, allowed": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "newer, everywhere": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "newer, all of cudnn": lambda: setattr(torch.backends.cudnn, "fp32_precision", "ieee"),
    "both, not alike": lambda: (
        ASKED["older, forbidden"](),
        setattr(torch.backends.cudnn.rnn, "fp32_precision", "tf32"),
    ),
    "deterministic": lambda: torch.set_deterministic_debug_mode("error"),
    "benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
}


def as_pytorch_has_them():
    torch.set_deterministic_debug_mode(0)
    torch.backends.fp32_precision = torch.backends.cudnn.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = True, False
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = "none"


@pytest.fixture
def _usual_card(monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)
    with getattr(torch.backends, "__allow_nonbracketed_mutation")():  # PyTorch's own tests freeze them
        as_pytorch_has_them()  # "highest", said by a test before, is another word for the same
        before = of_a_card()
        yield
        as_pytorch_has_them()
        assert of_a_card() == before


def test_switches_that_are_frozen_are_set_for_the_block_alone(monkeypatch):
    monkeypatch.setattr(torch.backends, "__allow_nonbracketed_mutation_flag", False)
    with repeatable_kernels():
        assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.deterministic
    with pytest.raises(RuntimeError, match="not allowed to set"):
        torch.backends.cudnn.deterministic = True


@pytest.mark.usefixtures("_usual_card")
@pytest.mark.parametrize("asked", ASKED)
def test_a_card_computes_fp32_in_fp32_unless_the_caller_allows_tf32_and_the_switches_come_back(asked):
    ASKED[asked]()
    before, allowed = of_a_card(), tf32_allowed()
    assert allowed == (asked in ("older, allowed", "older, products", "newer, allowed", "newer, everywhere"))
    for _ in range(2):
        with repeatable_kernels():
            kinds = [each.fp32_precision for each in (torch.backends.cudnn.conv, torch.backends.cudnn.rnn)]
            assert allowed or "tf32" not in kinds
            assert tf32_allowed() == allowed
            assert of_a_card()[3] != "mixed" or before[3] == "mixed"
            assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)
            assert torch.get_deterministic_debug_mode() == (2 if asked == "deterministic" else 1)
            assert os.environ[WORKSPACE] == ":4096:8"
        assert of_a_card() == before


@pytest.mark.usefixtures("_usual_card")
def test_what_has_no_deterministic_form_is_known_by_name_and_not_warned_of():
    def put(*said):
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
        for each in said:
            warnings.warn(each, stacklevel=1)

    with pytest.warns(UserWarning, match="mine"), unrepeatable_noted() as names:
        put("mine", "mine")
    assert names == ["put_"]
    with repeatable_kernels(quiet=True):
        put()
    with repeatable_kernels(), pytest.warns(UserWarning, match="put_ does not have a deterministic"):
        put()
