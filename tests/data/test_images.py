"""Pixels of every kind of image file against what they must be."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from surefoot.data.images import Unreadable, array, header, pixels, quiet

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


LEVELS = np.random.default_rng(1).integers(0, 4096, (4, 6))


def twelve_bits(levels):
    bits = "".join(format(level, "012b") for level in levels.ravel().tolist())
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def test_12_bits_of_a_tiff_are_stretched_to_the_whole_range(tmp_path, tiff):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(twelve_bits(LEVELS), LEVELS.shape, 12))
    assert header(path).dtype == "uint16"
    assert np.array_equal(pixels(path, 1, dtype="uint16")[0], np.round(LEVELS * 65535 / 4095))
    assert np.abs(pixels(path, 1)[0] - LEVELS * 255 / 4095).max() <= 0.51  # rounded twice


def test_a_tiff_whose_darkest_is_white_is_inverted(tmp_path, tiff):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff((LEVELS * 16).astype("<u2").tobytes(), LEVELS.shape, 16, photometric=0))
    assert np.array_equal(pixels(path, 1, dtype="uint16")[0], 65535 - LEVELS * 16)


def test_signed_16_bits_are_numbers_as_they_are(tmp_path, tiff):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff((LEVELS - 1000).astype("<i2").tobytes(), LEVELS.shape, 16, sample_format=2))
    assert header(path).dtype == "float32"
    assert np.array_equal(pixels(path, 1, dtype="float32")[0], LEVELS - 1000)
    for dtype in ("uint8", "uint16"):
        with pytest.raises(Unreadable, match="signed"):
            pixels(path, 1, dtype=dtype)


def test_unsigned_32_bits_that_pillow_would_wrap_are_refused(tmp_path, tiff):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(np.array([[1, 2**31 + 5]], "<u4").tobytes(), (1, 2), 32))
    with pytest.raises(Unreadable, match="above 2147483647"):
        pixels(path, 1, dtype="float32")


def test_a_transparent_level_of_16_bit_grey_is_white(tmp_path, png16):
    path = tmp_path / "x.png"
    path.write_bytes(png16(LEVELS, clear=int(LEVELS[1, 2])))
    clear = int(LEVELS[1, 2])
    white = np.where(clear == LEVELS, 65535, LEVELS)
    assert np.array_equal(pixels(path, 1, dtype="uint16")[0], white)
    assert np.array_equal(pixels(path, 3)[2], (white * 255 + 32767) // 65535)


def test_grey_with_alpha_of_16_bits_is_grey(tmp_path, png16):
    path = tmp_path / "x.png"
    path.write_bytes(png16(np.stack([LEVELS * 16, np.full(LEVELS.shape, 65535)], -1)))
    told = header(path)
    assert (told.grey, told.dtype, told.narrowed) == (True, "uint8", True)
    assert np.array_equal(pixels(path, 1)[0], LEVELS * 16 >> 8)


@pytest.mark.parametrize("most", [1023, 65535])
def test_a_pgm_of_more_than_8_bits_has_the_range_that_it_says(tmp_path, most):
    path = tmp_path / "x.pgm"
    path.write_bytes(b"P5 6 4 %d\n" % most + (LEVELS % most).astype(">u2").tobytes())
    assert header(path).dtype == "uint16"
    assert np.abs(pixels(path, 1, dtype="uint16")[0] - LEVELS % most * 65535 / most).max() <= 1
    path.write_bytes(b"P6 2 4 %d\n" % most + (LEVELS % most).astype(">u2").tobytes())
    assert header(path).narrowed


@pytest.mark.parametrize("mode", ["LAB", "HSV", "YCbCr", "CMYK"])
def test_other_colour_spaces_become_grey_and_colour(tmp_path, mode):
    image = Image.merge(mode, [Image.fromarray(GREY)] * len(Image.new(mode, (1, 1)).getbands()))
    path = tmp_path / "x.tif"
    if mode == "HSV":  # no format that we read stores it; a Dataset may hold it
        assert np.array_equal(array(image), np.asarray(image.convert("RGB")))
        return
    image.save(path)
    colour = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(path, 3), colour.transpose(2, 0, 1))
    grey = np.asarray(Image.fromarray(colour).convert("L") if mode == "LAB" else image.convert("L"))
    assert np.array_equal(pixels(path, 1)[0], grey)


def test_a_resized_image_of_16_bits_keeps_more_levels_than_8_bits_have(tmp_path):
    ramp = np.tile(np.linspace(20_000, 21_000, 64).astype(np.uint16), (64, 1))
    path = saved(tmp_path, Image.fromarray(ramp))
    small = pixels(path, 1, side=32, dtype="uint16")[0]
    assert np.abs(small - (ramp[::2, ::2].astype(int) + ramp[::2, 1::2]) / 2).max() <= 8  # half a step of the ramp
    assert len(np.unique(small)) >= 32


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path, turn, suffix):
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, Image.fromarray(COLOUR), suffix, exif=exif, **options)
    told, plain = header(path), np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert (told.height, told.width) == plain.shape[:2] == ((8, 6) if turn > 4 else (6, 8))
    assert np.array_equal(pixels(path, 3), plain.transpose(2, 0, 1))


def test_an_image_of_pillows_with_more_than_8_bits_keeps_them():
    kept = array(Image.fromarray((LEVELS * 16).astype(np.uint16)))
    assert (kept.dtype, kept.shape) == (np.uint16, (1, 4, 6))
    assert np.array_equal(kept[0], LEVELS * 16)
    assert array(Image.fromarray(LEVELS.astype(np.float32))).dtype == np.float32


def test_what_pillow_logs_of_a_damaged_file_is_held_back(tmp_path, tiff, caplog):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(bytes(24), (4, 6), 8, samples=111))
    with quiet(), pytest.raises(Unreadable):
        pixels(path, 1)
    assert caplog.records == []
    with pytest.raises(Unreadable):
        pixels(path, 1)
    assert caplog.records != []  # outside, Pillow's log is as it was
