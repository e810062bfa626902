"""The law: a regression with all defaults trains, whatever the unit of its targets, and its answers are of use.

Before targets were standardised and gradients clipped, the mlp diverged in 20 of 20 of these at the default rate. The
bounds are above the largest of five seeds: 0.69 for diabetes, 0.36 for the sines, 0.18 for friedman1, 0.01 for a line.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, make_friedman1

import surefoot


def sets():
    rng = np.random.default_rng(0)
    diabetes = load_diabetes()
    x = rng.uniform(-3, 3, (1000, 4))
    line = rng.normal(size=(1000, 8))
    return {
        "diabetes": (diabetes.data, diabetes.target, 0.75),
        "sines": (x, np.sin(x).sum(1), 0.45),
        "friedman1": (*make_friedman1(1000, random_state=0, noise=1.0), 0.25),
        "line": (line, line @ rng.normal(size=8), 0.03),
    }


@pytest.mark.parametrize("name", sets())
@pytest.mark.parametrize(("scale", "seed"), [(1.0, 0), (1e5, 1)])
def test_defaults_train(name, scale, seed, tmp_path):
    x, y, most = sets()[name]
    y = (y - y.mean()) / y.std() * scale + 4 * scale
    result = surefoot.train((x, y), target="numbers", seed=seed, runs_dir=tmp_path, device="cpu", threads=1)
    assert (result.config.model, result.summary["outcome"]) == ("mlp", "finished")
    assert result.summary["val_loss"] < most * scale**2


@pytest.mark.parametrize("settings", [{}, {"loss": "mae"}, {"model": "linear"}])
def test_many_columns_that_are_almost_one_do_not_make_it_diverge(settings, tmp_path):
    """The largest curvature of the squared error grows with the number of such columns, so no rate fits all."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 1))
    x = shared + 0.3 * rng.normal(size=(400, 300))
    y = 1e-6 * (x @ rng.normal(size=300))
    result = surefoot.train((x, y), target="numbers", runs_dir=tmp_path, device="cpu", threads=1, **settings)
    assert result.summary["outcome"] == "finished"
    assert surefoot.evaluate(result, (x, y)).r2 > 0


def test_gradients_are_clipped_for_numbers_unless_it_is_said_otherwise(tmp_path):
    x, y, _ = sets()["line"]
    settings = {"epochs": 1, "lr": 0.01, "runs_dir": tmp_path, "device": "cpu"}
    for given, clip in (({}, 1.0), ({"clip_norm": 5.0}, 5.0)):
        assert surefoot.train((x, y), target="numbers", **settings, **given).config.recipe.clip_norm == clip
    data = surefoot.load((x, y), target="numbers")
    assert surefoot.train(data, **settings).config.recipe.clip_norm == 1.0
    classes = surefoot.train((x, (y > 0).astype(int)), torch.nn.Linear(x.shape[1], 2), **settings)
    assert classes.config.recipe.clip_norm is None
    found = surefoot.train((x, y), torch.nn.Linear(x.shape[1], 1), **settings)  # by their look
    assert (found.config.target, found.config.recipe.clip_norm) == ("numbers", 1.0)
