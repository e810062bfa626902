import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import images, number_arrays
from target_kinds import kinds, labels
from torch import nn

import surefoot
from surefoot.data.batches import fetch
from surefoot.data.dataset import IGNORED
from surefoot.errors import ConfigError
from surefoot.training.losses import dense_cross_entropy, reduced
from surefoot.training.make import task

X, Y = number_arrays()


@pytest.mark.parametrize(
    ("name", "target", "says"),
    [
        ("mse", "classes", "mse is for numbers"),
        ("cross-entropy", "numbers", "cross-entropy is for classes"),
        ("bce", "classes", "3 classes"),
        ("bce", "numbers", "bce takes targets from 0 to 1"),
        ("hubber", "numbers", "Did you mean 'huber'"),
        (3, "numbers", "loss = 3"),
    ],
)
def test_a_loss_by_name_is_for_its_targets(name, target, says):
    data = surefoot.load((X, Y), target="numbers") if target == "numbers" else images()
    with pytest.raises(ConfigError, match=says):
        task(data, "linear", loss=name)


def test_two_classes_have_one_cross_entropy_by_either_name():
    data = surefoot.load((X, (Y > 0).astype(int)))
    both = [task(data, "linear", loss=name) for name in ("cross-entropy", "bce")]
    logits, classes = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
    torch.testing.assert_close(*(work.mean_loss(logits, classes) for work in both))


def test_targets_that_float32_cannot_tell_apart_need_a_shipped_loss():
    data = surefoot.load((X, 1.7e9 + Y.astype(np.float64)), target="numbers")
    assert data.train.y.dtype == torch.float64
    with pytest.raises(ConfigError, match="mse, mae or huber"):
        task(data, "linear", loss=nn.L1Loss())
    _, targets = fetch(task(data, "linear").data, data.train, np.arange(len(data.train)))
    assert float(targets.std(correction=0)) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("mse", lambda error: error**2),
        ("mae", np.abs),
        ("huber", lambda error: np.where(np.abs(error) < 1, 0.5 * error**2, np.abs(error) - 0.5)),
    ],
)
def test_a_loss_by_name_is_the_one_of_that_name(name, formula):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(60, 2)), 1e5 + 3e4 * draw.normal(size=60)
    work = surefoot.task(surefoot.load((x, y), target="numbers", validation=0), "linear", loss=name)
    outputs, targets = torch.from_numpy(3 * draw.normal(size=(2, 40))).float()
    error = (outputs - targets).double().numpy()
    assert float(work.objective(outputs[:, None], targets)) == pytest.approx(formula(error).mean(), rel=1e-5)


def of_kind(kind, **more):
    data, model = kinds()[kind]
    return task(surefoot.load(data, target=kind), model, **more)


def test_balanced_labels_weigh_a_yes_and_a_no_alike_with_mean_1():
    work = of_kind("multilabel", class_weights="balanced")
    y = work.data.train.y
    weights = torch.where(y > 0.5, work.class_weights[1], work.class_weights[0])
    assert weights.mean(0).tolist() == pytest.approx([1.0] * 3)
    assert (weights * y).sum(0).tolist() == pytest.approx([len(y) / 2] * 3)
    x, y = fetch(work.data, work.data.train, np.arange(9))
    z = work.fresh_model()(x).detach()
    expected = (F.binary_cross_entropy_with_logits(z, y, reduction="none") * weights[:9]).mean()
    assert float(work.training_loss(z, y)[0]) == pytest.approx(float(expected))
    assert float(work.objective(z, y)) != pytest.approx(float(expected)), "the loss of rows is not weighted"


def test_a_label_that_all_have_has_weight_1():
    x, y = labels()
    y[:, 0] = 1
    work = task(
        surefoot.load({"train": (x, y)}, target="multilabel", validation=0), nn.Linear(6, 3), class_weights="balanced"
    )
    assert work.class_weights[:, 0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["segmentation", "tokens"])
def test_balanced_classes_of_pixels_and_tokens_are_those_of_torch_by_their_number(kind, smoothing):
    work = of_kind(kind, class_weights="balanced")
    y = work.data.train.y
    counted = y[y != IGNORED]
    counts = torch.bincount(counted, minlength=work.data.outputs)
    expected = torch.where(counts > 0, len(counted) / ((counts > 0).sum() * counts.clamp_min(1)), 0.0)
    assert work.class_weights.tolist() == pytest.approx(expected.tolist())
    x, y = fetch(work.data, work.data.train, np.arange(9))
    z = work.fresh_model()(x).detach()
    z, flat = (z.movedim(1, -1) if kind == "segmentation" else z).flatten(0, -2), y.flatten()
    each = F.cross_entropy(z, flat, label_smoothing=smoothing, reduction="none")
    expected = (each * work.class_weights[flat.clamp_min(0)])[flat != IGNORED].mean()
    loss, count = work.training_loss(work.fresh_model()(x).detach(), y, smoothing)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert int(count) == int((flat != IGNORED).sum())


@pytest.mark.parametrize("kind", ["multilabel", "segmentation", "tokens"])
def test_a_weighted_batch_in_pieces_is_the_batch(kind):
    work = of_kind(kind, class_weights="balanced")
    weights = []
    for size in (2048, 5):
        recipe = surefoot.Recipe(epochs=2, lr=0.1, batch_size=12, micro_batch_size=size)
        state, _ = surefoot.fit(work, surefoot.plan(recipe, work.data.examples))
        weights.append(torch.cat([value.flatten() for value in state.model.state_dict().values()]))
    assert torch.allclose(*weights, atol=1e-5)


@pytest.mark.parametrize("loss", ["mse", lambda z, y: F.binary_cross_entropy_with_logits(z, y)])
def test_weights_of_what_is_not_weighted_are_refused(loss):
    target = "numbers" if isinstance(loss, str) else "multilabel"
    data = surefoot.load(labels(), target=target)
    with pytest.raises(ConfigError, match=r"class_weights = 'balanced' with .*others would not be"):
        task(data, nn.Linear(6, 3), loss=loss, class_weights="balanced")


def test_labels_are_not_smoothed_where_there_are_several():
    work = of_kind("multilabel")
    with pytest.raises(ConfigError, match=r"label_smoothing = 0\.1 with loss = bce"):
        surefoot.fit(work, surefoot.plan(surefoot.Recipe(epochs=1, label_smoothing=0.1), work.data.examples))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes_at", [1, -1])
def test_the_cross_entropy_of_positions_is_torchs(smoothing, classes_at):
    shape = (4, 5, 3, 3) if classes_at == 1 else (4, 9, 5)
    outputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.randint(0, 5, (4, 3, 3) if classes_at == 1 else (4, 9), generator=torch.Generator().manual_seed(1))
    targets[0, :2] = IGNORED
    made, count = dense_cross_entropy(outputs, targets, classes_at, smoothing)
    theirs = F.cross_entropy(outputs.movedim(classes_at, 1), targets, label_smoothing=smoothing)
    assert made.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert int(count) == int((targets != IGNORED).sum())
    ours, torchs = (torch.autograd.grad(each, outputs)[0] for each in (made, theirs))
    torch.testing.assert_close(ours, torchs)


def test_where_nothing_counts_the_loss_and_its_gradient_are_zero():
    outputs = torch.randn(2, 3, 4).requires_grad_()
    loss, count = dense_cross_entropy(outputs, torch.full((2, 3), IGNORED), -1)
    loss.backward()
    assert (loss.item(), int(count), float(outputs.grad.abs().max())) == (0.0, 0, 0.0)


@pytest.mark.parametrize(
    ("value", "mean", "count"),
    [
        (torch.tensor(3.0), 3.0, None),
        (torch.tensor([1.0, 5.0]), 3.0, None),
        ((torch.tensor(12.0), torch.tensor(4)), 3.0, 4),
        ((torch.tensor(12.0), 4), 3.0, 4),
        ((torch.tensor([12.0]), torch.tensor([4.0])), 3.0, 4),
        ((torch.tensor(0.0), torch.tensor(0)), 0.0, 0),
    ],
)
def test_what_a_loss_returned_is_a_mean_and_a_count(value, mean, count):
    found, over = reduced(value)
    assert float(found) == mean
    assert over is None if count is None else float(over) == count


@pytest.mark.parametrize("value", [3.0, torch.tensor(3), (torch.ones(2), torch.ones(2)), None, {"loss": 1}])
def test_what_is_no_loss_is_said(value):
    with pytest.raises(ValueError, match="it returned"):
        reduced(value)


def counting(outputs, targets):
    """Cross-entropy over the positions that are not ignored, as a sum and a count."""
    flat, wanted = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
    return F.cross_entropy(flat, wanted, reduction="sum"), (wanted != IGNORED).sum()


@pytest.mark.parametrize("loss", [None, counting])
def test_pieces_of_a_batch_weigh_by_what_counts_in_them(loss):
    ids = torch.randint(0, 7, (60, 6), generator=torch.Generator().manual_seed(0))
    targets = torch.where(torch.rand(60, 6, generator=torch.Generator().manual_seed(1)) < 0.7, IGNORED, ids)
    targets[::3] = IGNORED
    work = surefoot.task(
        surefoot.load((ids, targets)), nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 7)), loss=loss, device="cpu"
    )
    ends = [
        surefoot.fit(work, surefoot.plan(surefoot.Recipe(steps=8, batch_size=20, micro_batch_size=size), 54))[1].last
        for size in (2048, 7, 3)
    ]
    for other in ends[1:]:
        assert other.train_loss == pytest.approx(ends[0].train_loss, rel=1e-6)
        assert other.val_loss == pytest.approx(ends[0].val_loss, rel=1e-6)


@pytest.mark.parametrize("kind", ["mean", "sum"])
def test_a_loss_fn_whose_pieces_are_not_the_batch_is_refused(kind):
    def loss_fn(model, batch):
        x, y = batch
        return F.cross_entropy(model(x), y, weight=torch.tensor([1.0, 5.0]) if kind == "mean" else None, reduction=kind)

    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    work = surefoot.task(surefoot.load((x, (x[:, 0] > 0).long())), nn.Linear(3, 2), loss_fn=loss_fn, device="cpu")
    plan = surefoot.plan(surefoot.Recipe(steps=2, batch_size=20, micro_batch_size=8), work.data.examples)
    with pytest.raises(ConfigError, match=r"a batch of 20 in 3 pieces .* return \(sum, count\)"):
        surefoot.fit(work, plan)
