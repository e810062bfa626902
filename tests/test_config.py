import dataclasses
import math

import pytest

from surefoot.config import Config, Recipe, Schedule
from surefoot.errors import ConfigError
from surefoot.rules import update_rules

INF, NAN = math.inf, math.nan

OUT_OF_RANGE = {
    Recipe: {
        "lr": [0, -1, NAN, INF],
        "epochs": [0, -1, NAN, INF],
        "steps": [0, -5],
        "batch_size": [0, -1],
        "micro_batch_size": [0],
        "momentum": [-0.1, 1, 1.5, NAN],
        "dampening": [-0.1, 1.1, NAN],
        "beta1": [-0.1, 1, NAN],
        "beta2": [-0.1, 1, NAN],
        "alpha": [-0.1, 1, NAN],
        "eps": [0, -1, NAN, INF],
        "weight_decay": [-1e-9, NAN, INF],
        "clip_norm": [0, -1, NAN, INF],
        "label_smoothing": [-0.1, 1, NAN],
        "ema_decay": [0, 1, NAN],
    },
    Schedule: {
        "warmup_epochs": [-1, NAN, INF],
        "warmup_start": [-0.1, 1.1, NAN],
        "end": [-0.1, 1.1, NAN],
        "milestones_epochs": [(), (0,), (2, 1), (1, 1), (-1, 2), (1, NAN), (1, INF), (NAN,), (INF,)],
        "factor": [0, 1.5, -1, NAN],
        "power": [0, NAN, INF],
        "cycle_epochs": [0, NAN, INF],
        "cycle_mult": [0.5, NAN, INF],
        "decay_epochs": [0, NAN, INF],
        "peak_epochs": [0, NAN, INF],
        "patience_epochs": [-1],
    },
    Config: {
        "validation": [-0.1, 1, NAN],
        "image_size": [0, -1],
        "seed": [-1],
        "threads": [0, -2],
        "workers": [-1],
        "rows_per_epoch": [0],
        "checkpoint_seconds": [-1, NAN, INF],
        "early_stopping_epochs": [0, -1, NAN, INF],
        "early_stopping_min_delta": [-0.1, NAN, INF],
    },
}
RANGES = [
    (cls, name, value) for cls, fields in OUT_OF_RANGE.items() for name, values in fields.items() for value in values
]


@pytest.mark.parametrize(("cls", "name", "value"), RANGES)
def test_a_value_out_of_range_is_refused_by_name_with_its_range(cls, name, value):
    readers = [rule for rule in update_rules().values() if name in rule.defaults]
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value}, **({"rule": readers[0].name} if readers else {}))
    assert caught.value.given.startswith(f"{name} = ")
    assert caught.value.allowed.startswith(f"{name} must be ")
    assert caught.value.do


def test_every_field_with_a_range_is_in_the_table_above():
    for cls, fields in OUT_OF_RANGE.items():
        assert set(fields) == {field.name for field in dataclasses.fields(cls) if field.metadata.get("ok")}


@pytest.mark.parametrize("cls", [Config, Recipe, Schedule])
def test_every_field_says_what_it_means(cls):
    for field in dataclasses.fields(cls):
        assert field.metadata["help"], field.name
        assert bool(field.metadata.get("range")) == bool(field.metadata.get("ok")), field.name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(lr="0.1"), "lr = '0.1': lr must be a number"),
        (lambda: Recipe(lr=True), "lr = True"),
        (lambda: Recipe(lr=[0.1]), r"lr = \[0.1\]"),
        (lambda: Recipe(steps=1.5), "steps must be a whole number"),
        (lambda: Recipe(batch_size="all"), "batch_size must be a whole number or full"),
        (lambda: Recipe(momentum_form="nestorov"), "did you mean 'nesterov'|Did you mean 'nesterov'"),
        (lambda: Recipe(momentum_form=3), "momentum_form must be one of pytorch, sutskever, nesterov"),
        (lambda: Recipe(schedule="cosine"), "schedule must be a Schedule"),
        (lambda: Schedule(kind="cosin"), "Did you mean 'cosine'"),
        (lambda: Schedule(kind="step", milestones_epochs=5), "must be a list"),
        (lambda: Schedule(kind="step", milestones_epochs=("a",)), "milestones_epochs"),
        (lambda: Config(augment="flip"), "augment must be a list"),
        (lambda: Config(seed=1.0), "seed must be a whole number"),
        (lambda: Config(model=5), "model must be text"),
        (lambda: Config(target="class"), "Did you mean 'classes'"),
    ],
)
def test_a_value_of_another_type_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_whole_numbers_are_numbers_and_lists_are_tuples():
    assert Recipe(lr=1).lr == 1.0
    assert isinstance(Recipe(lr=1).lr, float)
    made = Schedule(kind="step", milestones_epochs=[1, 2.5])
    assert made.milestones_epochs == (1.0, 2.5)
    assert Config(augment=["flip"]).augment == ("flip",)
    assert hash(Config()) == hash(Config())


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("end", 0.1, "constant"), ("milestones_epochs", (1,), "cosine"), ("factor", 0.1, "cosine"),
        ("power", 2, "linear"), ("cycle_epochs", 5, "cosine"), ("cycle_mult", 2, "cosine"),
        ("decay_epochs", 1, "cosine"), ("peak_epochs", 1, "cosine"),
        ("patience_epochs", 1, "step"),
    ],
)  # fmt: skip
def test_a_value_without_an_effect_is_refused(name, value, kind):
    with pytest.raises(ConfigError, match=f"{name} belongs to"):
        Schedule(**{"kind": kind, name: value} | ({"milestones_epochs": (1,)} if kind == "step" else {}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(epochs=1, steps=2), "give epochs or steps|Give epochs or steps"),
        (lambda: Recipe(momentum_form="nesterov", momentum=0), "nesterov with momentum = 0"),
        (lambda: Recipe(momentum_form="nesterov", dampening=0.1), "nesterov with momentum"),
        (lambda: Schedule(kind="step"), "step needs the epochs of its drops"),
        (lambda: Schedule(kind="preset"), "kind preset needs preset = NAME"),
        (lambda: Schedule(kind="preset", preset="bert", warmup_epochs=1), "a preset brings its own warmup"),
        (lambda: Schedule(preset="bert"), "a preset is a schedule, too"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().lr = 1
    with pytest.raises(TypeError):
        Recipe(0.1)
