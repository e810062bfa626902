"""The law: our loop is the loop that one would write by hand with torch.optim.SGD; how it is sliced is no matter."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small import bare, contents, differing, images, number_arrays, plateau_job, reference_job
from torch import nn

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.data.batches import batch_indices, fetch
from surefoot.errors import ConfigError
from surefoot.models.cnn import Cnn
from surefoot.optim.plan import plan
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import advance, fit, start
from surefoot.training.make import task
from surefoot.training.state import trainable
from surefoot.training.step import gradient

CONSTANT = Schedule(kind="constant")
RECIPES = {
    "plain": Recipe(lr=0.05, momentum=0.0, weight_decay=0.0, schedule=CONSTANT),
    "momentum and decay": Recipe(lr=0.05, momentum=0.9, weight_decay=1e-2, schedule=CONSTANT),
    "dampening": Recipe(lr=0.05, momentum=0.9, dampening=0.5, schedule=CONSTANT),
    "nesterov": Recipe(lr=0.05, momentum=0.8, momentum_form="nesterov", weight_decay=1e-3, schedule=CONSTANT),
    "clip": Recipe(lr=0.05, clip_norm=0.3, schedule=CONSTANT),
    "label smoothing": Recipe(lr=0.05, label_smoothing=0.2, schedule=CONSTANT),
    "schedule": Recipe(lr=0.1, schedule=Schedule(kind="cosine", warmup_epochs=1)),
}
MODELS = {"mlp": "mlp", "batch norm": lambda input_shape, outputs: Cnn(input_shape, outputs, widths=(8, 12))}
TOLERANCE = 2e-5
"""Largest difference of a weight after 18 steps. The fused kernel adds in another order than torch.optim's loop, and
torch's clipping divides by norm + 1e-6 where ours divides by norm; each is about 1e-6 of an update."""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_loop_equals_the_loop_that_one_would_write_by_hand(recipe, model):
    work = task(images(), MODELS[model], seed=1, precision="fp32")
    chosen = dataclasses.replace(RECIPES[recipe], steps=18, batch_size=10)
    made = plan(chosen, work.data.examples)
    state, record = fit(work, made)

    net = work.fresh_model().train()
    optimizer = torch.optim.SGD(
        net.parameters(), lr=1.0, momentum=chosen.momentum, dampening=chosen.dampening,
        weight_decay=chosen.weight_decay, nesterov=chosen.momentum_form == "nesterov",
    )  # fmt: skip
    losses, norms = [], []
    for step in range(18):
        epoch, indices = batch_indices(work.data.examples, 10, work.seed, step)
        x, y = fetch(work.data, work.data.train, indices, seed=work.seed, epoch=epoch)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y, label_smoothing=chosen.label_smoothing)
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), chosen.clip_norm or float("inf"))))
        optimizer.param_groups[0]["lr"] = float(made.lr[step])
        optimizer.step()
        losses.append(loss.item())

    theirs = net.state_dict()
    for name, ours in state.model.state_dict().items():
        torch.testing.assert_close(ours, theirs[name], rtol=TOLERANCE, atol=TOLERANCE)
    assert all(len(each) == len(trainable(net)) for each in state.slots.values())
    for row in record.rows:
        seen = slice(row.step - 6, row.step)
        assert row.losses == pytest.approx(losses[seen], rel=1e-4)
        assert row.train_loss == pytest.approx(sum(losses[seen]) / 6, rel=1e-4)
        assert row.grad_norm == pytest.approx(sum(norms[seen]) / 6, rel=1e-3)
        assert row.lr == made.lr[row.step - 1]


def test_without_momentum_on_one_linear_map_it_is_the_formula_to_the_last_bits():
    work = task(images(), "linear", seed=1)
    made = plan(Recipe(lr=0.05, momentum=0.0, weight_decay=0.0, steps=6, batch_size=10, schedule=CONSTANT), 60)
    state, _ = fit(work, made)
    w, b = torch.zeros(3, 192, requires_grad=True), torch.zeros(3, requires_grad=True)
    for step in range(6):
        x, y = fetch(work.data, work.data.train, batch_indices(60, 10, 1, step)[1])
        grads = torch.autograd.grad(F.cross_entropy(F.linear(x.flatten(1), w, b), y), (w, b))
        with torch.no_grad():
            w -= 0.05 * grads[0]
            b -= 0.05 * grads[1]
    torch.testing.assert_close(state.model.head.weight, w, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(state.model.head.bias, b, rtol=1e-6, atol=1e-8)


WHOLE = {}


@settings(max_examples=8, deadline=None, derandomize=True)
@given(stops=st.lists(st.integers(0, 20), max_size=8), kind=st.sampled_from(["cosine", "plateau"]))
def test_however_the_steps_are_divided_into_calls_the_run_is_the_same(stops, kind):
    if kind not in WHOLE:
        work, made = {"cosine": reference_job, "plateau": plateau_job}[kind]()
        state, rows = advance(work, made, start(work, made), made.steps)
        WHOLE[kind] = work, made, contents(state), bare(rows)
    work, made, whole, all_rows = WHOLE[kind]
    state, rows = start(work, made), []
    for stop in [*stops, made.steps]:  # a stop that is already past does nothing
        state, new = advance(work, made, state, stop)
        rows += new
    assert not differing(contents(state), whole)
    assert bare(rows) == all_rows


class Bumpy(nn.Module):
    """No batch norm, so that a batch is the sum of its pieces; not convex, so that the place matters."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("micro", [1, 7, 16, 59])
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(micro):
    work = task(images(), Bumpy, seed=2)
    recipe = Recipe(steps=2, batch_size="full", label_smoothing=0.1)
    whole_plan, pieces_plan = (plan(r, 60) for r in (recipe, dataclasses.replace(recipe, micro_batch_size=micro)))
    whole = gradient(work, whole_plan, start(work, whole_plan))
    pieces = gradient(work, pieces_plan, start(work, pieces_plan))
    assert pieces[0] == pytest.approx(whole[0], rel=1e-6)
    assert pieces[1] == whole[1]
    for a, b in zip(pieces[2], whole[2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("micro", [1, 7, 16])
def test_weighted_classes_in_pieces_have_the_gradient_of_the_whole_which_is_the_formula(micro, smoothing):
    rare = images()
    work = task(rare, "mlp", class_weights="balanced")
    counts = torch.bincount(rare.train.y, minlength=3)
    torch.testing.assert_close(work.class_weights, len(rare.train.y) / (3 * counts.float()))
    settings = {"lr": 0.05, "steps": 1, "batch_size": 20, "label_smoothing": smoothing}
    whole, pieces = (plan(Recipe(**settings, micro_batch_size=size), 60) for size in (2048, micro))
    state = start(work, whole)
    (loss, _, once), (again, _, parts) = (gradient(work, made, state) for made in (whole, pieces))
    x, y = fetch(work.data, work.data.train, batch_indices(60, 20, work.seed, 0)[1], seed=work.seed)
    outputs = state.model(x)
    each = F.cross_entropy(outputs, y, label_smoothing=smoothing, reduction="none")
    by_hand = (each * (len(rare.train.y) / (3 * counts[y]))).mean()
    assert loss == pytest.approx(by_hand.item(), rel=1e-6)
    assert again == pytest.approx(loss, rel=1e-6)
    theirs = torch.autograd.grad(by_hand, list(state.model.parameters()))
    for a, b, c in zip(once, parts, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-6)


def test_weights_of_classes_are_in_the_training_loss_alone():
    plain, weighted = (task(images(), "mlp", class_weights=each) for each in (None, "balanced"))
    model = plain.fresh_model()
    judged = [evaluate_part(work, model, model.state_dict(), work.data.validation).loss for work in (plain, weighted)]
    assert judged[0] == judged[1]


@pytest.mark.parametrize("more", [{"loss": F.cross_entropy}, {"data": ((np.ones((60, 2)), np.ones(60)), "numbers")}])
def test_weights_of_classes_are_refused_where_they_would_do_nothing(more):
    data = images()
    if "data" in more:
        (x, y), target = more.pop("data")
        data = surefoot.load((x + np.arange(60)[:, None], y * np.arange(60)), target=target)
    with pytest.raises(surefoot.ConfigError, match="class_weights = 'balanced' with"):
        task(data, "mlp", class_weights="balanced", **more)


def test_a_full_batch_is_gradient_descent():
    work = task(images(), Bumpy, seed=2)
    recipe = Recipe(
        lr=0.1, momentum=0.0, weight_decay=0.0, epochs=5, batch_size="full", micro_batch_size=16, schedule=CONSTANT
    )
    state, record = fit(work, plan(recipe, 60))
    assert state.step == 5
    net = work.fresh_model()
    x, y = fetch(work.data, work.data.train, torch.arange(60).numpy())
    losses = []
    for _ in range(5):
        loss = F.cross_entropy(net(x), y)
        losses.append(loss.item())
        grads = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(net.parameters(), grads, strict=True):
                parameter -= 0.1 * grad
    for name, value in net.state_dict().items():
        torch.testing.assert_close(state.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert [row.train_loss for row in record.rows] == pytest.approx(losses, rel=1e-5)
    assert losses == sorted(losses, reverse=True)


def test_batches_of_one_are_sgd_and_see_every_example_once_an_epoch():
    work = task(images(30), Bumpy, seed=2)
    recipe = Recipe(lr=0.01, momentum=0.0, weight_decay=0.0, epochs=2, batch_size=1, schedule=CONSTANT)
    state, record = fit(work, plan(recipe, 30))
    net, seen = work.fresh_model(), []
    for step in range(60):
        _, index = batch_indices(30, 1, work.seed, step)
        seen.append(int(index[0]))
        x, y = fetch(work.data, work.data.train, index)
        grads = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(net.parameters(), grads, strict=True):
                parameter -= 0.01 * grad
    assert sorted(seen[:30]) == sorted(seen[30:]) == list(range(30))
    assert seen[:30] != seen[30:]
    for name, value in net.state_dict().items():
        torch.testing.assert_close(state.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert [row.examples for row in record.rows] == [30, 60]


def test_the_moving_average_is_the_average_by_its_formula_and_is_what_is_judged():
    work = task(images(), Bumpy, seed=2)
    made = plan(Recipe(lr=0.1, steps=24, batch_size=10, ema_decay=0.7), 60)
    state = start(work, made)
    assert state.average is not None
    average = {name: value.clone() for name, value in state.model.state_dict().items()}
    rows = []
    while state.outcome is None:
        state, new = advance(work, made, state, state.step + 1)
        rows += new
        keep = min(0.7, (1 + state.step) / (10 + state.step))
        average = {name: keep * old + (1 - keep) * state.model.state_dict()[name] for name, old in average.items()}
    for name, value in average.items():
        torch.testing.assert_close(state.weights[name], value, rtol=1e-5, atol=1e-6)
    net = work.fresh_model().eval()
    net.load_state_dict(average)
    x, y = fetch(work.data, work.data.validation, torch.arange(21).numpy())
    assert rows[-1].val_loss == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-4)
    assert rows[-1].val_accuracy == pytest.approx((net(x).argmax(1) == y).float().mean().item())


def test_a_seed_decides_everything_and_another_seed_something_else():
    work, made = reference_job()
    runs = [contents(fit(dataclasses.replace(work, seed=seed), made)[0]) for seed in (3, 3, 4)]
    assert not differing(runs[0], runs[1])
    assert "model/head.weight" in differing(runs[0], runs[2])


# Regression and other people's models and losses.


def test_a_regression_with_a_loss_of_its_own_learns_by_that_loss():
    data = surefoot.load(number_arrays(), target="numbers", validation=0.2)
    calls = []

    def huber(outputs, targets):
        calls.append(outputs.shape)
        return F.huber_loss(outputs.squeeze(1), targets, reduction="none")

    work = task(data, "linear", loss=huber)
    state, record = fit(work, plan(Recipe(lr=0.2, epochs=30, batch_size=17, weight_decay=0), data.examples))
    assert calls
    assert record.last.val_accuracy is None
    assert record.last.train_accuracy is None
    assert record.last.val_loss < 0.05 < record.rows[0].train_loss
    found = state.model.head.weight[0] / data.std.float()
    torch.testing.assert_close(found, torch.tensor([1, -2, 0.5, 0, 3]), atol=0.15, rtol=0)


def test_a_loss_per_example_is_averaged():
    data = surefoot.load(number_arrays(), target="numbers", standardise_targets=False)
    made = plan(Recipe(lr=0.1, steps=5, batch_size=10), data.examples)
    each = fit(task(data, "linear", loss=lambda o, t: (o.squeeze(1) - t) ** 2), made)[0]
    mean = fit(task(data, "linear"), made)[0]
    assert not differing(contents(each), contents(mean))


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.first, self.second = nn.Linear(192, 192, bias=False), nn.Linear(192, 192, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(192, outputs)

    def forward(self, x):
        return self.head(self.second(self.first(x.flatten(1)).tanh()).tanh())


class PartlyUsed(nn.Module):
    """One parameter that no output depends on, and one that is used from the third batch on."""

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.head, self.late, self.never = nn.Linear(192, outputs), nn.Linear(192, outputs), nn.Linear(4, 4)
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, x):
        if self.training:
            self.batches += 1
        out = self.head(x.flatten(1))
        return out + self.late(x.flatten(1)) if self.batches > 2 else out


class PartlyFrozen(nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.frozen, self.head = nn.Linear(192, 16), nn.Linear(16, outputs)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.head(self.frozen(x.flatten(1)).relu())


@pytest.mark.parametrize("model", [Tied, PartlyUsed, PartlyFrozen])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_models_with_odd_parameters_train_as_under_torch(model, ema_decay):
    work = task(images(), model, seed=5)
    recipe = Recipe(lr=0.05, steps=8, batch_size=15, weight_decay=1e-3, ema_decay=ema_decay, schedule=CONSTANT)
    state, record = fit(work, plan(recipe, 60))
    net = work.fresh_model().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    for step in range(8):
        x, y = fetch(work.data, work.data.train, batch_indices(60, 15, work.seed, step)[1])
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(state.model.state_dict()[name], value, rtol=TOLERANCE, atol=TOLERANCE)
    assert record.outcome.kind == "finished"
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert not set(frozen) & set(trainable(state.model))
    if model is Tied:
        assert state.model.first.weight is state.model.second.weight


def test_a_model_without_anything_to_train_is_refused_before_the_first_step():
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).requires_grad_(False)
    with pytest.raises(ConfigError, match="no trainable parameter"):
        task(images(), frozen)


# Divergence is an outcome.


@pytest.mark.parametrize("model", MODELS)
def test_a_learning_rate_that_is_a_million_times_too_large_ends_as_diverged(model):
    work = task(images(), MODELS[model], seed=1, precision="fp32")
    made = plan(Recipe(lr=1e5, steps=300, batch_size=10, schedule=CONSTANT), 60)
    state, record = fit(work, made)
    assert record.outcome.kind == "diverged"
    assert record.outcome.step == state.step < 300
    assert f"at step {state.step + 1}, at learning rate 1e+05" in record.outcome.reason
    assert [row.step for row in record.rows] == [step for step in made.row_steps if step <= state.step]
    for name, value in state.model.named_parameters():
        assert value.isfinite().all(), f"{name} must be as it was before the step that was refused"
    again, rows = advance(work, made, state, 300)
    assert again.step == record.outcome.step, "a run that has ended does not go on"
    assert rows == []


def test_the_step_that_is_not_finite_leaves_no_trace():
    class Poisoned(nn.Module):
        """Infinite outputs in the fifth training batch, behind a batch norm that has seen it."""

        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(192, 3)
            self.register_buffer("batches", torch.tensor(0))

        def forward(self, x):
            if self.training:
                self.batches += 1
                x = x * (float("inf") if self.batches == 5 else 1)
            return self.head(self.norm(x).flatten(1))

    work = task(images(), Poisoned)
    made = plan(Recipe(lr=0.01, steps=10, batch_size=10), 60)
    before, _ = advance(work, made, start(work, made), 4)
    before = copy.deepcopy(before)
    after, _ = advance(work, made, before.clone(), 10)
    assert after.outcome is not None
    assert after.outcome.kind == "diverged"
    assert set(differing(contents(before), contents(after))) == {"outcome"}


def test_weights_that_overflow_in_the_last_update_are_not_called_finished():
    work = task(images(), "mlp")
    state, record = fit(work, plan(Recipe(lr=1e39, steps=1, batch_size=10, momentum=0, schedule=CONSTANT), 60))
    assert not state.is_finite(work.template)
    assert record.outcome.kind == "diverged"
    assert "after the last step, 1" in record.outcome.reason
