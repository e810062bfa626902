import pytest
import torch
from kinds import KINDS, masks, next_words

import surefoot
from surefoot.steps.answers import class_logits, dense, equal, floats, joined, numbers_of, one_class_each
from surefoot.steps.wiring.measure import batch, seen_outputs

DENSE = ("segmentation", "tokens", "tokens, is_causal", "sum and count")
CLASSES = ("dict", "tuple", "forward")


@pytest.mark.parametrize("name", KINDS)
def test_logits_of_each_kind_are_those_of_the_targets_that_count(name):
    work = KINDS[name].task()
    x, y = batch(work)
    with torch.no_grad():
        outputs = seen_outputs(work, work.fresh_model(), x, y)
    found = class_logits(work, outputs, y)
    assert dense(work) == (name in DENSE)
    assert one_class_each(work) == (found is not None) == (name in DENSE + CLASSES)
    if found is not None:
        logits, targets = found
        assert len(logits) == len(targets) == int((y != -100).sum())
        assert (targets >= 0).all()
        whole = float(work.objective(outputs, y))
        assert float(torch.nn.functional.cross_entropy(logits, targets)) == pytest.approx(whole, rel=1e-5)


def test_classes_of_pixels_lie_on_axis_1_and_of_tokens_on_the_last():
    pixels, words = KINDS["segmentation"].task(), KINDS["tokens"].task()
    y = torch.from_numpy(masks()[1][:2])
    outputs = torch.zeros(2, 3, 8, 8)
    outputs[:, 2] = 5.0
    assert class_logits(pixels, outputs, y)[0].argmax(1).unique().tolist() == [2]
    y = torch.from_numpy(next_words()[1][:2])
    outputs = torch.zeros(2, 12, 11)
    outputs[:, :, 7] = 5.0
    assert class_logits(words, outputs, y)[0].argmax(1).unique().tolist() == [7]


def test_trees_are_joined_and_compared_by_their_leaves():
    a, b = {"x": torch.ones(2, 3), "y": (torch.zeros(2),)}, {"x": torch.zeros(1, 3), "y": (torch.ones(1),)}
    both = joined([a, b])
    assert both["x"].shape == (3, 3)
    assert both["y"][0].tolist() == [0, 0, 1]
    assert equal(a, a)
    assert not equal(a, {"x": torch.ones(2, 3), "y": (torch.ones(2),)})
    assert not equal(a, (torch.ones(2, 3), torch.zeros(2)))
    assert len(floats({"ids": torch.ones(1, dtype=torch.int64), "x": torch.ones(1)})) == 1


def test_a_scalar_alone_is_joined_with_nothing():
    assert joined([torch.tensor(2.0)]) == 2


def test_the_numbers_of_an_example_are_those_of_all_leaves():
    data = surefoot.load(KINDS["dict"].data)
    assert numbers_of(data.train) == 5
    assert numbers_of(surefoot.load("digits").train) == 64
