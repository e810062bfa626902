import pytest

from surefoot.cli.app import run

LINES = [
    (["train", "--lr", "abc"], "lr = 'abc': lr must be a number. Give lr a number."),
    (["train", "--lr"], "--lr without a value: a value comes after it. See surefoot train --help."),
    (["train", "--lr", "1", "--lr", "2"], "--lr is there twice: a flag is given once. Keep one of them."),
    (["train", "--lrr", "1"], "--lrr: surefoot train has no such flag. Did you mean '--lr'?"),
    (["train", "--zzz"], "--zzz: surefoot train has no such flag. See surefoot train --help."),
    (["train", "--quiet=maybe"], "quiet = 'maybe': quiet must be true or false. Give quiet true or false."),
    (["resume"], "surefoot resume without RUN: it needs a RUN. See surefoot resume --help."),
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
