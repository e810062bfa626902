"""Invented machines, and what is said of them."""

import dataclasses

import pytest

from surefoot.checkup.judge import Measured, Surroundings, busy, judge
from surefoot.record.figures import MachineFigures, Rate

SOUND = Surroundings(
    cpus=8, usable=8, quota=None, cores=4, threads=4, variables={}, memory_bytes=16 * 2**30,
    free_memory_bytes=8 * 2**30, runs_dir="/there", free_disk_bytes=100 * 2**30, runs_problem=None,
    cache_dir="/there/cache", cache_problem=None,
    compiler="/usr/bin/g++", headers=True, mkldnn=True, fp32_switch="highest", card=False, card_of_system=False,
    versions={"torch": "2.13.0", "cuda": None},
)  # fmt: skip


def device(one=100.0, many=190.0, bf16=380.0, native=True, shares=None, unsteady=1.02, **more):
    rates = [("fp32", 1, one), ("fp32", 4, many), ("bf16", 1, bf16 / 2), ("bf16", 4, bf16)]
    figures = MachineFigures(
        machine={"device": "cpu", "name": "a processor", "memory": 80 * 2**30}, date="", how="", call_seconds=1e-6,
        numbers_per_second=1e9,
        rates=tuple(Rate(operation="convolution", precision=p, threads=n, per_second=r) for p, n, r in rates),
    )  # fmt: skip
    shares = {1: 1.0, 4: 0.97} if shares is None else shares
    return Measured(figures=figures, shares=shares, unsteady=unsteady, native_bf16=native, **more)


def doubts(around=SOUND, *devices, **changes):
    findings = judge(dataclasses.replace(around, **changes), devices or [device()])
    return {finding.name: finding for finding in findings if finding.verdict != "pass"}


def test_a_sound_machine_is_in_no_doubt():
    assert doubts() == {}


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"quota": 2.0}, "threads", "--threads 2"),
        ({"quota": 0.5}, "threads", "--threads 1"),
        ({"usable": 2}, "threads", "may run on 2 of 8 CPUs"),
        ({"threads": 8}, "threads", "8 threads on 4 cores"),
        ({"threads": 1, "variables": {"OMP_NUM_THREADS": "1"}}, "threads", "OMP_NUM_THREADS is 1"),
        ({"threads": 2}, "threads", "could take 4"),
        ({"free_memory_bytes": 2**30}, "memory", "1.0 GiB of 16.0 GiB"),
        ({"free_disk_bytes": 2**20}, "disk", "0.0 GiB are free"),
        ({"runs_problem": "Read-only file system"}, "disk", "Read-only file system"),
        ({"cache_problem": "Permission denied"}, "cache", "Permission denied"),
        ({"compiler": None}, "compiler", "a C++ compiler"),
        ({"headers": False}, "compiler", "Python's headers"),
        ({"card_of_system": True}, "build", "does not see it"),
        ({"mkldnn": False}, "build", "oneDNN"),
        ({"fp32_switch": "medium"}, "switches", "set_float32_matmul_precision('medium')"),
        ({"variables": {"NVIDIA_TF32_OVERRIDE": "1"}}, "switches", "NVIDIA_TF32_OVERRIDE=1"),
    ],
)
def test_what_is_wrong_is_named_alone(changes, name, words):
    seen = doubts(**changes)
    assert list(seen) == [name]
    assert words in f"{seen[name].reason} {seen[name].advice}"


def test_a_quota_of_all_that_is_used_and_a_variable_that_changes_nothing_are_no_doubt():
    assert doubts(quota=4.0, variables={"OMP_NUM_THREADS": "4"}) == {}


def test_where_no_one_tells_the_cores_the_processors_count():
    assert doubts(cores=None, threads=8) == {}


@pytest.mark.parametrize(
    "more",
    [{"shares": {1: 0.8, 4: 0.97}}, {"shares": {1: 1.0, 4: 0.5}}, {"unsteady": 1.6}],
    ids=["one", "all", "uneven"],
)
def test_a_busy_machine_is_said_to_be_and_nothing_else_is_read_from_its_figures(more):
    seen = device(many=90.0, bf16=10.0, **more)
    assert busy(seen) is not None
    assert list(doubts(SOUND, seen)) == ["busy-cpu"]
    assert busy(device()) is None


def test_where_the_figures_contradict_the_rule_of_precision_it_is_said():
    slower = doubts(SOUND, device(bf16=100.0))
    assert list(slower) == ["precision-cpu"]
    assert "1.9 times as fast" in slower["precision-cpu"].reason
    assert "--precision fp32" in slower["precision-cpu"].advice
    faster = doubts(SOUND, device(native=False))
    assert "--precision bf16" in faster["precision-cpu"].advice
    assert doubts(SOUND, device(native=False, bf16=100.0)) == {}


def test_threads_that_gain_nothing_are_named():
    assert list(doubts(SOUND, device(many=105.0, bf16=300.0))) == ["gain"]


def test_a_card_without_free_memory_is_named():
    assert list(doubts(SOUND, device(free_bytes=2**30))) == ["card-memory"]
    assert doubts(SOUND, device(free_bytes=40 * 2**30)) == {}
