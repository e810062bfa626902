"""How often does each interval that is printed hold the truth, and how often is a finding made where nothing is?

    python soak/coverage.py --repeats 4000 --out soak/results/coverage.json

Truths are planted, and intervals come from the functions that print them. An interval of 95 % should hold 93 to 97 % of
the time, a finding appear on nothing in at most 5 %. Chance moves a share of 95 % over 4,000 repetitions by 0.7 points.
Noise scales have `tests/laws/test_noise.py`; the ends of find-lr's bracket are ranges over seeds and promise no share.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
from sklearn.metrics import average_precision_score

from surefoot import __version__
from surefoot.comparison.judge import judge as judge_comparison
from surefoot.config import Recipe, Schedule
from surefoot.curves.read import read_curves
from surefoot.record.baseline import class_baseline, number_baseline
from surefoot.record.comparison import RuleResult
from surefoot.record.intervals import Difference, of_mean, slope_of, wilson
from surefoot.record.number_scores import number_scores
from surefoot.record.ranking import balanced, ranked
from surefoot.record.run import Outcome, Row
from surefoot.record.trial import Trial, TrialResult
from surefoot.search import decide
from surefoot.search.choose import choose
from surefoot.search.space import space_around

Draw = np.random.Generator
Case = tuple[str, Callable[[Draw], bool]]
DONE = Outcome(kind="finished", step=1, reason="all steps done")
LOW, HIGH, FALSE = 0.93, 0.97, 0.05
"""Shares that an interval of 95 % should hold, and most false findings."""


def holds(found: Difference | tuple[float, float], truth: float) -> bool:
    """Return whether an interval holds a number."""
    low, high = (found.low, found.high) if isinstance(found, Difference) else found
    return low <= truth <= high


def intervals() -> Iterator[Case]:
    """Yield each interval with a way to draw data and see whether it holds the truth."""
    for n in (12, 60, 359, 5000):
        yield f"accuracy, {n} examples", lambda draw, n=n: _accuracy(draw, n)
        yield f"gain over the constant, classes, {n} examples", lambda draw, n=n: _paired(draw, n)
        yield f"gain in log loss, {n} examples", lambda draw, n=n: _log_loss(draw, n)
    for n in (30, 200, 2000):
        yield f"balanced accuracy, 5 % positives, {n} examples", lambda draw, n=n: _balanced(draw, n)
    for positives, n in ((10, 60), (10, 500), (50, 500)):
        yield f"AUC, {positives} of {n} positive", lambda draw, m=positives, n=n: _ranking(draw, m, n)[0]
        yield f"average precision, {positives} of {n} positive", lambda draw, m=positives, n=n: _ranking(draw, m, n)[1]
    for n in (15, 60, 500):
        for kind in ("normal", "heavy"):
            yield f"R2 over the training mean, {kind} errors, {n} examples", lambda draw, n=n, k=kind: _r2(draw, n, k)
            for name in ("rmse", "mae", "r2"):
                yield f"{name}, {kind} errors, {n} examples", partial(_number, n=n, kind=kind, name=name)
    for n in (2, 3, 5, 30):
        yield f"mean of {n} seeds", lambda draw, n=n: holds(of_mean(draw.normal(size=n)), 0.0)
    for n, phi in ((4, 0.0), (10, 0.0), (10, 0.5), (30, 0.5)):
        yield f"slope of {n} rows, neighbours alike by {phi}", lambda draw, n=n, p=phi: _slope(draw, n, p)
    for noise in (0.03, 0.1):
        yield (
            f"rates that cannot be told from the best, trials noisy by {noise:.0%}",
            (lambda draw, s=noise: _alike(draw, s)),
        )


def findings() -> Iterator[Case]:
    """Yield each finding with a way to draw nothing, and see whether it is made."""
    for rows in (6, 10, 30):
        for noise, phi in ((0.05, 0.0), (0.2, 0.0), (0.2, 0.5)):
            for name in ("still-improving", "overfitting", "rate-too-low"):
                where = f"{rows} flat rows, noise {noise:.0%}, neighbours alike by {phi}"
                yield f"{name}: {where}", partial(_found, name=name, rows=rows, noise=noise, phi=phi)
    for n in (144, 5000):
        yield f"another schedule is better: four that are equal, {n} examples", lambda draw, n=n: _schedules(draw, n)
    for seeds in (3, 5):
        yield f"a rule is first: two that are equal, {seeds} seeds", lambda draw, s=seeds: _rules(draw, s)
    for n in (60, 1000):
        yield f"better than the constant: answers by chance, {n} examples", lambda draw, n=n: _chance(draw, n)


def _accuracy(draw: Draw, n: int) -> bool:
    p = draw.uniform(0.5, 0.99)
    return holds(wilson(int(draw.binomial(n, p)), n), p)


def _paired(draw: Draw, n: int) -> bool:
    p, q = draw.uniform(0.55, 0.95), draw.uniform(0.3, 0.7)  # of the network; of the frequent class
    y = (draw.random(n) >= q).astype(int)
    found = class_baseline("test", draw.random(n) < p, np.full(n, -0.5), y, {"a": 2, "b": 1})
    return holds(found.against[0].gain, p - q)


def _log_loss(draw: Draw, n: int) -> bool:
    # P(y = 1 | u) = u with u uniform, and the network knows it: E -ln p(y) = 1/2, the prior's loss is ln 2.
    u = draw.uniform(size=n)
    y = (draw.random(n) < u).astype(int)
    found = class_baseline("test", np.ones(n, bool), np.log(np.where(y == 1, u, 1 - u)), y, {"a": 50, "b": 50})
    assert found.log_loss_gain is not None
    return holds(found.log_loss_gain, math.log(2) - 0.5)


def _balanced(draw: Draw, n: int) -> bool:
    rare = max(1, int(draw.binomial(n, 0.05)))
    p, q = draw.uniform(0.8, 0.99), draw.uniform(0.2, 0.9)
    usual = n - rare
    return holds(balanced([(int(draw.binomial(usual, p)), usual), (int(draw.binomial(rare, q)), rare)]), (p + q) / 2)


_PRECISIONS: dict[tuple[float, float], float] = {}


def _ranking(draw: Draw, positives: int, n: int) -> tuple[bool, bool]:
    apart = float(draw.choice([0.5, 1.0, 2.0]))
    y = np.array([1] * positives + [0] * (n - positives))
    z = np.stack([np.zeros(n), draw.normal(size=n) + apart * y], axis=1)
    share = positives / n
    if (apart, share) not in _PRECISIONS:
        many = np.random.default_rng(0)
        labels = many.random(1_000_000) < share
        _PRECISIONS[apart, share] = average_precision_score(labels, many.normal(size=len(labels)) + apart * labels)
    area, precision = ranked(z, y)[1]
    assert area is not None
    assert precision is not None
    true_area = 0.5 * (1 + math.erf(apart / 2))
    return holds(area, true_area), holds(precision, _PRECISIONS[apart, share])


def _errors(draw: Draw, n: int, kind: str) -> np.ndarray:
    return draw.normal(size=n) if kind == "normal" else draw.laplace(size=n) / math.sqrt(2)


def _r2(draw: Draw, n: int, kind: str) -> bool:
    share = draw.uniform(0.1, 0.9)  # of the variance, that is explained
    answers = math.sqrt(share) * draw.normal(size=n)
    found = number_baseline("test", answers, answers + math.sqrt(1 - share) * _errors(draw, n, kind), [0.0])
    assert found is not None
    return holds(found.against[0].gain, share)


def _number(draw: Draw, n: int, kind: str, name: str) -> bool:
    share = draw.uniform(0.1, 0.9)
    answers = math.sqrt(share) * draw.normal(size=n)
    scores = number_scores(answers, answers + math.sqrt(1 - share) * _errors(draw, n, kind))
    mean = math.sqrt(2 / math.pi) if kind == "normal" else 1 / math.sqrt(2)
    truth = {"rmse": math.sqrt(1 - share), "mae": mean * math.sqrt(1 - share), "r2": share}
    found = getattr(scores, f"{name}_interval")
    return found is not None and holds(found, truth[name])


def _alike_neighbours(draw: Draw, n: int, phi: float) -> np.ndarray:
    noise = draw.normal(size=n)
    for i in range(1, n):
        noise[i] = phi * noise[i - 1] + math.sqrt(1 - phi * phi) * noise[i]
    return noise


def _slope(draw: Draw, n: int, phi: float) -> bool:
    slope, half = slope_of(0.3 * np.arange(n) + _alike_neighbours(draw, n, phi))
    return abs(slope - 0.3) <= half


def _found(draw: Draw, name: str, rows: int, noise: float, phi: float) -> bool:
    return name in _curve(draw, rows, noise, phi)


def _curve(draw: Draw, rows: int, noise: float, phi: float) -> set[str]:
    train, val = (1 + noise * _alike_neighbours(draw, rows, phi) for _ in range(2))
    made = [
        Row(step=100 * (i + 1), epoch=i + 1.0, examples=1, lr=0.1, train_loss=float(train[i]), train_accuracy=None,
            val_loss=float(val[i]), val_accuracy=None, grad_norm=1.0, update_ratio=1e-3, losses=(2.3,), seconds=1.0,
            examples_per_second=1.0)
        for i in range(rows)
    ]  # fmt: skip
    return {finding.name for finding in read_curves(made, DONE).findings}


def _result(recipe: Recipe, seed: int, share: float, log_error: float, accuracy: float | None) -> TrialResult:
    loss = math.exp(log_error) if math.isfinite(log_error) else None
    return TrialResult(
        trial=Trial(stage="refine", recipe=recipe, seed=seed, share=share), examples=1,
        outcome="finished" if loss is not None else "diverged", train_loss=loss, val_loss=loss,
        val_accuracy=accuracy if loss is not None else None, seconds=1.0,
    )  # fmt: skip


def _schedules(draw: Draw, n: int) -> bool:
    """Four schedules whose runs differ by 10 % of the loss and by which examples they have right, at 95 %."""

    def came(kind: Any, seed: int) -> TrialResult:
        recipe = Recipe(lr=0.1, steps=1000, schedule=Schedule(kind=kind))
        return _result(recipe, seed, 1.0, -2 + 0.1 * draw.normal(), draw.binomial(n, 0.95) / n)

    results = [came(kind, 0) for kind in ("linear", "cosine", "wsd", "constant")]
    value = decide.schedule([*results, came("linear", 1), came("linear", 2)], n).value
    assert value is not None
    return value["kind"] != "linear"


def _alike(draw: Draw, noise: float) -> bool:
    """Rates of a valley whose best one is known, tried at the final length."""
    best = draw.uniform(-1.0, 0.5)
    tried = []
    for lr in np.geomspace(0.003, 1.0, 9):
        apart = math.log10(lr / 0.1) - best
        error = -2 + 1.2 * apart**2 + noise * draw.normal() if apart < 0.6 else math.inf
        recipe = Recipe(lr=float(lr), momentum=0.9, weight_decay=0.1 / (float(lr) * 1000), steps=1000)
        tried.append(_result(recipe, 0, 1.0, error, None))
    chosen = choose(tuple(tried), space_around(Recipe(), 1000, (0.003, 1.0), frozenset({"momentum"})), 1000)
    # The grid of rates is spaced, and the best one may lie a step of it beside the last that is named.
    return chosen.lr_low / 10**0.125 <= 0.1 * 10**best <= chosen.lr_high * 10**0.125


def _rules(draw: Draw, seeds: int) -> bool:
    def rule(name: str) -> RuleResult:
        settings = {"momentum": 0.9, "momentum_form": "pytorch", "schedule": {"kind": "cosine"}}
        steps = tuple(float(100 * math.exp(0.2 * draw.normal())) for _ in range(seeds))
        return RuleResult(
            name=name, settings=settings, batch_size=32, steps=200, lr=0.1, given=True, tried=(), marks=(0, 200),
            losses=tuple((2.0, 0.1) for _ in steps), accuracies=None, step_seconds=1e-3,
            step_seconds_range=(1e-3, 1e-3), direction=None, steps_to_target=steps,
        )  # fmt: skip

    said = {each.name: each.reason for each in judge_comparison([rule("a"), rule("b")], 0.1, 2.0)}
    return "do not tell it" not in said["first-in-steps"]


def _chance(draw: Draw, n: int) -> bool:
    y = (draw.random(n) < 0.5).astype(int)
    return class_baseline("t", draw.random(n) < 0.5, np.zeros(n), y, {"a": 2, "b": 1}).against[0].gain.is_better


def shares(cases: Iterator[Case], repeats: int, seed: int) -> dict[str, float]:
    """Return how often each case was so."""
    found = {}
    for name, case in cases:
        draw = np.random.default_rng([seed, *name.encode()])
        # A search takes 50 ms to choose, everything else a tenth of one.
        times = max(1, repeats // 20) if "cannot be told" in name else repeats
        found[name] = sum(case(draw) for _ in range(times)) / times
    return found


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    began = time.time()
    covered = shares(intervals(), options.repeats, options.seed)
    false = shares(findings(), options.repeats, options.seed)
    result = {
        "what": "how often intervals of 95 % hold the planted truth, and findings are made where nothing is",
        "repeats": options.repeats,
        "seed": options.seed,
        "intervals": covered,
        "outside_93_to_97": {name: share for name, share in covered.items() if not LOW <= share <= HIGH},
        "findings": false,
        "above_5": {name: share for name, share in false.items() if share > FALSE},
        "seconds": round(time.time() - began),
        "date": date.today().isoformat(),
        "versions": {
            "surefoot": __version__, "numpy": np.__version__, "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__, "python": platform.python_version(),
        },
        "machine": {"cpus": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
    }  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
