"""A model is tried in both modes before anything is trained, and what it returns is said."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import images, number_arrays
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.training.make import task


class Returning(nn.Module):
    """Returns something else than logits in one mode, as networks with auxiliary heads do."""

    def __init__(self, returned, training):
        super().__init__()
        self.flat, self.head, self.returned, self.at = nn.Flatten(), nn.Linear(192, 3), returned, training

    def forward(self, x):
        outputs = self.head(self.flat(x))
        return self.returned(outputs) if self.training == self.at else outputs


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("returned", "named", "way"),
    [
        (lambda o: (o, o), "tuple of 2", "out\\[0\\] if isinstance\\(out := model\\(x\\), tuple\\)"),
        (lambda o: [o], "list of 1", "isinstance\\(out := model\\(x\\), list\\)"),
        (lambda o: {"loss": None, "out": o}, "dict with 'loss', 'out'", "\\(x\\)\\['loss'\\]"),
        (lambda o: {}, "dict with nothing in it", "logits"),
        (lambda o: SimpleNamespace(out=o), "SimpleNamespace", "\\.logits"),
        (lambda o: None, "NoneType", "logits"),
        (lambda o: o[:, :2], "shape \\(2, 2\\)", "3 outputs"),
    ],
)
def test_what_is_returned_in_one_mode_is_refused_with_the_mode_and_the_way_out(training, returned, named, way):
    mode = "in training mode" if training else "in evaluation mode"
    with pytest.raises(ConfigError, match=f"{mode} .*{named}.*{way}"):
        task(images(), Returning(returned, training))


@pytest.mark.parametrize("returned", [lambda o: {"logits": o}, lambda o: SimpleNamespace(loss=None, logits=o)])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_with_logits_are_these(training, returned):
    made, plain = Returning(returned, training), Returning(lambda o: o, training)
    plain.load_state_dict(made.state_dict())
    recipe = surefoot.Recipe(epochs=1, lr=0.01)
    records = [surefoot.fit(each, surefoot.plan(recipe, each.data.examples))[1] for each in
               (task(images(), made), task(images(), plain))]  # fmt: skip
    assert records[0].last.train_loss == records[1].last.train_loss
    assert records[0].last.val_loss == records[1].last.val_loss


@pytest.mark.parametrize(
    "verb",
    [
        lambda m: surefoot.train(images(), m), lambda m: surefoot.tune(images(), m, final=False),
        lambda m: surefoot.find_lr(m, images()), lambda m: surefoot.overfit_sample(m, images()),
        lambda m: surefoot.gradient_noise(m, images()), lambda m: surefoot.compare(m, images()),
    ],
)  # fmt: skip
def test_every_verb_refuses_it_before_a_step(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="in training mode the model returned tuple of 2"):
        verb(Returning(lambda o: (o, o), training=True))
    assert not list(tmp_path.glob("runs/*"))


def test_the_checks_say_it_as_a_finding():
    decision = surefoot.check_wiring(Returning(lambda o: (o, o), training=True), images())
    assert decision.verdict == "fail"
    assert "in training mode the model returned tuple" in decision.reason


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_another_type_are_named(dtype):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).to(dtype)
    with pytest.raises(ConfigError, match=f"{str(dtype).removeprefix('torch.')} and batches float32: call model.float"):
        task(images(), model, precision="fp32")


class InPlace(nn.Module):
    """Changes what the gradient needs, in training alone."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 3)

    def forward(self, x):
        outputs = self.head(x.flatten(1)).exp()
        return outputs.add_(1) if self.training else outputs


def test_a_gradient_that_cannot_be_computed_is_said_before_the_first_step():
    with pytest.raises(ConfigError, match="the gradient cannot be computed: one of the variables"):
        task(images(), InPlace())


def test_what_only_fails_in_training_is_said_with_the_mode():
    class Fails(InPlace):
        def forward(self, x):
            if self.training:
                raise ValueError("not here")
            return super().forward(x)

    with pytest.raises(ConfigError, match=r"in training mode the model cannot take a batch .* not here"):
        task(images(), Fails())


def test_what_is_frozen_as_a_whole_is_refused():
    with pytest.raises(ConfigError, match="no trainable parameter"):
        task(images(), nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).requires_grad_(False))


def test_trying_it_changes_nothing():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Dropout(0.5), nn.Linear(192, 3))
    before = torch.random.get_rng_state()
    work = task(images(), model)
    assert torch.equal(before, torch.random.get_rng_state())
    assert work.template[1].num_batches_tracked == 0


def test_a_model_that_indexes_with_whole_numbers_is_told_that_they_were_standardised():
    class OneHot(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(5, 2)

        def forward(self, x):
            return self.head(nn.functional.one_hot(x.long(), 5).float().mean(1))

    tokens = torch.arange(60).reshape(20, 3) % 5
    with pytest.raises(ConfigError, match="normalise = false"):
        task(surefoot.load((tokens, tokens[:, 0] % 2)), OneHot())
    task(surefoot.load((tokens, tokens[:, 0] % 2), normalise=False), OneHot())


def test_a_mask_may_have_more_classes_than_occur_and_an_axis_elsewhere_is_said():
    images = np.random.default_rng(0).random((20, 3, 6, 6)).astype(np.float32)
    data = surefoot.load((images, np.arange(720).reshape(20, 6, 6) % 2))
    assert surefoot.task(data, lambda *_: nn.Conv2d(3, 5, 1)).counts_right
    with pytest.raises(ConfigError, match="last layer 2 outputs"):
        surefoot.task(data, lambda *_: nn.Conv2d(3, 1, 1))
    with pytest.raises(ConfigError, match=r"outputs.permute\(0, 3, 1, 2\)"):
        surefoot.task(data, lambda *_: nn.Conv2d(3, 5, 1), forward=lambda model, x: model(x).permute(0, 2, 3, 1))
    ids, table = np.arange(120).reshape(20, 6) % 4, nn.Embedding(4, 4)
    with pytest.raises(ConfigError, match=r"outputs.transpose\(1, 2\)"):
        surefoot.task(surefoot.load((ids, ids)), table, forward=lambda model, x: model(x).transpose(1, 2))


def test_a_loss_of_model_and_batch_is_told_what_a_batch_is():
    x, y = number_arrays(40)

    def of_pair(model, batch):
        inputs, targets = batch
        return nn.functional.mse_loss(model(inputs)[:, 0], targets.float())

    with pytest.raises(ConfigError, match=r"\{a: \(2, .*labels: .*Take the targets out of the mapping"):
        task(surefoot.load({"a": x, "labels": (y > 0).astype(int)}), nn.Linear(x.shape[1], 2), loss_fn=of_pair)
    with pytest.raises(ConfigError, match=r"\{0: \(2, .*a pair \(inputs, targets\)"):
        task(surefoot.load((x, (y > 0).astype(int))), nn.Linear(x.shape[1], 2), loss_fn=lambda m, b: m(**b))
