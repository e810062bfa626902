"""`surefoot schedule`: what it prints, what it draws, and what it answers to mistakes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from surefoot.cli.schedule import KINDS, schedule
from surefoot.errors import ConfigError
from surefoot.optim.presets import PRESETS, preset


def printed(capsys, *names, **options):
    schedule(*names, **options)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", [*PRESETS, *KINDS])
def test_every_preset_and_kind_is_shown(capsys, name):
    text = printed(capsys, name)
    assert text.startswith(name)
    for word in ("updates", "peak", "first", "last"):
        assert f"  {word} " in text
    if name in PRESETS:
        for word in ("source", "optimizer", "uncertain", "rescaled"):
            assert f"  {word} " in text


@pytest.mark.parametrize("name", PRESETS)
def test_json_tells_the_values_of_the_preset(capsys, name):
    (told,) = json.loads(printed(capsys, name, json_=True))
    each = preset(name)
    assert told["steps"] == each.steps
    assert [point["step"] for point in told["first"]] == [0, 1, 2]
    assert [point["step"] for point in told["last"]] == [each.steps - 3, each.steps - 2, each.steps - 1]
    for point in told["first"] + told["last"] + told["seams"]:
        assert point["lr"] == each.lr(point["step"])
    for seam in told["seams"]:
        assert seam["lr_before"] == each.lr(seam["step"] - 1)
    assert told["citation"] == each.citation
    assert told["optimizer"] == each.optimizer
    assert told["rescaled"] == []


def test_the_jump_of_bert_stands_in_the_text(capsys):
    assert "9,999: 9.999e-05 -> 10,000: 9.9e-05" in printed(capsys, "bert")


def test_rescaling_and_another_peak_are_told(capsys):
    (told,) = json.loads(printed(capsys, "bert", steps=1000, lr=0.1, json_=True))
    assert told["rescaled"] == ["steps 1000000 -> 1000", "end of warmup 10000 -> 10", "peak 0.0001 -> 0.1"]
    assert told["peak_lr"] == 0.1
    assert told["seams"] == [{"step": 10, "lr_before": pytest.approx(0.09), "lr": pytest.approx(0.099)}]


def test_a_preset_says_by_which_flag_it_runs_and_what_that_sets(capsys):
    text = " ".join(printed(capsys, "gpt").split())
    assert "--preset gpt, which stands for --rule adamw --decay-on weights --lr 0.00025 --weight-decay 0.01" in text
    assert "--preset resnet-cifar, which stands for --lr 0.1 --momentum 0.9" in " ".join(
        printed(capsys, "resnet-cifar").split()
    )


def test_a_name_given_twice_is_shown_once(capsys):
    assert len(json.loads(printed(capsys, "cosine", "cosine", json_=True))) == 1


def test_the_shortest_schedule_is_shown(capsys):
    (told,) = json.loads(printed(capsys, "cosine", steps=1, json_=True))
    assert told["first"] == told["last"] == [{"step": 0, "lr": 0.1}]


def test_the_list_names_every_preset_and_kind(capsys):
    text = printed(capsys, list_=True)
    assert all(name in text for name in (*PRESETS, *KINDS, "roberta"))
    told = json.loads(printed(capsys, list_=True, json_=True))
    assert [each["name"] for each in told["presets"]] == list(PRESETS)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_out_draws_and_says_so_on_stderr(capsys, tmp_path, ending):
    out = tmp_path / f"curves.{ending}"
    schedule("bert", "cosine", out=out)
    assert out.stat().st_size > 1000
    seen = capsys.readouterr()
    assert str(out) in seen.err
    assert "Draw with" not in seen.out


def test_nothing_is_drawn_unasked_but_it_says_how(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--out schedules.png" in printed(capsys, "cosine")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_keeps_both_sides_of_every_seam(capsys, tmp_path):
    schedule("resnet-cifar", out=tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    for step in (31_999, 32_000, 47_999, 48_000, 63_999):
        assert re.search(rf'"step": ?{step}\b', page)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((), {}, "no schedule named"),
        (("cosin",), {}, "[Dd]id you mean 'cosine'"),
        (("rezzz",), {}, "preset or a kind"),
        (("cosine",), {"steps": 0}, "steps = 0"),
        (("cosine",), {"steps": -5}, "steps = -5"),
        (("cosine",), {"lr": 0.0}, "lr = 0.0"),
        (("cosine",), {"lr": float("nan")}, "lr = nan"),
        (("resnet-cifar",), {"steps": 2}, "more steps"),
        (("step",), {"steps": 1}, "milestones"),
        (("cosine",), {"out": Path("a.pdf")}, "end in"),
        (("cosine",), {"out": Path("no/such/folder/a.png")}, "folder must exist"),
    ],
)
def test_mistakes_are_answered_in_words(names, options, message):
    with pytest.raises(ConfigError, match=message):
        schedule(*names, **options)


def test_the_command_line_knows_its_flags_and_does_not_wait_for_torch(tmp_path):
    code = (
        "import sys; from cyclopts import App; app = App(result_action='return_value');"
        "app.command('surefoot.cli.schedule:schedule', name='schedule');"
        "app(['schedule', 'bert', 'cosine', '--steps', '500', '--lr', '0.2', '--json', '--out', sys.argv[1]]);"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.svg")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [each["peak_lr"] for each in json.loads(done.stdout)] == [0.2, 0.2]
    assert (tmp_path / "a.svg").exists()
