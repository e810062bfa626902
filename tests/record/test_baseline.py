"""The simplest answers equal scikit-learn's, and their record comes back as it was."""

import json

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from surefoot.record.baseline import (
    LINEAR_FEATURES,
    Baseline,
    class_baseline,
    linear_answers,
    number_baseline,
)


def table(n=300, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 4)) * [1, 100, 0.01, 1] + [0, 1e3, 0, 0]
    return x, (x[:, 0] + 0.3 * draw.normal(size=n) > 0.5).astype(int), 3 * x[:, 0] + draw.normal(size=n)


def test_the_constant_is_scikit_learns_dummy():
    _, y, z = table()
    train, rest = slice(0, 200), slice(200, 300)
    counts = dict(zip("ab", np.bincount(y[train]).tolist(), strict=True))
    right = np.ones(100, bool)
    found = class_baseline("test", right, np.zeros(100), y[rest], counts)
    dummy = DummyClassifier().fit(np.zeros((200, 1)), y[train])
    assert found.against[0].score == dummy.score(np.zeros((100, 1)), y[rest])
    shares = dummy.predict_proba(np.zeros((100, 1)))
    assert found.prior_loss == pytest.approx(log_loss(y[rest], shares), rel=0.01)
    numbers = number_baseline("test", z[rest] + 0.1, z[rest], [z[train].mean()])
    assert numbers is not None
    assert numbers.against[0].score == 0
    mean = DummyRegressor().fit(np.zeros((200, 1)), z[train]).predict(np.zeros((100, 1)))
    assert numbers.score == pytest.approx(1 - 0.01 / np.mean((z[rest] - mean) ** 2))


def test_the_linear_models_are_scikit_learns():
    x, y, z = table()
    train, rest = slice(0, 200), slice(200, 300)
    answers, fitted_to = linear_answers(x[train], y[train], x[rest], 2) or (None, 0)
    theirs = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[train], y[train]).predict(x[rest])
    assert (fitted_to, answers.tolist()) == (200, theirs.tolist())
    numbers, _ = linear_answers(x[train], z[train], x[rest], None) or (None, 0)
    ridge = make_pipeline(StandardScaler(), Ridge()).fit(x[train], z[train]).predict(x[rest])
    assert numbers == pytest.approx(ridge)
    found = number_baseline("test", numbers, z[rest], [z[rest].mean()], ridge, fitted_to)
    assert found is not None
    assert found.against[1].score == pytest.approx(r2_score(z[rest], ridge))
    assert (found.against[1].gain.value, found.against[1].gain.low) == (0, 0)


def test_images_wide_tables_gaps_and_one_class_have_no_linear_model():
    x, y, _ = table()
    assert linear_answers(np.zeros((30, 1, 8, 8)), np.zeros(30), np.zeros((2, 1, 8, 8)), 2) is None
    wide = np.zeros((30, LINEAR_FEATURES + 1))
    assert linear_answers(wide, np.arange(30) % 2, wide, 2) is None
    gap = x.copy()
    gap[3, 1] = np.nan
    assert linear_answers(gap, y, x, 2) is None
    assert linear_answers(x, np.zeros(300, int), x, 2) is None


def test_a_large_table_is_thinned_by_count_and_the_same_each_time():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(30_000, 2))
    y = (x[:, 0] > 0).astype(int)
    first, fitted_to = linear_answers(x, y, x[:50], 2) or (None, 0)
    assert fitted_to == 20_000
    assert first.tolist() == linear_answers(x, y, x[:50], 2)[0].tolist()


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_baseline_comes_back_from_json_as_it_was(kind):
    _, y, z = table()
    if kind == "classes":
        found = class_baseline("test", y == 0, np.log(np.full(300, 0.5)), y, {"a": 10, "b": 5}, y, 300)
    else:
        found = number_baseline("test", z + 0.1, z, [0.0], z, 300)
    assert found is not None
    assert Baseline.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_several_numbers_count_each_in_its_unit_and_one_that_never_varies_not_at_all():
    draw = np.random.default_rng(0)
    y = draw.normal(size=(200, 3)) * [1, 1e6, 0]
    found = number_baseline("test", y + np.array([0.5, 0, 0]), y, y.mean(0))
    assert found is not None
    assert found.score == pytest.approx(1 - (0.25 / y[:, 0].var()) / 2)
    assert number_baseline("test", np.ones(5), np.zeros(5), [0.0]) is None


@pytest.mark.parametrize("columns", [1, 2])
def test_what_a_simple_answer_of_numbers_is_called_is_said_once(columns):
    y = np.random.default_rng(0).normal(size=(50, columns))
    found = number_baseline("test", y + 0.1, y, y.mean(0))
    assert found is not None
    assert found.against[0].words.count("always answering") == 1
