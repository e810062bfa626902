import io
import os

import pytest

from surefoot.errors import CheckpointError, ConfigError
from surefoot.record import store


def test_what_is_written_is_there_whole_and_nothing_else(tmp_path):
    store.write_bytes(tmp_path / "a", b"old")
    store.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("operation", ["fsync", "replace", "write"])
def test_a_write_that_fails_leaves_the_old_file_and_no_leftover(operation, tmp_path, monkeypatch):
    store.write_bytes(tmp_path / "a", b"old")

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if operation == "write":
            plain = io.open

            def opened(file, mode="r", *arguments, **options):
                handle = plain(file, mode, *arguments, **options)
                if "x" in mode:
                    handle.write = fail
                return handle

            patch.setattr(io, "open", opened)
        else:
            patch.setattr(os, operation, fail)
        with pytest.raises(OSError, match="No space left"):
            store.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_is_flushed_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        plain = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, plain=plain, **k: (order.append(name), plain(*a, **k))[1])
    store.write_bytes(tmp_path / "a", b"x")
    assert order == ["fsync", "replace", "fsync"]


def test_what_was_left_by_a_kill_is_swept_and_nothing_else(tmp_path):
    for name in (".config.toml.tmp-12-ab", ".hidden", "config.toml"):
        (tmp_path / name).write_text("x")
    store.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "config.toml"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_json_that_cannot_be_read_is_a_checkpoint_error_that_names_the_file(content, tmp_path):
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"result\.json"):
        store.read_json(tmp_path / "result.json")
    with pytest.raises(CheckpointError, match="must exist"):
        store.read_json(tmp_path / "absent.json")


def test_json_holds_no_number_that_json_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "a", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_discarded_only_where_no_run_has_begun(tmp_path):
    for name, files in {"begun": ["config.toml", "lock"], "not": ["lock", "environment.json"], "other": ["x"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
        store.discard_if_empty(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"begun", "other"}
    assert {path.name for path in (tmp_path / "begun").iterdir()} == {"config.toml", "lock"}


def test_a_run_is_found_by_its_name_and_by_its_path(tmp_path):
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "config.toml").touch()
    assert store.run_folder("a", tmp_path / "runs") == run
    assert store.run_folder(run, tmp_path / "elsewhere") == run
    with pytest.raises(CheckpointError, match="Choose one of a"):
        store.run_folder("b", tmp_path / "runs")
    with pytest.raises(CheckpointError, match="Start one"):
        store.run_folder("b", tmp_path / "elsewhere")


def test_new_names_are_names_and_new(tmp_path):
    first = store.new_name("some/where/my data.csv", "package.module:Net", tmp_path, "20260102-030405")
    assert first == "20260102-030405-my-data.csv-Net"
    assert store.check_name(first) == first
    for expected in (f"{first}-2", f"{first}-3"):
        (tmp_path / store.new_name("some/where/my data.csv", "package.module:Net", tmp_path, "20260102-030405")).mkdir()
        assert store.new_name("my data.csv", "m:Net", tmp_path, "20260102-030405") == expected


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "ü", "a\n", "../../etc", "x" * 200])
def test_names_that_could_leave_the_folder_or_hide_are_refused(name):
    with pytest.raises(ConfigError, match="run's name"):
        store.check_name(name)


@pytest.mark.parametrize(("name", "near"), [("ünï côde", "uni-code"), ("лёд", "first"), ("実験1", "1"), ("--é/", "e")])
def test_a_name_of_other_letters_is_answered_with_one_that_can_be(name, near):
    with pytest.raises(ConfigError, match=f"Try {near}\\."):
        store.check_name(name)
    assert store.check_name(near) == near
