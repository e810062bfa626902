"""A finished run is loaded as it ended, or refused; applying it changes nothing."""

import shutil

import numpy as np
import pytest
import torch

from surefoot import load
from surefoot.errors import CheckpointError, ConfigError
from surefoot.inference.evaluate import evaluate
from surefoot.inference.predict import predict
from surefoot.record import store
from surefoot.training.configure import resolve
from surefoot.training.open import open_run, train

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


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """A run whose best weights are not its last."""
    runs = tmp_path_factory.mktemp("spoiled")
    result = train("digits", "mlp", epochs=12, lr=1.0, schedule="constant", runs_dir=runs, name="spoiled")
    assert result.summary["best"]["step"] < result.summary["steps"]
    return result


def test_the_best_and_the_last_weights_are_scored_and_applied_by_name(spoiled):
    scores = {name: evaluate(spoiled, weights=name) for name in (None, "last", "best")}
    assert scores[None].accuracy == scores["last"].accuracy == spoiled.summary["test_accuracy"]
    assert scores["best"].loss != scores["last"].loss
    steps = spoiled.summary["best"]["step"], spoiled.summary["steps"]
    assert scores["best"].of == f"digits, test part; the best weights, of step {steps[0]}"
    assert scores["last"].of == f"digits, test part; the last weights, of step {steps[1]}"
    assert scores[None].of == "digits, test part"
    best = evaluate(spoiled, weights="best", part="validation")
    assert best.loss == pytest.approx(spoiled.summary["best"]["value"], rel=1e-6), "the row by which they were chosen"
    x = load("digits").test.x[:50]
    applied = {name: predict(spoiled, x, weights=name).outputs for name in (None, "last", "best")}
    assert np.array_equal(applied[None], applied["last"])
    assert not np.array_equal(applied["best"], applied["last"])


@pytest.mark.parametrize("verb", [evaluate, lambda run, **how: predict(run, np.zeros((1, 1, 8, 8)), **how)])
def test_weights_that_there_are_not_are_refused(verb, spoiled, line):
    with pytest.raises(ConfigError, match="weights are best or last"):
        verb(spoiled, weights="first")


def test_a_run_of_an_older_version_has_its_last_weights_alone(spoiled, tmp_path):
    shutil.copytree(spoiled.folder, tmp_path / "old")
    about = store.read_sealed(tmp_path / "old" / store.MODEL)
    store.write_sealed(
        tmp_path / "old" / store.MODEL,
        {name: value for name, value in about.items() if name not in ("weights", "step", "beside")},
    )
    (tmp_path / "old" / store.RESULT).unlink()
    assert evaluate(tmp_path / "old").accuracy == spoiled.summary["test_accuracy"]
    assert evaluate(tmp_path / "old", weights="last").of.startswith("digits, test part; the last weights; ")
    with pytest.raises(ConfigError, match="only its last weights"):
        evaluate(tmp_path / "old", weights="best")
