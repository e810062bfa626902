"""Print the program of many random recipes, execute each on the batches of our own run, and compare the weights.

    python soak/printed_programs.py --first 0 --count 300

A recipe is a pure function of its seed (`tests/support/printed.py`). Each must end within 1e-5 of our weights,
relative to their norm; a recipe whose own run diverges is counted, and has no end to compare. The verdict is a JSON
file in soak/results, and the exit status is 0 only where all recipes are within it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from printed import off, random_case

MOST = 1e-5
"""Relative difference of weights that is rounding: the promise."""
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run, write and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=300, help="how many")
    given = parser.parse_args()
    found, rules, kinds = {}, Counter(), Counter()
    for seed in range(given.first, given.first + given.count):
        case = random_case(seed)
        found[seed], _ = off(case)
        rules[case["recipe"].rule] += 1
        kinds[case["recipe"].schedule.kind] += 1
    compared = {seed: value for seed, value in found.items() if not math.isnan(value)}
    worst = max(compared, key=lambda seed: compared[seed])
    capability = torch.backends.cpu.get_cpu_capability().lower()
    verdict = {
        "what": "random recipes: the printed program executed on our batches, against our run",
        "seeds": [given.first, given.first + given.count - 1],
        "recipes": len(found),
        "compared": len(compared),
        "diverged": len(found) - len(compared),
        "within": sum(value < MOST for value in compared.values()),
        "most_allowed": MOST,
        "largest_difference": compared[worst],
        "largest_at_seed": worst,
        "median_difference": float(np.median(list(compared.values()))),
        "rules": dict(rules),
        "schedules": dict(kinds),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "machine": {"cpu": capability, "cpus": os.cpu_count(), "system": platform.system()},
        "date": date.today().isoformat(),
    }
    RESULTS.mkdir(exist_ok=True)
    name = f"printed_programs_{capability}-{os.cpu_count()}cpu_{verdict['date']}.json"
    (RESULTS / name).write_text(json.dumps(verdict, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(verdict, indent=2))
    return 0 if verdict["within"] == verdict["compared"] else 1


if __name__ == "__main__":
    sys.exit(main())
