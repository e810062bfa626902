import dataclasses
import json

import pytest

from surefoot.record import figures as module
from surefoot.record.figures import MachineFigures, Rate, reached_text, read_figures, write_figures

MACHINE = {"device": "cpu", "name": "A Processor (R) 9", "torch": "2.13.0"}
FIGURES = MachineFigures(
    machine=MACHINE,
    date="2026-11-28",
    how="shortest of 3",
    rates=(
        Rate(operation="convolution", precision="fp32", threads=1, per_second=1e11),
        Rate(operation="convolution", precision="bf16", threads=2, per_second=4e11),
    ),
    call_seconds=3e-6,
    numbers_per_second=1e9,
)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path)


def test_figures_are_read_as_they_were_written():
    path = write_figures(FIGURES)
    assert path.name == "cpu-a-processor-r-9.json"
    assert read_figures(MACHINE) == (FIGURES, None)


def test_a_rate_is_of_an_operation_a_precision_and_threads():
    assert FIGURES.per_second("convolution", "bf16", 2) == 4e11
    assert FIGURES.per_second("convolution", "bf16", 1) is None
    assert FIGURES.per_second("matrix product", "fp32", 1) is None


def test_where_nothing_was_measured_there_is_nothing_to_say():
    assert read_figures(MACHINE) == (None, None)


@pytest.mark.parametrize("other", [{"torch": "2.14.0"}, {"cpus": 4}])
def test_figures_of_another_machine_do_not_count_and_that_is_said(other):
    write_figures(FIGURES)
    figures, why = read_figures(MACHINE | other)
    assert figures is None
    name = next(iter(other))
    assert f"{name} " in why
    assert "another machine" in why


def changed(values, **more):
    return json.dumps(module.plain({**values, **more}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text, values: "",
        lambda text, values: text[:-20],
        lambda text, values: "[]",
        lambda text, values: text.replace("2026-11-28", "2026-11-29"),
        lambda text, values: changed(values, call_seconds=1e-9),
        lambda text, values: changed({name: value for name, value in values.items() if name != "seal"}),
        lambda text, values: "\x00" * len(text),
    ],
)
def test_damaged_figures_do_not_count_and_that_is_said(damage):
    path = write_figures(FIGURES)
    text = path.read_text()
    path.write_text(damage(text, json.loads(text)))
    figures, why = read_figures(MACHINE)
    assert figures is None
    assert "damaged" in why
    assert str(path) in why


@pytest.mark.parametrize(
    "impossible",
    [
        {"call_seconds": 0.0},
        {"numbers_per_second": -1.0},
        {"rates": (dataclasses.replace(FIGURES.rates[0], per_second=0.0),)},
    ],
)
def test_numbers_that_no_machine_has_are_damage(impossible):
    write_figures(dataclasses.replace(FIGURES, **impossible))
    assert "damaged" in read_figures(MACHINE)[1]


def test_a_folder_in_place_of_the_file_is_no_figures():
    module.figures_path(MACHINE).mkdir(parents=True)
    assert read_figures(MACHINE) == (None, None)


def test_the_share_is_said_in_a_sentence():
    reached = {"step_seconds": 1.5, "most": "matrix product", "share": 0.0021, "figures": "2026-11-28"}
    assert reached_text(reached) == (
        "a step takes 1.5 s: 0.21 % of what this machine's matrix products reach (figures of 2026-11-28)"
    )


@pytest.mark.parametrize("reached", [None, {}, {"step_seconds": None, "share": 1.0}, {"step_seconds": 1.0}])
def test_a_result_without_a_share_says_nothing(reached):
    assert reached_text(reached) is None
