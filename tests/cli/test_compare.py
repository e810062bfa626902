"""`surefoot compare` shows a table or JSON, writes its folder, and refuses what has no effect."""

import json

import pytest

from surefoot.cli.app import run
from surefoot.record.comparison import Comparison

QUICK = ("--model", "linear", "--examples", "120", "--epochs", "2", "--seeds", "1", "--points-per-decade", "1",
         "--threads", "1", "--rule", "gradient-descent", "--rule", "momentum lr=0.05 batch_size=20")  # fmt: skip


def answer(capsys, *words):
    code = run(["compare", *map(str, words)])
    return code, capsys.readouterr()


def test_the_table_the_folder_and_its_pictures(capsys, tmp_path):
    words = (*QUICK, "--runs-dir", tmp_path, "--name", "it", "--slice-points", "3")
    code, seen = answer(capsys, "digits", *words)
    assert code == 0
    lines = seen.out.splitlines()
    assert "digits" in lines[0]
    assert lines[2].split()[:4] == ["rule", "batch", "lr", "tried"]
    assert any(line.startswith("momentum lr=0.05 batch_size=20") and "(0.05)" in line for line in lines)
    assert "steps" in seen.err, "progress goes to stderr"
    found = Comparison.from_dict(json.loads((tmp_path / "it" / "comparison.json").read_text()))
    assert [rule.batch_size for rule in found.rules] == [120, 20]
    page = tmp_path / "it" / "report.html"
    assert lines[-1].split() == ["report", str(page)]
    text = page.read_text(encoding="utf-8")
    assert "momentum lr=0.05 batch_size=20" in text
    assert all(f"part-0-{name}" in text for name in ("loss", "search", "paths", "known-quadratic"))
    assert answer(capsys, "digits", *words)[0] == 2, "a folder that is there is not written to"


def test_json_is_the_comparison_and_nothing_else_is_on_stdout(capsys, tmp_path):
    code, seen = answer(capsys, "digits", *QUICK, "--json", "--quiet", "--no-pictures", "--runs-dir", tmp_path)
    assert code == 0
    assert seen.err == ""
    found = json.loads(seen.out)
    assert found["folder"] == str(next(tmp_path.iterdir()))
    assert found["slice"] is None
    assert found["surfaces"] == []


def test_settings_of_a_file_and_flags_hold_for_all_rules(capsys, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('model = "linear"\n[recipe]\nweight_decay = 0.01\nepochs = 1\nbatch_size = 30\n')
    words = ("--config", file, "--examples", 60, "--seeds", 1, "--threads", 1, "--no-pictures", "--quiet", "--json",
             "--rule", "momentum", "--lr", "0.1", "--momentum", "0.5", "--runs-dir", tmp_path)  # fmt: skip
    code, seen = answer(capsys, "digits", *words)
    rule = json.loads(seen.out)["rules"][0]
    assert code == 0
    assert (rule["steps"], rule["batch_size"], rule["lr"], rule["given"]) == (2, 30, 0.1, True)
    assert (rule["settings"]["weight_decay"], rule["settings"]["momentum"]) == (0.01, 0.5)


@pytest.mark.parametrize(
    "words",
    [("--steps", "3"), ("--rows-per-epoch", "2"), ("--checkpoint-seconds", "9"), ("--rule", "sgdd"), ("--seeds", "0"),
     ("--momentum-form", "nesterov"), ("--name", "a/b")],
)  # fmt: skip
def test_what_has_no_effect_or_no_meaning_is_refused(capsys, tmp_path, words):
    code, seen = answer(capsys, "digits", *words, "--runs-dir", tmp_path)
    assert code == 2
    assert words[0][2:].replace("-", "_") in seen.err.replace("-", "_")
    assert not list(tmp_path.iterdir())
