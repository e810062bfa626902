import pytest

from surefoot.config import Config
from surefoot.errors import ConfigError
from surefoot.training.place import run_place


def test_a_run_of_a_name_has_its_folder_and_others_have_one_each(tmp_path):
    named = run_place(Config(), "first", tmp_path)
    assert named == tmp_path / "first"
    assert run_place(Config(), "first", tmp_path) == named
    others = {run_place(Config(), None, tmp_path) for _ in range(3)}
    assert len(others) == 3
    assert all(folder.is_dir() for folder in others)


@pytest.mark.parametrize("place", [None, 3])
def test_a_run_is_written_somewhere(place):
    with pytest.raises(ConfigError, match="runs_dir"):
        run_place(Config(), "first", place)


def test_a_folder_with_other_files_and_a_file_are_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        run_place(Config(), "mine", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="must be a folder that can be written to"):
        run_place(Config(), "run", tmp_path / "file")
