"""Text from outside cannot command the terminal, and tables stay aligned."""

import json

import pytest

from surefoot.cli import tables


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain [bold] text", "plain [bold] text"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;evil title\x07name", "name"),
        ("\x1b]8;;link\x1b\\name", "name"),
        ("\x1bcreset", "reset"),
        ("a\rb\nc\td\x00e\x7ff\x9b31mg", "abcdef31mg"),
        ("\u202egnp.exe", "gnp.exe"),
        ("caf\u00e9 \u732b \U0001f415", "caf\u00e9 \u732b \U0001f415"),
        ("bad\udce9byte", "bad?byte"),
    ],
)
def test_names_are_stripped_of_what_commands_a_terminal(text, kept):
    assert tables.clean(text) == kept
    tables.clean(text).encode("utf-8")


def test_wide_characters_count_as_two(capsys):
    tables.print_table(["name", "n"], [["\u732b\u732b", "1"], ["dogs", "20"]], left=["name"])
    assert capsys.readouterr().out.splitlines() == ["name   n", "\u732b\u732b   1", "dogs  20"]


def test_a_line_is_as_long_as_its_words(capsys):
    tables.print_table(["name", "n"], [["word " * 100, 1]], left=["name"])
    assert len(capsys.readouterr().out.splitlines()[1]) == 503


def test_a_pipe_gets_plain_lines_and_a_terminal_a_ruled_table(capsys, monkeypatch):
    rows = [("\x1b[31m[red]cat", 1), ("dog", None)]
    tables.print_table(("name", "n"), rows, left=("name",))
    assert capsys.readouterr().out == "name      n\n[red]cat  1\ndog       -\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    tables.print_table(("name", "n"), rows, left=("name",))
    ruled = capsys.readouterr().out
    assert "\u2500" in ruled
    assert "[red]cat" in ruled, "brackets in a name are no markup"
    assert "\x1b[31m" not in ruled


def test_numbers_that_do_not_exist_are_none():
    assert tables.number(None, ".2f") is tables.number(float("nan"), ".2f") is tables.share(None) is None
    assert tables.number(1234567, ",") == "1,234,567"


def test_json_has_no_nan(capsys):
    tables.print_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        tables.print_json(float("nan"))
