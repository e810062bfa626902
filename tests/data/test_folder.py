"""A folder of images by class: decoded once, then mapped."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from surefoot.data import folder, images
from surefoot.data.augment import parse
from surefoot.data.batches import fetch
from surefoot.data.load import inspect, load
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


@pytest.mark.parametrize("swap", ["folders", "files", "rewritten"])
def test_pixels_are_found_by_content_and_not_by_size_and_time(tmp_path, swap):
    root = tmp_path / "d"
    for name, level in (("a", 10), ("b", 200)):
        for i in range(3):
            save(root / name / f"{i}.bmp", np.full((4, 4, 3), level + i, np.uint8))
            os.utime(root / name / f"{i}.bmp", ns=(10**18, 10**18))
    assert load(root, validation=0).train.x[0, 0, 0, 0] == 10
    if swap == "folders":
        (root / "a").rename(tmp_path / "x")
        (root / "b").rename(root / "a")
        (tmp_path / "x").rename(root / "b")
    elif swap == "files":
        (root / "a" / "0.bmp").rename(tmp_path / "x")
        (root / "b" / "0.bmp").rename(root / "a" / "0.bmp")
        (tmp_path / "x").rename(root / "b" / "0.bmp")
    else:  # in place: the same inode, size and time
        content = (root / "b" / "0.bmp").read_bytes()
        with (root / "a" / "0.bmp").open("r+b") as handle:
            handle.write(content)
        os.utime(root / "a" / "0.bmp", ns=(10**18, 10**18))
    assert load(root, validation=0).train.x[0, 0, 0, 0] == 200


def test_a_file_that_is_written_to_while_it_is_read_is_named(pets, monkeypatch):
    decode = images.pixels

    def meanwhile(path, *settings):
        result = decode(path, *settings)
        if path.name == "0.png":
            save(path, random(77))
        return result

    monkeypatch.setattr(images, "pixels", meanwhile)
    with pytest.raises(DataError, match=r"cats/0\.png: was written to while it was read"):
        load(pets)


def test_a_side_is_chosen_for_images_of_many_sizes_and_said_in_one_line(tmp_path):
    for i, shape in enumerate([(20, 30, 3), (9, 9, 3), (40, 12, 3), (16, 16, 3), (1, 300, 3)]):
        save(tmp_path / "d" / "ab"[i % 2] / f"{i}.png", random(i, shape))
    data = load(tmp_path / "d", validation=0)
    assert (data.input_shape, data.image_size) == ((3, 12, 12), 12)
    assert len(data.notes) == 1
    assert "5 sizes, from 9x9 to 30x20 pixels" in data.notes[0]
    assert "image_size = 12" in data.notes[0]
    again = load(tmp_path / "d", validation=0)
    assert again.notes == data.notes  # from the store too
    same = load(tmp_path / "d", validation=0, image_size=12)
    assert (same.fingerprint, same.image_size, same.notes) == (data.fingerprint, None, ())


@pytest.mark.parametrize(("sides", "chosen"), [([(90, 100), (300, 99)], 64), ([(3, 5), (2, 2)], 8), ([(28, 28)], None)])
def test_the_chosen_side_is_from_8_to_64(tmp_path, sides, chosen):
    for i in range(4):
        save(tmp_path / "d" / "ab"[i % 2] / f"{i}.png", random(i, (*sides[i % len(sides)], 3)))
    data = load(tmp_path / "d", validation=0)
    assert data.image_size == chosen
    assert data.input_shape == ((3, chosen, chosen) if chosen else (3, 28, 28))


def levels(seed, shape=(6, 8), low=700, high=3660):
    return np.random.default_rng(seed).integers(low, high, shape, dtype=np.uint16)


def test_images_of_16_bits_keep_their_levels(tmp_path):
    for i in range(4):
        save(tmp_path / "d" / "ab"[i % 2] / f"{i}.png", levels(i))
    data = load(tmp_path / "d", validation=0)
    assert (data.input_shape, data.train.x.dtype) == ((1, 6, 8), torch.uint16)
    assert "65,536 levels are kept" in data.notes[0]
    everything = np.stack([levels(i) for i in (0, 2, 1, 3)]) / 65535
    assert data.mean.item() == pytest.approx(everything.mean())
    assert data.std.item() == pytest.approx(everything.std())
    x, _ = fetch(data, data.train, np.arange(4))
    assert np.allclose(x[:, 0], (everything - everything.mean()) / everything.std(), atol=1e-4)
    flipped, _ = fetch(data, data.train, np.arange(4), augment=parse(["flip", "crop:1", "cutout:2"]))
    assert flipped.shape == x.shape
    assert not torch.equal(flipped, x)


def test_8_bits_beside_16_are_stretched_and_colour_is_kept(tmp_path):
    save(tmp_path / "d" / "a" / "0.png", levels(0))
    save(tmp_path / "d" / "a" / "1.png", random(1))
    save(tmp_path / "d" / "b" / "2.png", random(2)[..., 0])
    data = load(tmp_path / "d", validation=0)
    assert data.input_shape == (3, 6, 8)
    assert "1 of the 3 images have more than 8 bits" in data.notes[0]
    assert np.array_equal(data.train.x[0].numpy(), np.stack([levels(0)] * 3))
    assert np.array_equal(data.train.x[1].numpy(), random(1).transpose(2, 0, 1).astype(np.uint16) * 257)


def test_numbers_without_a_range_are_kept_as_they_are_and_stand_beside_no_8_bit_images(tmp_path):
    for i in range(4):
        save(tmp_path / "d" / "ab"[i % 2] / f"{i}.tif", (levels(i).astype(np.float32) - 1000) / 7)
    data = load(tmp_path / "d", validation=0)
    assert data.train.x.dtype == torch.float32
    assert np.array_equal(data.train.x[0, 0].numpy(), (levels(0).astype(np.float32) - 1000) / 7)
    x, _ = fetch(data, data.train, np.arange(4))
    assert abs(float(x.mean())) < 1e-4
    assert float(x.std(unbiased=False)) == pytest.approx(1, abs=1e-4)
    save(tmp_path / "d" / "a" / "grey.png", random(9, (6, 8)))
    with pytest.raises(DataError, match=r"(?s)0\.tif: has signed, 32-bit or floating-point pixels.*4 problems"):
        load(tmp_path / "d")


def test_colours_of_16_bits_are_said_to_lose_the_lower_ones(tmp_path, png16):
    for i in range(4):
        place = tmp_path / "d" / "ab"[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png16(levels(i, (5, 5, 3), 0, 65535)))
    problems = inspect(tmp_path / "d").problems
    assert problems.warnings == [
        "a/0.png and 3 more: of 16 bits for each colour, the upper 8 are used: Pillow reads no more. Convert it to "
        "grey, or give the pixels as an .npz, to keep them"
    ]


def test_what_is_no_file_is_named_and_not_waited_for(pets):
    os.mkfifo(pets / "cats" / "pipe.png")
    (pets / "dogs" / "zero.png").symlink_to("/dev/zero")
    (pets / "dogs" / "gone.png").symlink_to("nowhere")
    (pets / "dogs" / "empty.png").touch()
    found = [str(item) for item in inspect(pets).problems.items]
    assert [line.split(": ")[0] for line in found] == [
        "cats/pipe.png", "dogs/empty.png", "dogs/gone.png", "dogs/zero.png",
    ]  # fmt: skip
    assert "no file but a folder, a pipe" in found[0]
    assert "leads nowhere" in found[2]


def test_a_folder_that_may_not_be_read_is_named_and_not_left_out(pets, monkeypatch):
    scan = os.scandir

    def refused(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    (pets / "cats" / "secret").mkdir()
    monkeypatch.setattr(os, "scandir", refused)
    for read in (load, folder.files_below):
        with pytest.raises(DataError, match="secret: Permission denied: the folder must be readable"):
            read(pets)


def test_odd_names_and_suffixes_are_read(tmp_path):
    names = ["UPPER.PNG", "two words.png", "new\nline.png", "-dash.png", "no_suffix", "wrong.jpg", "\udcff.png"]
    for i, name in enumerate(names):
        for label in ("-v1.2", "caf\u00e9 \u732b"):
            save(tmp_path / "d" / label / name, random(i + len(label)), format="PNG")
    data = load(tmp_path / "d", validation=0)
    assert data.classes == ("-v1.2", "caf\u00e9 \u732b")
    assert data.examples == 2 * len(names)
