"""Several Parquet files are one table; a large one of numbers is read by row groups, and is as good as an array."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import surefoot
from surefoot.data import mapped
from surefoot.data.load import default_model, load
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.errors import ConfigError, DataError

X = np.random.default_rng(0).normal(size=(60, 3))


def table(first=0, last=60, **others):
    columns = {f"f{i}": X[first:last, i] for i in range(3)} | others
    return pa.table(columns | {"label": np.arange(first, last) % 2})


def folder(home, pieces=((0, 20), (20, 50), (50, 60)), **others):
    home.mkdir(exist_ok=True)
    for n, (first, last) in enumerate(pieces):
        pq.write_table(table(first, last, **{k: v[first:last] for k, v in others.items()}), home / f"part-{n}.parquet",
                       row_group_size=7)  # fmt: skip
    return home


def test_the_files_of_a_folder_are_one_table(tmp_path):
    pq.write_table(table(), tmp_path / "one.parquet")
    home = folder(tmp_path / "many")
    (home / "_SUCCESS").touch()
    (home / ".part-0.parquet.crc").touch()
    one, many = load(tmp_path / "one.parquet"), load(home)
    assert many.fingerprint == one.fingerprint
    assert many.features == ("f0", "f1", "f2")
    assert (default_model(home), default_model(str(home))) == ("mlp", "mlp")
    assert load(home, label="label").fingerprint == one.fingerprint
    words = ["a", "b", "c"] * 20
    assert load(folder(tmp_path / "words", word=words)).columns.columns[3].use == "one-hot"


@pytest.mark.parametrize("source", ["folder", "file"])
def test_a_large_table_is_read_by_row_groups_onto_disk(source, tmp_path, monkeypatch):
    if source == "folder":
        path = folder(tmp_path / "many")
    else:
        path = tmp_path / "one.parquet"
        pq.write_table(table(), path, row_group_size=7)
    small = load(path)
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    large = load(path)
    assert isinstance(large.train.x, MappedTensor)
    assert any("read by row groups" in note for note in large.notes)
    assert np.array_equal(large.train.x[:].numpy(), small.train.x.numpy())
    assert np.array_equal(large.train.y.numpy(), small.train.y.numpy())
    assert large.features == small.features
    assert large.train.name_of(3) == "row " + str(int(small.train.name_of(3)[4:]) - 1)


def test_a_run_on_a_folder_predicts_for_tables(tmp_path):
    home = folder(tmp_path / "many")
    result = surefoot.train(home, epochs=2, name="a", runs_dir=tmp_path / "runs")
    assert result.summary["outcome"] == "finished"
    found = surefoot.predict(result, home)
    assert len(found.outputs) == 60


BAD = {
    "other columns": (lambda home: pq.write_table(pa.table({"a": [1]}), home / "x.parquet"), "has other columns"),
    "broken": (lambda home: (home / "x.parquet").write_bytes(b"PAR1 no"), r"x\.parquet: .*a whole \.parquet"),
    "cut": (lambda home: (home / "part-1.parquet").write_bytes((home / "part-1.parquet").read_bytes()[:-9]), "whole"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("in_memory", [2**30, 100])
def test_damaged_files_are_named(kind, in_memory, tmp_path, monkeypatch):
    act, message = BAD[kind]
    home = folder(tmp_path / "many")
    act(home)
    monkeypatch.setattr(mapped, "IN_MEMORY", in_memory)
    with pytest.raises(DataError, match=message):
        load(home)


def test_what_a_large_table_cannot_hold_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    with pytest.raises(DataError, match=r"column 'word' holds (large_)?string.*numbers without gaps"):
        load(folder(tmp_path / "a", word=["a", "b", "c"] * 20))
    with pytest.raises(DataError, match="column 'gap' has a gap"):
        load(folder(tmp_path / "b", gap=[None, 1.0, 2.0] * 20))
    with pytest.raises((DataError, ConfigError), match="column 'lable'"):
        load(folder(tmp_path / "c"), label="lable")
