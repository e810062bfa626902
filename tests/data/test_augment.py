"""Each augmentation against a slow twin that treats one image at a time."""

import numpy as np
import pytest
import torch

from surefoot.data.augment import Crop, Flip, parse, table
from surefoot.data.dataset import IGNORED
from surefoot.errors import ConfigError

N, SEED, EPOCH = 64, 3, 5
GENERATOR = np.random.default_rng(0)
X = torch.from_numpy(GENERATOR.integers(0, 256, (N, 3, 9, 7), dtype=np.uint8))
MEAN = torch.tensor([0.2, 0.4, 0.6])
ROWS = np.arange(N)


def augmented(*names, x=X, epoch=EPOCH, rows=ROWS):
    return parse(names)(x, rows, N, MEAN, seed=SEED, epoch=epoch)


def draws(place, many, epoch=EPOCH):
    return table([(place, many, False)], N, SEED, epoch)


def with_masks(names, masks):
    augment = parse(names)
    uniforms = torch.from_numpy(table(augment.streams, N, SEED, EPOCH))
    return augment.moved(X, masks, uniforms, MEAN, "images", lambda: (SEED, EPOCH, 0))


def test_flip_mirrors_about_half_of_the_images():
    flipped = draws(0, 1)[:, 0] < 0.5
    for image, before, mirror in zip(augmented("flip"), X, flipped, strict=True):
        assert torch.equal(image, before.flip(2) if mirror else before)
    assert 16 < flipped.sum() < 48  # 32 expected, deviation 4


def test_flip_twice_with_the_same_numbers_is_identity():
    once = Flip()
    from surefoot.data.augment import View

    u = torch.from_numpy(draws(0, 1))
    view = View(X, MEAN)
    for _ in range(2):
        view = once.apply(view, u, lambda: (SEED, EPOCH, 0))
    assert torch.equal(view.pixels(), X)


def test_flip_alternate_shows_each_image_both_ways_in_any_two_epochs():
    views = [augmented("flip-alternate", epoch=epoch) for epoch in range(4)]
    assert torch.equal(views[0], views[2])
    assert torch.equal(views[1], views[3])
    assert torch.equal(views[0].flip(3), views[1])
    assert not torch.equal(views[0], X)


def test_crop_equals_padding_by_reflection_and_slicing():
    pad = 3
    padded = np.pad(X.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="reflect")
    shifts = np.floor(draws(0, 2) * (2 * pad + 1)).astype(int)
    for image, before, (down, right) in zip(augmented(f"crop:{pad}"), padded, shifts, strict=True):
        assert np.array_equal(image.numpy(), before[:, down : down + 9, right : right + 7])
    assert {(-pad, pad)} == {(int(shifts.min()) - pad, int(shifts.max()) - pad)}


def test_flip_then_crop_moves_pixels_once_but_as_if_one_after_the_other():
    pad = 2
    flipped = [image.flip(2) if mirror else image for image, mirror in zip(X, draws(0, 1)[:, 0] < 0.5, strict=True)]
    padded = np.pad(torch.stack(flipped).numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="reflect")
    shifts = np.floor(draws(1, 2) * (2 * pad + 1)).astype(int)
    for image, before, (down, right) in zip(augmented("flip", f"crop:{pad}"), padded, shifts, strict=True):
        assert np.array_equal(image.numpy(), before[:, down : down + 9, right : right + 7])


@pytest.mark.parametrize("size", [1, 4, 7])
@pytest.mark.parametrize("floating", [False, True])
def test_cutout_covers_a_square_with_the_mean_colour(size, floating):
    x = X.float() / 255 if floating else X
    colour = MEAN if floating else (MEAN * 255).round().to(torch.uint8)
    for image, before, (down, right) in zip(augmented(f"cutout:{size}", x=x), x, draws(0, 2), strict=True):
        top, left = int(down * 9) - size // 2, int(right * 7) - size // 2
        expected = before.clone()
        expected[:, max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)] = colour.view(3, 1, 1)
        assert torch.equal(image, expected)


def test_a_large_batch_of_large_images_is_moved_in_pieces_to_the_same_result(monkeypatch):
    whole = augmented("crop:2")
    monkeypatch.setattr("surefoot.data.augment._PIXELS_AT_ONCE", 150)
    assert torch.equal(whole, augmented("crop:2"))


def test_a_callable_sees_images_in_0_to_1_and_what_it_returns_counts():
    seen = []
    result = augmented(lambda x: seen.append(x.clone()) or 1 - x)
    torch.testing.assert_close(seen[0], X.float() / 255)
    torch.testing.assert_close(result, 1 - X.float() / 255)


@pytest.mark.parametrize(
    "wrong", [lambda x: None, lambda x: x[:1], lambda x: (x * 255).byte()], ids=["none", "fewer", "bytes"]
)
def test_a_callable_that_returns_something_else_is_named(wrong):
    with pytest.raises(ConfigError, match="augmentation '<lambda>' returned"):
        augmented(wrong)


def test_operations_draw_apart_and_adding_one_leaves_the_others_alone():
    alone, with_more = augmented("flip"), augmented("flip", lambda x: x)
    torch.testing.assert_close(alone.float() / 255, with_more)
    assert not np.array_equal(draws(0, 2), draws(1, 2))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flop", "Did you mean 'flip'"),
        ("flip:3", "flip takes no number"),
        ("crop", "whole number of pixels above 0"),
        ("crop:0", "whole number of pixels above 0"),
        ("crop:-1", "whole number of pixels above 0"),
        ("cutout:two", "whole number of pixels above 0"),
        (7, "a name or a callable"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        parse([name])


def test_what_does_not_fit_the_image_is_refused():
    with pytest.raises(ConfigError, match="at most 6 pixels"):
        augmented("crop:7")
    with pytest.raises(ConfigError, match="at most 7 pixels"):
        augmented("cutout:8")
    with pytest.raises(ConfigError, match="not images"):
        parse(["flip"]).check("numbers", (4,))
    assert parse(["crop:6"]).operations == (Crop(6),)


@pytest.mark.parametrize("names", ["flip", "flip-alternate", "crop:3", "cutout:4", "flip crop:2 cutout:3"])
def test_the_mask_of_an_image_moves_with_it(names):
    names = names.split()

    def mask_of(x):
        return x[:, 0].long() // 32 + 8 * (x[:, 2].long() // 32)

    masks = mask_of(X)
    x, moved = with_masks(names, masks)
    assert torch.equal(x, augmented(*names)), "images as without masks"
    seen = moved != IGNORED
    assert torch.equal(moved[seen], mask_of(x)[seen])
    covered = any(name.startswith("cutout") for name in names)
    assert bool(seen.all()) != covered
    assert torch.equal(masks, mask_of(X)), "what was given stays"


def test_pixels_that_do_not_count_move_too():
    masks = torch.zeros(N, 9, 7, dtype=torch.long)
    masks[:, :, 0] = IGNORED
    _, moved = with_masks(["flip"], masks)
    for mask, mirror in zip(moved, draws(0, 1)[:, 0] < 0.5, strict=True):
        assert bool((mask[:, -1 if mirror else 0] == IGNORED).all())
