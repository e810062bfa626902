import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import bits, image_arrays, images, number_arrays
from target_kinds import masks
from torch import nn

import surefoot
from surefoot.data.batches import fetch
from surefoot.errors import ConfigError, DataError
from surefoot.training.configure import resolve
from surefoot.training.make import remarks, task
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import fit_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import LOOP, Way


def numbers(targets: int | None = None):
    x, y = number_arrays()
    y = y if targets is None else y[:, None].repeat(targets, 1)
    return surefoot.load((x, y), target="numbers")


def head(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, outputs))


def test_a_task_knows_whether_it_classifies():
    assert task(images(), "linear").classifies
    assert not task(numbers(), "linear").classifies


def test_each_model_is_a_copy_of_the_template_and_the_template_comes_from_the_seed():
    first, second, other = task(images(), "mlp", seed=1), task(images(), "mlp", seed=1), task(images(), "mlp", seed=2)
    weight = [bits(each.template.head.weight) for each in (first, second, other)]
    assert weight[0] == weight[1] != weight[2]
    with torch.no_grad():
        first.fresh_model().head.weight.zero_()
    assert bits(first.template.head.weight) == weight[0]


def test_the_loss_is_cross_entropy_or_squared_error_or_the_users():
    logits, classes = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    work = task(images(), "linear")
    for smoothing in (0.0, 0.3):
        expected = F.cross_entropy(logits, classes, label_smoothing=smoothing)
        assert torch.equal(work.mean_loss(logits, classes, smoothing), expected)
    values = logits[:, 0]
    regression = task(numbers(), "linear")
    variance = float(regression.data.target_std) ** 2
    assert torch.equal(regression.objective(logits[:, 1:2], values), F.mse_loss(logits[:, 1], values))
    assert torch.equal(regression.mean_loss(logits[:, 1:2], values), F.mse_loss(logits[:, 1], values) * variance)
    own = task(images(), "linear", loss=lambda o, t: (o.sum(1) - t).abs())
    assert torch.equal(own.mean_loss(logits, classes, 0.3), (logits.sum(1) - classes).abs().mean())
    assert work.mean_loss(logits.bfloat16(), classes).dtype == torch.float32


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.head, self.what = nn.Linear(192, 3), what

    def forward(self, x):
        return self.what(self.head(x.flatten(1)))


def raises(error):
    def act(*_):
        raise error

    return act


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (head(2), r"output has shape \(2, 2\) for a batch of 2: this data needs \(2, 3\)"),
        (nn.Linear(5, 3), "cannot take a batch of shape"),
        (Returns(lambda y: (y, y)), "the model returned tuple"),
        (Returns(lambda y: y[:1]), r"output has shape \(1, 3\)"),
        (Returns(lambda y: y[:, 0]), r"output has shape \(2,\)"),
        (Returns(lambda y: y.detach()), "no trainable parameter"),
        (Returns(raises(KeyError("gone"))), "cannot take a batch .* 'gone'"),
        (Returns(raises(AttributeError())), "cannot take a batch"),
        (Returns(raises(ZeroDivisionError("division by zero"))), "division by zero"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_any_training(model, message):
    with pytest.raises(ConfigError, match=message):
        task(images(), model)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda outputs: outputs, "the loss cannot take outputs"),
        (lambda outputs, targets: 0.5, "the loss cannot take outputs"),
        (lambda outputs, targets: F.cross_entropy(outputs, targets.float()), "the loss cannot take outputs"),
        (raises(KeyError("gone")), "the loss cannot take outputs .*gone"),
        (lambda outputs, targets: outputs.detach().sum(), "no trainable parameter"),
        (lambda outputs, targets: torch.tensor(float(outputs.detach().sum())), "no trainable parameter"),
        (lambda outputs, targets: targets, "loss"),
    ],
)
def test_a_loss_that_cannot_be_used_is_refused_before_any_training(loss, message):
    with pytest.raises(ConfigError, match=message):
        task(images(), "linear", loss=loss)


def test_a_loss_of_ones_own_for_classes_still_needs_an_output_per_class():
    def binary(outputs, targets):
        return F.binary_cross_entropy_with_logits(outputs.squeeze(1), targets.float())

    with pytest.raises(ConfigError, match=r"needs \(2, 3\)"):
        task(images(), head(1), loss=binary)


def test_a_regression_takes_a_column_but_no_other_reshaping():
    assert task(numbers(), "linear")
    assert task(numbers(3), "linear")
    turned = nn.Sequential(nn.Linear(5, 3), nn.Flatten(0), nn.Unflatten(0, (3, 2)))
    with pytest.raises(ConfigError, match=r"shape \(3, 2\) for a batch of 2: this data needs \(2, 3\)"):
        task(numbers(3), turned)


def test_augmentation_is_checked_against_the_data():
    with pytest.raises(ConfigError, match="data that is not images"):
        task(numbers(), "linear", augment=["flip"])
    with pytest.raises(ConfigError, match="flip"):
        task(images(), "linear", augment=["flop"])
    assert task(images(), "linear").augment is None
    assert task(images(), "linear", augment=lambda x: x.flip(3)).augment is not None


def test_one_example_is_enough_to_try_a_model():
    x, y = image_arrays(60)
    data = surefoot.load((x, y), validation=0)
    assert task(data, nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, 3)))


@pytest.mark.parametrize("frozen", [False, True])
def test_group_norm_at_the_images_themselves_does_not_end_the_process(tmp_path, frozen):
    """In channels_last its backward pass would, where its input needs no gradient."""
    program = f"""
import numpy as np, torch, surefoot
x, y = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), dtype=np.uint8), np.arange(40) % 2
first = torch.nn.Conv2d(3, 3, 3, padding=1).requires_grad_({not frozen})
net = torch.nn.Sequential(*[first] * {frozen}, torch.nn.GroupNorm(1, 3), torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(),
                          torch.nn.Linear(144, 2))
result = surefoot.train((x, y), net, epochs=1, batch_size=8, lr=0.01, runs_dir={str(tmp_path)!r}, threads=1)
print(result.summary["outcome"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "finished\n"), done.stderr


RNG = np.random.default_rng(0)
LINE_X = RNG.normal(size=(400, 3)).astype(np.float32)
LINE_Y = (2 * LINE_X[:, 0] - LINE_X[:, 1] + 3).astype(np.float32)


class Head(nn.Module):
    def __init__(self, outputs=1, flat=False):
        super().__init__()
        self.line, self.flat = nn.Linear(3, outputs), flat

    def forward(self, x):
        return self.line(x)[:, 0] if self.flat else self.line(x)


@pytest.mark.parametrize(
    ("flat", "y", "loss"),
    [
        (False, LINE_Y, nn.L1Loss()),
        (False, LINE_Y, nn.MSELoss()),
        (False, LINE_Y, nn.HuberLoss()),
        (False, LINE_Y, lambda o, t: (o - t) ** 2),
        (True, LINE_Y[:, None], nn.L1Loss()),
        (True, LINE_Y[:, None], lambda o, t: (o - t).abs().mean()),
        # these bring the shapes together by themselves
        (False, LINE_Y, lambda o, t: (o[:, 0] - t).abs().mean()),
        (False, LINE_Y, lambda o, t: (o - t[:, None]).abs().mean()),
        (True, LINE_Y, lambda o, t: (o[:, None] - t[:, None]).square()),
    ],
)
def test_a_loss_of_the_users_compares_each_output_with_its_own_target(flat, y, loss, tmp_path):
    settings = {"lr": 0.05, "epochs": 20, "batch_size": 32, "target": "numbers", "runs_dir": tmp_path}
    result = surefoot.train((LINE_X, y), Head(flat=flat), loss=loss, **settings)
    error = surefoot.predict(result, LINE_X).outputs[:, 0] - LINE_Y
    assert 1 - (error**2).mean() / LINE_Y.var() > 0.99


@pytest.mark.parametrize(
    ("outputs", "y", "loss"),
    [(2, LINE_Y, nn.L1Loss()), (3, LINE_Y[:, None], nn.MSELoss()), (1, np.stack([LINE_Y] * 3, 1), nn.SmoothL1Loss())],
)
def test_torchs_losses_are_refused_where_they_would_broadcast(outputs, y, loss):
    with pytest.raises(ConfigError, match="the loss cannot take outputs"):
        task(surefoot.load((LINE_X, y), target="numbers"), Head(outputs), loss=loss)


def test_a_loss_of_more_outputs_than_targets_gets_them_as_they_are():
    data = surefoot.load((LINE_X, LINE_Y[:, None]), target="numbers")

    def pinball(o, t):
        return torch.maximum(0.9 * (t - o), -0.1 * (t - o)).mean()

    assert not task(data, Head(3), loss=pinball).reshapes
    assert not task(data, Head(2), loss=lambda o, t: F.gaussian_nll_loss(o[:, :1], t, o[:, 1:].exp())).reshapes


def test_label_smoothing_is_refused_where_no_built_in_cross_entropy_would_be_smoothed(tmp_path):
    x, y = image_arrays(60)
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    for data, settings, name in [
        ((x, y), {"loss": weighted}, "CrossEntropyLoss"),
        ((x, y), {"loss": F.cross_entropy}, "cross_entropy"),
        ((LINE_X, LINE_Y), {"target": "numbers"}, "loss = mse"),
    ]:
        with pytest.raises(ConfigError, match=rf"label_smoothing = 0\.3 with .*{name}"):
            surefoot.train(data, "linear", label_smoothing=0.3, epochs=1, batch_size=8, runs_dir=tmp_path, **settings)
    with pytest.raises(ConfigError, match=r"label_smoothing = 0\.3"):
        surefoot.gradient_noise("linear", images(), weighted, label_smoothing=0.3)
    assert list(tmp_path.iterdir()) == []


def test_label_smoothing_of_shipped_settings_is_of_the_built_in_loss_alone():
    given = {"data": "cifar10", "model": "cnn"}
    assert resolve(given).recipe.label_smoothing > 0
    assert resolve(given, standard_loss=False).recipe.label_smoothing == 0


def frozen_body(whole):
    """A body of batch norm that is not trained and in evaluation mode, and a head that is trained."""
    body = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 8), nn.BatchNorm1d(8)).requires_grad_(False)
    model = nn.Sequential(body, nn.Dropout(0.5), nn.Linear(8, 3))
    (model if whole else body).eval()
    return model


@pytest.mark.parametrize("whole", [False, True])
def test_a_frozen_body_in_evaluation_mode_stays_so(whole, tmp_path):
    model = frozen_body(whole)
    work = task(images(), model)
    assert [m.training for m in work.fresh_model()] == [False, True, True]
    result = surefoot.train(images(), model, epochs=3, batch_size=10, lr=0.1, name="a", runs_dir=tmp_path)
    for (name, buffer), (_, start) in zip(result.model.net.named_buffers(), model.named_buffers(), strict=True):
        assert torch.equal(buffer, start), name
    assert not torch.equal(result.model.net[2].weight, model[2].weight)
    recipes = [surefoot.Recipe(lr=lr, steps=6, epochs=None, batch_size=10) for lr in (0.1, 0.2)]
    members = [Member(work, surefoot.plan(recipe, work.data.examples)) for recipe in recipes]
    for way in (LOOP, Way("stacked", 2)):
        for state in fit_many(members, Engine(way=way))[0]:
            assert torch.equal(state.model[0][1].running_mean, model[0][1].running_mean)
            assert [m.training for m in state.model] == [False, True, True]


def test_a_single_norm_in_evaluation_mode_stays_so_and_a_model_used_last_in_evaluation_trains():
    norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 3))
    norm[1].eval()
    assert [m.training for m in task(images(), norm).fresh_model()] == [True, False, True]
    used = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 3)).eval()
    for model in (used, lambda: used):
        assert all(m.training for m in task(images(), model).fresh_model().modules())
    assert not used.training


@pytest.mark.parametrize(("loss", "far"), [(nn.MSELoss(), True), (None, False), ("huber", False)])
def test_a_loss_of_ones_own_gets_targets_as_they_are_and_that_is_said(loss, far):
    x, y = number_arrays()
    work = task(surefoot.load((x, 350_000 + 80_000 * y), target="numbers"), "linear", loss=loss)
    assert any("in their own unit" in each for each in remarks(work)) == far
    _, targets = fetch(work.data, work.data.train, np.arange(4))
    assert (float(targets.mean()) > 1e5) == far


def test_a_loss_of_ones_own_that_takes_numbers_is_told_how_to_get_them():
    x = torch.randn(30, 4)
    loss = nn.BCEWithLogitsLoss()
    with pytest.raises(ConfigError, match='target = "numbers"'):
        task(surefoot.load((x, (x[:, 0] > 0).long())), nn.Linear(4, 1), loss=loss)
    assert surefoot.load((x, (x[:, :2] > 0).long())).target == "multilabel"
    with pytest.raises(DataError, match='target = "numbers"'):
        surefoot.load((x, torch.arange(30) % 2 * 7))
    for y, model in (((x[:, 0] > 0).long(), nn.Linear(4, 1)), ((x[:, :2] > 0).long(), nn.Linear(4, 2))):
        work = task(surefoot.load((x, y), target="numbers"), model, loss=loss)
        assert work.data.train.y.dtype == torch.float32


def test_a_class_of_losses_is_no_loss():
    with pytest.raises(ConfigError, match=r"Pass CrossEntropyLoss\(\)"):
        task(images(), "linear", loss=nn.CrossEntropyLoss)


def test_images_and_masks_are_augmented_together_where_they_can_be():
    x, y = masks()
    data = surefoot.load((x, y))
    work = task(data, nn.Conv2d(1, 4, 1), augment=["flip", "crop:2"])
    moved = [fetch(work.data, work.data.train, np.arange(9), augment=work.augment, epoch=e)[1] for e in (0, 1)]
    assert not torch.equal(*moved)
    with pytest.raises(ConfigError, match="function of your own, and masks as targets"):
        task(data, nn.Conv2d(1, 4, 1), augment=["flip", lambda images: images])
    half = surefoot.load((x, y[:, ::2, ::2].copy()), target="segmentation")
    with pytest.raises(ConfigError, match="images of 8x8 and masks of 4x4"):
        task(half, nn.Conv2d(1, 4, 1, stride=2), augment="flip")
    assert task(half, nn.Conv2d(1, 4, 1, stride=2)).counts_right
