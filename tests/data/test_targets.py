import numpy as np
import pytest

import surefoot
from surefoot.data.check import Problems
from surefoot.data.dataset import IGNORED
from surefoot.data.targets import special_target
from surefoot.errors import DataError

rng = np.random.default_rng(0)
IDS = rng.integers(0, 7, (40, 6))
IMAGES = rng.integers(0, 255, (40, 8, 9), dtype=np.uint8)
NUMBERS = rng.normal(size=(40, 3)).astype(np.float32)
LABELS = (rng.random((40, 4)) < 0.5).astype(np.int64)


@pytest.mark.parametrize(
    ("x", "y", "kind"),
    [
        (IDS, (IDS + 1) % 7, "tokens"),
        ({"ids": IDS, "mask": np.ones_like(IDS)}, IDS, "tokens"),
        (IMAGES[:, None], (IMAGES > 99).astype(np.uint8), "segmentation"),
        (NUMBERS, LABELS, "multilabel"),
        (NUMBERS, LABELS.astype(bool), "multilabel"),
        (NUMBERS, LABELS.astype(float), "multilabel"),
        (NUMBERS, (LABELS, NUMBERS), "any"),
        (NUMBERS, rng.normal(size=(40, 2, 2)), "any"),
        (NUMBERS, np.eye(4, dtype=int)[LABELS[:, 0]], None),  # one-hot: a class
        (NUMBERS, LABELS[:, 0], None),
        (NUMBERS, NUMBERS, None),
        (NUMBERS, LABELS[:, :1], None),
        (IDS.astype(float), IDS, None),
    ],
)
def test_targets_are_known_by_their_form(x, y, kind):
    assert special_target("auto", x, y) == kind
    assert special_target("numbers", x, y) is None
    assert special_target("any", x, y) == "any"


def test_what_was_chosen_is_said_and_can_be_set():
    found = surefoot.load((NUMBERS, LABELS))
    assert found.target == "multilabel"
    assert any('target = "multilabel"' in note for note in found.notes)
    assert surefoot.load((NUMBERS, LABELS), target="numbers").target == "numbers"
    assert not any("taken" in note for note in surefoot.load((NUMBERS, LABELS), target="multilabel").notes)


def test_how_many_outputs_there_are():
    assert surefoot.load((IDS, IDS - 1 + (IDS == 0))).outputs == 7  # the largest is among the inputs
    masks = (IMAGES > 99).astype(np.int64) * 3
    masks[0, 0, 0] = IGNORED
    assert surefoot.load((IMAGES, masks)).outputs == 4
    assert surefoot.load((NUMBERS, LABELS)).outputs == 4


@pytest.mark.parametrize(
    ("x", "y", "target", "message"),
    [
        (NUMBERS, LABELS * 2, "multilabel", r"row 0: target 2 \(labels are 0 or 1"),
        (NUMBERS, LABELS[:, 0], "multilabel", r"targets are of shape \(40,\)"),
        (NUMBERS, LABELS, "segmentation", r"\[N, H, W\]"),
        (IDS, IDS - 1, "tokens", r"target -1 \(classes are 0 and up, or -100"),
        (IDS, IDS + 0.5, "tokens", r"target .*5 \(classes are 0 and up"),
        (IDS, np.full_like(IDS, IGNORED), "tokens", "all targets are -100"),
        (IDS, (IDS, IDS), "tokens", "its targets are several arrays"),
        (IMAGES, np.full((40, 8, 9), np.nan), "segmentation", "classes are 0 and up"),
    ],
)
def test_what_does_not_fit_is_named(x, y, target, message):
    with pytest.raises(DataError, match=message):
        surefoot.load((x, y), target=target)


def test_a_hundred_equal_complaints_are_few_lines():
    problems = Problems("x")
    with pytest.raises(DataError) as caught:
        surefoot.load((np.tile(IDS, (30, 1)), np.tile(IDS, (30, 1)) - 50), target="tokens")
    assert len(str(caught.value).splitlines()) < 15
    assert problems.count == 0


def test_255_is_no_class_of_masks_or_white():
    masks = (IMAGES // 86).astype(np.uint8)
    masks[:, 0] = 255
    void = surefoot.load((IMAGES, masks))
    assert void.outputs == 3
    assert bool((void.train.y[:, 0] == IGNORED).all())
    assert any("255 is by convention no class" in note for note in void.notes)
    white = surefoot.load((IMAGES, np.where(IMAGES > 99, 255, 0).astype(np.uint8)))
    assert white.outputs == 2
    assert white.train.y.unique().tolist() == [0, 1]
    assert any("class 1" in note for note in white.notes)


def test_pictures_as_targets_are_no_masks():
    assert special_target("auto", IMAGES[:, None], IMAGES) == "any"
    assert special_target("segmentation", IMAGES[:, None], IMAGES) == "segmentation"
