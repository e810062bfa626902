import numpy as np
import pytest
from PIL import Image

import surefoot
from surefoot.errors import DataError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "cache"))


def write(folder, count=12, size=(8, 8), mode="L"):
    """Write images and masks of three classes, and return the masks."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    masks = RNG.integers(0, 3, (count, *size)).astype(np.uint8)
    for i, mask in enumerate(masks):
        colours = np.stack([mask * 80, 255 - mask * 80, RNG.integers(0, 99, size)], 2).astype(np.uint8)
        Image.fromarray(colours).save(folder / "images" / f"{i:02d}.jpg", quality=95)
        image = Image.fromarray(mask)
        if mode == "P":
            image = Image.new("P", size[::-1])
            image.putdata(mask.flatten().tolist())
            image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        elif mode == "I;16":
            image = Image.fromarray(mask.astype(np.uint16))
        image.save(folder / "masks" / f"{i:02d}.png")
    return masks


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_images_beside_masks_of_their_names_are_segmentation(mode, tmp_path):
    masks = write(tmp_path / "data", mode=mode)
    data = surefoot.load(tmp_path / "data", validation=0)
    assert (data.target, data.kind, data.input_shape, data.outputs) == ("segmentation", "images", (3, 8, 8), 3)
    np.testing.assert_array_equal(data.train.y, masks)
    assert data.train.name_of(3) == "images/03.jpg"
    assert any("class of each pixel" in note for note in data.notes)
    by_class = surefoot.load(tmp_path / "data", target="classes", validation=0)
    assert by_class.classes == ("images", "masks")


def test_parts_and_sizes(tmp_path):
    masks = write(tmp_path / "data" / "train", size=(8, 12))
    write(tmp_path / "data" / "test", 5, size=(8, 12))
    data = surefoot.load(tmp_path / "data", image_size=4, validation=0)
    assert (len(data.train), len(data.test), data.input_shape) == (12, 5, (3, 4, 4))
    np.testing.assert_array_equal(data.train.y[2], masks[2][1::2, 3:11:2])


def test_a_folder_is_trained_on_scored_and_applied(tmp_path):
    import torch

    write(tmp_path / "data", 40)
    net = torch.nn.Conv2d(3, 3, 1)
    result = surefoot.train(tmp_path / "data", net, epochs=5, batch_size=8, lr=0.3, runs_dir=tmp_path, device="cpu")
    assert surefoot.evaluate(result).accuracy.value > 0.8
    found = surefoot.predict(result, tmp_path / "data" / "images")
    assert found.outputs.shape == (40, 8, 8)
    assert surefoot.evaluate(result, tmp_path / "data").examples in (4, 40)


def lossy(folder):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "masks" / "01.jpg")
    (folder / "masks" / "01.png").unlink()


MISTAKES = {
    "no mask": (lambda at: (at / "masks" / "03.png").unlink(), r"03\.jpg: without a mask"),
    "no image": (lambda at: (at / "images" / "03.jpg").unlink(), r"03\.png: without an image"),
    "colours": (lambda at: Image.new("RGB", (8, 8)).save(at / "masks" / "01.png"), r"masks/01\.png.*mode RGB"),
    "size": (lambda at: Image.new("L", (9, 8)).save(at / "masks" / "01.png"), "has 9x8 pixels, its image 8x8"),
    "lossy": (lossy, "is a JPEG"),
    "damaged": (lambda at: (at / "masks" / "01.png").write_bytes(b"no"), r"masks/01\.png"),
    "two": (lambda at: (at / "images" / "01.png").write_bytes(b"no"), r"beside 01\.jpg"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_every_mistake_is_named_by_file(kind, tmp_path):
    write(tmp_path / "data")
    act, message = MISTAKES[kind]
    act(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        surefoot.load(tmp_path / "data")


def test_other_folders_are_read_by_class_as_before(tmp_path):
    for name in ("images", "masks", "others"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(RNG.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / "data" / name / f"{i}.png")
    assert surefoot.load(tmp_path / "data", validation=0).classes == ("images", "masks", "others")
