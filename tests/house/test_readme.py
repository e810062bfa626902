"""What the README shows can be typed: its Python runs, its commands and flags exist.

Lines with >>> are run by pytest itself; the blocks marked python are run here, in order, as one program.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python" and ">>>" not in code]
SHELL = [line.split("#")[0].strip() for language, code in BLOCKS if language == "bash" for line in code.splitlines()]
COMMANDS = sorted({match[1] for line in SHELL if (match := re.match(r"(?:\$ )?surefoot (.*)", line))})


def test_the_two_commands_stand_there():
    assert any(line.startswith("make demo") for line in SHELL)
    assert any(line.startswith("make test") for line in SHELL)


def test_python_blocks_run(tmp_path):
    assert PYTHON, "the README shows no Python"
    program = "\n".join(PYTHON)
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_flags_exist(command):
    words = command.split()
    verb = [word for word in words[:2] if re.fullmatch(r"[a-z][a-z-]*", word)][: 2 if words[0] == "data" else 1]
    result = subprocess.run(
        [sys.executable, "-m", "surefoot", *verb, "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"surefoot {' '.join(verb)}".strip() in result.stdout
    for flag in re.findall(r"(?<=\s)--[a-z][a-z-]*", " " + command):
        assert re.search(rf"{flag}\b", result.stdout), f"surefoot {' '.join(verb)} has no {flag}"
