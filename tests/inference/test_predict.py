"""Predictions are what was evaluated, with the run's own normalisation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import images
from torch import nn

import surefoot
from surefoot.data.batches import fetch
from surefoot.inference.predict import predict
from surefoot.record.scores import read_scores

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
