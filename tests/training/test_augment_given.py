"""An augmentation is given alike everywhere: a name, a callable, or a list of these."""

import pytest
import torch
from small import images

import surefoot
from surefoot.comparison.compare import compare
from surefoot.errors import ConfigError

PLACE = {"threads": 1, "precision": "fp32"}


def brighter(x: torch.Tensor) -> torch.Tensor:
    return (x + 0.1).clamp(0, 1)


GIVEN = {
    "a name": "flip", "a list": ["flip"], "a tuple": ("flip", "crop:1"), "a callable": brighter,
    "a list of one": [brighter], "both": ["flip", brighter],
}  # fmt: skip
BAD = {"a set": {"flip"}, "letters of a word": "flap", "a number": 3, "bytes": b"flip", "a list of numbers": [3]}


@pytest.fixture
def entrances(tmp_path):
    data = images(30)
    return {
        "task": lambda augment: surefoot.task(data, "linear", augment=augment),
        "train": lambda augment: surefoot.train(
            data, "linear", augment=augment, epochs=1, batch_size=10, runs_dir=tmp_path, **PLACE
        ),
        "tune": lambda augment: surefoot.tune(
            data, "linear", augment=augment, epochs=1, batch_size=10, lr=0.1, budget="1x", final=False, force=True,
            **PLACE,
        ),
        "find_lr": lambda augment: surefoot.find_lr(
            "linear", data, augment=augment, steps=10, seeds=1, points_per_decade=1, range_test=False, batch_size=10,
            **PLACE,
        ),
        "noise": lambda augment: surefoot.gradient_noise("linear", data, augment=augment, **PLACE),
        "compare": lambda augment: compare(
            "linear", data, rules=["mini-batch lr=0.1"], augment=augment, epochs=1, seeds=1, slice_points=None,
            surfaces=False, batch_size=10, **PLACE,
        ),
    }  # fmt: skip


ENTRANCES = ["task", "train", "tune", "find_lr", "noise", "compare"]


@pytest.mark.parametrize("name", ENTRANCES)
@pytest.mark.parametrize("given", GIVEN)
def test_every_entrance_takes_it(name, given, entrances):
    if name in ("noise", "compare", "tune") and given not in ("a name", "a list of one"):
        pytest.skip("the same function reads it")
    entrances[name](GIVEN[given])


@pytest.mark.parametrize("name", ENTRANCES)
@pytest.mark.parametrize("given", BAD)
def test_every_entrance_refuses_what_is_none(name, given, entrances):
    with pytest.raises(ConfigError, match="augment"):
        entrances[name](BAD[given])


def test_a_name_is_what_it_says(tmp_path):
    one, many = (
        surefoot.train(images(30), "linear", augment=given, epochs=1, batch_size=10, runs_dir=tmp_path, **PLACE)
        for given in ("flip", ["flip"])
    )
    assert one.summary["val_loss"] == many.summary["val_loss"]
    assert 'augment = [\n    "flip",\n]' in (one.folder / "config.toml").read_text()


def test_an_object_is_not_written_down_as_shipped_names(tmp_path):
    found = surefoot.train("digits", "cnn", augment=[brighter], steps=2, runs_dir=tmp_path, **PLACE)
    assert "crop" not in (found.folder / "config.toml").read_text()
