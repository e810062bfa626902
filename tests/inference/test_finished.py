"""A finished run is loaded as it ended, or refused; applying it changes nothing."""

import numpy as np
import pytest
import torch

from surefoot.errors import CheckpointError, ConfigError
from surefoot.inference.evaluate import evaluate
from surefoot.inference.predict import predict
from surefoot.record import store
from surefoot.training.configure import resolve
from surefoot.training.open import open_run

from .conftest import save_images


def test_an_unfinished_run_says_how_to_finish_it(tmp_path):
    config = resolve({"data": "digits", "model": "linear"})
    with open_run(config, name="cut", runs_dir=tmp_path) as run:
        run.advance(3)
        run.save()
    with pytest.raises(CheckpointError, match=r"surefoot resume .*cut"):
        evaluate("cut", runs_dir=tmp_path)


def test_a_run_from_python_needs_its_data_and_its_model_again(line):
    result, data, model = line
    with pytest.raises(ConfigError, match="given in Python"):
        evaluate(result)
    with pytest.raises(CheckpointError, match="buildable"):
        evaluate(result.folder, data)
    before = model.weight.clone()
    assert evaluate(result.folder, data, model=model) == evaluate(result, data)
    assert torch.equal(model.weight, before), "the given architecture is copied"


def test_damaged_weights_are_refused(digits, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (store.CONFIG, store.MODEL, store.WEIGHTS):
        content = bytearray((digits.folder / name).read_bytes())
        content[-1] ^= name == store.WEIGHTS
        (copy / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        predict(copy, np.zeros((1, 8, 8), np.uint8))


# predict


def test_neither_verb_changes_a_file_a_random_state_or_the_model(digits, line, test_part, tmp_path):
    def everything():
        files = {
            path: (path.read_bytes(), path.stat().st_mtime_ns) for path in digits.folder.rglob("*") if path.is_file()
        }
        weights = [value.clone() for value in digits.model.state_dict().values()]
        return files, weights, torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()

    save_images(test_part, tmp_path)
    digits.model.train()
    before = everything()
    evaluate(digits)
    evaluate(digits, tmp_path)
    predict(digits, tmp_path)
    evaluate(line[0], line[1])
    predict(line[0], line[1]["test"][0])
    after = everything()
    assert digits.model.training, "the given model keeps its mode"
    digits.model.eval()
    assert before[0] == after[0]
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert torch.equal(before[2], after[2])
    assert (before[3] == after[3]).all()
    assert before[4] == after[4]


def test_objects_do_not_get_the_settings_shipped_for_other_data(line):
    config = line[0].config
    assert (config.data, config.model, config.augment) == ("in-memory", "in-memory", ())
    assert config.recipe.label_smoothing == 0
