import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import surefoot
from surefoot.data.dataset import DataSet
from surefoot.training.preprocessed import Preprocessed, Preprocessing

MEAN, STD = torch.tensor([10.0], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)
X = np.random.default_rng(0).normal(size=(60, 2))


def of(x, y, **settings) -> Preprocessing:
    data: DataSet = surefoot.load((x, y), **settings)
    return Preprocessing.of(surefoot.task(data, "linear", device="cpu").data)


@pytest.mark.parametrize(
    ("about", "kind"),
    [
        (lambda: of(X, np.arange(60) % 2), ("numbers", "float32", "logits")),
        (lambda: of(X + 1e9, np.arange(60) % 2), ("numbers", "float64", "logits")),
        (lambda: of(X, X[:, 0], target="numbers"), ("numbers", "float32", "numbers")),
        (lambda: of(np.arange(60 * 16, dtype=np.uint8).reshape(60, 4, 4), np.arange(60) % 2),
         ("images", "float32", "logits")),
    ],
)  # fmt: skip
def test_it_says_what_the_data_is_and_comes_back_from_plain_values(about, kind):
    made = about()
    assert (made.input, made.dtype, made.output) == kind
    back = Preprocessing.from_dict(made.to_dict())
    assert back.to_dict() == made.to_dict()
    assert torch.equal(back.mean, made.mean)
    assert (back.target_mean is None) == (kind[2] == "logits")


@pytest.mark.parametrize("broken", [{"dtype": "float16"}, {"mean": None}, {"std": "x"}])
def test_what_is_no_preprocessing_is_refused(broken):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Preprocessing.from_dict(of(X, np.arange(60) % 2).to_dict() | broken)


def test_images_are_whole_levels_or_shares():
    whole = Preprocessed(nn.Identity(), Preprocessing("images", "float32", MEAN / 100, STD / 10, "logits"))
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(whole(levels), whole(levels / 255))
    torch.testing.assert_close(whole(levels), (levels / 255 - 0.1) / 0.2)


@pytest.mark.parametrize(
    ("output", "given", "answer"),
    [("logits", -3.0, -3.0), ("numbers", 2.0, 14.0), ("sigmoid", 0.0, 0.5), ("probabilities", 1.0, 0.0)],
)
def test_outputs_become_answers(output, given, answer):
    targets = (MEAN, STD) if output == "numbers" else (None, None)
    about = Preprocessing("numbers", "float32", MEAN * 0, STD / 2, output, *targets)
    assert Preprocessed(nn.Identity(), about)(torch.tensor([given])).item() == pytest.approx(answer)


def test_answers_are_as_wide_as_they_must_be():
    for mean, dtype in ((1.7e9, torch.float64), (350.0, torch.float32)):
        about = Preprocessing("numbers", "float32", MEAN, STD, "numbers", MEAN * 0 + mean, STD)
        assert Preprocessed(nn.Identity(), about)(torch.ones(2, 1)).dtype == dtype


def test_its_weights_are_those_of_the_module_and_it_is_copied_and_pickled_whole():
    about = Preprocessing("numbers", "float64", MEAN, STD, "numbers", MEAN, STD)
    whole = Preprocessed(nn.Linear(1, 1), about)
    assert list(whole.state_dict()) == ["net.weight", "net.bias"]
    x = torch.randn(5, 1)
    for twin in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert torch.equal(twin(x), whole(x))


def test_it_is_trained_further_as_the_module_inside(tmp_path):
    data = (X * 50 + 9, X[:, 0] * 1e5)
    settings = {"target": "numbers", "batch_size": 10, "runs_dir": tmp_path, "device": "cpu"}
    first = surefoot.train(data, "linear", epochs=5, lr=0.1, **settings)
    second = surefoot.train(data, first.model, epochs=1, lr=1e-6, **settings)
    torch.testing.assert_close(second.model.net.state_dict(), first.model.net.state_dict(), rtol=1e-4, atol=1e-4)
    twin = surefoot.load_trained(second.folder, first.model).model
    assert torch.equal(twin(torch.as_tensor(X)), second.model(torch.as_tensor(X)))
