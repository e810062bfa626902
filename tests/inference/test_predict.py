"""Predictions are what was evaluated, with the run's own normalisation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small import images
from torch import nn

import surefoot
from surefoot.data.batches import fetch
from surefoot.errors import DataError
from surefoot.inference.evaluate import evaluate
from surefoot.inference.predict import predict
from surefoot.record.scores import read_scores
from surefoot.record.stored import read_config

COLOURS = ("red", "green", "blue")


class Drawing(torch.nn.Linear):
    """A model that draws random numbers even in evaluation mode."""

    def forward(self, input):
        return super().forward(input) + 1e-3 * torch.rand(())


def test_predictions_are_those_that_were_evaluated(digits, test_part):
    predictions = predict(digits, test_part.x)
    right = np.mean([label == str(int(y)) for label, y in zip(predictions.labels, test_part.y, strict=True)])
    assert right == digits.summary["test_accuracy"]
    p = predictions.outputs[np.arange(len(test_part)), test_part.y]
    assert -np.log(p).mean() == pytest.approx(digits.summary["test_loss"], rel=1e-5)
    np.testing.assert_allclose(predictions.outputs.sum(1), 1)


def test_the_normalisation_is_the_runs_and_not_that_of_the_inputs(digits, test_part):
    all_, one = predict(digits, test_part.x), predict(digits, test_part.x[5])
    assert one.outputs.shape == (1, 10)
    np.testing.assert_allclose(one.outputs[0], all_.outputs[5], atol=1e-6)


def test_numbers_are_predicted_for_a_regression(line):
    result, data, _ = line
    x, y = data["test"]
    predictions = predict(result, x)
    assert predictions.labels == (None,) * 50
    assert ((predictions.outputs[:, 0] - y) ** 2).mean() == pytest.approx(result.summary["test_loss"], rel=1e-3)
    broken = x.copy()
    broken[3] = np.inf
    assert [i for i, error in enumerate(predict(result, broken).errors) if error] == [3]


class Ending(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.head, self.end = nn.Linear(192, 3), end

    def forward(self, x):
        return self.end(self.head(x.flatten(1)))


@pytest.mark.parametrize(
    ("end", "loss"),
    [
        (nn.Softmax(1), lambda p, t: F.nll_loss(p.clamp_min(1e-9).log(), t)),
        (nn.Softmax(1), lambda p, t: ((p - F.one_hot(t, 3)) ** 2).sum(1)),
        (nn.LogSoftmax(1), nn.NLLLoss()),
        (nn.Identity(), nn.CrossEntropyLoss()),
    ],
)
def test_a_model_gives_the_probabilities_that_it_ends_in(end, loss, tmp_path):
    result = surefoot.train(images(), Ending(end), loss=loss, epochs=5, lr=0.1, batch_size=10, runs_dir=tmp_path)
    test = images().test
    with torch.no_grad():
        x, y = fetch(images(), test, np.arange(len(test)), seed=0)
        outputs = result.model.net(x).double()
    expected = outputs if isinstance(end, nn.Softmax) else outputs.softmax(1)
    assert expected.max() > 0.5
    np.testing.assert_allclose(surefoot.predict(result, test.x).outputs, expected.numpy(), rtol=1e-5)
    scores = surefoot.evaluate(result, images())
    assert scores.loss == pytest.approx(-float(expected[range(len(y)), y].log().mean()), abs=1e-6)
    assert read_scores(result.folder)["loss"] == pytest.approx(scores.loss, abs=1e-6)


def folder_of(root, draw):
    """Write 16 images of two classes as draw(i, class) makes them."""
    for i in range(16):
        path = root / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(i, i % 2)).save(path)
    return root


def test_a_chosen_image_size_belongs_to_the_run(tmp_path):
    sizes = [(9, 12), (30, 10), (11, 11)]
    root = folder_of(tmp_path / "d", lambda i, c: np.full((*sizes[i % 3], 3), 40 + 150 * c + i, np.uint8))
    settings = {"epochs": 5, "lr": 0.1, "batch_size": 4, "name": "r", "runs_dir": tmp_path / "runs"}
    result = surefoot.train(root, "linear", **settings)
    assert result.config.image_size == 10
    assert read_config(result.folder).image_size == 10
    assert any("image_size = 10" in note for note in result.notes)
    again = surefoot.train(root, "linear", **settings)
    assert any("finished run" in note for note in again.notes)
    Image.fromarray(np.full((50, 20, 3), 230, np.uint8)).save(tmp_path / "new.png")
    assert predict(result, tmp_path / "new.png").labels == ("b",)
    assert evaluate(result, part="validation").examples == 2
    assert evaluate(result, root).accuracy == 1


def test_levels_of_16_bits_are_kept_in_training_and_in_predicting(tmp_path):
    draw = np.random.default_rng(0).integers
    root = folder_of(tmp_path / "d", lambda i, c: (2000 + 10 * c + draw(0, 5, (6, 6))).astype(np.uint16))
    settings = {"epochs": 20, "lr": 0.05, "batch_size": 4, "augment": ["flip"], "runs_dir": tmp_path / "runs"}
    result = surefoot.train(root, "linear", **settings)
    expected = tuple("ab"[i % 2] for i in (*range(0, 16, 2), *range(1, 16, 2)))
    assert predict(result, root).labels == expected
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(root.rglob("*.png"))])
    assert predict(result, pixels).labels == expected
    assert predict(result, pixels[:, None] / 65535).labels == expected
    assert evaluate(result, root).accuracy == 1
    with pytest.raises(DataError, match=r"0 \.\. 65535"):
        predict(result, pixels.astype(np.int64) + 70_000)
    assert predict(result, np.full((1, 6, 6), 200, np.uint8)).labels == ("b",)  # stretched, far brighter than both
