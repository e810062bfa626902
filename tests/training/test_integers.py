import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import surefoot
from surefoot.errors import DataError
from surefoot.training.integers import Outside, looked_up
from surefoot.training.make import remarks, task

RNG = np.random.default_rng(0)
X = RNG.integers(0, 20, (200, 5))
Y = (X[:, 0] > 9).astype(int)
PLACE = {"device": "cpu", "precision": "fp32", "threads": 1}


class Tokens(nn.Module):
    def __init__(self, places=20, bag=False):
        super().__init__()
        self.table = nn.EmbeddingBag(places, 4) if bag else nn.Embedding(places, 4)
        self.head = nn.Linear(4 if bag else 20, 2)

    def forward(self, x):
        return self.head(self.table(x).flatten(1))


class Positions(nn.Module):
    """Embeds the place of an input and not its value, which it takes as a number."""

    def __init__(self):
        super().__init__()
        self.places, self.value, self.head = nn.Embedding(5, 4), nn.Linear(1, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head((self.value(x.float()[..., None]) + self.places(torch.arange(5))).mean(1))


class Mixed(nn.Module):
    """Embeds the first column, and takes the others as numbers."""

    def __init__(self, places=20):
        super().__init__()
        self.table, self.head = nn.Embedding(places, 4), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.cat([self.table(x[:, 0].long()), x[:, 1:].float()], 1))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.uint16])
@pytest.mark.parametrize("model", [Tokens, lambda: Tokens(bag=True), Mixed])
def test_integers_stay_integers_for_a_model_that_embeds_them(dtype, model):
    work = task(surefoot.load((X.astype(dtype), Y)), model, **PLACE)
    assert work.data.train.x.dtype == work.data.validation.x.dtype == torch.int64
    assert remarks(work) == ["integers are given to the model as they are, since it embeds them"]


@pytest.mark.parametrize(("x", "model"), [(X, Positions), (X, "mlp"), (X.astype(float), Positions)])
def test_otherwise_they_are_numbers(x, model):
    work = task(surefoot.load((x, Y)), model, **PLACE)
    assert work.data.train.x.dtype == torch.float32
    assert remarks(work) == []


def test_a_data_set_that_was_embedded_once_can_be_taken_as_numbers():
    embedded = task(surefoot.load((X, Y)), Tokens, **PLACE).data
    assert task(embedded, "mlp", **PLACE).data.train.x.dtype == torch.float32
    assert task(embedded, Tokens, **PLACE).data.train.x.dtype == torch.int64


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("value", [20, -1])
@pytest.mark.parametrize("model", [Tokens, Mixed])
def test_a_token_without_a_place_is_named_before_the_first_step(part, value, model, tmp_path):
    parts = {name: (X.copy(), Y) for name in ("train", "validation", "test")}
    parts[part][0][7, 0] = value
    with pytest.raises(DataError, match=rf"{part} row 7: the number {value}: the model's embedding takes 0 to 19"):
        surefoot.train(parts, model, epochs=1, batch_size=10, runs_dir=tmp_path, **PLACE)
    assert list(tmp_path.iterdir()) == []


def test_a_long_sequence_is_looked_through_by_its_extremes():
    x = RNG.integers(0, 20, (30, 700))
    x[11, 600] = 99
    with pytest.raises(DataError, match="row 11: the number 99"):
        task(surefoot.load((x, np.arange(30) % 2), validation=0), lambda: Tokens(bag=True), **PLACE)


def test_what_is_looked_up_is_seen_and_judged():
    model = Tokens()
    with looked_up(model) as found:
        model(torch.zeros(2, 5, dtype=torch.int64))
    assert [each.shape for each in found] == [(2, 5)]
    with pytest.raises(Outside), looked_up(model):
        model(torch.full((2, 5), 20))
    model(torch.zeros(2, 5, dtype=torch.int64))
    assert len(found) == 1, "nothing is left behind"


def test_tokens_pass_every_verb(tmp_path):
    loader = DataLoader(TensorDataset(torch.as_tensor(X), torch.as_tensor(Y)), batch_size=20)
    for data in (loader, (X, Y), TensorDataset(torch.as_tensor(X), torch.as_tensor(Y))):
        for step in (surefoot.check_wiring, surefoot.check_initial_loss, surefoot.overfit_sample):
            assert (made := step(Tokens(), data)).verdict != "fail", (data, made.reason)
    found = surefoot.find_lr(Tokens, loader, steps=60, seeds=3, batch_size=20, range_test=False, **PLACE)
    assert found.value is not None
    assert np.isfinite(surefoot.gradient_noise(Tokens, loader, batch_size=20, **PLACE).loss)
    np.savez(tmp_path / "tokens.npz", x=X, y=Y)
    result = surefoot.train(
        tmp_path / "tokens.npz", Tokens, epochs=5, lr=0.5, batch_size=10, runs_dir=tmp_path, **PLACE
    )
    assert "integers are given" in result.notes[0]
    scores = surefoot.evaluate(result, model=result.model)
    assert scores.accuracy > 0.8
    assert surefoot.evaluate(result, (X, Y)).accuracy > 0.8
    for given in (X, X.astype(float), tmp_path / "tokens.npz", torch.as_tensor(X)):
        assert np.mean(surefoot.predict(result, given).outputs.argmax(1) == Y) > 0.8


def test_predict_names_tokens_without_a_place_and_fractions(tmp_path):
    result = surefoot.train((X, Y), Tokens, epochs=1, batch_size=10, runs_dir=tmp_path, **PLACE)
    x = X[:3].copy()
    x[1, 2] = 30
    found = surefoot.predict(result, x)
    assert found.errors == (None, "it holds 30; the model's embedding takes 0 to 19", None)
    assert found.labels[0] == surefoot.predict(result, X[:1]).labels[0]
    with pytest.raises(DataError, match="row 1: the number 30"):
        surefoot.evaluate(result, (x, Y[:3]))
    with pytest.raises(DataError, match="whole numbers"):
        surefoot.predict(result, X[:3] + 0.5)
    with pytest.raises(DataError, match="whole numbers"):
        surefoot.evaluate(result, (X[:3] + 0.5, Y[:3]))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (({"ids": torch.arange(40).reshape(20, 2), "x": torch.randn(20, 2)}, torch.arange(20) % 2), "row 15: .*31"),
        (
            ({"ids": torch.arange(40).reshape(20, 2) % 9 - 1, "x": torch.randn(20, 2)}, torch.arange(20) % 2),
            "number -1",
        ),
    ],
)
def test_a_number_of_several_inputs_without_a_place_is_named(data, named):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(31, 4), nn.Linear(6, 2)

        def forward(self, ids, x):
            return self.head(torch.cat([self.table(ids).mean(1), x], 1))

    if named.startswith("row"):
        data = ({"ids": data[0]["ids"].clamp_max(31), "x": data[0]["x"]}, data[1])
    with pytest.raises(DataError, match=named):
        surefoot.task(surefoot.load(data, validation=0), Net())


def test_tokens_without_a_place_are_named():
    ids = torch.arange(40).reshape(20, 2) % 12
    with pytest.raises(DataError, match="row 5: the number 11: the model's embedding takes 0 to 10"):
        surefoot.task(surefoot.load((ids, ids), validation=0), nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 12)))
