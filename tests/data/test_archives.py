"""Arrays by name are data: those of an .npz, and .npy files beside each other."""

import numpy as np
import pytest

from surefoot.data.load import default_model, load
from surefoot.errors import DataError

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = np.arange(12) % 2


def test_arrays_beside_each_other_are_data_as_those_of_an_archive(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, x_val=X[:5], y_val=Y[:5])
    twin = load(tmp_path / "a.npz")
    folder = tmp_path / "arrays"
    folder.mkdir()
    for name, array in {"x": X, "y": Y, "x_val": X[:5], "y_val": Y[:5]}.items():
        np.save(folder / f"{name}.npy", array)
    for path in (folder, folder / "x.npy", str(folder / "x_val.npy")):
        assert load(path).fingerprint == twin.fingerprint
    np.save(folder / "classes.npy", np.array(["no", "yes"]))
    assert load(folder).classes == ("no", "yes")
    (folder / "y_val.npy").unlink()
    with pytest.raises(DataError, match="array x_val: has no y beside it"):
        load(folder)
    np.save(folder / "x.npy", np.array([{}, 1], object))
    with pytest.raises(DataError, match=r"x\.npy: holds Python objects"):
        load(folder)


def test_what_lies_beside_is_passed_over_and_folders_of_images_stay_what_they_are(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    np.save(tmp_path / "other.npy", X)
    (tmp_path / "readme.txt").touch()
    assert load(tmp_path).examples == 11
    assert (default_model(tmp_path), default_model(tmp_path / "x.npy")) == ("mlp", "mlp")
    (tmp_path / "x.npy").unlink()
    assert load(tmp_path).input_shape == {"other": X.shape[1:]}  # an input by its name
    (tmp_path / "other.npy").unlink()
    with pytest.raises(DataError, match="has no folder of a class"):
        load(tmp_path)
