"""The tasks of the benchmarks of choosing: two halves that share no family, the same data at every call."""

import numpy as np
import pytest
import torch

from surefoot.search.response import coordinates

KINDS = {
    "norm", "no norm", "deep", "tanh", "label noise", "imbalance", "small", "large", "table", "image", "sequence",
    "regression", "frozen", "adamw", "batch 8", "batch 512",
}  # fmt: skip
"""What must be in each half."""


@pytest.fixture(scope="module")
def tasks(scripts):
    return scripts("tasks")


@pytest.fixture(scope="module")
def data(scripts):
    return scripts("task_data")


def test_there_are_24_tasks_and_each_half_has_every_kind(tasks):
    found = tasks.subjects("a folder that is not read").values()
    assert len(found) == 24
    for half in ("development", "test"):
        kinds = set().union(*(subject.kinds for subject in found if subject.half == half))
        assert kinds >= KINDS, half


def test_no_family_and_no_data_is_in_both_halves(tasks):
    found = tasks.subjects("a folder that is not read").values()
    halves = {half: [subject for subject in found if subject.half == half] for half in ("development", "test")}
    families, sources = ([{what(subject) for subject in each} for each in halves.values()]
                         for what in (lambda subject: subject.family, lambda subject: subject.family[0]))  # fmt: skip
    assert not families[0] & families[1]
    assert not sources[0] & sources[1]
    assert not set(tasks.ANIMALS) & set(tasks.VEHICLES)


def test_every_task_that_needs_no_file_can_be_trained(tasks):
    for subject in tasks.subjects(None).values():
        first = tasks.first_task(subject)
        size = subject.batch_sizes[-1]
        assert size <= first.data.examples
        assert subject.steps(size) >= 8, "its shortest run has an update"
        assert first.data.validation is not None
        assert first.data.test is not None
        assert tasks.guessing(first.data) < 90


@pytest.mark.parametrize("name", ["waves", "firsts", "ascents", "texts", "rules", "spirals", "topics", "oscillations"])
def test_a_generator_gives_the_same_data_again(data, name):
    make = getattr(data, name)
    first = make().fingerprint
    make.cache_clear()
    assert make().fingerprint == first


def test_no_example_is_in_two_parts(data):
    x = torch.arange(60.0)[:, None]
    found = data.in_parts(x, torch.arange(60) % 3, (30, 10, 20), flips=0.2)
    seen = torch.cat([part.x for part in found.parts.values()]).flatten()
    assert sorted(seen.tolist()) == list(range(60))
    split = data._parts(x, torch.arange(60) % 3, test=20, validation=10)
    assert sorted(torch.cat([x for x, _ in split.values()]).flatten().tolist()) == list(range(60))
    assert {name: len(y) for name, (_, y) in split.items()} == {"train": 30, "validation": 10, "test": 20}


def test_labels_are_flipped_where_it_is_said_and_never_in_the_test_part(data):
    y = torch.arange(300) % 3
    found = data.in_parts(torch.arange(300.0)[:, None], y, (100, 100, 100), flips=0.4)
    wrong = [int((part.y != y[100 * i : 100 * i + 100]).sum()) for i, part in enumerate(found.parts.values())]
    assert wrong == [40, 40, 0]


def test_images_of_cifar_are_made_small_by_means(data):
    x = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    x[0, 0, 4:6, 4:6] = 200
    assert data.smaller(x, 12)[0, 0, 0, 0] == 200
    assert data.smaller(x, 12).shape == (1, 3, 12, 12)
    assert data.smaller(x, 8)[0, 0, 1, 1] == 50


def test_a_frozen_body_stays_as_it_was_learned(scripts, data):
    models = scripts("task_models")
    make = models.frozen_body(lambda: data.gratings((64, 16, 16), 20.0))
    one, other = (make((1, 10, 10), 4) for _ in range(2))
    body = [[p for p in model.parameters() if not p.requires_grad] for model in (one, other)]
    assert len(body[0]) == 6
    assert all(torch.equal(a, b) for a, b in zip(*body, strict=True))
    assert one(torch.zeros(2, 1, 10, 10)).shape == (2, 4)


@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_a_cell_is_a_recipe_with_its_rate_and_total_decay_whatever_the_length(tasks, rule):
    subject = next(each for each in tasks.subjects(None).values() if each.rule == rule)
    for share in (0.25, 1.0):
        cell = tasks.Cell(subject.batch_sizes[0], -3, 10.0, subject.memories[1])
        recipe = subject.recipe(cell, share)
        assert recipe.steps == int(share * subject.steps(subject.batch_sizes[0]) + 1e-6)
        rate, decay, memory = coordinates(recipe, recipe.steps / subject.steps(subject.batch_sizes[0]))
        assert rate == pytest.approx(-0.75)
        assert decay == pytest.approx(1.0)
        assert memory == pytest.approx(np.log10(1 - cell.memory))


def test_a_run_is_scored_and_one_that_diverges_is_worth_a_guess(tasks):
    subject = tasks.subjects(None)["cancer, mlp"]
    first = tasks.first_task(subject)
    cells = [tasks.Cell(32, step, 1.0, 0.9) for step in (0, 60)]
    good, gone = tasks.trained(first, [(subject.recipe(cell, 0.5), 1) for cell in cells], test=True)
    assert 80 < good.test <= 100
    assert good.val_accuracy > 0.8
    assert gone.val_loss is None
    assert gone.test == pytest.approx(tasks.guessing(first.data))


def test_points_of_a_regression_are_its_r2(tasks):
    data = tasks.subjects(None)["friedman, mlp"].data()
    variance = float(data.test.y.double().var(correction=0))
    assert tasks.points(data, 0.25 * variance, None) == pytest.approx(75)
    assert tasks.points(data, 9 * variance, None) == 0
