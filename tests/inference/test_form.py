"""Inputs of several arrays are matched by name or place, and each is brought to its shape and type, or named."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import surefoot
from surefoot.errors import CheckpointError, DataError, SurefootError

DRAW = np.random.default_rng(0)
IDS, MASK, MORE = DRAW.integers(0, 9, (60, 5)), DRAW.random((60, 5)) > 0.3, DRAW.normal(size=(60, 3)).astype(np.float32)
X = {"ids": IDS, "mask": MASK, "more": MORE}
Y = (MORE[:, 0] > 0).astype(int)
PLACE = {"epochs": 2, "batch_size": 10, "lr": 0.1, "device": "cpu", "threads": 1}


class Net(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(7, outputs)

    def forward(self, ids, mask, more):
        words = (self.table(ids) * mask.unsqueeze(-1)).sum(1)
        return self.head(torch.cat([words, more.masked_fill(~mask[:, :3], 0.0)], 1))


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, batch):
        return {"scores": self.net(**batch)}


class Examples(Dataset):
    """Gives examples in one of the forms that people have."""

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return len(Y)

    def __getitem__(self, i):
        if i == 7 and self.form == "broken":
            raise RuntimeError("disk on fire")
        x = {name: torch.as_tensor(each[i]) for name, each in X.items()}
        return {
            "labelled": {**x, "labels": int(Y[i])}, "pair": (x, int(Y[i])), "bare": x, "broken": x,
            "tuple": tuple(x.values()), "tuple and label": (*x.values(), int(Y[i])),
        }[self.form]  # fmt: skip


class Stream(IterableDataset):
    def __iter__(self):
        return (Examples("bare")[i] for i in range(len(Y)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def named(runs):
    return surefoot.train((X, Y), Net, name="named", runs_dir=runs, **PLACE)


@pytest.fixture(scope="module")
def placed(runs):
    return surefoot.train((tuple(X.values()), Y), Net, name="placed", runs_dir=runs, **PLACE)


@pytest.fixture(scope="module")
def wrapped(runs):
    def call(model, inputs):
        return model(inputs)["scores"]

    return surefoot.train((X, Y), Wrapped, forward=call, name="wrapped", runs_dir=runs, **PLACE), call


@pytest.mark.parametrize("form", ["labelled", "pair", "bare"])
def test_datasets_are_applied_with_and_without_targets(named, form):
    expected = surefoot.predict(named, X).outputs
    np.testing.assert_allclose(surefoot.predict(named, Examples(form)).outputs, expected, rtol=1e-6)
    loader = DataLoader(Examples(form), batch_size=7, shuffle=True)
    np.testing.assert_allclose(surefoot.predict(named, loader).outputs, expected, rtol=1e-6)
    listed = [Examples(form)[i] for i in range(5)]
    np.testing.assert_allclose(surefoot.predict(named, listed).outputs, expected[:5], rtol=1e-6)


def test_a_stream_and_parts_of_a_data_set_are_applied(named):
    expected = surefoot.predict(named, X).outputs
    np.testing.assert_allclose(surefoot.predict(named, Stream()).outputs, expected, rtol=1e-6)
    part = surefoot.load((X, Y), validation=0).train
    np.testing.assert_allclose(surefoot.predict(named, part).outputs, expected, rtol=1e-6)


@pytest.mark.parametrize("form", ["tuple", "tuple and label"])
def test_inputs_by_place(placed, form):
    expected = surefoot.predict(placed, tuple(X.values())).outputs
    np.testing.assert_allclose(surefoot.predict(placed, Examples(form)).outputs, expected, rtol=1e-6)
    np.testing.assert_allclose(surefoot.predict(placed, list(X.values())).outputs, expected, rtol=1e-6)
    with torch.no_grad():
        raw = tuple(map(torch.as_tensor, X.values()))
        torch.testing.assert_close(placed.model(*raw), placed.model(raw))
        torch.testing.assert_close(placed.model(raw[0], raw[1], more=raw[2]), placed.model(list(raw)))


def test_a_dataset_of_one_tensor_with_labels(runs):
    result = surefoot.train((MORE, Y), "linear", runs_dir=runs, **PLACE)
    expected = surefoot.predict(result, MORE).outputs
    for given in (TensorDataset(torch.as_tensor(MORE)), TensorDataset(torch.as_tensor(MORE), torch.as_tensor(Y))):
        np.testing.assert_allclose(surefoot.predict(result, given).outputs, expected, rtol=1e-6)
    assert len(surefoot.predict(result, [tuple(row) for row in MORE[:4].tolist()])) == 4


def test_one_bad_example_stops_nothing(named):
    found = surefoot.predict(named, Examples("broken"))
    assert found.failed == 1
    assert "disk on fire" in found.errors[7]
    ids = np.array(IDS)
    ids[3, 2] = 44
    found = surefoot.predict(named, X | {"ids": ids})
    assert "it holds 44" in found.errors[3]
    assert found.failed == 1
    more = MORE.copy()
    more[5, 0] = np.nan
    assert [i for i, each in enumerate(surefoot.predict(named, X | {"more": more}).errors) if each] == [5]


MISTAKES = {
    "missing": ({"ids": IDS, "more": MORE}, "no 'mask'"),
    "extra": (X | {"lengths": IDS[:, 0]}, "'lengths', which is no input"),
    "misnamed": ({"ids": IDS, "mask": MASK, "mroe": MORE}, "Did you mean 'more'"),
    "by place": (tuple(X.values()), "'ids', 'mask', 'more'"),
    "one array": (MORE, "'ids', 'mask', 'more'"),
    "shape": (X | {"more": MORE[:, :2]}, r"'more': shape \(60, 2\): the model takes 3 numbers"),
    "length": (X | {"more": MORE[:50]}, "'more' 50"),
    "fractions": (X | {"ids": IDS + 0.5}, "fractions: the model takes whole numbers"),
    "no mask": (X | {"mask": IDS}, "other than 0 and 1"),
    "text": (X | {"more": np.full((60, 3), "a")}, "inputs hold numbers"),
    "a table": ("a.csv", "no table"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_every_mistake_is_one_message(named, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("1,2,3\n")
    given, message = MISTAKES[kind]
    with pytest.raises(DataError, match=message):
        surefoot.predict(named, given)
    if isinstance(given, dict) and kind not in ("fractions", "text"):
        with pytest.raises(DataError):
            surefoot.evaluate(named, (given, Y))


def test_other_types_that_hold_the_same_are_taken(named):
    expected = surefoot.predict(named, X).outputs
    other = {"ids": IDS.astype(float), "mask": MASK.astype(int), "more": torch.as_tensor(MORE, dtype=torch.float64)}
    np.testing.assert_allclose(surefoot.predict(named, other).outputs, expected, rtol=1e-5)
    assert surefoot.predict(named, {name: each[0] for name, each in X.items()}).outputs == pytest.approx(expected[:1])
    assert surefoot.evaluate(named, (other, Y)).accuracy == surefoot.evaluate(named, (X, Y)).accuracy


def test_the_model_takes_inputs_as_the_net_does_and_names_what_is_wrong(named):
    raw = {name: torch.as_tensor(each) for name, each in X.items()}
    with torch.no_grad():
        whole = named.model(raw)
        mixed = named.model(raw["ids"], more=raw["more"], mask=raw["mask"])
        for other in (named.model(**raw), named.model(*raw.values()), mixed):
            assert torch.equal(whole, other)
        for given in ({"ids": raw["ids"]}, raw | {"labels": raw["ids"]}):
            with pytest.raises(DataError):
                named.model(given)
            with pytest.raises((DataError, TypeError)):
                named.model(**given)
        assert named.model.to("meta")(**{name: each.to("meta") for name, each in raw.items()}).shape == (60, 2)


def test_a_function_that_was_an_object_is_given_again(wrapped):
    result, call = wrapped
    expected = surefoot.predict(result, X).outputs
    folder = result.folder
    for act in (
        lambda: surefoot.predict(folder, X, model=Wrapped),
        lambda: surefoot.evaluate(folder, (X, Y), model=Wrapped),
        lambda: surefoot.load_trained(folder, Wrapped),
    ):
        with pytest.raises(CheckpointError, match="with forward="):
            act()
    found = surefoot.predict(folder, X, model=Wrapped, forward=call).outputs
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert surefoot.evaluate(folder, (X, Y), model=Wrapped, forward=call) == surefoot.evaluate(result, (X, Y))
    loaded = surefoot.load_trained(folder, Wrapped, forward=call).model
    with torch.no_grad():
        torch.testing.assert_close(loaded(**X_TENSORS).softmax(1).double().numpy(), expected, rtol=1e-5, atol=1e-6)


X_TENSORS = {name: torch.as_tensor(each) for name, each in X.items()}


@pytest.mark.parametrize("way", ["loss", "loss_fn"])
def test_a_loss_that_was_an_object_is_given_again(way, runs):
    y = {"a": MORE[:, :1], "b": MORE[:, 1:2]}

    def loss(outputs, y):
        return ((outputs - torch.cat([y["a"], y["b"]], 1)) ** 2).mean(1)

    given = {"loss": loss, "loss_fn": lambda model, batch: loss(model(**batch[0]), batch[1])}[way]
    result = surefoot.train((X, y), Net, target="any", runs_dir=runs, **PLACE, **{way: given})
    scores = surefoot.evaluate(result, (X, y))
    assert scores.answers is None
    outputs = torch.as_tensor(surefoot.predict(result, X).outputs)
    expected = loss(outputs, {name: torch.as_tensor(each) for name, each in y.items()}).mean()
    assert scores.loss == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(CheckpointError, match=f"with {way}="):
        surefoot.evaluate(result.folder, (X, y), model=Net)
    assert surefoot.evaluate(result.folder, (X, y), model=Net, **{way: given}) == scores
    with pytest.raises(SurefootError):
        surefoot.evaluate(result, (X, {"a": MORE}))


class Positions(nn.Module):
    """Tells the next token from the last, in sequences of at most eight."""

    def __init__(self):
        super().__init__()
        self.table, self.places, self.head = nn.Embedding(9, 6), nn.Parameter(torch.zeros(8, 6)), nn.Linear(6, 12)

    def forward(self, ids):
        return self.head(self.table(ids) + self.places[: ids.shape[1]])


def test_sequences_of_another_length_are_told_on(runs):
    result = surefoot.train((IDS, np.roll(IDS, -1, 1)), Positions, target="tokens", runs_dir=runs, **PLACE)
    short = surefoot.predict(result, IDS[:4, :3])
    whole = surefoot.predict(result, IDS[:4])
    np.testing.assert_array_equal(short.outputs, whole.outputs[:, :3])
    assert short.last.shape == (4, 12)
    np.testing.assert_allclose(np.exp(short.last).sum(1), 1)
    found = surefoot.predict(result, TensorDataset(torch.as_tensor(IDS)))
    np.testing.assert_array_equal(found.outputs, surefoot.predict(result, IDS).outputs)
    with pytest.raises(DataError, match="cannot take inputs"):
        surefoot.predict(result, np.zeros((2, 9), int))
    scores = surefoot.evaluate(result, (IDS[:9, :4], np.full((9, 4), 11)))  # a token of the model's, though none here
    assert scores.answers == 36
    with pytest.raises(DataError, match="class 12"):
        surefoot.evaluate(result, (IDS[:9], np.full((9, 5), 12)))
    with pytest.raises(DataError, match="do not fit"):
        surefoot.evaluate(result, (IDS[:9], np.zeros((9, 4), int)))


class Places(nn.Module):
    """Embeds positions, of which it has eight."""

    def __init__(self):
        super().__init__()
        self.table, self.places, self.head = nn.Embedding(9, 6), nn.Embedding(8, 6), nn.Linear(6, 9)

    def forward(self, ids):
        return self.head(self.table(ids) + self.places(torch.arange(ids.shape[1])))


def test_a_sequence_that_is_too_long_is_told_from_a_token_that_is_not_there(runs):
    result = surefoot.train((IDS, np.roll(IDS, -1, 1)), Places, target="tokens", runs_dir=runs, **PLACE)
    assert "which is none of its inputs" in str(surefoot.predict(result, np.zeros((1, 9), int)).errors[0])
    assert "it holds 9" in str(surefoot.predict(result, np.full((1, 5), 9)).errors[0])


def test_pieces_without_an_answer_stand_among_the_others(runs):
    result = surefoot.train((IDS, np.roll(IDS, -1, 1)), Positions, target="tokens", runs_dir=runs, **PLACE)
    few = np.array(IDS[:300])
    few[:, 0] = 77  # every one of them
    assert surefoot.predict(result, few).failed == len(few)
    mixed = [tuple([torch.as_tensor(row)]) for row in (few[0], IDS[1], IDS[2][:3])]
    found = surefoot.predict(result, mixed)
    assert [error is None for error in found.errors] == [False, True, True]
    assert found.outputs[2, 3:].tolist() == [-100, -100]
    assert (found.outputs[0] == -100).all()
    assert found.last.shape == (3, 12)
    assert np.isnan(found.last[0]).all()


def test_lists_stand_for_arrays_as_json_has_them(runs):
    result = surefoot.train(X | {"labels": Y}, Net, runs_dir=runs, **PLACE)
    few = {name: each[:3] for name, each in X.items()}
    expected = surefoot.predict(result, few)
    assert np.array_equal(surefoot.predict(result, {k: v.tolist() for k, v in few.items()}).outputs, expected.outputs)
    alone = surefoot.predict(result, {name: each[0].tolist() for name, each in X.items()})
    assert np.allclose(alone.outputs, expected.outputs[:1])
    with pytest.raises(DataError, match="'ids'"):
        surefoot.predict(result, {**few, "ids": [[1, 2], [1]]})
