"""Test-time augmentation: the mean over the views that it says, of pixels put back, and beside the plain scores."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.record.test_time import words_of
from surefoot.training.call import called
from surefoot.training.test_time import VIEWS, averaged, with_views


def images(count=40, size=8):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 3, size, size), dtype=np.uint8), np.arange(count) % 2


def task_of(x, y, model="cnn", **more):
    return surefoot.task(surefoot.load((x, y), validation=0), model, **more)


def masks_of(x):
    return (x[:, 0] > 127).astype(np.int64)


class Pixels(nn.Module):
    """A model of masks that says of each pixel what it says anywhere."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("tta", list(VIEWS))
def test_weights_of_views_add_up_to_one(tta):
    assert sum(weight for weight, _, _ in VIEWS[tta]) == 1
    assert len(VIEWS[tta]) == {"none": 1, "flip": 2, "flip-shift": 6}[tta]


def test_the_outputs_are_the_mean_with_the_weights_that_are_published():
    """Written down independently, after the words of the reference: a half for the images, a quarter for each shift."""
    x, model = torch.randn(4, 3, 8, 8), nn.Sequential(nn.Flatten(), nn.Linear(192, 5))

    def both(images):
        return (model(images) + model(images.flip(-1))) / 2

    padded = F.pad(x, (1, 1, 1, 1), "reflect")
    wanted = both(x) / 2 + (both(padded[..., :8, :8]) + both(padded[..., 2:, 2:])) / 4
    assert torch.allclose(averaged(called, "flip-shift", pixels=False)(model, x), wanted, atol=1e-6)
    assert torch.allclose(averaged(called, "flip", pixels=False)(model, x), both(x), atol=1e-6)


@pytest.mark.parametrize("tta", ["flip", "flip-shift"])
def test_what_is_said_of_pixels_is_put_back(tta):
    x, model = torch.randn(2, 3, 6, 9), Pixels()
    seen = averaged(called, tta, pixels=True)(model, x)
    assert torch.allclose(seen, model(x), atol=1e-6)


def test_masks_of_another_size_than_the_images_are_not_shifted():
    model = nn.Conv2d(3, 2, 2, stride=2)
    with pytest.raises(ConfigError, match="flip-shift"):
        averaged(called, "flip-shift", pixels=True)(model, torch.randn(2, 3, 8, 8))
    assert averaged(called, "flip", pixels=True)(model, torch.randn(2, 3, 8, 8)).shape == (2, 2, 4, 4)


def test_a_model_that_gives_several_outputs_has_no_mean():
    with pytest.raises(ConfigError, match="one tensor"):
        averaged(lambda model, x: {"a": x, "b": x}, "flip", pixels=False)(nn.Identity(), torch.randn(2, 3, 8, 8))


def test_none_leaves_the_task_as_it_is():
    work = task_of(*images())
    assert with_views(work, "none") is work


REFUSED = {
    "numbers": lambda: task_of(np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2, "mlp"),
    "a loss_fn": lambda: task_of(*images(), loss_fn=lambda model, batch: model(batch[0]).mean()),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_views_is_refused(what):
    with pytest.raises(ConfigError, match=rf"tta = 'flip' (with|for inputs that are) {what}"):
        with_views(REFUSED[what](), "flip")


def test_an_image_of_one_pixel_has_no_shift():
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 1), dtype=np.uint8)
    work = task_of(x, np.arange(40) % 2, "linear")
    assert with_views(work, "flip") is not work
    with pytest.raises(ConfigError, match="8x1 pixels"):
        with_views(work, "flip-shift")


def test_train_refuses_before_it_trains(tmp_path):
    with pytest.raises(ConfigError, match="tta"):
        surefoot.train((np.eye(40), np.arange(40) % 2), "mlp", tta="flip", epochs=1, runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run with and without, of the digits."""
    folder = tmp_path_factory.mktemp("runs")
    how = {"epochs": 2, "lr": 0.1, "runs_dir": folder}
    return {tta: surefoot.train("digits", "linear", tta=tta, name=tta, **how) for tta in ("none", "flip-shift")}


def test_the_plain_numbers_are_those_without(runs):
    names = ("test_accuracy", "test_loss", "val_accuracy", "val_loss", "weights_from_step")
    plain, other = (runs[tta].summary for tta in ("none", "flip-shift"))
    assert [plain[name] for name in names] == [other[name] for name in names]
    assert plain["tta"] is None
    assert words_of(plain) is None
    assert other["tta"]["tta"] == "flip-shift"
    assert other["tta"]["part"] == "test"
    assert words_of(other).startswith("with flip-shift ")


def test_evaluate_says_the_same_later(runs):
    result = runs["flip-shift"].summary["tta"]
    scores = surefoot.evaluate(runs["none"].folder, tta="flip-shift")
    assert scores.accuracy == pytest.approx(runs["none"].summary["test_accuracy"])
    accuracy = scores.tta.scores["accuracy"]
    assert accuracy.value == pytest.approx(result["accuracy"])
    assert accuracy.low < accuracy.value < accuracy.high
    assert scores.tta.loss == pytest.approx(result["loss"], rel=1e-5)
    assert json.loads(json.dumps(scores.to_dict()))["tta"]["scores"]["accuracy"]["value"] == accuracy.value
    assert surefoot.evaluate(runs["none"].folder).tta is None


def test_predictions_are_of_the_mean_outputs_and_say_so(runs):
    run = runs["none"]
    x = surefoot.load("digits").test.x[:7]
    seen = surefoot.predict(run, x, tta="flip")
    with torch.no_grad():
        wanted = ((run.model(x) + run.model(x.flip(-1))) / 2).softmax(1)
    assert np.allclose(seen.outputs, wanted.numpy(), atol=1e-5)
    assert "tta = flip" in seen.notes[0]
    assert surefoot.predict(run, x).notes == ()


@pytest.mark.parametrize("kind", ["segmentation", "numbers", "multilabel"])
def test_other_targets_have_their_scores_too(kind, tmp_path):
    x, y = images(60)
    y, model = {
        "segmentation": (masks_of(x), Pixels()),
        "numbers": (x.mean((1, 2, 3)) / 255.0, "cnn"),
        "multilabel": (np.stack([y, 1 - y, y], 1), "cnn"),
    }[kind]
    data = surefoot.load({"train": (x[:40], y[:40]), "test": (x[40:], y[40:])}, target=kind, validation=0)
    run = surefoot.train(data, model, tta="flip-shift", epochs=1, batch_size=20, name="run", runs_dir=tmp_path)
    assert run.summary["tta"]["examples"] == 20
    scores = surefoot.evaluate(run, data, tta="flip-shift").tta
    assert set(scores.scores) == ({"rmse", "mae", "r2"} if kind == "numbers" else {"accuracy"})
    if kind == "segmentation":  # a model that says the same of a pixel wherever it lies
        assert scores.scores["accuracy"].value == pytest.approx(run.summary["test_accuracy"])
    if kind != "numbers":
        assert run.summary["tta"]["accuracy"] == pytest.approx(scores.scores["accuracy"].value)


def test_without_a_test_part_it_is_of_the_validation_part(tmp_path):
    run = surefoot.train(images(60), "linear", tta="flip", epochs=1, validation=0.2, name="run", runs_dir=tmp_path)
    assert run.summary["test_accuracy"] is None
    assert run.summary["tta"]["part"] == "validation"
    assert words_of(run.summary).endswith(", on the validation part")


def test_a_run_keeps_its_views(runs):
    config = runs["flip-shift"].config
    assert config.tta == "flip-shift"
    assert dataclasses.replace(config, tta="none") != config
