import dataclasses
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from small import bare, image_arrays, images, number_arrays, plateau_job, reference_job
from torch import nn

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.errors import ConfigError
from surefoot.optim.plan import plan, plateau_factor
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import advance, fit, rates, start
from surefoot.training.make import task


def test_the_start_is_the_model_before_any_step():
    work, made = reference_job()
    state = start(work, made)
    assert (state.step, state.slots, state.val_losses, state.seconds, state.outcome) == (0, {}, [], 0.0, None)
    assert state.model.training
    assert state.model is not work.template
    assert all(torch.equal(value, work.template.state_dict()[name]) for name, value in state.average.items())


def test_plateau_without_validation_is_refused():
    data = surefoot.load(image_arrays(60), validation=0)
    recipe = Recipe(epochs=1, batch_size=10, schedule=Schedule(kind="plateau"))
    with pytest.raises(ConfigError, match="plateau without validation"):
        start(task(data, "linear"), plan(recipe, 60))


def test_rows_come_at_the_planned_steps_and_say_where_they_are():
    work, made = reference_job()
    state, rows = advance(work, made, start(work, made), 100)
    assert [row.step for row in rows] == list(made.row_steps) == [3, 6, 9, 12, 15, 16]
    assert [row.epoch for row in rows] == [0.5, 1.0, 1.5, 2.0, 2.5, 16 / 6]
    assert [row.examples for row in rows] == [10 * row.step for row in rows]
    assert [len(row.losses) for row in rows] == [3, 3, 3, 3, 3, 1]
    assert [row.lr for row in rows] == [made.lr[row.step - 1] for row in rows]
    assert all(row.train_loss == pytest.approx(sum(row.losses) / len(row.losses)) for row in rows)
    assert all(0 <= row.train_accuracy <= 1 and row.grad_norm > 0 and row.update_ratio > 0 for row in rows)
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(rows))
    assert all(row.examples_per_second > 0 for row in rows)
    assert state.outcome.kind == "finished"
    assert state.outcome.reason == "all 16 steps were done"
    assert state.tally.examples == 0


def test_a_row_says_of_each_layer_what_its_last_step_did():
    work, made = reference_job()
    state, rows = advance(work, made, start(work, made), 2)
    before = {name: value.detach().clone() for name, value in state.model.named_parameters() if value.dim() > 1}
    state, rows = advance(work, made, state, 3)
    (row,) = rows
    assert list(row.layers) == [name.removesuffix(".weight") for name in before]
    for name, value in state.model.named_parameters():
        if name in before:
            grad_norm, ratio = row.layers[name.removesuffix(".weight")]
            moved = (value.detach() - before[name]).norm() / before[name].norm()
            assert grad_norm > 0
            assert ratio == pytest.approx(moved.item(), rel=1e-4)


def test_the_last_row_is_a_judgement_of_the_last_weights():
    work, made = reference_job()
    state, record = fit(work, made)
    judged = evaluate_part(work, state.model, state.weights, work.data.validation)
    assert (record.last.val_loss, record.last.val_accuracy) == (judged.loss, judged.accuracy)


def test_validation_does_not_change_the_training():
    _, made = reference_job()
    data = images()
    without = dataclasses.replace(data, validation=None)
    ends = []
    for each in (data, without):
        work = task(each, "mlp", seed=1)
        state, record = fit(work, plan(dataclasses.replace(made.recipe, ema_decay=None), 60))
        ends.append([value.tolist() for value in state.model.state_dict().values()])
    assert ends[0] == ends[1]
    assert record.last.val_loss is None
    assert record.last.val_accuracy is None


def test_how_often_a_row_is_made_does_not_change_the_training():
    ends = []
    for per_epoch in (1, 6):
        work, made = reference_job()
        state, _ = fit(work, plan(made.recipe, 60, rows_per_epoch=per_epoch))
        ends.append([value.tolist() for value in state.model.state_dict().values()])
    assert ends[0] == ends[1]


def test_a_row_keeps_at_most_a_hundred_losses_evenly():
    work = task(images(), "linear")
    state, rows = advance(work, made := plan(Recipe(steps=60, batch_size=1), 60), start(work, made), 60)
    assert [len(row.losses) for row in rows] == [60]
    data = surefoot.load(image_arrays(250), validation=0)
    work = task(data, "linear")
    _, record = fit(work, plan(Recipe(epochs=1, batch_size=1), 250))
    assert len(record.last.losses) == math.ceil(250 / 3)
    assert record.last.examples == 250
    assert state.step == 60


def test_the_rate_is_the_plans_lowered_by_the_plateaus_seen_so_far():
    work, made = plateau_job()
    state = start(work, made)
    seen, expected = [], []
    while state.outcome is None:
        seen.extend(rates(made, state, state.step + 1))
        expected.append(float(made.lr[state.step]) * plateau_factor(made.recipe.schedule, state.val_losses))
        state, rows = advance(work, made, state, state.step + 1)
        if rows:
            assert rows[0].lr == seen[-1]
    assert seen == expected
    assert seen[0] == made.recipe.lr
    assert len(state.val_losses) == 2


def test_a_plateau_is_seen_after_every_epoch_however_rare_rows_are():
    work, made = plateau_job()
    often, _ = advance(work, made, start(work, made), made.steps)
    rare = dataclasses.replace(made, row_steps=(made.steps,))
    once, rows = advance(work, rare, start(work, rare), made.steps)
    assert len(rows) == 1
    assert once.val_losses == often.val_losses
    for a, b in zip(once.model.state_dict().values(), often.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_asking_for_less_than_was_done_does_nothing():
    work, made = reference_job()
    state, _ = advance(work, made, start(work, made), 5)
    again, rows = advance(work, made, state, 3)
    assert (again.step, rows, again.outcome) == (5, [], None)


def test_batch_norm_over_one_value_is_a_mistake_in_the_batch_size():
    work = task(images(), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 3)))
    with pytest.raises(ConfigError, match="batch_size = 1 with this model"):
        fit(work, plan(Recipe(steps=2, batch_size=1), 60))


def test_another_value_error_of_the_model_is_passed_on_as_it_is():
    calls = []

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x):
            calls.append(self.training)
            if calls.count(True) == 3:  # not yet where it is tried
                raise ValueError("mine")
            return self.head(x.flatten(1))

    with pytest.raises(ValueError, match=r"^mine$"):
        fit(task(images(), Odd()), plan(Recipe(steps=2, batch_size=10), 60))


def test_a_divergence_is_the_outcome_of_that_run_and_keeps_its_rows():
    work = task(surefoot.load(number_arrays(), target="numbers", validation=0), "linear")
    state, record = fit(work, made := plan(Recipe(lr=50, epochs=40, batch_size=8), 64))
    assert record.outcome.kind == "diverged"
    assert record.outcome.step == state.step
    assert bare(record.rows)
    assert [row.step for row in record.rows] == [step for step in made.row_steps if step <= state.step]


def test_augmentation_is_of_training_alone_and_of_each_epoch_anew():
    seen = []

    def watched(x):
        seen.append(x.clone())
        return x.flip(3)

    work = task(images(), "linear", augment=watched)
    state, record = fit(work, plan(Recipe(epochs=2, batch_size=20), 60))
    assert len(seen) == 6
    judged = evaluate_part(work, state.model, state.weights, work.data.validation)
    assert judged.loss == record.last.val_loss
    assert len(seen) == 6


def test_dropout_differs_from_step_to_step_and_not_from_run_to_run():
    masks: list[list[list[bool]]] = [[]]

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x):
            x = F.dropout(x.flatten(1), 0.5, self.training)
            if self.training:
                masks[-1].append((x == 0).flatten().tolist())
            return self.head(x)

    work = task(images(), Watched())
    masks.clear()  # of the batch by which it was tried
    made = plan(Recipe(steps=4, batch_size=10), 60)
    for _ in range(2):
        masks.append([])
        fit(work, made)
    assert masks[0] == masks[1]
    assert len({tuple(mask) for mask in masks[0]}) == 4


def mean_over_all(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 20.0])),
        nn.CrossEntropyLoss(ignore_index=0),
        nn.CrossEntropyLoss(reduction="sum"),
        lambda o, t: F.cross_entropy(o - o.mean(0), t),
    ],
)
def test_a_loss_that_is_no_mean_over_examples_is_not_computed_in_pieces(loss):
    work = task(images(), "linear", loss=loss)
    made = [plan(Recipe(steps=2, batch_size=20, micro_batch_size=size), work.data.examples) for size in (7, 20)]
    with pytest.raises(ConfigError, match="Set micro_batch_size = 20"):
        start(work, made[0])
    assert start(work, made[1]).step == 0


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1), mean_over_all])
def test_a_loss_that_is_a_mean_over_examples_is(loss):
    work = task(images(), "mlp", loss=loss)
    assert start(work, plan(Recipe(steps=2, batch_size=20, micro_batch_size=7), work.data.examples)).step == 0


class Short(nn.Module):
    """A model for whose gradient of more than so many examples there is no memory; it counts how often it was asked."""

    most, words, kind, asked = 4, "CUDA out of memory. Tried to allocate 2.00 GiB", torch.OutOfMemoryError, 0

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(3), nn.Dropout(0.3), nn.Linear(192, outputs)

    def forward(self, x):
        x = self.drop(self.norm(x))  # which changes statistics and draws before it fails
        if self.training and torch.is_grad_enabled():
            type(self).asked += 1
            if len(x) > self.most:
                raise self.kind(self.words)
        return self.head(x.flatten(1))


RECIPE = Recipe(steps=4, batch_size=12, lr=0.1)
NO_MEMORY = [
    (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB"),
    (RuntimeError, "[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    (RuntimeError, "[enforce fail] . DefaultCPUAllocator: not enough memory: you tried to allocate 4000000000 bytes"),
    (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    (MemoryError, ""),
]


def short(monkeypatch, most=4, **attributes):
    work = task(images(), Short, precision="fp32", loss=attributes.pop("loss", None))
    for name, value in {"most": most, "asked": 0, **attributes}.items():
        monkeypatch.setattr(Short, name, value)
    return work, plan(RECIPE, work.data.examples)


@pytest.mark.parametrize(("kind", "words"), NO_MEMORY)
def test_a_step_that_runs_out_of_memory_is_done_again_in_halves(kind, words, monkeypatch):
    work, made = short(monkeypatch, kind=kind, words=words)
    state, rows = advance(work, made, start(work, made), 4)
    small = plan(dataclasses.replace(RECIPE, micro_batch_size=3), work.data.examples)
    expected, others = advance(work, small, start(work, small), 4)
    assert bare(rows) == bare(others), "12 examples fail, then 6; 3 fit"
    assert state.micro_batch_size == 3
    for a, b in zip(state.model.state_dict().values(), expected.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_once_it_has_run_out_of_memory_it_does_not_try_again(monkeypatch):
    work, made = short(monkeypatch)
    state, _ = advance(work, made, start(work, made), 2)
    state, _ = advance(work, made, state, 4)
    assert Short.asked == 2 + 4 * 4


def test_another_error_of_the_model_is_passed_on_and_the_state_is_as_before_the_step(monkeypatch):
    work, made = short(monkeypatch, kind=RuntimeError, words="mat1 and mat2 shapes cannot be multiplied")
    state = start(work, made)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        advance(work, made, state, 4)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert (state.step, state.micro_batch_size, Short.asked) == (0, None, 1)
    assert all(parameter.grad is None for parameter in state.model.parameters())


def test_no_memory_for_one_example_is_said_in_the_words_of_the_machine(monkeypatch):
    work, made = short(monkeypatch, most=0)
    work = dataclasses.replace(work, template=nn.Sequential(nn.Flatten(), _NoMemory(), nn.Linear(192, 3)))
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        advance(work, made, start(work, made), 4)


class _NoMemory(nn.Module):
    def forward(self, x):
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x


def test_pieces_of_one_example_under_batch_norm_are_refused_in_words(monkeypatch):
    class Flat(Short):
        def __init__(self, input_shape, outputs):
            super().__init__(input_shape, outputs)
            self.norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192))

    work = task(images(), Flat, precision="fp32")
    monkeypatch.setattr(Short, "most", 1)
    made = plan(RECIPE, work.data.examples)
    with pytest.raises(
        ConfigError, match=r"out of memory with 3 examples at once, at step 1; .* Use a smaller batch_size"
    ):
        advance(work, made, start(work, made), 4)


def test_a_loss_whose_pieces_do_not_add_up_is_not_cut_in_silence(monkeypatch):
    def whole(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="sum")

    work, made = short(monkeypatch, loss=whole)
    state = start(work, made)
    with pytest.raises(
        ConfigError, match=r"out of memory with 12 examples at once.*must be the mean over its examples"
    ):
        advance(work, made, state, 4)
    assert (state.step, state.micro_batch_size) == (0, None)


@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_batches_in_which_nothing_counts_are_left_out_of_the_training_loss(micro_batch_size):
    x = torch.rand(24, 2, 3)
    y = torch.full((24, 2), -100)
    y[:2] = 1
    work = task(surefoot.load((x, y), target="tokens", validation=0), Still, seed=0)
    recipe = Recipe(epochs=1, batch_size=4, micro_batch_size=micro_batch_size, weight_decay=0)
    _, record = fit(work, plan(recipe, 24))
    assert sum(loss == 0 for loss in record.last.losses) >= 4
    assert record.last.train_loss == pytest.approx(math.log(2))
    assert record.last.train_accuracy is not None


class Still(nn.Module):
    """Answers each of two classes alike; its weight does not move."""

    def __init__(self, outputs):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, x):
        return self.scale.sum() * torch.ones(*x.shape[:2], len(self.scale), device=x.device)


@pytest.mark.parametrize("frozen_before", [True, False])
@pytest.mark.parametrize("steps", [0, 3])
def test_which_parameters_are_trained_is_settled_when_a_run_starts(frozen_before, steps):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, 10))
    model[1].weight.requires_grad_(not frozen_before)
    work = task(surefoot.load("digits"), model)
    job = plan(Recipe(epochs=1), work.data.examples)
    state, _ = advance(work, job, start(work, job), steps)
    state.model[1].weight.requires_grad_(frozen_before)
    with pytest.raises(ConfigError, match=rf"^1\.weight is (not )?trained .*at step {steps}, other than when the run"):
        advance(work, job, state, 5)
    state.model[1].weight.requires_grad_(not frozen_before)
    assert advance(work, job, state, 5)[0].step == 5
