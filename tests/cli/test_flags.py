import inspect

import pytest

from surefoot.cli.app import build_app
from surefoot.cli.flags import with_settings
from surefoot.cli.train import train
from surefoot.settings import flat_settings


def parsed(*words: str) -> dict[str, object]:
    """Return what `surefoot train WORDS...` hands to its function."""
    _, bound, _ = build_app().parse_args(["train", *words], exit_on_error=False, print_error=False)
    return dict(bound.arguments) | dict(bound.arguments.get("settings", {}))


def test_every_setting_is_a_flag_of_train():
    parameters = inspect.signature(train).parameters
    assert set(flat_settings()) <= set(parameters)
    assert {"config", "name", "runs_dir", "json", "quiet"} <= set(parameters)


def test_a_parameter_of_the_commands_own_is_not_made_twice():
    @with_settings
    def command(lr: int, **settings: object) -> None: ...

    assert list(inspect.signature(command).parameters).count("lr") == 1
    assert inspect.signature(command).parameters["lr"].annotation is int


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lr", "0.5"], {"lr": 0.5}),
        (["--lr=1e-3"], {"lr": 1e-3}),
        (["--batch-size", "full"], {"batch_size": "full"}),
        (["--batch-size", "64"], {"batch_size": 64}),
        (["--momentum-form", "nesterov"], {"momentum_form": "nesterov"}),
        (
            ["--schedule", "step", "--milestones-epochs", "1", "2.5"],
            {"schedule": "step", "milestones_epochs": (1.0, 2.5)},
        ),
        (["--augment", "flip", "crop:2"], {"augment": ("flip", "crop:2")}),
        (["digits", "--seed", "3"], {"data": "digits", "seed": 3}),
        (["--clip-norm", "1"], {"clip_norm": 1.0}),
    ],
)
def test_a_flag_arrives_as_its_setting(words, expected):
    found = parsed(*words)
    assert {name: found[name] for name in expected} == expected
    for name, value in expected.items():
        assert type(found[name]) is type(value)


def test_a_flag_that_is_not_given_does_not_hide_a_file():
    found = parsed("digits")
    assert all(found.get(name) is None for name in flat_settings() if name != "data")
