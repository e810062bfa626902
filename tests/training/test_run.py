import json
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from small import bare, bits, image_arrays, images, number_arrays
from torch import nn

import surefoot
from surefoot.config import Config, Recipe, Schedule
from surefoot.errors import CheckpointError, ConfigError
from surefoot.record.run import read_rows
from surefoot.training import checkpoint
from surefoot.training.configure import Objects
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import advance, fit, start
from surefoot.training.open import open_run
from surefoot.training.run import Result, Run
from surefoot.training.weights import load_trained

CONSTANT = Schedule(kind="constant")


def opened(
    tmp_path, *, name: str = "a", data=None, model: str = "mlp", checkpoint_seconds: float = 60.0, **recipe
) -> Run:
    settings = {"epochs": 3, "batch_size": 10, "schedule": CONSTANT} | recipe
    config = Config(
        data="in-memory",
        model=model,
        precision="fp32",
        checkpoint_seconds=checkpoint_seconds,
        recipe=Recipe(**settings),
    )
    return open_run(config, name=name, runs_dir=tmp_path, objects=Objects(data=data or images()))


def to_the_end(run: Run, steps: int | None = None) -> Result:
    with run:
        while not run.done:
            run.advance(steps)
        return run.finish()


def test_a_run_on_disk_is_the_run_in_memory(tmp_path):
    result = to_the_end(run := opened(tmp_path, ema_decay=0.9))
    state, record = fit(run.task, run.plan)
    assert bare(result.record.rows) == bare(record.rows)
    assert result.record.outcome == record.outcome
    assert bare(read_rows(result.folder)) == bare(record.rows)
    for name, value in result.model.net.state_dict().items():
        assert bits(value) == bits(state.weights[name]), "the average is what the result holds"


@pytest.mark.parametrize("steps", [1, 4, 1000])
def test_how_it_is_sliced_does_not_matter(steps, tmp_path):
    plain, sliced = to_the_end(opened(tmp_path, name="a")), to_the_end(opened(tmp_path, name="b"), steps)
    weights = [(result.folder / "model.safetensors").read_bytes() for result in (plain, sliced)]
    assert weights[0] == weights[1]
    assert bare(plain.record.rows) == bare(sliced.record.rows)


def test_the_result_is_what_the_test_part_says_and_is_written_down(tmp_path):
    result = to_the_end(run := opened(tmp_path))
    assert json.loads((result.folder / "result.json").read_text()) == result.summary
    state, record = fit(run.task, run.plan)
    test = evaluate_part(run.task, state.model, state.weights, run.task.data.test)
    summary = result.summary
    assert (summary["test_loss"], summary["test_accuracy"], summary["test_examples"]) == (test.loss, test.accuracy, 21)
    assert summary["val_accuracy"] == record.last.val_accuracy
    assert (summary["steps"], summary["epochs"], summary["weights_from_step"]) == (18, 3.0, 18)
    assert summary["parameters"] == 192 * 128 + 128 + 128 * 3 + 3
    trained = load_trained(result.folder)
    for name, value in trained.model.net.state_dict().items():
        assert bits(value) == bits(result.model.net.state_dict()[name])


def test_checkpoints_come_when_due(tmp_path):
    with opened(tmp_path, checkpoint_seconds=0) as run:
        run.advance(2)
        run.advance(3)
        assert sorted(p.name for p in (run.folder / "checkpoints").iterdir()) == ["step-00000002", "step-00000005"]
    with opened(tmp_path, name="b", checkpoint_seconds=3600) as run:
        run.advance(2)
        assert not (run.folder / "checkpoints").exists()


def test_the_metrics_are_durable_before_the_checkpoint_that_counts_on_them(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr("surefoot.training.run.flush_rows", lambda folder: order.append("rows"))
    monkeypatch.setattr(checkpoint, "save", lambda *arguments: order.append("checkpoint"))
    with opened(tmp_path) as run:
        run.save()
    assert order == ["rows", "checkpoint"]


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_divergence_is_an_outcome_and_keeps_the_last_finite_checkpoint(model, tmp_path):
    result = to_the_end(opened(tmp_path, model=model, lr=1e5, epochs=50, checkpoint_seconds=0), steps=2)
    assert result.record.outcome.kind == result.summary["outcome"] == "diverged"
    assert "no longer finite" in result.summary["reason"]
    assert 0 < result.summary["weights_from_step"] <= result.summary["steps"] < 300
    assert bare(read_rows(result.folder)) == bare(result.record.rows)
    for folder in (result.folder / "checkpoints").iterdir():
        for file in ("model.safetensors", "state.safetensors"):
            tensors = safetensors.torch.load((folder / file).read_bytes())
            assert all(value.isfinite().all() for value in tensors.values()), f"{folder.name}/{file}"
    for name, value in load_trained(result.folder).model.net.state_dict().items():
        assert value.isfinite().all()
        assert bits(value) == bits(result.model.net.state_dict()[name])


def test_a_divergence_before_any_checkpoint_leaves_the_first_weights(tmp_path):
    result = to_the_end(run := opened(tmp_path, lr=1e30, epochs=50))
    assert result.summary["outcome"] == "diverged"
    assert result.summary["weights_from_step"] == 0
    for name, value in run.task.template.state_dict().items():
        assert bits(value) == bits(result.model.net.state_dict()[name])


def test_weights_that_overflowed_are_never_saved(tmp_path):
    with opened(tmp_path, lr=1e39, momentum=0.0) as run:
        run.advance(1)
        assert run.state.outcome is None
        assert not run.state.is_finite(run.task.template), "the case must be the one that is meant"
        assert run.save() is None
        assert checkpoint.load_newest(run.folder, run.task)[0] is None


def test_an_infinity_that_the_model_holds_on_purpose_is_no_divergence(tmp_path):
    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(192, 3)
            self.register_buffer("mask", torch.tensor([0.0, -math.inf]))

        def forward(self, x):
            return self.head(x.flatten(1))

    config = Config(data="in-memory", model="in-memory", recipe=Recipe(epochs=1, batch_size=10))
    result = to_the_end(open_run(config, name="a", runs_dir=tmp_path, objects=Objects(data=images(), model=Masked)))
    assert result.summary["outcome"] == "finished"
    assert (result.folder / "checkpoints" / "step-00000006").is_dir()


def test_a_resumed_divergence_ends_as_the_same_divergence(tmp_path):
    plain = to_the_end(opened(tmp_path, lr=1e5, epochs=50, checkpoint_seconds=0), steps=1)
    with opened(tmp_path, name="b", lr=1e5, epochs=50, checkpoint_seconds=0) as run:
        run.advance(1)
    resumed = to_the_end(opened(tmp_path, name="b", lr=1e5, epochs=50, checkpoint_seconds=0), steps=1)
    assert resumed.record.outcome == plain.record.outcome
    assert bare(resumed.record.rows) == bare(plain.record.rows)
    weights = [(result.folder / "model.safetensors").read_bytes() for result in (plain, resumed)]
    assert weights[0] == weights[1]


def test_the_threads_asked_for_are_the_threads_used(tmp_path):
    seen = []

    class Watching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(192, 3)

        def forward(self, x):
            seen.append((len(x), torch.get_num_threads()))
            return self.head(x.flatten(1))

    config = Config(data="in-memory", model="in-memory", threads=2, recipe=Recipe(epochs=1, batch_size=10))
    result = to_the_end(open_run(config, name="a", runs_dir=tmp_path, objects=Objects(data=images(), model=Watching)))
    assert {threads for batch, threads in seen if batch > 2} == {2}, "in training, validation and test"
    assert torch.get_num_threads() == 1
    assert result.summary["threads"] == 2


NOISY = {"lr": 1.0, "epochs": 12, "momentum": 0.9}
"""So high a rate that the best weights are not the last: the tests below say so where they count on it."""


def noisy(tmp_path, name="a", *, steps=None, checkpoint_seconds=60.0, **settings):
    config = Config(
        data="in-memory", model="mlp", precision="fp32", checkpoint_seconds=checkpoint_seconds,
        recipe=Recipe(batch_size=10, schedule=CONSTANT, ema_decay=settings.pop("ema_decay", None), **NOISY), **settings,
    )  # fmt: skip
    return open_run(config, name=name, runs_dir=tmp_path, objects=Objects(data=images()))


def weights_at(run: Run, step: int) -> dict[str, torch.Tensor]:
    state, _ = advance(run.task, run.plan, start(run.task, run.plan), step)
    return state.weights


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_the_best_weights_lie_beside_the_last(ema_decay, tmp_path):
    result = to_the_end(run := noisy(tmp_path, ema_decay=ema_decay))
    best, last = result.summary["best"], result.record.last
    rows = result.record.rows
    assert best["step"] < result.summary["steps"], "the case must be the one that is meant"
    assert best == {"step": best["step"], "metric": "loss", "value": min(row.val_loss for row in rows)}
    assert best["value"] == next(row.val_loss for row in rows if row.step == best["step"])
    assert (result.summary["weights"], result.summary["weights_from_step"]) == ("last", last.step)
    assert result.summary["val_loss"] == last.val_loss
    for name, value in weights_at(run, best["step"]).items():
        assert bits(load_trained(result.folder, weights="best").model.net.state_dict()[name]) == bits(value)
    for name, value in weights_at(run, last.step).items():
        assert bits(load_trained(result.folder, weights="last").model.net.state_dict()[name]) == bits(value)
        assert bits(load_trained(result.folder).model.net.state_dict()[name]) == bits(value)
    assert not (result.folder / "last.safetensors").exists()


def test_the_best_weights_are_those_of_the_result_where_they_are_asked_for(tmp_path):
    result = to_the_end(run := noisy(tmp_path, weights="best", choose_by="accuracy"))
    best, rows = result.summary["best"], result.record.rows
    assert best["metric"] == "accuracy"
    assert best["value"] == max(row.val_accuracy for row in rows)
    assert best["step"] == next(row.step for row in rows if row.val_accuracy == best["value"]) < run.plan.steps
    assert (result.summary["weights"], result.summary["weights_from_step"]) == ("best", best["step"])
    assert result.summary["val_accuracy"] == best["value"]
    at_best = weights_at(run, best["step"])
    test = evaluate_part(run.task, run.task.fresh_model(), at_best, run.task.data.test)
    assert (result.summary["test_loss"], result.summary["test_accuracy"]) == (test.loss, test.accuracy)
    trained = load_trained(result.folder)
    for name, value in at_best.items():
        assert bits(value) == bits(result.model.net.state_dict()[name]) == bits(trained.model.net.state_dict()[name])
    assert (result.folder / "last.safetensors").is_file()
    assert not (result.folder / "best.safetensors").exists()


def test_a_run_without_validation_has_no_best_weights_and_says_so(tmp_path):
    data = surefoot.load({"train": image_arrays(60, 0), "test": image_arrays(21, 2)}, validation=0)
    result = to_the_end(opened(tmp_path, data=data))
    assert result.summary["best"] is None
    with pytest.raises(ConfigError, match="only its last weights"):
        load_trained(result.folder, weights="best")
    assert load_trained(result.folder, weights="last").information["step"] == 18


def test_a_damaged_file_of_best_weights_is_found(tmp_path):
    result = to_the_end(noisy(tmp_path))
    path = result.folder / "best.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    load_trained(result.folder)
    with pytest.raises(CheckpointError, match=r"best\.safetensors.*damaged"):
        load_trained(result.folder, weights="best")


def test_a_run_stops_early_and_its_best_weights_are_used(tmp_path):
    result = to_the_end(run := noisy(tmp_path, early_stopping_epochs=2))
    plain = to_the_end(noisy(tmp_path, "b"))
    summary, rows = result.summary, result.record.rows
    assert result.record.outcome.kind == summary["outcome"] == "finished"
    assert "stopped early at step" in summary["reason"]
    assert summary["steps"] < summary["planned_steps"] == run.plan.steps
    assert bare(rows) == bare(plain.record.rows[: len(rows)]), "until then it is the run that does not stop"
    assert (summary["weights"], summary["weights_from_step"]) == ("best", summary["best"]["step"])
    assert rows[-1].epoch - next(row.epoch for row in rows if row.step == summary["best"]["step"]) == 2
    assert not run.notes, "a constant rate does not count on the length"


def test_a_schedule_that_counts_on_the_whole_length_is_named(tmp_path):
    config = Config(data="in-memory", model="mlp", early_stopping_epochs=2, recipe=Recipe(epochs=3, batch_size=10))
    with open_run(config, name="a", runs_dir=tmp_path, objects=Objects(data=images())) as run:
        assert any("cosine lowers the learning rate over the whole run" in note for note in run.notes)


@pytest.mark.parametrize("settings", [{"weights": "best"}, {"early_stopping_epochs": 2}, {"choose_by": "loss"}])
def test_choosing_needs_a_validation_part(settings, tmp_path):
    data = surefoot.load({"train": image_arrays(60, 0)}, validation=0)
    config = Config(data="in-memory", model="mlp", recipe=Recipe(epochs=1), **settings)
    with pytest.raises(ConfigError, match="without validation data"):
        open_run(config, name="a", runs_dir=tmp_path, objects=Objects(data=data))
    assert not (tmp_path / "a").exists()


def test_numbers_have_no_accuracy_to_choose_by(tmp_path):
    with pytest.raises(
        ConfigError, match="for targets that are numbers: what chooses is one of loss, mae, mse, rmse, r2"
    ):
        surefoot.train(number_arrays(), "mlp", choose_by="accuracy", epochs=1, runs_dir=tmp_path)


@pytest.mark.parametrize("choice", ["accuracy", "f1"])
def test_what_a_loss_of_model_and_batch_does_not_show_is_not_offered_to_choose_by(choice, tmp_path):
    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    with pytest.raises(ConfigError, match=r"what chooses is one of loss, or a metric|shows no outputs"):
        surefoot.train(image_arrays(60), "linear", loss_fn=loss, choose_by=choice, epochs=1, runs_dir=tmp_path)


def test_a_choice_that_is_not_defined_is_said_once(tmp_path):
    x = number_arrays(60)[0]
    data = {"train": (x, np.eye(60, 2, dtype="int64")), "validation": (x[2:9], np.zeros((7, 2), "int64"))}
    result = surefoot.train(
        data, lambda outputs: nn.Linear(x.shape[1], outputs), target="multilabel", choose_by="auc",
        early_stopping_epochs=1, epochs=3, runs_dir=tmp_path,
    )  # fmt: skip
    assert result.summary["best"] is None
    assert sum("is not defined at step" in note for note in result.notes) == 1


@pytest.mark.parametrize("slices", [1, 7, 1000])
@pytest.mark.parametrize("settings", [{"early_stopping_epochs": 2}, {"ema_decay": 0.9}])
def test_stopped_anywhere_and_resumed_the_best_and_the_end_are_the_same(settings, slices, tmp_path):
    plain = to_the_end(noisy(tmp_path, **settings))
    done = False
    while not done:
        with noisy(tmp_path, "b", checkpoint_seconds=0, **settings) as run:
            run.advance(slices)
            done = run.done
    resumed = to_the_end(noisy(tmp_path, "b", **settings))
    for name in ("model", "best", "last"):
        files = [folder / f"{name}.safetensors" for folder in (plain.folder, resumed.folder)]
        assert files[0].is_file() == files[1].is_file()
        assert not files[0].is_file() or files[0].read_bytes() == files[1].read_bytes()
    for name in ("best", "reason", "weights_from_step", "test_loss", "val_loss", "steps"):
        assert plain.summary[name] == resumed.summary[name], name


def test_extra_state_of_the_best_weights_comes_along(tmp_path):
    class Counts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.steps = torch.nn.Linear(192, 3), 0

        def forward(self, x):
            self.steps += self.training
            return self.head(x.flatten(1))

        def get_extra_state(self):
            return {"steps": self.steps, "at": torch.tensor(float(self.steps))}

        def set_extra_state(self, state):
            self.steps = state["steps"]

    recipe = Recipe(batch_size=10, schedule=CONSTANT, **NOISY)
    config = Config(data="in-memory", model="in-memory", early_stopping_epochs=1, checkpoint_seconds=0, recipe=recipe)
    run = open_run(config, name="a", runs_dir=tmp_path, objects=Objects(data=images(), model=Counts))
    with run:
        run.advance(7)
    run = open_run(config, name="a", runs_dir=tmp_path, objects=Objects(data=images(), model=Counts))
    assert run.state.step == run.state.model.steps == 7
    result = to_the_end(run)
    best = result.summary["best"]["step"]
    assert best < result.summary["steps"]
    for weights, at in (("best", best), ("last", result.summary["steps"])):
        assert load_trained(result.folder, Counts(), weights=weights).model.net.steps == at


class Limited(torch.nn.Module):
    """A model that needs more memory than there is for more than so many examples; with dropout."""

    most = 4

    def __init__(self):
        super().__init__()
        self.head, self.drop = torch.nn.Linear(192, 3), torch.nn.Dropout(0.3)

    def forward(self, x):
        if self.training and len(x) > self.most and torch.is_grad_enabled():
            self.drop(x)  # the draws of a step that is done again must not count
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.head(self.drop(x.flatten(1)))


class LimitedNorm(Limited):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)

    def forward(self, x):
        return super().forward(self.norm(x))


def limited(tmp_path, name, model=Limited, **more):
    recipe = Recipe(epochs=2, batch_size=10, schedule=CONSTANT, **more)
    config = Config(data="in-memory", model="in-memory", precision="fp32", checkpoint_seconds=0, recipe=recipe)
    return open_run(config, name=name, runs_dir=tmp_path, objects=Objects(data=images(), model=model))


@pytest.mark.parametrize(("model", "most", "pieces"), [(Limited, 2, 2), (Limited, 9, 5), (LimitedNorm, 5, 5)])
def test_out_of_memory_a_batch_is_computed_in_pieces_and_that_is_said_and_kept(
    model, most, pieces, tmp_path, monkeypatch
):
    monkeypatch.setattr(Limited, "most", most)
    result = to_the_end(run := limited(tmp_path, "a", model))
    smaller = to_the_end(limited(tmp_path, "b", model, micro_batch_size=pieces))
    assert bare(result.record.rows) == bare(smaller.record.rows), "as if it had been asked for"
    for name, value in smaller.model.net.state_dict().items():
        assert bits(value) == bits(result.model.net.state_dict()[name])
    assert result.summary["micro_batch_size"] == smaller.summary["micro_batch_size"] == pieces
    (note,) = [note for note in result.notes if "out of memory" in note]
    assert f"pieces of at most {pieces}" in note
    assert ("batch norm sees one piece at a time" in note) == (model is LimitedNorm)
    assert run.config.recipe.micro_batch_size == 2048, "what was asked for stays on record"


def test_a_run_that_ran_out_of_memory_goes_on_in_pieces_where_there_is_more(tmp_path, monkeypatch):
    plain = to_the_end(limited(tmp_path, "a"))
    with limited(tmp_path, "b") as run:
        run.advance(1)
    monkeypatch.setattr(Limited, "most", 100)
    resumed = to_the_end(limited(tmp_path, "b"))
    assert bare(resumed.record.rows) == bare(plain.record.rows)
    assert (resumed.folder / "model.safetensors").read_bytes() == (plain.folder / "model.safetensors").read_bytes()
