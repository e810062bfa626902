"""The maps of the tasks: their windows hold the best rate, and a call goes on where another was stopped."""

import json

import pytest
from filelock import FileLock

NAME = "cancer, mlp"


def made(truth, folder, **more):
    truth.main(["--out", str(folder), "--tasks", NAME, *(str(word) for pair in more.items() for word in pair)])
    return json.loads((folder / "cancer_mlp.json").read_text())


def without_times(kept):
    return {name: value for name, value in kept.items() if name != "cpu_seconds"}


def test_every_cell_is_there_at_every_length_and_no_search_sees_the_test_part_of_a_short_run(invented_truth, tmp_path):
    truth, _ = invented_truth
    kept = made(truth, tmp_path)
    for by_length in kept["runs"]["9000"].values():
        assert set(by_length) == {"0.125", "0.25", "0.5", "1"}
        assert len({tuple(rows) for rows in by_length.values()}) == 1
        for share, rows in by_length.items():
            tests = [row[3] for cells in rows.values() for row in cells if row]
            assert all((test is None) == (share != "1") for test in tests)


def test_windows_are_widened_until_the_best_rate_lies_inside(invented_truth, scripts, tmp_path, monkeypatch):
    truth, _ = invented_truth
    tasks = scripts("tasks")
    monkeypatch.setattr(tasks.Subject, "window", lambda self, size: range(-8, -3))  # the best is at 0
    of = scripts("maps").Map(made(truth, tmp_path))
    for size in of.batch_sizes:
        rates = of.rates(size)
        assert rates == list(range(rates[0], rates[-1] + 1))
        assert rates[0] == -8
        assert 2 <= rates[-1] <= 4
    assert of.best[0].step in (-1, 0, 1)
    assert of.said()["rate_inside"]


def test_a_call_that_was_stopped_is_gone_on_with_and_nothing_is_trained_twice(invented_truth, tmp_path, monkeypatch):
    truth, invented = invented_truth
    whole = made(truth, tmp_path / "whole")
    once = len(invented.runs)
    invented.runs.clear()
    clock = iter(range(10**6))
    monkeypatch.setattr(truth.time, "process_time", lambda: next(clock))
    pieces = [made(truth, tmp_path / "pieces", **{"--limit-seconds": 8}) for _ in range(20)]
    assert pieces[0] != pieces[1] != pieces[2]
    assert len(invented.runs) == once
    assert without_times(pieces[-1]) == without_times(whole)


def test_a_task_that_another_process_works_on_is_left_out(invented_truth, tmp_path, capsys):
    truth, invented = invented_truth
    with FileLock(tmp_path / "cancer_mlp.lock"):
        truth.main(["--out", str(tmp_path), "--tasks", NAME])
    assert not invented.runs
    assert "another process works on it" in capsys.readouterr().out


def test_a_map_of_other_data_is_not_gone_on_with(invented_truth, tmp_path):
    truth, _ = invented_truth
    path = tmp_path / "cancer_mlp.json"
    kept = made(truth, tmp_path)
    path.write_text(json.dumps(kept | {"fingerprint": "another"}))
    with pytest.raises(SystemExit, match="has changed"):
        made(truth, tmp_path)


def test_a_second_seed_of_every_cell_is_added_to_the_same_file(invented_truth, scripts, tmp_path):
    truth, _ = invented_truth
    one = made(truth, tmp_path)
    two = made(truth, tmp_path, **{"--seeds": 2})
    assert set(two["runs"]) == {"9000", "9001"}
    assert one["runs"]["9000"] == two["runs"]["9000"]
    of = scripts("maps").Map(two)
    cell = next(of.cells())
    assert of.score(cell, 0.25, 9001) != of.score(cell, 0.25)
    assert of.score(cell, 0.25, 9002) == of.score(cell, 0.25), "a seed that is not there is the map's"


def test_the_best_cell_is_scored_by_seeds_that_did_not_choose_it(invented_truth, scripts, tmp_path):
    truth, _ = invented_truth
    maps = scripts("maps")
    kept = made(truth, tmp_path)
    of = maps.Map(kept)
    cell, points = of.best
    assert list(kept["again"]) == [maps.key(cell)]
    assert not set(kept["again"][maps.key(cell)]) & {str(seed) for seed in maps.FRESH}
    assert points == pytest.approx(sum(kept["again"][maps.key(cell)].values()) / 5)
    assert len(kept["fresh"]) <= 2 * maps.HOPEFUL


def test_maps_are_joined_into_one_file_that_is_read_alike(invented_truth, scripts, tmp_path):
    truth, _ = invented_truth
    made(truth, tmp_path / "maps")
    truth.main(["--out", str(tmp_path / "maps"), "--join", str(tmp_path / "all.json")])
    read = scripts("maps").read_maps
    assert read(tmp_path / "all.json")[NAME].said() == read(tmp_path / "maps")[NAME].said()
    assert not read(tmp_path / "all.json", "test")


def test_the_nearest_cell_of_a_recipe_is_its_own(invented_truth, scripts, tmp_path):
    truth, _ = invented_truth
    of = scripts("maps").Map(made(truth, tmp_path))
    subject = scripts("tasks").subjects(None)[NAME]
    for cell in list(of.cells())[::7]:
        assert of.nearest(subject.recipe(cell)) == cell
