"""Seeded inventions of `field.py`: what tables of users are like, and the sets that packages ship are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

Made = pd.DataFrame | tuple[np.ndarray, np.ndarray]


def _columns(x: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])


def mixed() -> pd.DataFrame:
    """Text, dates, booleans, numbers and gaps, all of which matter."""
    draw = np.random.default_rng(1)
    n = 2500
    city = draw.choice(
        ["Oslo", "Bern", "Lima", "Quito", "São Paulo", "N/A-Town"], size=n, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04]
    )
    member = draw.random(n) < 0.4
    joined = pd.Timestamp("2015-01-01") + pd.to_timedelta(draw.integers(0, 3650, n), unit="D")
    age, income = draw.normal(45, 15, n).round(1), draw.lognormal(10, 0.7, n).round(2)
    days = (joined - pd.Timestamp("2015-01-01")).days.to_numpy()
    effect = {"Oslo": 0.0, "Bern": 1.2, "Lima": -1.0, "Quito": 0.6, "São Paulo": -1.5, "N/A-Town": 2.0}
    score = (
        np.vectorize(effect.get)(city) + 0.8 * member + (days / 1825 - 1) + 0.03 * (age - 45)
        + 0.8 * (np.log(income) - 10) + draw.logistic(size=n) * 0.6
    )  # fmt: skip
    table = pd.DataFrame({"city": city, "member": member, "joined": joined, "age": age, "income": income})
    for name, share in (("age", 0.1), ("income", 0.2), ("city", 0.05)):
        table.loc[draw.random(n) < share, name] = None
    return table.assign(churn=np.where(score > 0.4, "stays", "leaves"))


def mixed_price() -> pd.DataFrame:
    """House prices from text, dates and gaps: targets of hundreds of thousands."""
    draw = np.random.default_rng(2)
    n = 1500
    kind = draw.choice(["flat", "house", "cabin"], size=n, p=[0.6, 0.3, 0.1])
    area = draw.lognormal(4.4, 0.4, n).round()
    sold = pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 1500, n), unit="D")
    garden = draw.random(n) < 0.3
    days = (sold - pd.Timestamp("2020-01-01")).days.to_numpy()
    factor = np.vectorize({"flat": 1.0, "house": 1.25, "cabin": 0.6}.get)(kind)
    price = factor * area * 3800 * (1 + days / 6000) + 25_000 * garden + draw.normal(0, 25_000, n)
    table = pd.DataFrame({"kind": kind, "area": area, "sold": sold, "garden": garden, "price": price.round(-2)})
    table.loc[draw.random(n) < 0.08, "area"] = None
    return table


def imbalanced() -> pd.DataFrame:
    """One positive in 200."""
    draw = np.random.default_rng(3)
    n = 16_000
    y = np.zeros(n, int)
    y[draw.choice(n, n // 200, replace=False)] = 1
    x = draw.normal(size=(n, 8))
    x[:, :3] += 1.6 * y[:, None]
    return _columns(x.round(4)).assign(fraud=y)


def twelve_rows() -> pd.DataFrame:
    """Two classes of six."""
    draw = np.random.default_rng(4)
    y = np.arange(12) % 2
    return _columns((draw.normal(size=(12, 3)) + 3 * y[:, None]).round(3)).assign(kind=np.array(["cat", "dog"])[y])


def fifty_thousand_rows() -> pd.DataFrame:
    """Many rows of a rule that is not linear."""
    draw = np.random.default_rng(5)
    x = draw.normal(size=(50_000, 10))
    score = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.5 * x[:, 3] + 0.3 * draw.normal(size=50_000)
    return _columns(x.round(4)).assign(y=np.digitize(score, [-0.5, 0.5]))


def one_feature() -> pd.DataFrame:
    """A feature and a label."""
    draw = np.random.default_rng(6)
    x = draw.normal(20, 6, 400).round(2)
    return pd.DataFrame({"temperature": x, "opened": np.where(x + 3 * draw.normal(size=400) > 22, "yes", "no")})


def five_hundred_columns() -> pd.DataFrame:
    """More columns than rows; a few matter."""
    draw = np.random.default_rng(7)
    x = draw.normal(size=(400, 500))
    return _columns(x.round(4)).assign(y=(x[:, :5].sum(1) + 0.5 * draw.normal(size=400) > 0).astype(int))


def scaled_target(scale: float, offset: float, seed: int) -> Callable[[], pd.DataFrame]:
    """A smooth function whose values are of that scale around an offset."""

    def make() -> pd.DataFrame:
        draw = np.random.default_rng(seed)
        x = draw.normal(size=(1000, 6))
        y = 2 * x[:, 0] - x[:, 1] + np.sin(2 * x[:, 2]) + 0.3 * draw.normal(size=1000)
        return _columns(x.round(5)).assign(y=offset + scale * y)

    return make


def label_noise() -> pd.DataFrame:
    """A third of the labels is drawn anew."""
    draw = np.random.default_rng(9)
    x = draw.normal(size=(3000, 6))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    noisy = draw.random(3000) < 0.33
    y[noisy] = draw.integers(0, 2, noisy.sum())
    return _columns(x.round(4)).assign(y=np.array(["no", "yes"])[y])


def duplicated_rows() -> pd.DataFrame:
    """Each row is there three times on average."""
    draw = np.random.default_rng(10)
    x = draw.normal(size=(500, 5)).round(3)
    y = np.digitize(x[:, 0] + 0.5 * x[:, 1] + 0.4 * draw.normal(size=500), [-0.6, 0.6])
    return _columns(x).assign(y=y).sample(1500, replace=True, random_state=0).reset_index(drop=True)


def index_column() -> pd.DataFrame:
    """Written with its index, in the order of the classes: the index alone decides."""
    draw = np.random.default_rng(11)
    y = np.repeat([0, 1, 2], 200)
    return _columns((draw.normal(size=(600, 4)) + y[:, None]).round(3)).assign(kind=np.array(["a", "b", "c"])[y])


def constant_columns() -> pd.DataFrame:
    """A number, a text and an empty column that say nothing."""
    draw = np.random.default_rng(12)
    x = draw.normal(size=(500, 3))
    table = _columns(x.round(4)).assign(version=7, source="import", remark=np.nan)
    return table.assign(y=np.where(x[:, 0] - x[:, 1] > 0, "up", "down"))


def many_categories() -> pd.DataFrame:
    """A shop of 800, each with its own level, and a price."""
    draw = np.random.default_rng(13)
    n = 8000
    shop = draw.integers(0, 800, n)
    level, price = draw.normal(0, 2, 800), draw.gamma(3, 10, n).round(2)
    sold = 50 + 6 * level[shop] - 0.5 * price + draw.normal(0, 4, n)
    return pd.DataFrame({"shop": [f"shop-{i:04d}" for i in shop], "price": price, "sold": sold.round(2)})


def outliers() -> pd.DataFrame:
    """A sensor that reports 1e30 in one row of a hundred."""
    draw = np.random.default_rng(14)
    x = draw.normal(size=(1500, 4)).round(4)
    y = np.where(x[:, 0] + 0.5 * x[:, 1] + 0.3 * draw.normal(size=1500) > 0, "ok", "bad")
    x[draw.random(1500) < 0.01, 0] = 1e30
    return _columns(x).assign(state=y)


def heavy_tails() -> pd.DataFrame:
    """Features and target with tails like those of sales: lognormal over six decades."""
    draw = np.random.default_rng(15)
    x = draw.normal(size=(2000, 4))
    y = np.exp(2 * x[:, 0] + x[:, 1] + 0.3 * draw.normal(size=2000))
    return _columns(np.exp(2.5 * x)).assign(revenue=y)


def seconds() -> pd.DataFrame:
    """Seconds since 1970 within a minute of each other are the signal."""
    draw = np.random.default_rng(16)
    t = draw.normal(0, 20, 600)
    return pd.DataFrame({"time": 1.7e9 + t, "x": draw.normal(size=600)}).assign(late=t + 3 * draw.normal(size=600) > 0)


def words_for_missing() -> pd.DataFrame:
    """Classes that are called none, scratch and edge."""
    draw = np.random.default_rng(17)
    y = draw.choice(3, size=900, p=[0.7, 0.2, 0.1])
    x = draw.normal(size=(900, 4)) + 1.4 * np.eye(4)[y]
    return _columns(x.round(3)).assign(defect=np.array(["none", "scratch", "edge"])[y])


def many_classes() -> pd.DataFrame:
    """Sixty classes of about 40 examples."""
    draw = np.random.default_rng(18)
    centres, y = 3 * draw.normal(size=(60, 8)), draw.integers(0, 60, 2400)
    return _columns((centres[y] + draw.normal(size=(2400, 8))).round(3)).assign(species=[f"sp. {i:02d}" for i in y])


def wide_numbers() -> pd.DataFrame:
    """Features from 1e-9 to 1e9."""
    draw = np.random.default_rng(19)
    x = draw.normal(size=(700, 7))
    y = x @ np.array([1, -1, 0.5, 0, 0, 2, 1]) + 0.5 * draw.normal(size=700)
    return _columns(x * 10.0 ** np.arange(-9, 12, 3)).assign(y=y)


def counts() -> pd.DataFrame:
    """Counts of events, most of them 0."""
    draw = np.random.default_rng(20)
    x = draw.normal(size=(3000, 5))
    return _columns(x.round(4)).assign(claims=draw.poisson(np.exp(-1.5 + x[:, 0] + 0.5 * x[:, 1])))


def sequences() -> tuple[np.ndarray, np.ndarray]:
    """Three channels of 24 hours, of scales 1000, 1 and 0.01; the class is the phase of a wave in the second."""
    draw = np.random.default_rng(21)
    y = draw.integers(0, 3, 1200)
    wave = np.sin(np.arange(24) / 24 * 2 * np.pi + 2 * np.pi / 3 * y[:, None])
    x = draw.normal(size=(1200, 24, 3)) * [1000, 1, 0.01]
    x[:, :, 1] += 0.7 * wave
    return x.astype(np.float32), y


def grey_images() -> tuple[np.ndarray, np.ndarray]:
    """Bars of 16 x 16 pixels in four directions, in noise."""
    draw = np.random.default_rng(22)
    y = draw.integers(0, 4, 1000)
    rows, columns = np.mgrid[:16, :16]
    ways = np.stack([rows, columns, rows + columns, rows - columns])
    x = (
        110
        + 50 * np.sin(ways[y] * 0.9 + draw.uniform(0, 6.3, 1000)[:, None, None])
        + 35 * draw.normal(size=(1000, 16, 16))
    )
    return x.clip(0, 255).astype(np.uint8), y


def targets_two() -> tuple[np.ndarray, np.ndarray]:
    """Two targets whose scales differ by 1e6."""
    draw = np.random.default_rng(23)
    x = draw.normal(size=(900, 5))
    y = np.stack([x[:, 0] + np.sin(x[:, 1]), 1e6 * (x[:, 2] - x[:, 3] ** 2)], axis=1)
    return x.astype(np.float32), (y * (1 + 0.05 * draw.normal(size=y.shape))).astype(np.float64)


INVENTIONS: tuple[tuple[str, Callable[[], Made], str, str, str], ...] = (
    ("mixed", mixed, "classes", "churn", ".csv"),
    ("mixed-price", mixed_price, "numbers", "price", ".csv"),
    ("imbalanced", imbalanced, "classes", "fraud", ".csv"),
    ("twelve-rows", twelve_rows, "classes", "kind", ".csv"),
    ("fifty-thousand", fifty_thousand_rows, "classes", "y", ".csv"),
    ("one-feature", one_feature, "classes", "opened", ".csv"),
    ("five-hundred-columns", five_hundred_columns, "classes", "y", ".csv"),
    ("target-1e-6", scaled_target(1e-6, 0.0, 24), "numbers", "y", ".csv"),
    ("target-1e9", scaled_target(1e9, 5e9, 25), "numbers", "y", ".csv"),
    ("label-noise", label_noise, "classes", "y", ".csv"),
    ("duplicated-rows", duplicated_rows, "classes", "y", ".csv"),
    ("index-column", index_column, "classes", "kind", ".csv"),
    ("constant-columns", constant_columns, "classes", "y", ".csv"),
    ("many-categories", many_categories, "numbers", "sold", ".csv"),
    ("outliers", outliers, "classes", "state", ".csv"),
    ("heavy-tails", heavy_tails, "numbers", "revenue", ".csv"),
    ("seconds", seconds, "classes", "late", ".csv"),
    ("words-for-missing", words_for_missing, "classes", "defect", ".tsv"),
    ("many-classes", many_classes, "classes", "species", ".csv.gz"),
    ("wide-numbers", wide_numbers, "numbers", "y", ".csv"),
    ("counts", counts, "numbers", "claims", ".csv"),
    ("sequences", sequences, "classes", "", ".npz"),
    ("grey-images", grey_images, "classes", "", ".npz"),
    ("two-targets", targets_two, "numbers", "", ".npz"),
)
"""Name, what makes it, what is predicted, the label's column, the form of the file."""
