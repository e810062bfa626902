import json
import os

import pytest
import torch
from small import bits, image_arrays, images, number_arrays
from torch import nn

import surefoot
from surefoot.errors import CheckpointError
from surefoot.training.configure import resolve
from surefoot.training.open import open_run
from surefoot.training.open import train as train_to_the_end
from surefoot.training.weights import load_trained


@pytest.fixture
def run(tmp_path):
    return train_to_the_end(images(), "mlp", runs_dir=tmp_path, name="a", epochs=1, batch_size=10, ema_decay=0.5)


def test_what_is_loaded_is_what_was_trained(run):
    trained = load_trained(run.folder)
    assert not trained.model.training
    assert trained.input_shape == (3, 8, 8)
    assert trained.classes == ("0", "1", "2")
    assert trained.kind == "images"
    for name, value in trained.model.net.state_dict().items():
        assert bits(value) == bits(run.model.net.state_dict()[name])
    data = images()
    assert torch.equal(trained.preprocessing.mean[:, 0, 0], data.mean.double())
    assert torch.equal(trained.preprocessing.std[:, 0, 0], data.std.double())


def test_loading_does_not_touch_the_callers_random_state_or_module(run):
    before = torch.get_rng_state()
    load_trained(run.folder)
    assert torch.equal(torch.get_rng_state(), before)
    mine = surefoot.task(images(), "mlp").fresh_model()
    weights = {name: bits(value) for name, value in mine.state_dict().items()}
    trained = load_trained(run.folder, mine)
    assert trained.model.net is not mine
    assert {name: bits(value) for name, value in mine.state_dict().items()} == weights


def test_a_model_that_was_given_as_an_object_needs_it_again(tmp_path):
    with torch.random.fork_rng():
        module = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    result = train_to_the_end(image_arrays(60), module, runs_dir=tmp_path, name="a", epochs=1, batch_size=10)
    with pytest.raises(CheckpointError, match="in-memory"):
        load_trained(result.folder)
    trained = load_trained(result.folder, module)
    assert bits(trained.model.net[1].weight) == bits(result.model.net[1].weight)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_trained(result.folder, nn.Sequential(nn.Flatten(), nn.Linear(192, 4)))


def test_an_unfinished_run_has_no_weights(tmp_path):
    config = resolve({"data": "digits", "model": "linear"})
    with open_run(config, name="a", runs_dir=tmp_path) as run, pytest.raises(CheckpointError, match=r"resume .*a"):
        load_trained(run.folder)


@pytest.mark.parametrize("at", range(0, 100, 7))
def test_a_flipped_bit_anywhere_in_the_weights_is_found(at, run):
    path = run.folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) * at // 100] ^= 4
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_trained(run.folder)


@pytest.mark.parametrize("key", ["model", "input_shape", "outputs", "classes", "kind", "preprocessing", "sha256"])
def test_a_description_that_lacks_something_is_named(key, run):
    path = run.folder / "model.json"
    information = json.loads(path.read_text())
    information[key] = {} if key == "preprocessing" else None
    if key != "preprocessing":
        del information[key]
    del information["seal"]
    path.write_text(json.dumps(information))
    with pytest.raises(CheckpointError, match=key.replace("preprocessing", "dtype")):
        load_trained(run.folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3"])
def test_a_description_that_is_none_is_named(content, run):
    (run.folder / "model.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"model\.json"):
        load_trained(run.folder)


def test_missing_weights_are_named(run):
    os.unlink(run.folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_trained(run.folder)


def test_a_regression_has_no_classes(tmp_path):
    result = train_to_the_end(number_arrays(), "linear", target="numbers", runs_dir=tmp_path, epochs=1, batch_size=10)
    trained = load_trained(result.folder)
    assert trained.classes is None
    assert trained.kind == "numbers"


def test_trained_weights_are_found_by_the_name_of_their_run(tmp_path):
    result = surefoot.train("digits", "linear", epochs=1, name="mine", runs_dir=tmp_path)
    for run in ("mine", result.folder, str(result.folder)):
        assert surefoot.load_trained(run, runs_dir=tmp_path).input_shape == (1, 8, 8)
    with pytest.raises(CheckpointError, match=r"'mien' is not a run.*Did you mean 'mine'"):
        surefoot.load_trained("mien", runs_dir=tmp_path)
