"""Predictions are what was evaluated, with the run's own normalisation."""

import numpy as np
import pytest
import torch

from surefoot.inference.predict import predict

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
    assert ((predictions.outputs[:, 0] - y) ** 2).mean() == pytest.approx(result.summary["test_loss"], rel=1e-4)
    broken = x.copy()
    broken[3] = np.inf
    assert [i for i, error in enumerate(predict(result, broken).errors) if error] == [3]
