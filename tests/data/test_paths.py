"""What a path names, by its name and a look into a folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from surefoot.data.paths import files_of, is_table, shards_of
from surefoot.errors import DataError


def made(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_a_folder_of_parquet_files_alone_is_a_table(tmp_path):
    spark = made(tmp_path / "spark", "b.parquet", "a.pq", "_SUCCESS", ".b.parquet.crc", "year=1/c.parquet")
    assert is_table(spark)
    assert files_of(spark) == [spark / "a.pq", spark / "b.parquet", spark / "year=1" / "c.parquet"]
    assert not is_table(made(tmp_path / "mixed", "a.parquet", "cats/1.png"))
    assert not is_table(made(tmp_path / "empty", "_SUCCESS"))


def test_a_folder_of_images_is_not_walked_through(tmp_path, monkeypatch):
    folder, seen = made(tmp_path / "photos", *(f"cats/{i}.png" for i in range(50))), []
    monkeypatch.setattr(Path, "is_file", lambda self: seen.append(self) or self.suffix == ".png")
    assert files_of(folder) == []
    assert len(seen) < 5


def test_shards_by_pattern_folder_and_name(tmp_path):
    made(tmp_path, "a-00.tar", "a-01.tar", "other.txt")
    both = [tmp_path / "a-00.tar", tmp_path / "a-01.tar"]
    assert shards_of(str(tmp_path / "a-{00..01}.tar")) == shards_of(str(tmp_path / "a-*.tar")) == both
    assert shards_of(tmp_path) == both
    assert shards_of(tmp_path / "a-00.tar") == both[:1]
    assert shards_of("digits") is None
    with pytest.raises(DataError, match=r"there is no .*a-02\.tar"):
        shards_of(str(tmp_path / "a-{00..02}.tar"))


def test_it_loads_neither_torch_nor_pyarrow():
    code = "import sys, surefoot.data.paths; sys.exit(bool({'torch', 'pyarrow', 'numpy'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode
        == 0
    )
