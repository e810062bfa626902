"""Has the loop or the population got slower? Ratios to a plain loop in the same process, beside those of before.

    python benchmarks/guard.py            # exit code 1, and which, where a ratio is more than 10 % above the baseline
    python benchmarks/guard.py --renew    # write the ratios of this kind of machine into benchmarks/guard.json

A ratio is the median over short rounds, the two arms in turn, so it does not ask how fast the machine is; the baseline
is still kept for each kind of processor, since what the model itself takes differs between them. What seems slower is
measured again, twice, before it is said to be. One thread; a minute on a quiet machine, three where all seems slower.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from arms import Case, Run, plain_arm, surefoot_arm
from loop import CELLS, Cell, case_of, ratio, timed

import surefoot
from surefoot.training.figures import machine_of
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.strategy import Way

BASELINE = Path(__file__).with_name("guard.json")
MOST = 1.1
"""A ratio may be so many times that of the baseline. Of four repetitions each was within 1 % of the others."""
ATTEMPTS = 3
ROUNDS, SHORTER = 13, 4
"""Rounds, and by what they are shorter than those of `loop.py`: many short ones are steadier than a few long ones."""
STACKS = {"linear": 32, "mlp": 32, "cnn": 4}
"""Members of digits at batch 32 that are computed as one."""
MEMBER_STEPS = {"linear": 640, "mlp": 640, "cnn": 64}
Measure = Callable[[], float]


@dataclass(frozen=True)
class Judged:
    """What became of a ratio.

    Attributes:
        name: of the ratio.
        seen: the smallest of the attempts.
        before: that of the baseline; None where it has none.
    """

    name: str
    seen: float
    before: float | None

    @property
    def slower(self) -> bool:
        return self.before is not None and self.seen > MOST * self.before

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name:40} {self.seen:7.3f}   no baseline"
        word = "SLOWER" if self.slower else "better: --renew" if self.before > MOST * self.seen else "as before"
        return f"{self.name:40} {self.seen:7.3f}   baseline {self.before:7.3f}   {word}"


def guarded(measures: Mapping[str, Measure], baseline: Mapping[str, float]) -> list[Judged]:
    """Measure each ratio, again where it seems worse than the baseline, and judge it."""
    judged = []
    for name, measure in measures.items():
        one = Judged(name, measure(), baseline.get(name))
        for _ in range(ATTEMPTS - 1):
            if one.slower:
                one = dataclasses.replace(one, seen=min(one.seen, measure()))
        print(one, flush=True)
        judged.append(one)
    return judged


def kind_of_machine() -> str:
    """Return under what a baseline is kept: the widest instructions of the processor."""
    return machine_of(torch.device("cpu"))["capability"]


def loop_ratio(name: str, folder: Path) -> float:
    """Return a step of ours over one of the plain loop."""
    cell = CELLS[name]
    case = case_of(cell, None, folder)
    steps = max(1, cell.epochs // SHORTER) * (len(case.arrays()[1]) // cell.batch_size)
    seconds = timed(case, steps, ROUNDS, {"surefoot": surefoot_arm, "plain loop": plain_arm})
    return ratio(seconds, "surefoot", "plain loop")


def stack_ratio(model: str, folder: Path) -> float:
    """Return the time of a step of one of several members as one over that of the plain loop."""
    data = dataclasses.replace(surefoot.load("digits"), validation=None, test=None)
    task = surefoot.task(data, model, device="cpu", threads=1)
    count = STACKS[model]
    steps, engine = MEMBER_STEPS[model] // count, Engine(Way("stacked", count))
    recipes = [surefoot.Recipe(lr=0.001 * 1.1**k, batch_size=32, steps=steps + 2) for k in range(count)]
    members = [surefoot.Member(task, surefoot.plan(recipe, data.examples)) for recipe in recipes]

    def stacked(case: Case) -> Run:
        def run(member_steps: int) -> float:
            states, _ = advance_many(members, start_many(members), 2, engine)
            began = time.perf_counter()
            advance_many(members, states, 2 + steps, engine)
            return time.perf_counter() - began

        return run

    case = case_of(Cell("digits", model, 32, epochs=1), None, folder)
    seconds = timed(case, steps * count, ROUNDS, {"stack": stacked, "plain loop": plain_arm})
    return ratio(seconds, "stack", "plain loop")


def all_ratios(folder: Path) -> dict[str, Measure]:
    """Return what measures each ratio, by name."""
    loops = [name for name, cell in CELLS.items() if cell.data == "digits"]
    ratios = {f"loop / plain loop: {name}": partial(loop_ratio, name, folder) for name in loops}
    return ratios | {
        f"{count} as one / plain loop: {model}": partial(stack_ratio, model, folder) for model, count in STACKS.items()
    }


def main() -> int:
    """Compare with the baseline, or renew it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renew", action="store_true", help="write the baseline of this kind of machine")
    parser.add_argument("--only", nargs="+", default=[""], help="words, of which a ratio's name must hold one")
    options = parser.parse_args()
    stored: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.is_file() else {}
    kind = kind_of_machine()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ratios = {
            name: measure
            for name, measure in all_ratios(Path(folder)).items()
            if any(word in name for word in options.only)
        }
        if options.renew:
            seen = {name: statistics.median(measure() for _ in range(ATTEMPTS)) for name, measure in ratios.items()}
            about = {"date": date.today().isoformat(), "torch": torch.__version__, "surefoot": surefoot.__version__}
            stored[kind] = {**about, "ratios": stored.get(kind, {}).get("ratios", {}) | seen}
            BASELINE.write_text(json.dumps(stored, indent=1) + "\n")
            print(json.dumps({kind: stored[kind]}, indent=1))
            return 0
        if kind not in stored:
            print(f"no baseline for {kind}: nothing is compared; --renew writes one", file=sys.stderr)
        judged = guarded(ratios, stored.get(kind, {}).get("ratios", {}))
    slower = [one.name for one in judged if one.slower]
    if slower:
        print(f"more than {MOST - 1:.0%} slower than the baseline of {kind}: {'; '.join(slower)}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
