"""Check, find-lr, tune and train ten kinds of task end to end, kill training and tuning, and compare what comes out.

    pip install transformers==5.24.0 --no-deps huggingface-hub tokenizers regex pyyaml tqdm   # for one task, no weights
    python soak/any_task.py                         # all; writes soak/results/any_task_<machine>_<date>.json
    python soak/any_task.py --only hugging-face --kills 5

Tasks are in `any_task_users.py`: each is what a user would write, on real data, which is read at run time. Every verb
runs in a process of its own. Training is done once undisturbed; then the same call is killed by SIGKILL, with all of
its workers, at random moments, and made again until it ends: weights, the rule's state and rows (without what a clock
wrote) must be the same bits, and so must what the finished model scores and predicts when it is loaded from disk.
Tuning is killed once, and must come to the same trials, recipe and weights. A package that is not installed costs its
task.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from any_task_users import TASKS

import surefoot
from surefoot.data.tree import map_leaves
from surefoot.errors import SurefootError
from surefoot.record.run import CLOCK_FIELDS
from surefoot.record.store import SEAL

FORK = multiprocessing.get_context("fork")
"""Processes that need not import anything again; this one trains nothing itself."""
EPOCHS = 6
SAVED_EVERY_SECONDS = 0.02
"""Between two checkpoints, so that kills fall into them, too. Chosen by hand."""
LONGEST_SECONDS = 240
OF_TRAINING = ("lr", "groups", "rule")
VERBS = ("check", "find-lr", "train", "tune", "from disk")
RESULTS = Path(__file__).parent / "results"


def check(asked: dict[str, Any], runs: Path) -> str:
    """Return the verdicts of steps 0 to 2."""
    data = surefoot.load(asked["data"], target=asked.get("target", "auto"))
    model, rule = asked["model"], asked.get("rule", "sgd")
    decisions = [step(model, data, threads=1) for step in (surefoot.check_wiring, surefoot.check_initial_loss)]
    decisions.append(surefoot.overfit_sample(model, data, rule=rule, threads=1))
    return "; ".join(f"{each.verdict}: {each.reason}" for each in decisions)


def find_lr(asked: dict[str, Any], runs: Path) -> str:
    """Return the bracket of rates."""
    data = surefoot.load(asked["data"], target=asked.get("target", "auto"))
    rule = asked.get("rule", "sgd")
    found = surefoot.find_lr(asked["model"], data, rule=rule, steps=40, seeds=2, range_test=False, threads=1)
    return f"{found.verdict}: {found.reason}"


def train(asked: dict[str, Any], runs: Path, name: str = "undisturbed") -> dict[str, Any]:
    """Train, or go on, and return what the run came to."""
    result = surefoot.train(
        **asked, epochs=EPOCHS, name=name, runs_dir=runs, threads=1, checkpoint_seconds=SAVED_EVERY_SECONDS
    )
    return {name: result.summary[name] for name in ("outcome", "val_loss", "val_accuracy")}


def tune(asked: dict[str, Any], runs: Path, name: str = "tuned") -> str:
    """Search at twice the cost of the final training, which follows, and return the recipe."""
    others = {key: value for key, value in asked.items() if key != "lr"}
    tuned = surefoot.tune(**others, epochs=EPOCHS, budget="2x", name=name, runs_dir=runs, threads=1)
    assert tuned.recipe is not None, [each.reason for each in tuned.decisions]
    assert tuned.result is not None
    return f"lr {tuned.recipe.lr:.3g}, val_loss {tuned.result.summary['val_loss']:.4g}"


def from_disk(asked: dict[str, Any], runs: Path, name: str = "undisturbed") -> dict[str, Any]:
    """Return what a finished run scores and predicts, loaded in a process that did not train it."""
    model = None if isinstance(asked["model"], str) else asked["model"]
    data = surefoot.load(asked["data"], target=asked.get("target", "auto"))
    inputs = map_leaves(lambda leaf: leaf[:50].numpy(), data.train.x)
    scores = surefoot.evaluate(name, data, part="validation", runs_dir=runs, model=model)
    answers = surefoot.predict(name, inputs, runs_dir=runs, model=model)
    outputs = torch.as_tensor(np.asarray(answers.outputs))
    return {"scores": repr(scores), "outputs": _sha256(outputs.numpy().tobytes()), "shape": list(outputs.shape)}


def begin(work: Callable[..., Any], *given: Any) -> tuple[Any, Connection]:
    """Start some work in a process group of its own."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_work, args=(theirs, work, given))
    process.start()
    theirs.close()
    return process, ours


def _work(answer: Connection, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    os.setsid()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    name, *rest = given
    try:
        answer.send(("ok", work(TASKS[name](rest[0]), *rest)))
    except ImportError as error:
        answer.send(("absent", f"{error.name} is not installed"))
    except SurefootError as error:
        answer.send(("refused", f"{type(error).__name__}: {error}"))
    except BaseException:  # whatever a user would have seen as a traceback
        answer.send(("traceback", "".join(traceback.format_exc().splitlines(True)[-6:])))


def ended(process: Any, answer: Connection) -> tuple[str, Any]:
    """Wait for some work, and return how it ended and what it gave."""
    found = answer.recv() if answer.poll(LONGEST_SECONDS) else ("too slow", None)
    _kill(process)
    return found


def killed(process: Any, answer: Connection, file: Path, lines: int, pause: float) -> str | None:
    """Kill a process a moment after a file has so many lines, and return when; None where it ended before."""
    while process.is_alive() and not answer.poll():
        if file.is_file() and len(file.read_bytes().splitlines()) >= lines:
            time.sleep(pause)
            break
        time.sleep(0.002)
    if answer.poll():
        return None
    _kill(process)
    return f"after line {lines} of {file.name} and {pause:.3f} s"


def _kill(process: Any) -> None:
    """End a process and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.join()


def came_to(run: Path) -> dict[str, str]:
    """Return a SHA-256 of all that must be the same."""
    last = max((run / "checkpoints").glob("step-*"))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timeless = [{key: value for key, value in row.items() if key not in (*CLOCK_FIELDS, SEAL)} for row in rows]
    found = {"weights": run / "model.safetensors", "state": last / "state.safetensors"}
    digests = {name: _sha256(path.read_bytes()) for name, path in found.items()}
    digests["rows"] = _sha256(json.dumps(timeless, sort_keys=True).encode())
    if (run / "members.jsonl").is_file():
        trials = [json.loads(line) for line in (run / "members.jsonl").read_text().splitlines()]
        digests["trials"] = _sha256(json.dumps(sorted(each["key"] for each in trials)).encode())
        digests["recipe"] = _sha256(json.dumps(json.loads((run / "result.json").read_text())["recipe"]).encode())
    return digests


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def disturbed(
    name: str, runs: Path, work: Callable[..., Any], kills: int, as_before: Path, seed: int
) -> dict[str, Any]:
    """Do some work again under another name, killed so often at random moments, and compare it with what it was."""
    chance, again = random.Random(f"{seed} {name}"), f"{as_before.name}-killed"
    file = "members.jsonl" if work is tune else "metrics.jsonl"
    lines = len((as_before / file).read_text().splitlines())
    pause = json.loads((as_before / "metrics.jsonl").read_text().splitlines()[-1])["seconds"] / lines
    when: list[str] = []
    moments = sorted(chance.randrange(lines) for _ in range(kills))
    for moment in moments:
        process, answer = begin(work, name, runs, again)
        if (said := killed(process, answer, runs / again / file, moment, chance.uniform(0, pause))) is None:
            break
        when.append(said)
    how, found = ended(*begin(work, name, runs, again))
    if how != "ok":
        return {"kills": when, "equal": False, "said": f"{how}: {found}"}
    differs = [key for key, value in came_to(runs / again).items() if value != came_to(as_before)[key]]
    return {"kills": when, "equal": not differs, "differs": differs}


def one(name: str, runs: Path, kills: int, seed: int) -> dict[str, Any]:
    """Return what every verb said of a task, and what was the same after kills."""
    line: dict[str, Any] = {"task": name, "seconds": {}}
    for verb, work in zip(VERBS, (check, find_lr, train, tune, from_disk), strict=True):
        began = time.perf_counter()
        line[verb] = list(ended(*begin(work, name, runs)))
        line["seconds"][verb] = round(time.perf_counter() - began, 1)
        if line[verb][0] == "absent":
            return line
        print(f"  {verb:10} {line['seconds'][verb]:6.1f} s  {line[verb][0]}  {str(line[verb][1])[:300]}", flush=True)
    for verb, work, run, times in (("train", train, "undisturbed", kills), ("tune", tune, "tuned", 1)):
        began = time.perf_counter()
        if line[verb][0] == "ok":
            line[f"{verb} killed"] = disturbed(name, runs, work, times, runs / run, seed)
            print(f"  {verb} killed: {line[f'{verb} killed']}", flush=True)
        line["seconds"][f"{verb} killed"] = round(time.perf_counter() - began, 1)
    if line.get("train killed", {}).get("equal") and line["from disk"][0] == "ok":
        line["same from disk"] = list(ended(*begin(from_disk, name, runs, "undisturbed-killed"))) == line["from disk"]
    return line


def table(lines: list[dict[str, Any]]) -> str:
    """Return a row for each task: how each verb ended, and what kills changed."""
    rows = [("task", *VERBS, "kills", "equal bits", "tune after a kill", "same from disk")]
    for line in lines:
        train_killed, tune_killed = line.get("train killed", {}), line.get("tune killed", {})
        rows.append((
            line["task"], *(line.get(verb, ["-"])[0] for verb in VERBS), len(train_killed.get("kills", ())),
            train_killed.get("equal", "-"), tune_killed.get("equal", "-"), line.get("same from disk", "-"),
        ))  # fmt: skip
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def failed(line: dict[str, Any]) -> bool:
    """Return whether something of a task went wrong."""
    verbs = [line.get(verb, ["-"])[0] for verb in VERBS]
    if "absent" in verbs:
        return False
    ok = all(each == "ok" for each in verbs) and not str(line["check"][1]).count("fail:")
    return not (ok and line.get("same from disk") and line["train killed"]["equal"] and line["tune killed"]["equal"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="a pattern of names of tasks")
    parser.add_argument("--kills", type=int, default=3, help="of each training")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    machine = f"{torch.backends.cpu.get_cpu_capability().lower()}-{os.cpu_count()}cpu"
    out = asked.out or RESULTS / f"any_task_{machine}_{date.today().isoformat()}.json"
    packages = ("torch", "numpy", "scikit-learn", "transformers", "tzdata")
    lines: list[dict[str, Any]] = []
    for name in fnmatch.filter(TASKS, asked.only):
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as made:
            lines.append(one(name, Path(made), asked.kills, asked.seed))
        report = {
            "date": date.today().isoformat(), "surefoot": surefoot.__version__, "python": platform.python_version(),
            "machine": machine, "threads": 1, "seed": asked.seed, "epochs": EPOCHS, "budget": "2x",
            "versions": {each: _version(each) for each in packages}, "tasks": lines,
        }  # fmt: skip
        out.write_text(json.dumps(report, indent=1).replace(str(Path(made)), "FOLDER") + "\n")
    print(table(lines))
    if bad := [line["task"] for line in lines if failed(line)]:
        raise SystemExit(f"not as it must be: {', '.join(bad)}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
