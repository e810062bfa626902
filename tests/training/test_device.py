"""The device's way is the host's, bit for bit, with operators recorded and replayed in place of a CUDA graph."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from recorded import recorded
from small import bare, bits, images, number_arrays
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.models.cnn import Cnn
from surefoot.optim import flagged
from surefoot.optim.plan import plan
from surefoot.training import device, graph
from surefoot.training.device import STEPS_PER_REPLAY, OnDevice, refusal
from surefoot.training.loop import advance, advance_alike, start
from surefoot.training.make import task


@pytest.fixture(autouse=True)
def a_graph(monkeypatch):
    for module in (graph, device):
        monkeypatch.setattr(module, "captured", recorded)
    monkeypatch.setattr(device, "new_pool", lambda _: [])  # what lies there is overwritten before each replay
    monkeypatch.setattr(flagged, "_number", lambda rate: rate)  # as on a card: a recorded number would stay


def small_cnn(input_shape, outputs):
    return Cnn(input_shape, outputs, widths=(8, 12))


class Dropped(nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.body(x))


def job(model="mlp", augment=None, data=None, **recipe):
    work = task(data or images(), model, seed=2, precision="fp32", augment=augment)
    return work, plan(Recipe(**{"epochs": 5, "batch_size": 4, "lr": 0.05} | recipe), work.data.examples)


def by_device(work, made, cuts):
    state, rows = start(work, made), []
    stepper = OnDevice(work, made, state)
    for until in cuts:
        rows += advance_alike([(work, made)], [state], until, stepper)[0]
    return state, rows, stepper


def by_host(work, made):
    return advance(work, made, start(work, made), made.steps)


def same(one, other):
    return [bits(value) for value in one.weights.values()] == [bits(value) for value in other.weights.values()]


ALIKE = {
    "momentum": {},
    "plain": {"momentum": 0.0},
    "nesterov": {"momentum_form": "nesterov"},
    "decoupled": {"weight_decay": 0.1, "weight_decay_form": "decoupled"},
    "clipped": {"clip_norm": 0.5},
    "pieces": {"micro_batch_size": 3},
    "smoothed": {"label_smoothing": 0.1},
    "adam": {"rule": "adam", "lr": 1e-3},
    "adamw": {"rule": "adamw", "lr": 1e-3},
    "groups": {"groups": {"head": {"lr": 10, "weight_decay": 0}}},
    "thaw": {"groups": {"hidden*": {"frozen_epochs": 1.5}}},
    "batch norm": {"model": small_cnn},
    "augmented": {"model": small_cnn, "augment": ["flip-alternate", "crop:1"]},
    "small images first": {
        "model": small_cnn, "augment": ["crop:1"], "progressive_resizing": ("5:0.3", "6:0.55"),
        "groups": {"head": {"lr": 2}},
    },
    "dropout": {"model": Dropped},
    "diverging": {"lr": 1e15},
    "plateau": {"schedule": surefoot.Schedule(kind="plateau")},
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_the_device_computes_the_bits_of_the_host_however_it_is_divided(name):
    work, made = job(**ALIKE[name])
    expected, others = by_host(work, made)
    for cuts in ([made.steps], [1, 2, 5, 20, 33, made.steps]):
        state, rows, stepper = by_device(work, made, cuts)
        assert stepper.eager == ""
        assert set(stepper._graphs) == ({1} if name == "dropout" else {1, STEPS_PER_REPLAY}) or name == "diverging"
        assert same(state, expected)
        assert bare(rows) == bare(others)
        assert state.outcome == expected.outcome
        assert state.step == expected.step


def test_the_graphs_of_a_run_share_one_pool_and_new_ones_take_another(monkeypatch):
    pools = []
    monkeypatch.setattr(device, "captured", lambda *given: pools.append(given[2]) or recorded(*given))
    monkeypatch.setattr(graph, "captured", lambda *given: pools.append(given[2]) or recorded(*given))
    work, made = job(groups={"hidden*": {"frozen_epochs": 1.5}})
    by_device(work, made, [made.steps])
    before, after = pools[:2], pools[2:]
    assert before[0] is before[1] is not None
    assert after[0] is after[1] is not before[0], "once other weights are trained"


def test_where_only_one_step_can_be_captured_each_is_launched_alone(monkeypatch):
    def none(function, *given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(device, "captured", none)
    work, made = job()
    state, _, stepper = by_device(work, made, [made.steps])
    assert set(stepper._graphs) == {1}
    assert state.computed == "graph"
    assert same(state, by_host(work, made)[0])


@pytest.mark.parametrize(
    "settings",
    [
        {"ema_decay": 0.9},
        {"rule": "rmsprop", "lr": 1e-3},
        {"momentum_form": "sutskever"},
        {"rule": "muon", "lr": 0.01, "model": small_cnn},
    ],
)
def test_other_kernels_are_within_rounding(settings):
    """A foreach kernel adds with a product fused into it, a formula does not: 1 unit in the last place a step."""
    work, made = job(**settings)
    expected, state = by_host(work, made)[0], by_device(work, made, [made.steps])[0]
    for name, value in expected.weights.items():
        # Muon's step makes what is far below the largest singular value up to 485 times as large, rounding too.
        atol = 1e-5 if made.recipe.rule == "muon" else 1e-6
        torch.testing.assert_close(state.weights[name], value, rtol=1e-4, atol=atol)


def test_numbers_and_a_loss_in_the_unit_of_the_targets():
    x, y = number_arrays()
    work, made = job(data=surefoot.load((x, y * 100.0), target="numbers", validation=0))
    expected, others = by_host(work, made)
    state, rows, _ = by_device(work, made, [made.steps])
    assert same(state, expected)
    assert bare(rows) == bare(others)


@pytest.mark.parametrize("at", [0, 3, 17])
def test_a_step_that_is_not_finite_changes_nothing_and_is_named(at):
    class Poisoned(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(192, 3)
            self.register_buffer("updates", torch.zeros(()))

        def forward(self, x):
            if self.training:
                self.updates += 1
            poison = torch.where(self.updates > at, math.nan, 0.0)
            return self.head(self.norm(x).flatten(1)) + poison

    work, made = job(Poisoned())
    expected, _ = by_host(work, made)
    state, _, _ = by_device(work, made, [made.steps])
    assert same(state, expected)
    assert state.outcome == expected.outcome
    assert (state.outcome.kind, state.step) == ("diverged", at)
    assert f"at step {at + 1}, at learning rate" in state.outcome.reason


class Counts(nn.Module):
    """Counts its calls in Python, and with `used` computes with the number."""

    def __init__(self):
        super().__init__()
        self.head, self.calls = nn.Linear(192, 3), 0

    def forward(self, x):
        self.calls += self.training
        return self.head(x.flatten(1)) / (1 + 0.1 * self.calls)


class Replaces(Counts):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(192))

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.head(x - self.mean)


class Reads(Counts):
    def forward(self, x):
        x = x.flatten(1)
        return self.head(x if x.mean().item() > 0 else -x)


REFUSED = {
    Counts: "counts or remembers something outside of its buffers",
    Replaces: "puts another tensor in the place of a buffer",
    Reads: "not permitted when stream is capturing",
}


@pytest.mark.parametrize("model", REFUSED)
def test_what_a_graph_would_compute_otherwise_is_computed_step_by_step_and_named(model):
    work, made = job(model())
    expected, _ = by_host(work, made)
    state, _, stepper = by_device(work, made, [made.steps])
    assert REFUSED[model] in stepper.eager
    assert state.computed == f"loop; not a graph: {stepper.eager}"
    assert same(state, expected)


def test_a_loss_that_changes_in_python_is_seen_too():
    class Fading(nn.Module):
        calls = 0

        def forward(self, outputs, targets):
            self.calls += 1
            return F.cross_entropy(outputs, targets) / self.calls

    work = task(images(), "mlp", loss=Fading())
    made = plan(Recipe(epochs=2, batch_size=4), 60)
    assert "outside of its buffers" in by_device(work, made, [made.steps])[2].eager


def test_a_graph_is_made_anew_where_the_tensors_of_a_state_were_exchanged():
    work, made = job()
    expected, _ = by_host(work, made)
    state, _, stepper = by_device(work, made, [20])
    state.slots["velocity"] = [value.clone() for value in state.slots["velocity"]]
    advance_alike([(work, made)], [state], made.steps, stepper)
    assert same(state, expected)


def test_a_step_that_runs_out_of_memory_is_done_again_in_halves():
    class Short(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x):
            if self.training and torch.is_grad_enabled() and len(x) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return self.head(x.flatten(1))

    work, made = job(Short())
    state, _, _ = by_device(work, made, [made.steps])
    small = dataclasses.replace(made, recipe=dataclasses.replace(made.recipe, micro_batch_size=2))
    assert state.micro_batch_size == 2
    assert same(state, by_host(work, small)[0])


def test_a_copy_of_a_state_has_a_stepper_of_its_own():
    work, made = job()
    state, _, stepper = by_device(work, made, [20])
    state.stepper = stepper
    twin = state.clone()
    assert twin.stepper is None
    assert state.stepper is stepper
    assert stepper.is_of(work, made, state)
    assert not stepper.is_of(work, made, twin)


def test_a_run_that_has_ended_lets_go_of_what_computed_it():
    work, made = job()
    state = start(work, made)
    state.stepper = stepper = OnDevice(work, made, state)
    advance(work, made, state, 20)
    assert state.stepper is stepper
    advance(work, made, state, made.steps)
    assert state.stepper is None


def test_who_has_to_be_looked_at_is_said():
    work, made = job()
    assert refusal(work, start(work, made)) is None
    assert "NumPy" in refusal(dataclasses.replace(work, draws=True), start(work, made))
    own = task(images(), "mlp", optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    free = plan(Recipe(rule="optimizer", lr=0.1, epochs=1), 60)
    assert refusal(own, start(own, free)) == "the optimizer is the caller's"
    called = task(images(), "mlp", augment=lambda x: x)
    assert "calls a function" in refusal(called, start(called, made))
