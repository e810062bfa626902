import math

import numpy as np
import pytest
import torch
from faults import seeded
from kind_cases import bigram
from kinds import KINDS, WORDS, LanguageModel, next_words, sentences
from torch import nn

import surefoot
from surefoot.steps.overfit.floor import contexts_of, floor_of


def naive(contexts: list, targets: list[int]) -> float:
    """The conditional entropy, by counting."""
    pairs = list(zip(contexts, targets, strict=True))
    return -sum(math.log(pairs.count(pair) / contexts.count(pair[0])) for pair in pairs) / len(pairs)


def work_of(model, data):
    return surefoot.task(surefoot.load(data, validation=0), model, precision="fp32")


def test_a_bigram_model_has_the_entropy_of_a_word_after_a_word():
    ids = sentences(40)
    floor = floor_of(work_of(seeded(bigram), (ids[:, :-1], ids[:, 1:])))
    before, after = ids[:, :-1].ravel().tolist(), ids[:, 1:].ravel().tolist()
    assert floor.loss == pytest.approx(naive(before, after), abs=1e-6)
    assert floor.constant_loss == pytest.approx(naive([0] * len(after), after), abs=1e-6)
    assert floor.contexts == len(set(before))


def test_a_language_model_has_that_of_a_word_after_all_before_it():
    ids = np.repeat(sentences(12), 3, 0)  # sentences that begin alike, and go on in other ways
    ids[::3, -1], ids[1::3, 6:] = 1, sentences(24)[12:, 6:]
    floor = floor_of(work_of(seeded(LanguageModel), (ids[:, :-1], ids[:, 1:])))
    prefixes = [tuple(row[: at + 1]) for row in ids.tolist() for at in range(ids.shape[1] - 1)]
    assert floor.loss == pytest.approx(naive(prefixes, ids[:, 1:].ravel().tolist()), abs=1e-6)
    assert floor.contexts == len(set(prefixes))


def test_targets_that_are_ignored_are_left_out():
    ids = sentences(20)
    x, y = ids[:, :-1], np.where(np.arange(12) % 2, ids[:, 1:], -100)
    floor = floor_of(work_of(seeded(bigram), (x, y)))
    counted = y.ravel() != -100
    assert floor.loss == pytest.approx(naive(x.ravel()[counted].tolist(), y.ravel()[counted].tolist()), abs=1e-6)


def test_one_pixel_is_the_context_of_a_convolution_of_one():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (20, 1, 6, 6)).astype(np.float32)
    y = ((x[:, 0] > 0) ^ (rng.random((20, 6, 6)) < 0.2)).astype(int)
    floor = floor_of(work_of(seeded(lambda: nn.Conv2d(1, 2, 1)), (x, y)))
    assert floor.loss == pytest.approx(naive(x.ravel().tolist(), y.ravel().tolist()), abs=1e-6)
    whole = floor_of(work_of(seeded(lambda: nn.Conv2d(1, 2, 5, padding=2)), (x, y)))
    assert whole.loss < 0.2 * floor.loss


def test_a_head_of_zeros_tells_as_much_apart():
    model = seeded(LanguageModel)
    nn.init.zeros_(model.head.weight)
    assert floor_of(work_of(model, next_words())).contexts > 500


def test_rounding_makes_no_contexts():
    rows = torch.randn(50, WORDS, generator=torch.Generator().manual_seed(0)).repeat(20, 1)
    noisy = rows + 1e-7 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    found = contexts_of(noisy)
    assert len(found.unique()) == 50
    assert all(len(found[i::50].unique()) == 1 for i in range(50))
    assert len(contexts_of(torch.zeros(0, 3))) == 0


def test_nothing_of_the_task_is_changed():
    work = KINDS["tokens"].task()
    before = {name: value.clone() for name, value in work.template.state_dict().items()}
    floor_of(work)
    assert all(torch.equal(value, before[name]) for name, value in work.template.state_dict().items())


def test_of_a_large_vocabulary_a_few_numbers_tell_contexts_apart():
    ids = np.random.default_rng(0).integers(0, 300, (40, 13))
    ids[:, 1::2] = ids[:, ::2][:, :6]
    made = seeded(lambda: nn.Sequential(nn.Embedding(300, 8), nn.Linear(8, 300)))
    floor = floor_of(work_of(made, (ids[:, :-1], ids[:, 1:])))
    assert floor.contexts == len(np.unique(ids[:, :-1]))
    assert floor.loss == pytest.approx(naive(ids[:, :-1].ravel().tolist(), ids[:, 1:].ravel().tolist()), abs=1e-6)
