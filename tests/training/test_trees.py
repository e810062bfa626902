"""Models of every form that take several inputs, trained to the end; and those that cannot be, with the reason."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.training.task import remarks, task

N = 48
A = np.random.default_rng(0).normal(size=(N, 5)).astype("float32")
B = np.random.default_rng(1).normal(size=(N, 3)).astype("float32")
Y = (A[:, 0] + B[:, 0] > 0).astype(int)
RECIPE = surefoot.Recipe(lr=0.2, epochs=8, batch_size=12)


class Two(nn.Module):
    """Two inputs, as positional or keyword arguments."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.norm, self.hidden, self.head = nn.BatchNorm1d(8), nn.Linear(8, 16), nn.Linear(16, outputs)

    def forward(self, a, b):
        return self.head(self.hidden(self.norm(torch.cat([a, b], 1))).relu())


class Any(Two):
    """Any inputs."""

    def forward(self, *args, **kwargs):
        return super().forward(*args, *kwargs.values())


class Listed(Two):
    """One list of inputs."""

    def forward(self, inputs):
        assert isinstance(inputs, list)
        return super().forward(*inputs)


class Heads(Two):
    """Two heads: classes and a number."""

    def forward(self, a, b):
        logits = super().forward(a, b)
        return logits, logits[:, 0]


class Auxiliary(Two):
    """A second head, in training alone."""

    def forward(self, a, b):
        logits = super().forward(a, b)
        return (logits, logits) if self.training else logits


def heads_loss(outputs, targets):
    logits, number = outputs
    return F.cross_entropy(logits, targets["class"]) + F.mse_loss(number, targets["number"])


def first_loss(outputs, targets):
    return F.cross_entropy(outputs[0] if isinstance(outputs, tuple) else outputs, targets)


def trained(data, model, target="auto", **settings):
    """Return the record of a training alone, which that of one of two members must be up to rounding."""
    work = task(surefoot.load(data, target=target), model, threads=1, **settings)
    plan = surefoot.plan(RECIPE, work.data.examples)
    _, alone = surefoot.fit(work, plan)
    _, members = surefoot.fit_many([surefoot.Member(work, plan), surefoot.Member(work, plan)])
    assert members[1].last.val_loss == pytest.approx(alone.last.val_loss, rel=1e-4)
    return alone


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # of torch.compile, by torch
@pytest.mark.parametrize(
    ("data", "model", "settings"),
    [
        (((A, B), Y), Two, {}),
        (((A, B), Y), Any, {}),
        (({"a-b": A, "c.d": B}, Y), Any, {}),
        (((A, B), Y), Listed, {"forward": lambda model, x: model(list(x))}),
        (({"a": A, "b": B}, Y), Listed, {"forward": lambda model, x: model([x["a"], x["b"]])}),
        (((A, B), Y), lambda: torch.compile(Two()), {}),
        ({"a": A, "b": B, "labels": Y}, Two, {"precision": "bf16"}),
        ({"a": A.astype("float64"), "b": B.astype("float16"), "labels": Y}, Two, {}),
        ({"a": A, "b": B, "labels": Y}, Two, {"loss_fn": lambda m, b: F.cross_entropy(m(b["a"], b["b"]), b["labels"])}),
        (((A, B), {"class": Y, "number": A[:, 0]}), lambda: Heads(), {"loss": heads_loss}),
        (((A, B), Y), lambda: Heads(), {"loss": first_loss, "target": "any"}),
        (((A, B), Y), lambda: Auxiliary(), {"loss": first_loss, "target": "any"}),
    ],
    ids=["args", "*args", "odd keys", "list", "dict to list", "compiled", "bf16", "widths", "loss_fn", "heads",
         "a tuple for classes", "auxiliary head"],
)  # fmt: skip
def test_a_model_of_several_inputs_learns_alone_and_as_a_member(data, model, settings):
    record = trained(data, model, **settings)
    assert record.outcome.kind == "finished"
    assert record.rows[-1].train_loss < 0.8 * record.rows[0].train_loss


@pytest.mark.parametrize("model", [Heads, Auxiliary])
def test_several_outputs_are_evaluated_and_predicted_from_disk(model, tmp_path):
    settings = {"loss": first_loss, "target": "any", "batch_size": 12, "runs_dir": tmp_path, "name": "heads"}
    result = surefoot.train(((A, B), Y), lambda: model(), epochs=2, **settings)
    from_disk = {"runs_dir": tmp_path, "model": lambda: model()}
    data = surefoot.load(((A, B), Y), target="any")
    scores = surefoot.evaluate("heads", data, part="validation", loss=first_loss, **from_disk)
    assert scores.loss == pytest.approx(result.summary["val_loss"], rel=1e-5)
    outputs = surefoot.predict("heads", (A[:4], B[:4]), **from_disk).outputs
    assert len(outputs) == (2 if model is Heads else 4)


def test_masks_lengths_and_codes_reach_the_model_as_they_are():
    seen = {}

    class Sequences(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn, self.head = nn.Embedding(9, 4), nn.GRU(7, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x, lengths, mask, codes):
            seen.update(lengths=lengths.dtype, mask=mask.dtype, codes=codes.dtype, shape=tuple(lengths.shape[1:]))
            both = torch.cat([x * mask[..., None], self.embed(codes)], 2)
            packed = nn.utils.rnn.pack_padded_sequence(both, lengths.cpu(), batch_first=True, enforce_sorted=False)
            return self.head(self.rnn(packed)[1][-1])

    lengths = np.arange(N) % 6 + 1
    mask = np.arange(6) < lengths[:, None]
    x = np.random.default_rng(2).normal(size=(N, 6, 3)).astype("float32")
    codes = np.random.default_rng(3).integers(0, 9, (N, 6)).astype("uint8")
    record = trained({"x": x, "lengths": lengths, "mask": mask, "codes": codes, "labels": Y}, Sequences)
    assert record.outcome.kind == "finished"
    assert seen == {"lengths": torch.int64, "mask": torch.bool, "codes": torch.int64, "shape": ()}


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        ({"a": A, "b": B, "id": np.arange(N), "labels": Y}, Two, "Its forward takes a, b: leave id out of the data"),
        ({"a": A, "labels": Y}, Two, "Its forward takes a, b: the data has no b"),
        ({"x": A, "b": B, "labels": Y}, Two, "Its forward takes a, b: the data has no a"),
        (((A, B), Y), Listed, r"For a model of one list give forward=lambda model, x: model\(list\(x\)\)"),
        (((A, B), Y), Heads, r"out\[0\] if isinstance\(out := model\(\*x\), tuple\) else out; or set target"),
        (({"a": A, "b": B}, Y), Heads, r"out := model\(\*\*x\)"),
        (({"input": np.arange(N * 12).reshape(N, 3, 4).astype("uint8")}, Y), lambda: nn.Embedding(999, 2),
         "Give codes in input as int64, since uint8 is taken for pixels"),
    ],
)  # fmt: skip
def test_what_a_model_cannot_take_is_said_with_what_to_do(data, model, message):
    with pytest.raises(ConfigError, match=message):
        task(surefoot.load(data), model)


def test_targets_that_are_the_inputs_are_said():
    codes = np.random.default_rng(0).integers(0, 9, (N, 8))
    net = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
    partly = np.where(np.arange(8) < 3, -100, codes)
    for y in (codes, partly):
        assert any("targets are x itself" in each for each in remarks(task(surefoot.load((codes, y)), net)))
    assert remarks(task(surefoot.load((codes[:, :-1], codes[:, 1:])), net)) == []


def test_a_loss_that_shifts_tokens_by_itself_raises_no_alarm():
    codes = np.random.default_rng(0).integers(0, 9, (N, 8))
    net = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
    data = surefoot.load((codes, codes))

    def shifted(outputs, targets):
        return F.cross_entropy(outputs[:, :-1].flatten(0, 1), targets[:, 1:].flatten())

    found = [surefoot.check_wiring(net, data, loss).reason for loss in (None, shifted)]
    assert ["can be copied" in each for each in found] == [True, False]
    assert remarks(task(data, net, loss=shifted)) == []


def test_narrow_weights_are_said():
    data = surefoot.load((np.random.default_rng(0).integers(0, 9, (N, 8)), Y))
    net = nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(16, 2)).bfloat16()
    assert any("weights are bfloat16, in which small updates are lost" in each for each in remarks(task(data, net)))
    assert not any("weights are" in each for each in remarks(task(data, net.float())))
