"""What a command prints as the next one can be typed as it is, and works."""

import re
import shlex

import numpy as np
import pytest

from surefoot.cli.app import run


def table(path, rows, numbers=False):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(rows, 3))
    y = x[:, 0] - x[:, 1] if numbers else np.where(x[:, 0] + 0.3 * draw.normal(size=rows) > 0, "up", "down")
    path.with_name("new.csv").write_text("a,b,c\n0.1,0.2,0.3\n")
    path.write_text("a,b,c,y\n" + "".join(f"{a:.3f},{b:.3f},{c:.3f},{d}\n" for (a, b, c), d in zip(x, y, strict=True)))


def printed(text):
    """The commands that stand for themselves, not those in prose; where a file is to be named, the table is."""
    lines = [re.sub(r"^(next +|  [a-z ]+: )", "  ", line) for line in text.splitlines()]
    found = [each for line in lines if line.startswith("  surefoot ") for each in re.split(r" {3,}", line.strip())]
    found = [each for each in found if each.startswith("surefoot ")]
    return [shlex.split(each.replace("FILE...", "new.csv"))[1:] for each in found]


FIRST = {
    "find-lr, fewer rows than the shipped batch": (60, "find-lr few.csv --model mlp --steps 30 --seeds 3"),
    "find-lr, enough rows": (400, "find-lr few.csv --model linear --steps 30 --seeds 3"),
    "find-lr, a batch of one's own": (400, "find-lr few.csv --model mlp --steps 30 --seeds 3 --batch-size 16"),
    "noise": (400, "noise few.csv --model linear --probe-steps 20 --points 2 --micro-batches 8 "
                   "--micro-batch-examples 8 --no-report"),
    "train": (200, "train few.csv --model linear --epochs 3 --batch-size 16 --name it --no-report"),
    "train, numbers": (200, "train few.csv --model linear --target numbers --epochs 3 --batch-size 16 --lr 0.01 "
                            "--name it --no-report"),
    "train, without validation": (200, "train few.csv --model linear --validation 0 --epochs 3 --batch-size 16 "
                                       "--name it --no-report"),
    "train, four rows": (4, "train few.csv --model linear --target numbers --epochs 3 --name it --no-report"),
    "show": (200, "show it"),
}  # fmt: skip


@pytest.mark.parametrize("case", FIRST)
def test_the_next_command_works_as_it_is_printed(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows, command = FIRST[case]
    table(tmp_path / "few.csv", rows, numbers="--target numbers" in command or "numbers" in case)
    if case == "show":
        assert run(shlex.split(FIRST["train"][1])) == 0
    capsys.readouterr()
    assert run([*shlex.split(command), *([] if case == "show" else ["--threads", "1"])]) in (0, 3)
    seen = capsys.readouterr().out
    commands = printed(seen)
    assert commands, seen
    for words in commands:
        if words[0] == "train":
            words = [*words, "--epochs", "2", "--no-report"]
        if words[0] == "find-lr":
            words = [*words, "--steps", "30", "--seeds", "3"]
        code = run(words)
        assert code in (0, 3), (words, capsys.readouterr().err)
