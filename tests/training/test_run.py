import json
import math

import pytest
import safetensors.torch
import torch
from small import bare, bits, images

from surefoot.config import Config, Recipe, Schedule
from surefoot.record.run import read_rows
from surefoot.training import checkpoint
from surefoot.training.configure import Objects
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import fit
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
