"""Finished runs of small models, a test part, and images of it as files."""

import numpy as np
import pytest
import torch
from PIL import Image

from surefoot import load
from surefoot.training.open import train

COLOURS = ("red", "green", "blue")


class Drawing(torch.nn.Linear):
    """A model that draws random numbers even in evaluation mode."""

    def forward(self, input):
        return super().forward(input) + 1e-3 * torch.rand(())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def digits(runs):
    """The result of a small classifier of 8x8 grey images."""
    return train("digits", "linear", epochs=3, lr=0.1, runs_dir=runs, name="digits")


@pytest.fixture(scope="module")
def table(runs):
    """The result of a classifier of two numbers, trained from a .csv, and the file."""
    draw = np.random.default_rng(0)
    y = draw.integers(3, size=150)
    x = 3 * np.eye(3)[y][:, :2] + draw.normal(size=(150, 2))
    file = runs / "colours.csv"
    lines = [f"{a:.4f},{b:.4f},{COLOURS[i]}" for (a, b), i in zip(x, y, strict=True)]
    file.write_text("a,b,colour\n" + "\n".join(lines) + "\n")
    return train(
        str(file), "linear", label="colour", epochs=20, lr=0.1, batch_size=16, runs_dir=runs, name="table"
    ), file


@pytest.fixture(scope="module")
def line(runs):
    """The result of a regression on arrays, given in Python with a module of the user's own, and its data."""
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5]).astype(np.float32)
    data = {"train": (x[:150], y[:150]), "test": (x[150:], y[150:])}
    model = Drawing(3, 1)
    result = train(data, model, target="numbers", epochs=30, lr=0.1, batch_size=16, runs_dir=runs, name="line")
    return result, data, model


@pytest.fixture
def test_part():
    return load("digits").test


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path_factory.mktemp("cache")))


def save_images(part, folder, of=("3", "7"), mode="L"):
    """Write the examples of some classes as folder/CLASS/NUMBER.png and return their numbers."""
    chosen = [i for i in range(len(part)) if str(int(part.y[i])) in of]
    for i in chosen:
        place = folder / str(int(part.y[i]))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part.x[i, 0].numpy()).convert(mode).save(place / f"{i:04d}.png")
    return chosen


# evaluate
