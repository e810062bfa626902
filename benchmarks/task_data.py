"""The data of the benchmarks of choosing: CIFAR-10 made small, scikit-learn's embedded sets, and generators.

Everything is a pure function of its arguments. Each set has three parts; the test part belongs to the truth. Where
labels are flipped, those of the validation part are too, as in a user's data; the test part is clean.
"""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import datasets as sets
from torch import Tensor

import surefoot
from surefoot.data.dataset import DataSet, stratified

Pair = tuple[Tensor, Tensor]
"""x, y of one part."""

FLIPPED = 0.2
"""Share of the training labels of the noisy digits that are another class. Chosen by hand."""


def generator(*names: object) -> np.random.Generator:
    """Return the random numbers of a set, another stream for each name."""
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


def flipped(y: Tensor, share: float, classes: int, rng: np.random.Generator) -> Tensor:
    """Return labels of which a share are moved to another class, each as likely."""
    moved = y.clone()
    hit = torch.from_numpy(rng.permutation(len(y))[: round(share * len(y))])
    moved[hit] = (y[hit] + torch.from_numpy(rng.integers(1, classes, len(hit)))) % classes
    return moved


def in_parts(x: Tensor, y: Tensor, sizes: tuple[int, int, int], flips: float = 0.0) -> DataSet:
    """Return examples in their order as training, validation and test part of these sizes.

    Args:
        x, y: at least as many examples as the sizes say; y of whole numbers are classes.
        sizes: of the parts.
        flips: share of the training and validation labels that are moved to another class.
    """
    ends = np.cumsum([0, *sizes])
    assert ends[-1] <= len(y), f"{ends[-1]} examples are wanted of {len(y)}"
    classes = not y.is_floating_point()
    parts = {}
    for name, first, last in zip(("train", "validation", "test"), ends[:-1], ends[1:], strict=True):
        labels = y[first:last]
        if flips and name != "test":
            labels = flipped(labels, flips, int(y.max()) + 1, generator("flips", name, len(labels)))
        parts[name] = (x[first:last], labels)
    return surefoot.load(parts, target="classes" if classes else "numbers")


# scikit-learn's


@cache
def breast_cancer() -> DataSet:
    """Return scikit-learn's table of 30 numbers as 120 training, 60 validation and 389 test rows of 2 classes."""
    x, y = (torch.from_numpy(values) for values in sets.load_breast_cancer(return_X_y=True))
    return surefoot.load(_parts(x.float(), y.long(), test=389, validation=60))


@cache
def digits() -> DataSet:
    """Return the embedded digits as 896 training, 301 validation and 600 test images."""
    return surefoot.load(_digits_parts())


@cache
def noisy_digits(share: float = FLIPPED, validation_too: bool = False) -> DataSet:
    """Return the digits with a share of the training labels moved to another class; the test part is clean."""
    parts = _digits_parts()
    rng = np.random.default_rng(0)
    for name in ("train", "validation") if validation_too else ("train",):
        x, y = parts[name]
        parts[name] = (x, flipped(y, share, 10, rng))
    return surefoot.load(parts)


@cache
def few_digits() -> DataSet:
    """Return 60 training and 40 validation digits; the test part is 1,697 others."""
    whole = surefoot.load("digits", validation=0)
    assert whole.test is not None
    x, y = torch.cat([whole.train.x, whole.test.x]), torch.cat([whole.train.y, whole.test.y])
    return surefoot.load(_parts(x, y, test=1697, validation=40))


def _digits_parts() -> dict[str, Pair]:
    whole = surefoot.load("digits", validation=0)
    assert whole.test is not None
    x, y = torch.cat([whole.train.x, whole.test.x]), torch.cat([whole.train.y, whole.test.y])
    return _parts(x, y, test=600, validation=301)


def _parts(x: Tensor, y: Tensor, *, test: int, validation: int) -> dict[str, Pair]:
    """Return examples by their part, each with the same mix of classes."""
    rest, tested = stratified(y.numpy(), len(y), test / len(y), seed=0, stream="benchmark-test")
    share = validation / len(rest)
    train, validated = stratified(y.numpy()[rest], len(rest), share, seed=0, stream="benchmark-validation")
    rows = {"train": rest[train], "validation": rest[validated], "test": tested}
    return {name: (x[torch.from_numpy(at)], y[torch.from_numpy(at)]) for name, at in rows.items()}


def _shuffled(x: np.ndarray, y: np.ndarray, *names: object) -> tuple[Tensor, Tensor]:
    order = generator("order", *names).permutation(len(y))
    whole = np.issubdtype(y.dtype, np.integer)
    return torch.from_numpy(x[order]).float(), torch.from_numpy(y[order].astype(np.int64 if whole else np.float32))


@cache
def clusters() -> DataSet:
    """20,000 rows of four classes in overlapping clusters, 75, 15, 7 and 3 % of them, one label in 50 wrong."""
    x, y = sets.make_classification(
        32_000, n_features=20, n_informative=8, n_redundant=4, n_classes=4, n_clusters_per_class=3,
        weights=[0.75, 0.15, 0.07, 0.03], flip_y=0.02, class_sep=0.9, random_state=1,
    )  # fmt: skip
    return in_parts(*_shuffled(x, y, "clusters"), (20_000, 2000, 10_000))


@cache
def hastie() -> DataSet:
    """Rows of ten numbers; whether their squares sum to more than 9.34 (Hastie et al. 2009, example 10.2)."""
    x, y = sets.make_hastie_10_2(12_000, random_state=2)
    return in_parts(*_shuffled(x, (y > 0).astype(np.int64), "hastie"), (2400, 1500, 8000))


@cache
def friedman() -> DataSet:
    """Regression of Friedman 1991, "Multivariate adaptive regression splines", section 4.3, and five numbers more."""
    x, y = sets.make_friedman1(7000, n_features=10, noise=1.0, random_state=3)
    return in_parts(*_shuffled(x, y, "friedman"), (600, 600, 5800))


@cache
def quantiles() -> DataSet:
    """Rows of eight normal numbers in four shells about the origin, and one label in ten wrong."""
    x, y = sets.make_gaussian_quantiles(n_samples=9000, n_features=8, n_classes=4, random_state=4)
    return in_parts(*_shuffled(x, y, "quantiles"), (500, 500, 8000), flips=0.1)


# Tables of our own


@cache
def categories() -> DataSet:
    """Ten columns of four categories, as 40 flags; the class is the largest of three sums over pairs of columns."""
    rng = generator("categories")
    codes = rng.integers(0, 4, (9000, 10))
    scores = rng.normal(0, 0.7, (9000, 3))
    for _ in range(6):
        a, b = rng.choice(10, 2, replace=False)
        scores += rng.normal(0, 1, (4, 4, 3))[codes[:, a], codes[:, b]]
    x = np.eye(4)[codes].reshape(9000, 40)
    return in_parts(torch.from_numpy(x).float(), torch.from_numpy(scores.argmax(1)), (1500, 1000, 6500))


@cache
def rules() -> DataSet:
    """Twelve numbers and the leaf of a random tree of depth 5 that they fall into, each leaf of one of 3 classes; one
    label in ten is wrong."""
    rng = generator("rules")
    x = rng.normal(size=(11_000, 12))
    at = np.zeros(len(x), dtype=np.int64)
    for depth in range(5):
        column, threshold = rng.integers(0, 6, 2**depth), rng.normal(0, 0.4, 2**depth)
        at = 2 * at + (x[np.arange(len(x)), column[at]] > threshold[at])
    y = rng.integers(0, 3, 2**5)[at]
    return in_parts(torch.from_numpy(x).float(), torch.from_numpy(y), (2000, 1000, 8000), flips=0.1)


@cache
def spirals() -> DataSet:
    """20,000 points of three noisy spirals, 85, 10 and 5 % of them, two numbers turned into eight."""
    rng = generator("spirals")
    y = rng.choice(3, 32_000, p=[0.85, 0.1, 0.05])
    radius = np.sqrt(rng.uniform(0.02, 1, len(y)))
    angle = 2 * np.pi * (y / 3 + 1.25 * radius)
    plane = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1) + rng.normal(0, 0.06, (len(y), 2))
    turned = plane @ rng.normal(size=(2, 8)) + rng.normal(0, 0.05, (len(y), 8))
    return in_parts(torch.from_numpy(turned).float(), torch.from_numpy(y), (20_000, 2000, 10_000))


@cache
def topics() -> DataSet:
    """Counts of 150 words in texts of 30, from eight topics that share most words: a bag of words."""
    rng = generator("topics")
    common = rng.dirichlet(np.full(150, 0.5))
    of_topic = 0.6 * common + 0.4 * rng.dirichlet(np.full(150, 0.3), 8)
    y = rng.integers(0, 8, 8000)
    x = np.stack([rng.multinomial(30, of_topic[each]) for each in y])
    return in_parts(torch.from_numpy(x).float(), torch.from_numpy(y), (1200, 1000, 5800))


# Sequences


@cache
def ascents() -> DataSet:
    """24 numbers; the class says whether the longest run that rises has at most 3, 4, or more of them."""
    rng = generator("ascents")
    x = rng.normal(size=(9000, 24))
    longest, run = np.ones(len(x)), np.ones(len(x))
    for t in range(1, 24):
        run = np.where(x[:, t] > x[:, t - 1], run + 1, 1)
        longest = np.maximum(longest, run)
    y = np.digitize(longest, (3.5, 4.5))
    return in_parts(torch.from_numpy(x).float()[:, None], torch.from_numpy(y), (2500, 1000, 5000))


@cache
def texts() -> DataSet:
    """Texts of 24 letters of an alphabet of 8, each of one of five Markov chains."""
    rng = generator("texts")
    chains = 0.5 / 8 + 0.5 * rng.dirichlet(np.full(8, 0.6), (5, 8))
    y = rng.integers(0, 5, 7500)
    x = np.zeros((len(y), 24), dtype=np.int64)
    x[:, 0] = rng.integers(0, 8, len(y))
    for t in range(1, 24):
        ends = chains[y, x[:, t - 1]].cumsum(1)
        x[:, t] = np.minimum(7, (rng.random(len(y))[:, None] > ends).sum(1))
    return in_parts(torch.from_numpy(x), torch.from_numpy(y), (1500, 1000, 5000))


@cache
def firsts() -> DataSet:
    """Strings of 16 of six letters; the class says which of the first three letters comes first. One label in five is
    wrong."""
    rng = generator("firsts")
    x = rng.choice(6, (7500, 16), p=(0.06, 0.06, 0.06, 0.3, 0.3, 0.22))
    x = x[(x < 3).any(1)]
    y = x[np.arange(len(x)), (x < 3).argmax(1)]
    return in_parts(torch.from_numpy(x), torch.from_numpy(y), (600, 600, 5000), flips=0.2)


@cache
def waves() -> DataSet:
    """32 samples of a sine, a square wave, a saw tooth, a rising tone or a beat, in noise; one label in five wrong."""
    rng = generator("waves")
    y = rng.integers(0, 5, 7000)
    t = np.linspace(0, 1, 32)
    turns = rng.uniform(2, 4, (len(y), 1)) * t + rng.random((len(y), 1))
    sine = np.sin(2 * np.pi * turns)
    tone = np.sin(2 * np.pi * (turns + 1.5 * t**2))
    beat = sine * np.cos(np.pi * t * rng.uniform(1, 2, (len(y), 1)))
    clean = np.stack([sine, np.sign(sine), 2 * (turns % 1) - 1, tone, beat])[y, np.arange(len(y))]
    x = clean + rng.normal(0, 0.5, clean.shape)
    return in_parts(torch.from_numpy(x).float()[:, None], torch.from_numpy(y), (1500, 1000, 4500), flips=0.2)


@cache
def oscillations() -> DataSet:
    """Regression: how often a damped oscillation in noise turns within 24 samples."""
    rng = generator("oscillations")
    turns, damping = rng.uniform(1, 4, (7500, 1)), rng.uniform(0, 2, (7500, 1))
    t = np.linspace(0, 1, 24)
    x = np.exp(-damping * t) * np.sin(2 * np.pi * (turns * t + rng.random((7500, 1))))
    x += rng.normal(0, 0.15, x.shape)
    return in_parts(torch.from_numpy(x).float(), torch.from_numpy(turns[:, 0]).float(), (1500, 1000, 5000))


# Images


@cache
def gratings(sizes: tuple[int, int, int], noise: float) -> DataSet:
    """Images of 10 x 10 pixels with stripes in one of six directions, of any width and phase, in noise."""
    rng = generator("gratings", sizes)
    count = sum(sizes)
    y = rng.integers(0, 6, count)
    angle = (np.pi * y / 6 + rng.normal(0, 0.08, count))[:, None, None]
    rows, columns = np.mgrid[0:10, 0:10]
    along = np.cos(angle) * rows + np.sin(angle) * columns
    phase, wide = rng.uniform(0, 1, (count, 1, 1)), rng.uniform(3, 6, (count, 1, 1))
    x = 128 + 50 * np.sin(2 * np.pi * (along / wide + phase)) + rng.normal(0, noise, (count, 10, 10))
    pixels = torch.from_numpy(x.clip(0, 255).round().astype(np.uint8))[:, None]
    return in_parts(pixels, torch.from_numpy(y), sizes)


@cache
def cifar(place: str, examples: int, side: int) -> DataSet:
    """Return the first `examples` images of CIFAR-10's training part, 2,000 others for validation, all 10,000 for test.

    Args:
        place: folder or archive of CIFAR-10.
        examples: of the training part.
        side: in pixels, 12 or 8; see `smaller`.
    """
    whole = _cifar10(place)
    assert whole.test is not None
    train, test = whole.train, whole.test
    return surefoot.load({
        "train": (smaller(train.x[:examples], side), train.y[:examples]),
        "validation": (smaller(train.x[40_000:42_000], side), train.y[40_000:42_000]),
        "test": (smaller(test.x, side), test.y),
    })  # fmt: skip


@cache
def some_of_cifar(
    place: str, classes: tuple[int, ...], sizes: tuple[int, int, int], side: int, flips: float = 0.0
) -> DataSet:  # fmt: skip
    """Return the images of some of CIFAR-10's classes: training and validation part of its training part.

    Args:
        place: folder or archive of CIFAR-10.
        classes: by number, from 0.
        sizes: of the parts; the test part is CIFAR-10's own.
        side, flips: as in `cifar` and `in_parts`.
    """
    whole = _cifar10(place)
    assert whole.test is not None
    of, wanted = torch.tensor(classes), sizes[0] + sizes[1]
    new = torch.full((10,), -1).index_put((of,), torch.arange(len(classes)))
    rows = torch.nonzero(torch.isin(whole.train.y, of)).flatten()[:wanted]
    tested = torch.nonzero(torch.isin(whole.test.y, of)).flatten()[: sizes[2]]
    x = torch.cat([whole.train.x[rows], whole.test.x[tested]])
    y = new[torch.cat([whole.train.y[rows], whole.test.y[tested]])]
    return in_parts(smaller(x, side), y, sizes, flips)


def smaller(x: Tensor, side: int) -> Tensor:
    """Return images of CIFAR-10 as means of squares: 2 x 2 of the middle 24 pixels (12), or 4 x 4 of all (8)."""
    x, pool = (x[:, :, 4:28, 4:28], 2) if side == 12 else (x, 32 // side)
    return F.avg_pool2d(x.float(), pool).round().to(torch.uint8)


@cache
def _cifar10(place: str) -> DataSet:
    return surefoot.load("cifar10", data_dir=place, validation=0)
