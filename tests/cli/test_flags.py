"""Settings are flags, what was typed is taken as it is or refused, and a command can be written down again."""

import inspect
import shlex

import pytest

from surefoot.cli.app import build_app, run
from surefoot.cli.flags import Settings, of_schedule, with_settings
from surefoot.cli.train import train
from surefoot.errors import ConfigError
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


@pytest.fixture
def given(tmp_path):
    (tmp_path / "job.toml").write_text("seed = 3\n[recipe]\nlr = 0.5\n[recipe.schedule]\nwarmup_epochs = 1.0\n")
    return Settings.read({"data": "digits", "lr": 0.2, "augment": ("flip", "crop:2"), "seed": None},
                         tmp_path / "job.toml")  # fmt: skip


def test_flags_go_before_the_file_and_both_have_flat_names(given):
    assert given.nested["recipe"] == {"lr": 0.2, "schedule": {"warmup_epochs": 1.0}}
    assert given.flat == {"data": "digits", "augment": ("flip", "crop:2"), "seed": 3, "lr": 0.2, "warmup_epochs": 1.0}


def test_a_flag_without_an_effect_is_refused_and_a_setting_of_the_file_is_named(given, capsys):
    with pytest.raises(ConfigError, match="--lr with find-lr: it is searched"):
        given.refuse("find-lr", {"seed": "one", "lr": "it is searched"})
    given.refuse("find-lr", dict.fromkeys(of_schedule(), "rates are constant"))
    given.say_unused("find-lr", of_schedule())
    assert capsys.readouterr().err == "not used by find-lr: warmup_epochs\n"


def test_a_command_can_be_written_down_again(given):
    words = shlex.split(given.command(["train", "digits", "--model", "cnn"], without=("lr",)))
    start = ["surefoot", "train", "digits", "--model", "cnn", "--config"]
    assert words == [*start, str(given.path), "--augment", "flip", "crop:2"]


LINES = [
    (["train", "--lr", "abc"], "lr = 'abc': lr must be a number. Give lr a number."),
    (["train", "--lr"], "--lr without a value: a value comes after it. See surefoot train --help."),
    (["train", "--lr", "1", "--lr", "2"], "--lr is there twice: a flag is given once. Keep one of them."),
    (["train", "--lrr", "1"], "--lrr: surefoot train has no such flag. Did you mean '--lr'?"),
    (["train", "--zzz"], "--zzz: surefoot train has no such flag. See surefoot train --help."),
    (["train", "--quiet=maybe"], "quiet = 'maybe': quiet must be true or false. Give quiet true or false."),
    (["evaluate"], "surefoot evaluate without RUN: it needs a RUN. See surefoot evaluate --help."),
    (["data", "chek", "x"], "'chek': surefoot data has no such command. Did you mean 'check'?"),
    (
        ["evaluate", "a", "--part", "tst"],
        "part = 'tst': part must be one of train, validation, test. Did you mean 'test'?",
    ),
]


@pytest.mark.parametrize(("words", "message"), LINES, ids=[" ".join(words) for words, _ in LINES])
def test_a_command_line_that_cannot_be_parsed_is_answered_as_any_other_mistake(words, message, capsys):
    assert run(words) == 2
    assert capsys.readouterr().err == f"surefoot: {message}\n"


@pytest.mark.parametrize("name", ["seed", "steps", "batch-size", "micro-batch-size", "threads", "rows-per-epoch"])
def test_a_number_that_is_not_whole_is_refused_and_not_rounded(name, capsys):
    assert run(["train", f"--{name}", "1.5"]) == 2
    assert f"{name.replace('-', '_')} must be a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--milestones-epochs", "--augment", "--lr", "--config"])
@pytest.mark.parametrize("value", ["[" * 100_000, '{"a":' * 100_000, "[" * 30 + "]" * 30])
def test_a_value_that_is_nested_absurdly_is_refused_in_a_line(flag, value, capsys):
    assert run(["train", "digits", flag, value]) == 2
    said = capsys.readouterr().err
    assert "levels" in said
    assert len(said) < 200
