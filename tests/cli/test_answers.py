"""Every kind of targets from the command line: trained, resumed, scored and applied, in the formats that hold it."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from surefoot.cli.app import run as typed
from surefoot.inference.evaluate import evaluate
from surefoot.inference.predict import predict

CODE = '''
import torch
from torch import nn


class Two(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.table, self.head = nn.Embedding(20, 4), nn.Linear(7, outputs)

    def forward(self, ids, mask, more):
        return self.head(torch.cat([(self.table(ids) * mask.unsqueeze(-1)).sum(1), more], 1))


def pixels(input_shape, outputs):
    return nn.Conv2d(input_shape[0], outputs, 3, padding=1)


class Words(nn.Module):
    """Takes its batch as one mapping."""

    def __init__(self, outputs):
        super().__init__()
        self.table, self.head = nn.Embedding(outputs, 8), nn.Linear(8, outputs)

    def forward(self, batch):
        return {"scores": self.head(self.table(batch["input_ids"]).cumsum(1))}


def forward(model, inputs):
    return model(inputs)["scores"]


def loss_fn(model, batch):
    scores = model(batch)["scores"]
    return nn.functional.cross_entropy(scores.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, more):
        return self.head(more)


def dense(outputs, targets):
    return (outputs[:, :, None] - targets).square().mean()
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with code, data of each kind, and a run of each."""
    place = tmp_path_factory.mktemp("place")
    (place / "own_nets.py").write_text(CODE)
    draw = np.random.default_rng(0)
    ids, mask, more = draw.integers(0, 20, (120, 5)), draw.random((120, 5)) > 0.3, draw.normal(size=(120, 3))
    np.savez(place / "names.npz", ids=ids, mask=mask, more=more, labels=(more[:, 0] > 0).astype(int))
    both = np.c_[more[:, 0] > 0, more[:, 1] > 0].astype(int)
    np.savez(place / "places.npz", **{"x.ids": ids, "x.mask": mask, "x.more": more, "y": both})
    image = draw.integers(0, 255, (60, 3, 8, 8), dtype=np.uint8)
    masks = (image[:, 0] > 100).astype(int)
    np.savez(place / "masks.npz", x_train=image, y_train=masks, x_test=image[:9], y_test=masks[:9])
    parts = {"train": slice(None), "test": slice(9)}
    words = {"input_ids": ids, "labels": np.roll(ids, -1, 1)}
    named = {f"{key}_{name}": each[at] for name, at in parts.items() for key, each in words.items()}
    np.savez(place / "words.npz", **named)
    np.savez(place / "any.npz", x=more, y=draw.normal(size=(120, 2, 3)))
    (place / "below").mkdir()
    for name, at in (("0", 0), ("1", 1), ("below/1", 2)):
        Image.fromarray(image[at].transpose(1, 2, 0)).save(place / f"{name}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, words in RUNS.items():
            made = ["--name", name, "--epochs", "2", "--batch-size", "16", "--quiet", "--no-report", "--device", "cpu"]
            assert typed(["train", *words, *made]) == 0, name
    return place


RUNS = {
    "classes": ["names.npz", "--model", "own_nets:Two"],
    "labels": ["places.npz", "--model", "own_nets:Two"],
    "masks": ["masks.npz", "--model", "own_nets:pixels"],
    "words": ["words.npz", "--model", "own_nets:Words", "--forward", "own_nets:forward"],
    "of-batch": ["words.npz", "--model", "own_nets:Words", "--loss-fn", "own_nets:loss_fn"],
    "any": ["any.npz", "--model", "own_nets:Flat", "--loss", "own_nets:dense"],
}


@pytest.fixture
def answer(place, monkeypatch, capsys):
    """A function that types a command in the place of the runs."""
    monkeypatch.chdir(place)

    def answer(*words):
        capsys.readouterr()
        return typed([str(word) for word in words]), capsys.readouterr()

    return answer


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_scored_and_goes_on_from_its_name_alone(answer, name):
    code, captured = answer("evaluate", name, "--json")
    plain = json.loads(captured.out)
    assert code == 0
    whole = evaluate(f"runs/{name}")
    assert plain["examples"] == whole.examples
    if name != "classes":
        assert plain["loss"] == pytest.approx(whole.loss)
        assert (plain["accuracy"] is None) == (name in ("of-batch", "any"))
    code, captured = answer("evaluate", name)
    assert code == 0
    assert "scored" in captured.out
    code, captured = answer("resume", name)
    assert code == 0, captured.err
    assert "is finished" in captured.err


@pytest.mark.parametrize(
    ("name", "data"),
    [("classes", "names.npz"), ("labels", "places.npz"), ("words", "words.npz"), ("any", "any.npz")],
)
def test_rows_are_those_of_the_library(answer, name, data):
    expected = predict(f"runs/{name}", data)
    code, captured = answer("predict", name, data, "--json")
    assert code == 0, captured.err
    rows = json.loads(captured.out)["predictions"]
    assert rows == json.loads(json.dumps(expected.to_dicts()))
    code, captured = answer("predict", name, data, "--csv")
    cells = list(csv.DictReader(io.StringIO(captured.out)))
    assert [row["name"] for row in cells] == list(expected.names)
    if name == "labels":
        assert [[float(row["0"]), float(row["1"])] for row in cells] == pytest.approx(expected.outputs, rel=1e-6)
    if name == "words":
        assert [row["tokens"] for row in cells] == [" ".join(map(str, each)) for each in expected.outputs]
        assert cells[0]["next"] == expected.top(0, 1)[0][0]
    if name == "any":
        assert float(cells[3]["value 1"]) == pytest.approx(float(expected.outputs[3, 1]))
    code, captured = answer("predict", name, data)
    assert code == 0
    assert len(captured.out.splitlines()) == len(expected) + 1


def test_images_become_masks_arrays_or_a_summary(answer, place, tmp_path):
    expected = predict("runs/masks", ["0.png", "1.png", "below/1.png"])
    (tmp_path / "bad.png").write_bytes(b"none")
    images = ["0.png", "1.png", "below", tmp_path / "bad.png"]
    code, captured = answer("predict", "masks", *images, "--out", tmp_path / "out")
    assert code == 1
    assert "wrote 3 masks" in captured.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1-2.png", "1.png"]
    for name, mask in zip(("0", "1", "1-2"), expected.outputs, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / f"{name}.png")), mask)
    code, captured = answer("predict", "masks", "0.png", tmp_path / "bad.png", "--out", tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as arrays:
        np.testing.assert_array_equal(arrays["outputs"][0], expected.outputs[0])
        assert (arrays["outputs"][1] == -100).all()
        assert arrays["errors"][1]
    _, captured = answer("predict", "masks", "0.png", "--json")
    assert json.loads(captured.out)["predictions"][0]["mask"] == expected.outputs[0].tolist()
    _, captured = answer("predict", "masks", "0.png")
    assert "%" in captured.out.splitlines()[1]


MISTAKES = [
    (["predict", "masks", "0.png", "--csv"], 2, "holds no mask"),
    (["predict", "labels", "places.npz", "--out", "folder"], 2, "a folder holds masks"),
    (["predict", "masks", "0.png", "--out", "below"], 2, "new or empty"),
    (["predict", "labels", "places.npz", "--top", "2"], 2, "predicts multilabel"),
    (["predict", "classes", "masks.npz"], 1, "name them ids, mask, more"),
    (["predict", "of-batch", "words.npz"], 1, "--forward"),
    (["predict", "of-batch", "words.npz", "--forward", "own_nets:nothing"], 2, "has no 'nothing'"),
    (["evaluate", "classes", "--data", "places.npz"], 1, "one for each example"),
    (["evaluate", "masks", "--data", "names.npz"], 1, "several inputs"),
    (["train", "words.npz", "--model", "own_nets:Words", "--loss-fn", "loss_fn"], 2, "package.module:function"),
    (["train", "words.npz", "--model", "own_nets:Words", "--loss-fn", "absent:loss_fn"], 2, "importable"),
    (["train", "words.npz", "--model", "own_nets:Words", "--loss-fn", "own_nets:Words"], 2, "without arguments"),
    (["train", "names.npz", "--model", "own_nets:Two", "--loss", "mee"], 2, "did you mean"),
    (["train", "names.npz", "--model", "own_nets:Two", "--forward", "own_nets:CODE"], 2, "has no"),
    (
        ["train", "words.npz", "--model", "own_nets:Words", "--loss-fn", "own_nets:loss_fn", "--loss", "mse"],
        2, "loss_fn alone",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "message"), MISTAKES)
def test_every_mistake_is_one_line_and_a_code(answer, words, code, message):
    found, captured = answer(*words)
    assert found == code, captured.err
    assert message.lower() in captured.err.lower()
    assert len([line for line in captured.err.splitlines() if line.startswith("surefoot:")]) == 1
    assert "Traceback" not in captured.err


def test_an_image_is_no_input_of_several_arrays(answer):
    code, captured = answer("predict", "classes", "0.png", "--json")
    assert code == 1
    assert "in an .npz" in json.loads(captured.out)["predictions"][0]["error"]


def test_other_arrays_of_a_batch_are_called_as_the_run_is_told(answer):
    code, captured = answer("predict", "of-batch", "words.npz", "--forward", "own_nets:forward", "--csv")
    assert code == 0, captured.err
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert len(rows) == 9
