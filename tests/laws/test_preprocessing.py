"""What is fitted on the training part belongs to the model: `predict`, the returned model and plain PyTorch agree, and
units do not matter."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import image_arrays
from torch import nn

import surefoot
from surefoot.data import tree
from surefoot.data.batches import fetch
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import fit
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import fit_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import Way

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3))
LINE = 2 * X[:, 0] - X[:, 1]
TOKENS = RNG.integers(0, 20, (300, 5))
PLACE = {"device": "cpu", "precision": "fp32", "threads": 1}
DOCUMENT = Path(__file__).parents[2] / "docs" / "record.md"


class Net(nn.Module):
    """Takes examples of any shape."""

    def __init__(self, inputs, outputs, end=None):
        super().__init__()
        self.body, self.head, self.end = nn.Linear(inputs, 8), nn.Linear(8, outputs), end or nn.Identity()

    def forward(self, x):
        return self.end(self.head(self.body(x.flatten(1)).relu()))


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(20, 4), nn.Linear(20, 2)

    def forward(self, x):
        return self.head(self.table(x).flatten(1))


def seconds(n=300):
    """The only signal is a column of seconds since 1970, which float32 rounds to a few values."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 3))
    x[:, 1] = 1.7e9 + 20 * x[:, 1]
    return x, (x[:, 1] > 1.7e9).astype(int)


KINDS = {
    "pixels": (image_arrays(60), lambda: Net(192, 3), {}),
    "float pixels": ((image_arrays(60)[0].astype(np.float32) / 255, image_arrays(60)[1]), lambda: Net(192, 3), {}),
    "numbers": ((X * [1, 50, 1e-3] + 7, (LINE > 0).astype(int)), lambda: Net(3, 2), {}),
    "numbers as they are": ((X, (LINE > 0).astype(int)), lambda: Net(3, 2), {"normalise": False}),
    "seconds": (seconds(), lambda: Net(3, 2), {}),
    "sequences": ((RNG.normal(size=(90, 4, 3)) * [1000, 1, 0.01], np.arange(90) % 2), lambda: Net(12, 2), {}),
    "channels": ((RNG.normal(3, 2, size=(90, 2, 4, 4)), np.arange(90) % 2), lambda: Net(32, 2), {}),
    "tokens": ((TOKENS, (TOKENS[:, 0] > 9).astype(int)), Embedding, {}),
    "prices": ((X, 350_000 + 80_000 * LINE), lambda: Net(3, 1), {"target": "numbers"}),
    "absolute error": ((X, 350_000 + 80_000 * LINE), lambda: Net(3, 1), {"target": "numbers", "loss": "mae"}),
    "two units": ((X, np.c_[1e6 * LINE, 1e-3 * X[:, 2] - 5]), lambda: Net(3, 2), {"target": "numbers"}),
    "targets as they are": ((X, LINE), lambda: Net(3, 1), {"target": "numbers", "standardise_targets": False}),
    "a loss of one's own": ((X, LINE), lambda: Net(3, 1), {"target": "numbers", "loss": nn.L1Loss()}),
    "targets of one time": ((X, 1.7e9 + 20 * LINE), lambda: Net(3, 1), {"target": "numbers"}),
    "several labels": (
        (X, np.c_[LINE > 0, X[:, 2] > 0].astype(float)), lambda: Net(3, 2), {"target": "numbers", "loss": "bce"},
    ),
    "two classes by bce": ((X, (LINE > 0).astype(int)), lambda: Net(3, 2), {"loss": "bce"}),
    "a softmax at its end": (
        (X, (LINE > 0).astype(int)), lambda: Net(3, 2, nn.Softmax(1)),
        {"loss": lambda p, t: F.nll_loss(p.clamp_min(1e-9).log(), t)},
    ),
}  # fmt: skip


class Tree(nn.Module):
    """Takes whole numbers to embed, a mask of them, and numbers or images, by name or by place."""

    def __init__(self, flat, outputs):
        super().__init__()
        self.table, self.head = nn.Embedding(20, 4), nn.Linear(4 + flat, outputs)

    def forward(self, ids, mask, more):
        words = (self.table(ids) * mask.unsqueeze(-1)).sum(1)
        return self.head(torch.cat([words, more.flatten(1)], 1))


class Sequences(nn.Module):
    """A class for each position, of tokens of any length, with a bias of the last in each."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(20, 8), nn.Linear(8, 20)

    def forward(self, input_ids, attention_mask=None):
        words = self.table(input_ids).cumsum(1)
        return self.head(words if attention_mask is None else words * attention_mask.unsqueeze(-1))


MASK = RNG.random((300, 5)) > 0.3
PIXELS = image_arrays(300)[0]
TWO = np.c_[LINE > 0, X[:, 2] > 0].astype(int)
NEXT = np.where(RNG.random((300, 5)) < 0.2, -100, np.roll(TOKENS, -1, 1))
BY_NAME = {"ids": TOKENS, "mask": MASK, "more": X * [1, 50, 1e-3] + 7}
TREES = {
    "a mapping": ((BY_NAME, (LINE > 0).astype(int)), lambda: Tree(3, 2), {}),
    "a mapping and numbers": ((BY_NAME, 350_000 + 80_000 * LINE), lambda: Tree(3, 1), {"target": "numbers"}),
    "a tuple": (((TOKENS, MASK, seconds(300)[0]), (LINE > 0).astype(int)), lambda: Tree(3, 2), {}),
    "an image and numbers": (
        ({"ids": TOKENS, "mask": MASK.astype(int), "more": PIXELS}, image_arrays(300)[1]), lambda: Tree(192, 3), {}
    ),
    "labels": ((X * 50 + 9, TWO), lambda: Net(3, 2), {}),
    "labels of a mapping": ((BY_NAME, TWO), lambda: Tree(3, 2), {}),
    "masks": ((PIXELS, (PIXELS[:, 0] > 100).astype(int)), lambda: nn.Conv2d(3, 2, 3, padding=1), {}),
    "tokens": ((TOKENS, NEXT), Sequences, {}),
    "tokens of a mapping": (
        {"input_ids": TOKENS, "attention_mask": MASK.astype(int), "labels": NEXT}, Sequences, {"target": "tokens"},
    ),
    "anything": (
        (X * 50, {"a": LINE[:, None], "b": X[:, :1]}), lambda: Net(3, 2),
        {"loss": lambda out, y: (out - torch.cat([y["a"], y["b"]], 1)) ** 2},
    ),
}  # fmt: skip


def inputs_of(data):
    """Return raw inputs, and the targets."""
    if isinstance(data, dict):
        return {name: each for name, each in data.items() if name != "labels"}, data["labels"]
    return data


@pytest.mark.parametrize("kind", TREES)
def test_of_trees_and_of_every_kind_of_targets_they_agree_too(kind, tmp_path):
    data, net, settings = TREES[kind]
    x, y = inputs_of(data)
    result = surefoot.train(data, net, epochs=3, lr=0.1, batch_size=10, runs_dir=tmp_path, **PLACE, **settings)
    raw = tree.map_leaves(lambda leaf: torch.as_tensor(np.asarray(leaf))[:40], x)
    loaded = surefoot.load_trained(result.folder, net()).model
    with torch.no_grad():
        outputs = [result.model(raw), loaded(raw), plain(result.folder, net())(raw), copy.deepcopy(loaded)(raw)]
        if isinstance(raw, dict):
            outputs += [loaded(**raw), loaded(*raw.values())]
        if isinstance(raw, tuple):
            outputs += [loaded(*raw), loaded(raw[0], raw[1], more=raw[2])]
    found = surefoot.predict(result, x)
    target = result.config.target
    for each in outputs:
        if target in ("segmentation", "tokens"):
            np.testing.assert_array_equal(each.argmax(1 if target == "segmentation" else -1), found.outputs[:40])
        if target == "tokens":
            np.testing.assert_allclose(each[:, -1].log_softmax(-1), found.last[:40], rtol=1e-6, atol=1e-6)
        elif target != "segmentation":
            sure = {"classes": lambda out: out.softmax(1), "multilabel": torch.sigmoid}.get(target, lambda out: out)
            near = 1e-6 * (np.std(y) if target == "numbers" else 1)
            np.testing.assert_allclose(sure(each.double()), found.outputs[:40], rtol=1e-6, atol=near)
    scores = surefoot.evaluate(result, data)
    if target in ("segmentation", "tokens", "multilabel"):
        said = found.outputs > 0.5 if target == "multilabel" else found.outputs
        counted = np.asarray(y) != -100
        assert scores.accuracy.value == pytest.approx((said == y)[counted].mean())
        assert scores.answers == counted.sum()
    elif target == "classes":
        assert scores.accuracy == np.mean(found.outputs.argmax(1) == y)


@pytest.mark.parametrize("kind", KINDS)
def test_predict_the_returned_model_and_plain_pytorch_agree(kind, tmp_path):
    data, net, settings = KINDS[kind]
    result = surefoot.train(data, net, epochs=3, lr=0.1, batch_size=10, runs_dir=tmp_path, **PLACE, **settings)
    raw = torch.as_tensor(np.asarray(data[0]))[:40]
    loaded = surefoot.load_trained(result.folder, net()).model
    with torch.no_grad():
        outputs = [result.model(raw), loaded(raw), plain(result.folder, net())(raw)]
    found = surefoot.predict(result, data[0]).outputs[:40]
    near = 1e-6 * (1 if result.config.target == "classes" else np.std(data[1]))
    for each in outputs:
        answers = each.double().softmax(1) if result.config.target == "classes" else each.double()
        np.testing.assert_allclose(answers.reshape(found.shape).numpy(), found, rtol=1e-6, atol=near)
    scores = surefoot.evaluate(result, data)
    y = np.asarray(data[1])
    if result.config.target == "numbers":
        whole = surefoot.predict(result, data[0]).outputs.reshape(y.shape)
        assert scores.mae == pytest.approx(np.abs(whole - y).mean(), rel=1e-4)
        assert scores.r2 > 0.3
    else:
        assert scores.accuracy == np.mean(surefoot.predict(result, data[0]).outputs.argmax(1) == y)


def plain(folder, net):
    """Return the function of the lines in docs/record.md."""
    code = (
        DOCUMENT.read_text(encoding="utf-8")
        .partition("no Surefoot.")[2]
        .partition("```python\n")[2]
        .partition("```")[0]
    )
    names = {"folder": folder, "net": net}
    exec(compile(code, str(DOCUMENT), "exec"), names)
    return names["answer"]


def test_older_runs_are_loaded_as_they_were_trained(tmp_path):
    data, net, _ = KINDS["pixels"]
    result = surefoot.train(data, net, epochs=1, batch_size=10, runs_dir=tmp_path, **PLACE)
    before = surefoot.predict(result, data[0]).outputs
    path = result.folder / "model.json"
    information = json.loads(path.read_text())
    del information["preprocessing"], information["seal"]
    path.write_text(json.dumps(information))
    np.testing.assert_array_equal(surefoot.predict(result, data[0]).outputs, before)


def fitted(x, y, **settings):
    """Return a run of one seed, and what it answers."""
    data = surefoot.load((x, y), target="numbers")
    work = surefoot.task(data, "mlp", **PLACE, **settings)
    state, record = fit(
        work, surefoot.plan(surefoot.Recipe(lr=0.05, epochs=4, batch_size=30, clip_norm=1), data.examples)
    )
    return work, state, record


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize(("scale", "shift"), [(1e6, 1e8), (1e-6, 0.0), (-(2**20), 3.0), (1e9, 0.0)])
def test_the_unit_of_targets_changes_only_the_unit_of_answers_and_losses(loss, scale, shift):
    _, alone, one = fitted(X, LINE, loss=loss)
    work, state, other = fitted(X, scale * LINE + shift, loss=loss)
    if scale > 0:
        for name, value in alone.model.state_dict().items():
            torch.testing.assert_close(state.model.state_dict()[name], value, rtol=1e-4, atol=1e-4)
        power = 1 if loss == "mae" else 2
        for a, b in zip(one.rows, other.rows, strict=True):
            assert b.val_loss == pytest.approx(a.val_loss * scale**power, rel=1e-3)
            assert b.train_loss == pytest.approx(a.train_loss * scale**power, rel=1e-3)
            assert b.grad_norm == pytest.approx(a.grad_norm, rel=1e-3)
    else:
        assert other.last.val_loss < 0.2 * one.rows[0].train_loss * abs(scale) ** (1 if loss == "mae" else 2)
    judged = evaluate_part(work, state.model, state.weights, work.data.validation)
    assert judged.loss == pytest.approx(other.last.val_loss, rel=1e-6)


def test_the_recorded_loss_is_that_of_torch_in_the_unit_of_the_targets(tmp_path):
    y = 350_000 + 80_000 * LINE
    parts = {"train": (X[:200], y[:200]), "validation": (X[200:], y[200:])}
    of_torch = {"mse": nn.MSELoss(), "mae": nn.L1Loss(), "huber": nn.HuberLoss(delta=y[:200].std())}
    for loss, measure in of_torch.items():
        result = surefoot.train(parts, "mlp", target="numbers", loss=loss, epochs=2, batch_size=20, runs_dir=tmp_path)
        with torch.no_grad():
            answers = result.model(torch.tensor(X[200:]))[:, 0].double()
        assert result.summary["val_loss"] == pytest.approx(float(measure(answers, torch.tensor(y[200:]))), rel=1e-4)


def test_the_unit_of_inputs_changes_nothing():
    y = (LINE > 0).astype(int)
    ends = []
    for x in (X, X * 1e3 + 1e6, X * 1e-6, X + 1e9):
        data = surefoot.load((x, y))
        work = surefoot.task(data, "mlp", **PLACE)
        ends.append(fit(work, surefoot.plan(surefoot.Recipe(epochs=2, batch_size=30), data.examples))[0].model)
    for other in ends[1:]:
        for name, value in ends[0].state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-3, atol=1e-3)


def test_a_column_of_seconds_is_learned(tmp_path):
    x, y = seconds(600)
    result = surefoot.train((x, y), "linear", lr=0.1, epochs=20, batch_size=32, runs_dir=tmp_path, **PLACE)
    assert surefoot.evaluate(result, seconds(200)).accuracy > 0.98
    assert np.mean(surefoot.predict(result, x).outputs.argmax(1) == y) > 0.99


@pytest.mark.parametrize("kind", ["float32", "int32", "int64", "float16"])
def test_what_float32_holds_is_normalised_in_float32_as_before(kind):
    x = (X * 100).astype(kind)
    data = surefoot.load((x, LINE), target="numbers", validation=0)
    assert data.train.x.dtype == torch.float32
    narrow = torch.as_tensor(x.astype(np.float32))
    expected = (narrow - data.mean.float()) / data.std.float()
    assert torch.equal(fetch(data, data.train, np.arange(300))[0], expected)


def test_sequences_are_normalised_by_feature_and_images_of_numbers_by_channel():
    x = RNG.normal(size=(50, 10, 3)) * [1000, 1, 0.01] + np.arange(10)[:, None]
    data = surefoot.load((x, np.arange(50) % 2), validation=0)
    assert data.mean.shape == data.std.shape == (3,)
    found = fetch(data, data.train, np.arange(50))[0]
    np.testing.assert_allclose(found.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((0, 1), correction=0), 1, atol=1e-5)
    assert surefoot.load((RNG.normal(size=(50, 2, 4, 4)), np.arange(50) % 2)).mean.shape == (2, 1, 1)


@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize("way", [Way("loop"), Way("stacked", 3), Way("loop", processes=2)])
def test_a_member_of_a_population_is_the_run_alone_in_every_unit(scale, way):
    data = surefoot.load((X, scale * LINE + 3 * scale), target="numbers")
    work = surefoot.task(data, "mlp", **PLACE)
    recipes = [surefoot.Recipe(lr=lr, epochs=2, batch_size=30) for lr in (0.01, 0.02, 0.03)]
    members = [Member(work, surefoot.plan(recipe, data.examples)) for recipe in recipes]
    for member, record in zip(members, fit_many(members, Engine(way))[1], strict=True):
        alone = fit(member.task, member.plan)[1]
        for a, b in zip(alone.rows, record.rows, strict=True):
            assert b.val_loss == pytest.approx(a.val_loss, rel=1e-3)
            assert b.train_loss == pytest.approx(a.train_loss, rel=1e-3)
            np.testing.assert_allclose(b.losses, a.losses, rtol=1e-3)
