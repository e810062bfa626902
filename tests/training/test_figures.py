import dataclasses

import pytest
import torch
from torch import nn

import surefoot
from surefoot.record import figures as record
from surefoot.record.figures import MachineFigures, Rate, write_figures
from surefoot.training.figures import figures_of, machine_of, reached, rule_figures
from surefoot.training.population.strategy import FIGURES

CPU = torch.device("cpu")
DATA = surefoot.load("digits")


def figures(*rates, **more):
    return MachineFigures(
        machine=machine_of(CPU), date="2026-11-28", how="", call_seconds=6.88e-6, numbers_per_second=0.81e9,
        rates=tuple(Rate(operation=of, precision=p, threads=n, per_second=r) for of, p, n, r in rates), **more,
    )  # fmt: skip


SOME = figures(("matrix product", "fp32", 1, 1e9), ("convolution", "fp32", 1, 2e9), ("matrix product", "bf16", 1, 4e9))


def share(model, of=SOME, seconds=1e-3, batch=32, **place):
    task = surefoot.task(DATA, model, device="cpu", **{"threads": 1, "precision": "fp32", **place})
    plan = surefoot.plan(surefoot.Recipe(epochs=1, batch_size=batch), DATA.examples)
    return reached(task, plan, seconds, of)


def test_the_operations_of_a_step_are_those_of_its_products():
    seen = share("linear")
    assert seen["operations"] == 2 * (2 * 32 * 64 * 10)  # forward, and backward to the weights: inputs need none
    assert seen["share"] == pytest.approx(seen["operations"] / 1e9 / 1e-3)
    assert (seen["most"], seen["figures"]) == ("matrix product", "2026-11-28")


def test_a_hidden_layer_is_also_gone_back_through():
    seen = share("mlp", batch=64)
    assert seen["operations"] == 64 * (2 * 2 * 64 * 128 + 3 * 2 * 128 * 10)


def test_each_kind_of_work_is_held_against_its_rate():
    convolves = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 10))
    seen = share(convolves, batch=16)
    convolution, product = 2 * 2 * 16 * 4 * 9 * 64, 3 * 2 * 16 * 256 * 10
    assert seen["operations"] == convolution + product
    assert seen["most"] == "matrix product"
    assert seen["share"] == pytest.approx((convolution / 2e9 + product / 1e9) / 1e-3)


def test_bf16_is_held_against_its_rate():
    assert share("linear", precision="bf16")["share"] == pytest.approx(share("linear")["share"] / 4)


@pytest.mark.parametrize(
    "changes", [{"progressive_resizing": ("4:0.5",)}, {"groups": {"*norm*": {"frozen_epochs": 0.5}}}]
)
def test_where_no_step_stands_for_all_nothing_is_said(changes):
    task = surefoot.task(DATA, "cnn", device="cpu", threads=1, precision="fp32")
    plans = [surefoot.plan(surefoot.Recipe(epochs=1, batch_size=32, **more), DATA.examples) for more in ({}, changes)]
    assert [reached(task, each, 1e-3, SOME) is None for each in plans] == [False, True]


def test_threads_that_were_not_measured_say_nothing():
    assert share("linear", threads=3) is None


def test_without_figures_or_time_nothing_is_said():
    assert share("linear", of=None) is None
    assert share("linear", seconds=0.0) is None


class Falls(nn.Module):
    """Trains, and then does not."""

    falls = False

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(64, 10)

    def forward(self, x):
        if Falls.falls:
            raise RuntimeError("not today")
        return self.inside(x.flatten(1))


def test_a_model_that_cannot_be_counted_is_no_error(monkeypatch):
    task = surefoot.task(DATA, Falls, device="cpu", threads=1)
    plan = surefoot.plan(surefoot.Recipe(epochs=1, batch_size=32), DATA.examples)
    assert reached(task, plan, 1e-3, SOME) is not None
    monkeypatch.setattr(Falls, "falls", True)
    assert reached(task, plan, 1e-3, SOME) is None


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.layers(x.flatten(1, 2))[0][:, -1])


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = x.flatten(1, 2)[:, None]
        return self.head(nn.functional.scaled_dot_product_attention(x, x, x)[:, 0, -1])


def test_where_most_of_the_work_cannot_be_counted_nothing_is_said():
    """Whether an operator is fused depends on the machine; what is counted whole is said, never a part of it."""
    seen = share(Recurrent, batch=16)
    assert seen is None or seen["operations"] > 16 * 8 * 2 * 4 * 16 * (8 + 16)
    assert share(Attends, batch=16) is None


def test_model_and_random_states_stay_as_they_are():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 10))
    task = surefoot.task(DATA, model, device="cpu", threads=1)
    plan = surefoot.plan(surefoot.Recipe(epochs=1, batch_size=32), DATA.examples)
    before = torch.get_rng_state(), {name: value.clone() for name, value in task.template.state_dict().items()}
    assert reached(task, plan, 1e-3, SOME) is not None
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(torch.equal(value, before[1][name]) for name, value in task.template.state_dict().items())
    assert all(parameter.grad is None for parameter in task.template.parameters())


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "cache_folder", lambda: tmp_path)
    return write_figures(figures(("matrix product", "fp32", 1, 1e9), cache_bytes=16 * 2**20))


def test_the_rule_for_members_goes_by_what_was_measured(kept):
    rule = rule_figures(CPU)
    assert rule.call_seconds == pytest.approx(2 * FIGURES["cpu"].call_seconds)
    assert rule.numbers_per_call == pytest.approx(2 * FIGURES["cpu"].numbers_per_call)
    assert rule.stack_numbers == pytest.approx(FIGURES["cpu"].stack_numbers / 2)


def test_the_rule_goes_by_the_fit_where_nothing_was_measured_or_it_is_damaged(kept):
    kept.write_text(kept.read_text().replace("2026", "2027"))
    assert rule_figures(CPU) == FIGURES["cpu"]
    kept.unlink()
    assert rule_figures(CPU) == FIGURES["cpu"]


def test_a_run_has_its_share_in_the_result_and_damage_among_its_notes(kept, tmp_path):
    def trained(name):
        return surefoot.train(DATA, "linear", epochs=1, threads=1, precision="fp32", runs_dir=tmp_path, name=name)

    seen = trained("first").summary["reached"]
    assert 0 < seen["share"] < 1000
    assert seen["operations"] > 0
    assert figures_of(CPU)[1] is None
    kept.write_text("{}")
    result = trained("second")
    assert result.summary["reached"] is None
    assert any("damaged" in note for note in result.notes)


def test_the_seconds_of_a_step_are_those_of_its_rows(kept, tmp_path):
    result = surefoot.train(DATA, "linear", epochs=3, batch_size=32, threads=1, runs_dir=tmp_path, name="run")
    rates = sorted(row.examples_per_second for row in result.record.rows)
    assert result.summary["reached"]["step_seconds"] == pytest.approx(32 / rates[1])


def test_what_identifies_a_machine_names_its_torch():
    machine = machine_of(CPU)
    assert machine["torch"] == torch.__version__
    assert dataclasses.replace(SOME, machine=machine) == SOME
