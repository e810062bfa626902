"""What is said of a sample of each kind; that of classes and numbers is held by test_check."""

import numpy as np
import pytest
import torch
from kinds import KINDS, Two, by_name, labels, several_yes

import surefoot
from surefoot.data import tree
from surefoot.steps.overfit.sample import measure_sample, sample_task

DENSE = ("segmentation", "tokens", "tokens, is_causal")
ANSWERED = ("dict", "tuple", "forward", "multilabel")


@pytest.mark.parametrize("name", KINDS)
def test_what_is_to_be_reached_follows_from_the_kind(name):
    small = sample_task(KINDS[name].task(), 24)
    found = measure_sample(small, 6)
    assert found.examples == 24
    assert (found.best_accuracy == 1) == (name in ANSWERED)
    assert (found.constant_loss is not None) == (found.contexts is not None) == (name in DENSE)
    assert found.floor_known == (name in DENSE + ANSWERED)
    assert not found.functional_dropout
    assert not found.probabilities
    assert found.contradictions == ()


def test_a_sample_is_of_every_leaf_and_its_own_validation_part():
    small = sample_task(KINDS["dict"].task(), 24)
    assert {len(leaf) for leaf in tree.leaves(small.data.train.x)} == {24}
    assert small.data.validation is small.data.train


def test_equal_inputs_with_other_answers_are_named_and_leave_what_can_be_right():
    x, _ = by_name()
    same = ({name: np.repeat(value[:30], 2, 0) for name, value in x.items()}, np.arange(60) % 2)
    work = surefoot.task(surefoot.load(same, validation=0), lambda *_: Two(2))
    found = measure_sample(sample_task(work, 60), 6)
    assert len(found.contradictions) == 30
    assert found.best_accuracy == 0.5
    numbers, several = labels()
    several = several[:60].copy()
    several[1::2] = several[::2]
    several[1::2, 0] = 1 - several[::2, 0]  # one of five statements
    work = surefoot.task(surefoot.load((np.repeat(numbers[:30], 2, 0), several), validation=0), several_yes())
    assert measure_sample(sample_task(work, 60), 6).best_accuracy == pytest.approx(0.9)


def test_outputs_that_are_probabilities_of_tokens_are_seen():
    kind = KINDS["tokens"]
    work = surefoot.task(surefoot.load(kind.data), lambda *_: torch.nn.Sequential(kind.make(), torch.nn.Softmax(-1)))
    assert measure_sample(sample_task(work, 24), 6).probabilities
