"""How much worse than the best cell of a table is what a method chose, and what did choosing cost? No model is trained.

    python benchmarks/outside.py --lcbench lcbench17.npz --out outside.json
    python benchmarks/outside.py --truth benchmarks/results/truth_MACHINE_DATE.json --out outside.json

The product's `next_move` is played on tables: each trial that it asks for is looked up. Two kinds of table:

- *LCBench* (Zimmer, Lindauer & Hutter 2021, arXiv 2006.13799) as YAHPO Gym's surrogate has it (Pfisterer et al. 2022,
  arXiv 2109.03670): validation accuracy over epoch, batch size, learning rate, momentum and weight decay. A shorter run
  is the prefix of one schedule of 52 epochs, not a complete run. What lies outside the axes counts as at their end: so
  does a rate above 0.1, where half of the tasks are best.
- *Maps* of complete runs over rate, weight decay and momentum (benchmarks/results/truth_avx2-2cpu_2026-11-24.json).
  Shorter runs are invented (`SHORTER`): the map as at a lower rate, on a higher level, with noise that grows.

Values between the cells are interpolated, in the logarithm of rate, weight decay, 1 - momentum, batch size and epoch.
Step 3 of the procedure cannot be played. It is answered with what it came to on a map's task, on LCBench with
nothing, and costs half of what it may. Steps 0 to 2 are left out, their cost too.

Regret: the score of the table's best cell, over all its axes, minus that of the chosen recipe at the full length, in
points. Cost: epochs over those of a complete run. All choose by validation accuracy; of a map they are judged by the
test part, the mean of all seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from truth import setting, write

from surefoot.config import Recipe, Schedule
from surefoot.record.decision import Decision
from surefoot.record.measures import ACCURACY
from surefoot.record.trial import Trial, TrialResult
from surefoot.search.budget import Budget, Request, Terms
from surefoot.search.journal import History
from surefoot.search.moves import BracketRates, Conclude, Done, Train
from surefoot.search.procedure import next_move

BUDGETS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
REPETITIONS = 20
"""Of methods that draw."""
EXAMPLES = {
    "3945": 50_000, "7593": 581_012, "34539": 32_769, "126025": 48_842, "126026": 34_465, "126029": 45_211,
    "146212": 58_000, "167104": 690, "167149": 3_196, "167152": 2_000, "167161": 1_000, "167168": 846, "167181": 2_109,
    "167184": 748, "167185": 1_080, "167190": 5_404, "167200": 98_050, "167201": 67_557, "168329": 65_196,
    "168330": 83_733, "168331": 58_310, "168335": 130_064, "168868": 76_000, "168908": 5_418, "168910": 8_237,
    "189354": 539_383, "189862": 2_984, "189865": 5_124, "189866": 425_240, "189873": 416_188, "189905": 1_728,
    "189906": 2_310, "189908": 70_000, "189909": 44_819,
}  # fmt: skip
"""Rows of the data sets of LCBench's tasks, as OpenML has them; 10,000 for one that is not here."""
TRAINED, JUDGED = 0.67 * 0.67, 0.67 * 0.33
"""Shares of them that are trained with and that are the validation part: a third is the test part, and a third of the
rest (arXiv 2006.13799)."""
SHORTER = {"drift": -0.09, "drift_sd": 0.08, "gain": 0.2, "noise": 0.04}
"""An invented run of half the length: its best rate is higher by as many decades (+- between tasks), the log odds of
its error, as a share of the worst, by the gain, with a deviation of the noise. The drift is that of complete runs on
ImageNet (github.com/nicholaslourie/opda); gain and noise are chosen by hand."""


BRACKETS = {
    "digits, linear": (0.32, 0.32), "digits, mlp": (0.32, 0.32), "digits with flipped labels, mlp": (0.1, 0.32),
    "digits, mlp in batches of 8": (0.032, 0.1), "digits, cnn with norm": (0.032, 0.1),
    "cifar10, cnn without norm": (0.1, 1.0), "cifar10, cnn with norm": (0.032, 0.1),
}  # fmt: skip
"""What step 3 came to on these tasks at two trainings (benchmarks/results/regret_avx512-2cpu_2026-11-27.json)."""
AXIS_NAMES = ("batch_size", "lr", "momentum", "weight_decay")


@dataclass(frozen=True)
class Table:
    """One task as a table.

    Attributes:
        name: of the task.
        epochs, batch_size, lr, momentum, weight_decay: its axes, rising, momentum falling; one value: no choice.
        seen: what a search is told, in points, [seed, epoch, batch, rate, momentum, decay].
        judged: what its answer is judged by, [batch, rate, momentum, decay], at the full length.
        examples, validation_examples: of the task's parts.
        drift: of a map, which has no shorter runs: decades of the best rate per doubling of the length.
    """

    name: str
    epochs: np.ndarray
    batch_size: np.ndarray
    lr: np.ndarray
    momentum: np.ndarray
    weight_decay: np.ndarray
    seen: np.ndarray
    judged: np.ndarray
    examples: int
    validation_examples: int
    drift: float | None = None

    @property
    def best(self) -> float:
        """Score of the best cell."""
        return float(self.judged.max())

    @cached_property
    def _axes(self) -> list[np.ndarray]:
        axes = [self.epochs, self.batch_size, self.lr, 1 - self.momentum, self.weight_decay]
        return [np.log(axis) if len(axis) > 1 else np.log([axis[0], 2 * axis[0]]) for axis in axes]

    @cached_property
    def _looks(self) -> list[RegularGridInterpolator]:
        return [_look(self._axes, each) for each in self.seen] + [_look(self._axes[1:], self.judged)]

    def _place(self, where: Mapping[str, Any], epochs: float, raised: float = 0.0) -> list[float]:
        decay = max(where["weight_decay"], 1e-12)
        values = [epochs, where["batch_size"], where["lr"] * 10**raised, 1 - where["momentum"], decay]
        return [min(max(math.log(value), axis[0]), axis[-1]) for value, axis in zip(values, self._axes, strict=True)]

    def told(self, where: Mapping[str, Any], share: float, seed: int, noise: bool = False) -> float:
        """Return the score that a search is told, in points.

        Args:
            where: lr, momentum, weight_decay and batch_size.
            share: of the full length.
            seed: of the repetition.
            noise: add what the validation part's size makes of it.
        """
        doublings = -math.log2(share)
        place = self._place(where, share * self.epochs[-1], (self.drift or 0.0) * doublings)
        error = 100 - float(self._looks[seed % len(self.seen)](place)[0])
        rng = np.random.default_rng([seed, zlib.crc32(repr((place, round(share, 6))).encode())])
        if self.drift is not None:
            worst = 100 - float(self.seen.min()) + 0.1
            odds = math.log(max(error, 0.1) / (worst - min(error, worst - 0.1)))
            odds += SHORTER["gain"] * doublings + SHORTER["noise"] * doublings**0.5 * rng.standard_normal()
            error = worst / (1 + math.exp(-odds)) if share < 1 else error
        if noise:
            error += (
                100
                * math.sqrt(max(error / 100 * (1 - error / 100), 0) / self.validation_examples)
                * (rng.standard_normal())
            )
        return 100 - min(max(error, 0.0), 100.0)

    def regret(self, where: Mapping[str, Any]) -> float:
        """Return how many points a recipe lacks to the best cell."""
        return self.best - float(self._looks[-1](self._place(where, 1.0)[1:])[0])

    def drawn(self, rng: np.random.Generator) -> dict[str, Any]:
        """Return a recipe evenly from the box of the axes, batch sizes from their list."""
        low_high = {name: getattr(self, name) for name in AXIS_NAMES}
        drawn = {name: float(np.exp(rng.uniform(np.log(axis[0]), np.log(axis[-1]))))
                 for name, axis in low_high.items() if name in ("lr", "weight_decay")}  # fmt: skip
        one_less = np.log(1 - self.momentum)
        return drawn | {
            "momentum": float(1 - np.exp(rng.uniform(one_less[0], one_less[-1]))),
            "batch_size": int(rng.choice(self.batch_size)),
        }


def _look(axes: Sequence[np.ndarray], values: np.ndarray) -> RegularGridInterpolator:
    padded = np.pad(values, [(0, int(length == 1)) for length in values.shape], "edge")
    return RegularGridInterpolator(axes, padded)


def lcbench(path: Path) -> list[Table]:
    """Return the tables of LCBench's tasks."""
    file = np.load(path)
    axes = (file["epoch"], file["batch_size"], file["lr"], file["momentum"][::-1], file["weight_decay"])
    found = []
    for task, score in zip(file["task"], file["val_accuracy"], strict=True):
        rows = EXAMPLES.get(str(task), 10_000)
        seen = score[:, :, :, ::-1].astype(np.float64)
        found.append(Table(str(task), *axes, seen[None], seen[-1], int(TRAINED * rows), int(JUDGED * rows)))
    return found


def maps(path: Path) -> list[Table]:
    """Return the tables of the tasks of a truth of complete runs over rate, weight decay and momentum, with SGD."""
    truth, rng, found = json.loads(path.read_text()), np.random.default_rng(0), list[Table]()
    for name, task in truth["tasks"].items():
        known = [_filled(truth, task["runs"], column) for column in (0, 1)]
        drift = float(rng.normal(SHORTER["drift"], SHORTER["drift_sd"]))
        found.append(Table(
            name, np.array([task["epochs"]]), np.array([task["batch_size"]]), np.array(truth["lrs"]),
            np.array(truth["momenta"])[::-1], np.array(truth["weight_decays"]), known[0][:, None],
            known[1].mean(axis=0), task["parts"]["train"], task["parts"]["validation"], drift,
        ))  # fmt: skip
    return found


def _filled(truth: Mapping[str, Any], runs: Mapping[str, Any], column: int) -> np.ndarray:
    """Return a map's scores in points as [seed, batch, rate, momentum, decay], momentum falling.

    A seed that a cell lacks has the mean of the others, and a cell of none 0.

    Args:
        truth: the file, with its axes.
        runs: by seed and rate, (validation accuracy, test accuracy, outcome) of each momentum and decay, or None.
        column: 0 or 1 of these.
    """
    momenta, decays = truth["momenta"], truth["weight_decays"]
    none = [None] * (len(momenta) * len(decays))
    rows = [[[np.nan if cell is None else cell[column] for cell in runs.get(f"seed {seed}, lr {lr:.4g}", none)]
             for lr in truth["lrs"]] for seed in truth["seeds"]]  # fmt: skip
    table = 100 * np.array(rows, dtype=np.float64).reshape(len(rows), len(truth["lrs"]), len(momenta), len(decays))
    count = np.isfinite(table).sum(axis=0)
    mean = np.nansum(table, axis=0) / np.maximum(count, 1)
    return np.where(np.isfinite(table), table, mean)[:, None, :, ::-1]


def searched(table: Table, budget: float, noise: bool = False) -> tuple[dict[str, Any], float]:
    """Play the product's search, and return what it chose and what that cost."""
    epochs = float(table.epochs[-1])
    fixed = {"epochs", "schedule"} | ({"batch_size"} if len(table.batch_size) == 1 else set())
    size = int(table.batch_size[0]) if len(table.batch_size) == 1 else "auto"
    request = Request(
        terms=Terms(budget=Budget(trainings=budget), fixed=frozenset(fixed), force=True),
        base=Recipe(epochs=epochs, batch_size=size, schedule=Schedule(kind="cosine")),
        examples=table.examples, validation_examples=table.validation_examples,
        check_examples=dict.fromkeys(("wiring", "initial-loss", "overfit-sample"), 10**15),
    )  # fmt: skip
    history = History()
    while not isinstance(move := next_move(request, history), Done):
        if isinstance(move, Train):
            new = {trial.key: _came(table, trial, noise) for trial in move.trials}
            history = dataclasses.replace(history, results={**new, **history.results})
            continue
        decision = move.decision if isinstance(move, Conclude) else _bracket(table, move)
        history = dataclasses.replace(history, decisions=(*history.decisions, decision))
    assert move.recipe is not None
    where = {name: getattr(move.recipe, name) for name in AXIS_NAMES}
    spent = sum(result.trial.share for result in history.results.values())
    spent += sum(made.evidence["cost_examples"] for made in history.decisions if made.name == "learning-rate") / (
        epochs * table.examples
    )
    return where, spent


def _came(table: Table, trial: Trial, noise: bool) -> TrialResult:
    where = {name: getattr(trial.recipe, name) for name in AXIS_NAMES}
    score = table.told(where, trial.share, trial.seed, noise) / 100
    assert trial.recipe.steps is not None
    return TrialResult(
        trial=trial, outcome="finished", examples=trial.recipe.steps * where["batch_size"], train_loss=1 - score,
        val_loss=1 - score, val_accuracy=score, seconds=0.0, chosen_by=ACCURACY,
    )  # fmt: skip


def _bracket(table: Table, move: Any) -> Decision:
    assert isinstance(move, BracketRates)
    found = BRACKETS.get(table.name)
    value = found and {"lr": math.sqrt(found[0] * found[1]), "low": found[0], "high": found[1]}
    evidence = {"cost_examples": move.most_updates * int(move.recipe.batch_size) // 2, "initial_losses": [100.0],
                "steps": move.steps, "momentum": move.recipe.momentum}  # fmt: skip
    return Decision(
        step=3,
        name="learning-rate",
        claim="",
        verdict="pass" if value else "suspect",
        reason="",
        value=value,
        evidence=evidence,
    )


Answer = dict[float, tuple[dict[str, Any], float]]
"""By budget, a recipe and what it cost."""


def ours(table: Table, seed: int, noise: bool) -> Answer:
    """The product."""
    return {budget: searched(table, budget, noise) for budget in BUDGETS}


def random_search(table: Table, seed: int, noise: bool) -> Answer:
    """Complete runs of recipes that are drawn evenly; one shorter run where no complete one can be paid for."""
    rng = np.random.default_rng([seed, zlib.crc32(table.name.encode())])
    tried = [table.drawn(rng) for _ in range(int(max(BUDGETS)))]
    return _best_of(table, tried, seed, noise)


def _best_of(table: Table, tried: Sequence[dict[str, Any]], seed: int, noise: bool) -> Answer:
    scores = [table.told(where, 1.0, 0, noise) for where in tried]
    return {b: (tried[int(np.argmax(scores[: max(1, int(b))]))], min(b, max(1.0, int(b)))) for b in BUDGETS}


def halving(table: Table, seed: int, noise: bool) -> Answer:
    """Successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943) by thirds: runs of a ninth, a third of them goes
    on to a third, and of these to the end; all shorter where that costs too much. What goes on pays for the rest alone.
    """
    rng = np.random.default_rng([seed, 1, zlib.crc32(table.name.encode())])
    found: Answer = {}
    for budget in BUDGETS:
        whole = 9 / 9 + 3 * (1 / 3 - 1 / 9) + 2 / 3
        times, top = max(1, int(budget / whole)), min(1.0, budget / whole)
        alive, spent, before = [table.drawn(rng) for _ in range(9 * times)], 0.0, 0.0
        for share in (top / 9, top / 3, top):
            spent += len(alive) * (share - before)
            scores = [table.told(where, share, 0, noise) for where in alive]
            alive = [alive[i] for i in np.argsort(scores)[::-1][: max(1, len(alive) // 3)]]
            before = share
        found[budget] = alive[0], spent
    return found


def tpe(table: Table, seed: int, noise: bool) -> Answer:
    """Optuna's default, TPE, with complete runs."""
    import optuna  # pyright: ignore[reportMissingImports]  # a peer, in no environment of ours

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), direction="maximize")
    tried = []
    for _ in range(int(max(BUDGETS))):
        trial = study.ask()
        where: dict[str, Any] = {name: trial.suggest_float(name, axis[0], axis[-1], log=True) for name, axis in
                                 (("lr", table.lr), ("weight_decay", table.weight_decay))}  # fmt: skip
        keep = 1 - table.momentum
        where["momentum"] = 1 - trial.suggest_float("keep", keep[0], keep[-1], log=True)
        sizes = [int(size) for size in table.batch_size]
        where["batch_size"] = 2 ** trial.suggest_int("batch", int(math.log2(sizes[0])), int(math.log2(sizes[-1])))
        study.tell(trial, table.told(where, 1.0, 0, noise))
        tried.append(where)
    return _best_of(table, tried, seed, noise)


def single(tables: Sequence[Table]) -> dict[str, dict[str, Any]]:
    """Return for each task the cell that is best on average over the others."""
    regrets = np.array([table.best - table.judged for table in tables])
    found = {}
    for number, table in enumerate(tables):
        at = np.unravel_index(np.delete(regrets, number, axis=0).mean(axis=0).argmin(), regrets.shape[1:])
        found[table.name] = {name: getattr(table, name)[i] for name, i in zip(AXIS_NAMES, at, strict=True)}
    return found


METHODS: dict[str, Callable[[Table, int, bool], Answer]] = {
    "surefoot": ours,
    "random": random_search,
    "halving": halving,
    "tpe": tpe,
}


def summary(runs: Mapping[str, Mapping[str, Mapping[float, Sequence[tuple[float, float]]]]]) -> dict[str, Any]:
    """Return by method and budget: mean regret with its interval over tasks (percentile bootstrap, 95 %), worst task,
    mean rank among the methods, cost.

    Args:
        runs: by method, task and budget, regret and cost of each repetition.
    """
    rng = np.random.default_rng(0)
    means = {method: {budget: np.array([statistics.fmean(regret for regret, _ in by_budget[budget])
                                        for by_budget in of_task.values()]) for budget in BUDGETS}
             for method, of_task in runs.items()}  # fmt: skip
    found: dict[str, Any] = {}
    for method, of_budget in means.items():
        for budget, regrets in of_budget.items():
            drawn = regrets[rng.integers(0, len(regrets), (2000, len(regrets)))].mean(axis=1)
            better = sum((other[budget] < regrets - 1e-9) + 0.5 * (abs(other[budget] - regrets) <= 1e-9)
                         for other in means.values())  # fmt: skip
            costs = [cost for of_task in runs[method].values() for _, cost in of_task[budget]]
            found.setdefault(method, {})[f"{budget:g}"] = {
                "mean_regret": float(regrets.mean()), "interval": np.percentile(drawn, [2.5, 97.5]).tolist(),
                "worst_task": float(regrets.max()), "rank": float(np.mean(better + 0.5)),
                "cost": statistics.fmean(costs), "most_cost": max(costs),
                "by_task": dict(zip(runs[method], regrets.tolist(), strict=True)),
            }  # fmt: skip
    return found


def shown(figures: Mapping[str, Any]) -> str:
    """Return the summary as text: mean regret, and in brackets that of the worst task."""
    lines = [f"{'trainings':<10} " + " ".join(f"{budget:>14g}" for budget in BUDGETS)]
    for method, rows in figures.items():
        cells = " ".join(f"{row['mean_regret']:6.2f} ({row['worst_task']:5.1f})" for row in rows.values())
        lines.append(f"{method:<10} {cells}")
    return "\n".join(lines)


def main() -> None:
    """Play all methods on the tables, and print regrets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lcbench", type=Path, help="lcbench17.npz, or a file of other tasks with the same axes")
    parser.add_argument("--truth", type=Path, help="a truth of complete runs")
    parser.add_argument("--methods", nargs="*", choices=[*METHODS, "single"], default=[*METHODS, "single"])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--noise", action="store_true", help="add the noise of the validation part's size")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = setting() | {"what": "regret in points by method and budget", "noise": options.noise}
    for kind, path, load in (("lcbench", options.lcbench, lcbench), ("maps", options.truth, maps)):
        if path is None:
            continue
        began, tables, runs = time.process_time(), load(path), dict[str, Any]()
        for method in options.methods:
            runs[method] = {}
            recipes = single(tables) if method == "single" else {}
            for table in tables:
                seeds = options.repetitions if method in ("random", "halving", "tpe") else 1
                answers = (
                    [dict.fromkeys(BUDGETS, (recipes[table.name], 0.0))] if method == "single"
                    else [METHODS[method](table, seed, options.noise) for seed in range(seeds)]
                )  # fmt: skip
                runs[method][table.name] = {
                    budget: [(table.regret(answer[budget][0]), answer[budget][1]) for answer in answers]
                    for budget in BUDGETS
                }  # fmt: skip
        result[kind] = {"file": path.name, "tasks": len(tables), "summary": summary(runs),
                        "cpu_seconds": time.process_time() - began}  # fmt: skip
        print(f"{kind}, {len(tables)} tasks, {result[kind]['cpu_seconds']:.0f} CPU seconds")
        print(shown(result[kind]["summary"]))
    if options.out:
        write(options.out, result)


if __name__ == "__main__":
    main()
