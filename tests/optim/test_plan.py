"""A recipe tabulated: lengths, rows, every kind of schedule, and every mistake in them."""

import numpy as np
import pytest

from surefoot.config import Recipe, Schedule
from surefoot.errors import ConfigError
from surefoot.optim import schedules as s
from surefoot.optim.plan import Plan, plan, plateau_factor
from surefoot.optim.presets import preset


def made(schedule=None, *, examples=100, rows_per_epoch=1, **recipe) -> Plan:
    length = {} if {"steps", "epochs"} & recipe.keys() else {"epochs": 10}
    recipe = {"batch_size": 10, "lr": 0.5, **length, **recipe}
    return plan(Recipe(schedule=schedule or Schedule(), **recipe), examples, rows_per_epoch)


def test_the_remainder_of_an_epoch_is_left_out():
    assert made(examples=109, epochs=3).steps_per_epoch == 10
    assert made(examples=109, epochs=3).steps == 30


@pytest.mark.parametrize("length", [{"epochs": 1e300}, {"steps": 10**400}])
def test_a_run_that_no_memory_holds_is_refused(length):
    with pytest.raises(ConfigError, match="at most 100,000,000 updates"):
        made(**length)


@pytest.mark.parametrize(
    ("examples", "batch_size", "epochs", "steps"),
    [
        (50_000, 128, 10, 3900),  # many
        (12_800, 128, 10, 1000),
        (12_700, 128, 11, 1089),  # just too few
        (1294, 64, 50, 1000),  # the embedded digits
        (103, 16, 167, 1002),
        (12, 12, 200, 200),  # no more than 200 epochs
        (1, 1, 200, 200),
    ],
)
def test_a_run_without_a_length_has_ten_epochs_or_as_many_as_make_1000_updates(examples, batch_size, epochs, steps):
    found = plan(Recipe(batch_size=batch_size), examples)
    assert (found.steps / found.steps_per_epoch, found.steps) == (epochs, steps)


def test_steps_replace_epochs_and_both_stay_as_they_are_given():
    assert made(epochs=10).steps == 100
    assert made(steps=7).steps == 7
    assert made(epochs=2.5).steps == 25
    assert made(epochs=0.001).steps == 1


def test_full_batch_is_gradient_descent():
    full = made(batch_size="full", epochs=4)
    assert (full.batch_size, full.steps_per_epoch, full.steps) == (100, 1, 4)


def test_rows_are_even_and_the_last_step_always_has_one():
    assert made(epochs=2).row_steps == (10, 20)
    assert made(epochs=2, rows_per_epoch=4).row_steps == (2, 5, 8, 10, 12, 15, 18, 20)
    assert made(steps=13).row_steps == (10, 13)
    assert made(steps=3).row_steps == (3,)
    assert made(epochs=1, rows_per_epoch=10).row_steps == tuple(range(1, 11))


def test_the_table_is_float64_read_only_and_not_part_of_equality():
    first = made()
    assert first.lr.dtype == np.float64
    assert first.lr.shape == (100,)
    with pytest.raises(ValueError, match="read-only"):
        first.lr[0] = 1
    assert first == made()
    assert first != made(lr=0.4)


KINDS = {
    "constant": (Schedule(kind="constant"), s.constant(0.5)),
    "step": (Schedule(kind="step", milestones_epochs=(3, 6)), s.step(0.5, [30, 60], 0.1)),
    "cosine": (Schedule(), s.cosine(0.5, 100)),
    "cosine to an end": (Schedule(end=0.2), s.cosine(0.5, 100, 0.2)),
    "linear": (Schedule(kind="linear"), s.linear(0.5, 100)),
    "polynomial": (Schedule(kind="polynomial", power=3), s.polynomial(0.5, 100, 3)),
    "exponential": (Schedule(kind="exponential"), s.exponential(0.5, 0.95, 10)),
    "inverse-sqrt": (Schedule(kind="inverse-sqrt"), s.inverse_sqrt(0.5, 10)),
    "one-cycle": (Schedule(kind="one-cycle"), s.one_cycle(0.5, 100, 30)),
    "one-cycle, peak given": (Schedule(kind="one-cycle", peak_epochs=2), s.one_cycle(0.5, 100, 20)),
    "wsd": (Schedule(kind="wsd"), s.wsd(0.5, 100, 20)),
    "wsd, warmed up": (Schedule(kind="wsd", warmup_epochs=1, decay_epochs=3), s.warmup(s.wsd(0.5, 90, 30), 10)),
    "sgdr": (Schedule(kind="sgdr", cycle_epochs=1, cycle_mult=3), s.sgdr(0.5, 10, 3)),
    "plateau": (Schedule(kind="plateau"), s.constant(0.5)),
    "warmup": (Schedule(warmup_epochs=2, warmup_start=0.1), s.warmup(s.cosine(0.5, 80), 20, 0.1)),
    "warmup, from start": (
        Schedule(kind="linear", warmup_epochs=2, decay_from="start"),
        s.warmup(s.linear(0.5, 100), 20, seam="jump"),
    ),
    "step, warmed up": (
        Schedule(kind="step", milestones_epochs=(3,), warmup_epochs=1),
        s.warmup(s.step(0.5, [30]), 10, seam="jump"),
    ),
    "vaswani": (Schedule(kind="inverse-sqrt", warmup_epochs=2), s.warmup(s.inverse_sqrt(0.5, 20), 20)),
    "preset": (Schedule(kind="preset", preset="bert"), preset("bert").rescaled(100)[0].schedule(0.5)),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_schedule_is_tabulated_with_the_recipe_s_peak(name):
    shape, curve = KINDS[name]
    assert made(shape).lr.tolist() == curve(np.arange(100)).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"examples": 9}, "batch_size = 10 for 9 training examples"),
        ({"examples": 0}, "batch_size"),
        ({"rows_per_epoch": 11}, "rows_per_epoch"),
        ({"rows_per_epoch": 0}, "rows_per_epoch"),
        ({"schedule": Schedule(warmup_epochs=10)}, "warmup_epochs = 10"),
        ({"schedule": Schedule(kind="step", milestones_epochs=(3, 10))}, "milestones_epochs = 10"),
        ({"schedule": Schedule(kind="step", milestones_epochs=(0.01,))}, "first drop"),
        ({"schedule": Schedule(kind="step", milestones_epochs=(3, 5), warmup_epochs=4)}, "first drop"),
        ({"schedule": Schedule(kind="step", milestones_epochs=(3, 3.01))}, "milestones"),
        ({"schedule": Schedule(kind="wsd", decay_epochs=11)}, "decay_epochs = 11"),
        ({"schedule": Schedule(kind="wsd", decay_epochs=10, warmup_epochs=1)}, "decay_epochs = 10"),
        ({"schedule": Schedule(kind="sgdr", cycle_epochs=20)}, "cycle_epochs = 20"),
        ({"schedule": Schedule(kind="one-cycle", peak_epochs=11)}, "peak_epochs = 11"),
        ({"schedule": Schedule(kind="one-cycle", warmup_epochs=1)}, "one-cycle brings its own rise"),
        ({"schedule": Schedule(kind="preset", preset="berd")}, "[Dd]id you mean 'bert'"),
        ({"schedule": Schedule(kind="preset", preset="resnet-cifar"), "steps": 2}, "more steps"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(arguments, message):
    with pytest.raises(ConfigError, match=message):
        made(**arguments)


@pytest.mark.parametrize("kind", ["cosine", "linear", "one-cycle", "wsd", "sgdr", "exponential", "inverse-sqrt"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_have_a_plan(kind, steps):
    assert np.all(np.isfinite(made(Schedule(kind=kind), steps=steps).lr))


def test_the_factor_of_plateau_comes_from_the_record_alone():
    shape = Schedule(kind="plateau", factor=0.5, patience_epochs=1)
    assert plateau_factor(shape, []) == 1.0
    assert plateau_factor(shape, [1.0] * 5) == 0.25
    assert plateau_factor(Schedule(kind="plateau"), [1.0] * 7) == pytest.approx(0.1)
    assert plateau_factor(Schedule(), [1.0] * 50) == 1.0
