"""The command line answers at once: what needs no training imports no torch."""

import subprocess
import sys

import pytest


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "module",
    [
        "surefoot",
        "surefoot.cli.app",
        "surefoot.config",
        "surefoot.record.run",
        "surefoot.report.pytorch_code",
    ],
)
def test_importing_it_does_not_import_torch(module):
    result = python("-c", f"import sys, {module}; sys.exit('torch is imported' if 'torch' in sys.modules else 0)")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_answer_without_torch(flag):
    result = python("-X", "importtime", "-m", "surefoot", flag)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "surefoot.cli.app" in imported
    assert "torch" not in imported
