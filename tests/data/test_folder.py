"""A folder of images by class: decoded once, then mapped."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from surefoot.data import folder, images
from surefoot.data.load import load
from surefoot.errors import DataError


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def random(seed, shape=(6, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def pets(tmp_path):
    root = tmp_path / "pets"
    for i in range(6):
        save(root / ("cats", "dogs")[i % 2] / f"{i}.png", random(i))
    return root


def test_classes_are_folders_in_order_of_their_names_and_pixels_are_exact(pets):
    data = load(pets, validation=0)
    assert data.classes == ("cats", "dogs")
    assert data.input_shape == (3, 6, 8)
    assert [data.train.name_of(i) for i in range(6)] == [
        f"{c}/{i}.png" for c, i in zip(["cats"] * 3 + ["dogs"] * 3, "024135", strict=True)
    ]
    for i in range(6):
        number = int(data.train.name_of(i)[5])
        assert np.array_equal(data.train.x[i].permute(1, 2, 0), random(number))
        assert data.train.y[i] == number % 2


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("training", "valid", "test"), ("Train", "validation", "testing")]
)
def test_parts_are_found_by_their_usual_names(tmp_path, names):
    for k, name in enumerate(names):
        for i in range(4):
            save(tmp_path / "d" / name / "ab"[i % 2] / f"{i}.png", random(10 * k + i))
    data = load(tmp_path / "d")
    assert [len(part) for part in data.parts.values()] == [4, 4, 4]
    assert np.array_equal(data.parts["test"].x[0].permute(1, 2, 0), random(20))


def test_images_are_decoded_once(pets, monkeypatch):
    first = load(pets)
    monkeypatch.setattr(images, "pixels", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(images, "header", lambda *_: pytest.fail("opened again"))
    again = load(pets)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.train.x, first.train.x)


@pytest.mark.parametrize("change", ["content", "new", "gone", "renamed"])
def test_a_change_of_the_files_is_seen(pets, change, cache):
    first = load(pets, validation=0)
    path = pets / "cats" / "0.png"
    if change == "content":
        save(path, random(99))
        os.utime(path, ns=(1, 1))
    elif change == "new":
        save(pets / "cats" / "9.png", random(9))
    elif change == "gone":
        path.unlink()
    else:
        path.rename(pets / "dogs" / "0.png")
    second = load(pets, validation=0)
    assert second.fingerprint != first.fingerprint
    assert len(list(cache.rglob("images.npy"))) == 1


def test_grey_images_have_one_channel_unless_some_have_colour(tmp_path):
    for i in range(4):
        save(tmp_path / "d" / "ab"[i % 2] / f"{i}.png", random(i, (5, 5)))
    assert load(tmp_path / "d", validation=0).input_shape == (1, 5, 5)
    save(tmp_path / "d" / "a" / "colour.png", random(9, (5, 5, 3)))
    data = load(tmp_path / "d", validation=0)
    assert data.input_shape == (3, 5, 5)
    assert torch.equal(data.train.x[0, 0], data.train.x[0, 2])


def test_image_size_brings_all_images_to_one_size(tmp_path):
    for i, shape in enumerate([(20, 30, 3), (9, 9, 3), (40, 12, 3), (16, 16, 3)]):
        save(tmp_path / "d" / "ab"[i % 2] / f"{i}.png", random(i, shape))
    data = load(tmp_path / "d", image_size=16, validation=0)
    assert data.input_shape == (3, 16, 16)
    exact = next(i for i in range(4) if data.train.name_of(i) == "b/3.png")
    assert np.array_equal(data.train.x[exact].permute(1, 2, 0), random(3, (16, 16, 3)))
    assert load(tmp_path / "d", image_size=8, validation=0).input_shape == (3, 8, 8)
    with pytest.raises(DataError, match="set image_size = "):
        load(tmp_path / "d")


def test_an_unwritable_cache_is_named(pets, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cache folder .*file"):
        load(pets)


def test_a_file_that_changes_its_size_between_looking_and_decoding_is_named(pets, monkeypatch):
    monkeypatch.setattr(images, "pixels", lambda *_: np.zeros((3, 4, 4), dtype=np.uint8))
    with pytest.raises(DataError, match=r"cats/0\.png: decodes to \(3, 4, 4\)"):
        load(pets)


def test_every_suffix_of_a_loose_image_can_be_decoded():
    assert {suffix.lstrip(".").upper() for suffix in folder.SUFFIXES} >= {"PNG", "JPG", "WEBP", "TIFF"}


def test_a_folder_that_is_linked_into_a_class_is_read(tmp_path):
    for name in ("cats", "dogs", "more"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        for i in range(2):
            levels = np.random.default_rng(len(name) + 9 * i + ord(name[0])).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(levels).save(tmp_path / "elsewhere" / name / f"{i}.png")
    (tmp_path / "pets" / "cats").mkdir(parents=True)
    (tmp_path / "pets" / "dogs").symlink_to(tmp_path / "elsewhere" / "dogs")
    (tmp_path / "pets" / "cats" / "0").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "pets" / "cats" / "1").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "elsewhere" / "more" / "round").symlink_to(tmp_path / "pets" / "cats")
    data = load(tmp_path / "pets", validation=0)
    names = [data.train.name_of(i) for i in range(6)]
    assert names == ["cats/0/0.png", "cats/0/1.png", "cats/1/0.png", "cats/1/1.png", "dogs/0.png", "dogs/1.png"]
