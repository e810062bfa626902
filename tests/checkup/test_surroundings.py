from pathlib import Path

import pytest
import torch

from surefoot.checkup import surroundings as module
from surefoot.checkup.surroundings import surroundings


def test_nothing_is_made_where_runs_would_lie(tmp_path):
    around = surroundings(tmp_path / "a" / "b")
    assert around.runs_dir == str(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert around.runs_problem is None
    assert 1 <= around.usable <= around.cpus
    assert around.threads == torch.get_num_threads()
    assert 0 < around.free_memory_bytes <= around.memory_bytes


def test_a_cache_that_cannot_be_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "file" / "below")
    assert surroundings(tmp_path).cache_problem


@pytest.mark.parametrize(("text", "quota"), [("150000 100000", 1.5), ("max 100000", None), ("", None), ("-1", None)])
def test_the_limit_of_a_control_group_is_read(text, quota, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(text)
    real = module.Path

    def path(*parts):
        return real(tmp_path / "cpu.max") if parts[0] == "/sys/fs/cgroup/cpu.max" else real(tmp_path / "none")

    monkeypatch.setattr(module, "Path", path)
    assert module._quota() == quota


def test_a_named_compiler_comes_first(tmp_path, monkeypatch):
    compiler = tmp_path / "mine"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", f"{compiler} -O2")
    assert module._compiler() == str(compiler)
    monkeypatch.setenv("CXX", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module._compiler() is None


def test_variables_that_change_the_computation_are_named(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert surroundings(Path()).variables["NVIDIA_TF32_OVERRIDE"] == "1"
