"""Pixels of every kind of image file against what they must be."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile

from surefoot.data.images import Unreadable, header, pixels, quiet

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = COLOUR[:, :, 0]


def saved(tmp_path, image, suffix="png", **options):
    path = tmp_path / f"x.{suffix}"
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tiff"])
def test_lossless_colour_is_exact(tmp_path, suffix):
    path = saved(tmp_path, Image.fromarray(COLOUR), suffix)
    assert np.array_equal(pixels(path, 3), COLOUR.transpose(2, 0, 1))
    assert header(path).grey is False


@pytest.mark.parametrize("suffix", ["png", "bmp", "pgm", "tiff", "gif"])
def test_lossless_grey_is_exact(tmp_path, suffix):
    path = saved(tmp_path, Image.fromarray(GREY), suffix)
    assert np.array_equal(pixels(path, 1)[0], GREY)


@pytest.mark.parametrize("level", [0, 1, 128, 257, 40_000, 65_535])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, level):
    path = saved(tmp_path, Image.fromarray(np.full((4, 4), level, dtype=np.uint16)))
    assert header(path).grey
    assert pixels(path, 1).max() == round(level * 255 / 65_535)


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    path = saved(tmp_path, Image.fromarray(rgba))
    result = pixels(path, 3)
    assert result[:, 0, 0].tolist() == [10, 20, 30]
    assert (result[:, 1, 1] == 255).all()


def test_a_palette_is_looked_up_with_its_transparent_colour_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    result = pixels(saved(tmp_path, image, transparency=1), 3)
    assert result[:, 0, 0].tolist() == [255, 0, 0]
    assert result[:, 0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "LA", "CMYK", "YCbCr", "P", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_bytes_of_the_right_shape(tmp_path, mode, channels):
    suffix = {"CMYK": "tiff", "YCbCr": "tiff"}.get(mode, "png")
    path = saved(tmp_path, Image.fromarray(COLOUR).convert(mode), suffix)
    result = pixels(path, channels)
    assert result.shape == (channels, 6, 8)
    assert result.dtype == np.uint8


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = saved(tmp_path, Image.fromarray(COLOUR), "jpg", exif=exif, quality=95)
    told = header(path)
    assert (told.height, told.width) == (8, 6)
    assert pixels(path, 3).shape == (3, 8, 6)
    plain = saved(tmp_path, Image.fromarray(COLOUR), "jpeg", quality=95)
    assert np.array_equal(pixels(path, 3), np.rot90(pixels(plain, 3), -1, axes=(1, 2)))


def test_resizing_takes_the_centre_square(tmp_path):
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 200
    assert (pixels(saved(tmp_path, Image.fromarray(wide)), 3, side=5) == 200).all()


def test_a_large_jpeg_is_decoded_small_to_nearly_the_same_pixels(tmp_path):
    y, x = np.mgrid[:400, :400]
    smooth = np.stack([x * 255 // 399, y * 255 // 399, (x + y) * 255 // 798], -1).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(smooth), "jpg", quality=95)
    whole = Image.fromarray(pixels(path, 3).transpose(1, 2, 0)).resize((32, 32), Image.Resampling.BICUBIC)
    difference = pixels(path, 3, side=32).astype(int) - np.asarray(whole).transpose(2, 0, 1)
    assert np.abs(difference).max() <= 4  # levels of 256, of two ways to average the same 12x12 pixels


def test_the_first_frame_counts_and_frames_are_noticed(tmp_path):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    path = saved(tmp_path, frames[0], "gif", save_all=True, append_images=frames[1:])
    assert header(path).animated
    assert np.array_equal(pixels(path, 1)[0], GREY)


def test_truncated_files_are_refused_even_where_the_program_around_allows_them(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = saved(tmp_path, Image.fromarray(np.tile(COLOUR, (20, 20, 1))))
    path.write_bytes(path.read_bytes()[:-1000])
    with quiet(), pytest.raises(Unreadable):
        pixels(path, 3)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_pillows_warnings_are_held_back_and_come_again_after():
    with quiet():
        warnings.warn("about Exif", stacklevel=1)
    with pytest.warns(UserWarning, match="about Exif"):
        warnings.warn("about Exif", stacklevel=1)
