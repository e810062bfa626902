"""docs/record.md is the interface to a run's files: each of its tables holds, field by field, for runs done here."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import surefoot
from surefoot.record import progress, scores, store
from surefoot.settings import flat_settings
from surefoot.training.configure import resolve
from surefoot.training.open import open_run

TEXT = (Path(__file__).parents[2] / "docs" / "record.md").read_text(encoding="utf-8")
TYPES = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "text": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def fields(title):
    """Return the fields under a heading and their types."""
    part = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    (found,) = [each for each in part if each.splitlines()[0] == title]
    return dict(re.findall(r"^\| `(\w+)` \| ([a-z ]+) \|", found, re.MULTILINE))


def agrees(value, documented):
    assert set(value) == set(documented)
    for name, types in documented.items():
        assert any(TYPES[each](value[name]) for each in types.split(" or ")), (name, value[name], types)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    tuned = surefoot.tune("digits", "linear", budget="1x", epochs=6, name="tuned", runs_dir=runs)
    assert tuned.result is not None
    return tuned.result.folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run half done, then diverged: what does not exist is null there."""
    runs = tmp_path_factory.mktemp("runs")
    recipe = {"epochs": 20, "lr": 1e12, "momentum": 0.99}
    config = resolve({"data": "digits", "model": "mlp", "validation": 0.0, "recipe": recipe})
    with open_run(config, name="lost", runs_dir=runs) as run:
        run.advance(1)
        beat = json.loads((run.folder / progress.PROGRESS).read_text())
        while not run.done:
            run.advance()
        run.finish()
    assert not (run.folder / progress.PROGRESS).exists()
    return run.folder, beat


def test_a_tuned_run(tuned):
    agrees(json.loads((tuned / store.RESULT).read_text()), fields("result.json"))
    agrees(json.loads((tuned / store.ENVIRONMENT).read_text()), fields("environment.json"))
    for title, least in (("metrics.jsonl", 6), ("decisions.jsonl", 3), ("members.jsonl", 2)):
        found = lines(tuned / title)
        assert len(found) >= least
        for each in found:
            assert each.pop("seal"), "see the prose"
            agrees(each, fields(title))
    result = json.loads((tuned / store.RESULT).read_text())
    assert result["schema"] == store.SCHEMA
    agrees(result["baseline"], fields("baseline"))
    assert set(result["cost"]) == set(re.findall(r"`(\w+)`", re.search(r"\| `cost` .*", TEXT)[0])) - {"cost"}
    for each in result["decisions"]:
        agrees(each, fields("decisions.jsonl"))
        for finding in each["findings"]:
            assert set(finding) == {"name", "verdict", "reason", "advice"}


def test_a_run_that_diverged_without_a_validation_part(trained):
    folder, beat = trained
    more = {"recipe", "decisions", "cost", "searched", "unchecked"}
    result = json.loads((folder / store.RESULT).read_text())
    assert result["outcome"] == "diverged"
    agrees(result, {name: types for name, types in fields("result.json").items() if name not in more})
    for each in lines(folder / store.METRICS):
        each.pop("seal")
        agrees(each, fields("metrics.jsonl"))
    agrees(beat, fields("progress.json"))


def test_the_scores_of_a_run_and_of_one_with_very_many_classes(tuned):
    documented = fields("scores.json")
    agrees(json.loads((tuned / scores.SCORES).read_text()), documented)
    c = scores.MATRIX_CLASSES + 1
    names = tuple(map(str, range(c)))
    many = scores.scored_classes(np.eye(c)[:30], np.arange(30) // 2, names, of="a", name_of=str, picture=lambda i: None)
    many = json.loads(json.dumps(many)) | {"seal": ""}  # which writing adds
    agrees(many, {("confusion_pairs" if name == "confusion" else name): of for name, of in documented.items()})
    assert many["confusion_pairs"][:3] == [[0, 0, 1], [0, 1, 1], [1, 2, 1]]
    assert f"up to {scores.MATRIX_CLASSES} classes" in TEXT
    for name, values in (("per_class", many["per_class"]), ("calibration", many["calibration"]),
                         ("mistakes", many["mistakes"])):  # fmt: skip
        assert set(values[0]) == set(re.findall(r"`(\w+)`", re.search(rf"\| `{name}` .*", TEXT)[0])) - {name}


def test_every_name_in_the_prose_is_one_that_there_is():
    prose = re.sub(r"^[|#].*$", "", TEXT, flags=re.MULTILINE)
    tables = set(re.findall(r"^\| `(\w+)`", TEXT, re.MULTILINE))
    commands = {"--json", "curves", "show", "runs", "watch", "report", "check", "find-lr", "noise"}
    of_scores = {"mse", "rmse", "mae", "r2", "rmse_low", "rmse_high", "pairs", "confusion_pairs"}
    of_scores |= {"f1", "iou", "dice", "perplexity", "answers", "right", "loss_by_position"}
    of_scores |= {"masks", "png", "true_png", "predicted_png"}
    known = tables | set(flat_settings()) | commands | of_scores | {"null", "finished", "diverged"}
    named = set(re.findall(r"`([\w-]+)`", prose))
    assert named <= known, named - known


def test_every_file_of_a_run_is_named(tuned):
    for path in tuned.iterdir():
        assert path.name in TEXT or path.name in ("checkpoints", "lock", "model.json"), path.name
