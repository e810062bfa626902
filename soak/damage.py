"""Damage each file of run folders, run every command that reads them, and compare with what the sound folder gives.

    python soak/damage.py --each 500 --minutes 10 --out soak/results/damage.json

Four folders are damaged: a finished training, one that was stopped, a finished search, and one that was stopped. A
damage is seeded: one bit, a cut, a block of zeros, an emptied file, or a deleted one. After each, in a fresh copy
of the folder, the commands run in this process, and each answer is one of

    unchanged   the same output, weights and predictions as of the sound folder
    named       the command says which file is damaged, fails or goes on, and shows no other number
    shorter     what a kill leaves: a stopped run with fewer rows, trials or checkpoints, which are said or made again
    SILENT      another number, weight or prediction, and nothing said
    TRACEBACK   an exception that is no message

The last two must not be. Where the time ends first, `done` says how many damages of each file were tried.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import hashlib
import io
import json
import os
import platform
import random
import re
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import surefoot
from surefoot import noise_at
from surefoot.cli.app import run as command
from surefoot.record import store
from surefoot.record.noise import append_noise
from surefoot.training.configure import resolve
from surefoot.training.open import open_run

KINDS = ("bit", "cut", "zeros", "emptied", "deleted")
ROWS = 60
NOISE = {"batch_size": 8, "micro_batches": 8, "micro_batch_size": 4}
CLOCKS = re.compile(r"\d+\.\d+ s\b|\d+:\d\d, \d+ \w+ \d{4}|\"(train_)?seconds\": [\d.e+-]+")
"""What a clock wrote into an output."""
_CLOCK_KEYS = (
    "seconds",
    "seal",
    "files",
    "examples_per_second",
    "took",
    "search_seconds",
    "train_seconds",
    "reached",
    "torch",
    "folder",
)


@dataclass(frozen=True)
class Subject:
    """A folder to be damaged.

    Attributes:
        name: of the run in it.
        folder: the runs' folder that holds it and a sound one beside it.
        commands: words of the commands by what they are called; each gets a copy of the folder as it is damaged.
        goes_on: whether a command may train to the end.
    """

    name: str
    folder: Path
    commands: dict[str, list[str]]
    goes_on: bool


@dataclass
class Answer:
    """What a command gave: exit code, both outputs, and the hash of what it left of weights and numbers."""

    code: int | str
    out: str
    err: str
    left: dict[str, Any] = field(default_factory=dict)


def table(folder: Path) -> Path:
    """Write a small table of two classes, and rows without labels beside it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3))
    rows = [",".join([*(f"{value:.4f}" for value in each), "ab"[int(each[0] > 0)]]) for each in x]
    (folder / "table.csv").write_text("x,y,z,kind\n" + "\n".join(rows) + "\n", encoding="utf-8")
    bare = "\n".join(row.rpartition(",")[0] for row in rows[:5])
    (folder / "few.csv").write_text("x,y,z\n" + bare + "\n", encoding="utf-8")
    return folder / "table.csv"


def subjects(home: Path) -> list[Subject]:
    """Make the four folders, each beside a sound run called "beside"."""
    data = str(table(home))
    few = str(home / "few.csv")
    words = {
        "data": data, "model": "linear", "device": "cpu", "threads": 1, "rows_per_epoch": 1,
        "recipe": {"epochs": 4.0, "lr": 0.05, "ema_decay": 0.9, "batch_size": 16},
    }  # fmt: skip
    config = resolve(words)
    flags = ["--model", "linear", "--epochs", "4", "--lr", "0.05", "--ema-decay", "0.9", "--batch-size", "16"]
    again = ["train", data, *flags, "--device", "cpu", "--threads", "1", "--name", "run", "--no-report"]
    tuning = [
        "tune",
        data,
        "--model",
        "linear",
        "--epochs",
        "60",
        "--budget",
        "4x",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    tuning += ["--name", "run", "--no-report", "--force"]
    reads = {"show": ["show", "run", "--json"], "runs": ["runs", "--json"], "report": ["report", "run"]}
    uses = {"evaluate": ["evaluate", "run", "--json"], "predict": ["predict", "run", few, "--json"]}
    watch = {"watch": ["watch", "run"]}

    def place(name: str) -> Path:
        folder = home / name / "runs"
        with open_run(config, name="beside", runs_dir=folder) as run:
            while not run.done:
                run.advance()
            run.finish()
        os.chdir(home / name)
        return folder

    found = []
    folder = place("finished-training")
    with open_run(config, name="run", runs_dir=folder) as run:
        while not run.done:
            run.advance()
            append_noise(folder / "run", noise_at(run.task, run.state, **NOISE))
        run.finish()
    found.append(Subject("finished training", folder, {**reads, **uses, **watch, "resume": ["resume", "run"],
                                                       "train": again}, False))  # fmt: skip
    folder = place("stopped-training")
    with open_run(config, name="run", runs_dir=folder) as run:
        for steps in (4, 3):
            run.advance(steps)
            append_noise(folder / "run", noise_at(run.task, run.state, **NOISE))
            run.save()
    found.append(Subject("stopped training", folder, {**reads, **watch, "resume": ["resume", "run", "--json"],
                                                      "train": [*again, "--json"]}, True))  # fmt: skip
    folder = place("finished-search")
    _quiet(tuning)
    found.append(Subject("finished search", folder, {**reads, **uses, **watch, "resume": ["resume", "run"],
                                                     "tune": tuning}, False))  # fmt: skip
    folder = place("stopped-search")
    _stopped_search(tuning, folder)
    more = {"resume": ["resume", "run", "--json"], "tune": [*tuning, "--json"]}
    found.append(Subject("stopped search", folder, {"runs": reads["runs"], "report": reads["report"], **watch, **more},
                         True))  # fmt: skip
    return found


def _stopped_search(words: list[str], folder: Path) -> None:
    """Begin a search and stop it while a trial is trained, saved."""
    from surefoot.search.search import open_search
    from surefoot.search.tune import asked_for

    data = words[1]
    settings = {"epochs": 60.0, "device": "cpu", "threads": 1}
    start, terms = asked_for({"data": data, "model": "linear"}, settings, None, "4x", force=True)
    with open_search(start, terms, name="run", runs_dir=folder) as search:
        while not search.done:
            search.advance()
            if search.journal.history.results and search.now.doing.startswith("step 5"):
                break


def _quiet(words: list[str]) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return command(words)


def damage(path: Path, kind: str, chance: random.Random) -> bool:
    """Damage a file; return whether it is another now."""
    content = path.read_bytes()
    if kind == "deleted":
        path.unlink()
        return True
    if not content:
        return False
    other = bytearray(content)
    if kind == "bit":
        other[chance.randrange(len(other))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del other[chance.randrange(len(other)) :]
    elif kind == "zeros":
        first = chance.randrange(len(other))
        length = chance.choice((1, 8, 64, 512))
        other[first : first + length] = bytes(len(other[first : first + length]))
    else:
        other.clear()
    path.write_bytes(bytes(other))
    return bytes(other) != content


def run(words: list[str], folder: Path) -> Answer:
    """Run a command in this process, in the folder that holds runs/."""
    out, err = io.StringIO(), io.StringIO()
    os.chdir(folder.parent)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code: int | str = command(words)
    except BaseException:  # whatever a command lets through, SystemExit too, is what is looked for
        return Answer("TRACEBACK", out.getvalue(), traceback.format_exc())
    return Answer(code, out.getvalue(), err.getvalue(), left(folder / "run", words[0]))


def left(run: Path, name: str) -> dict[str, Any]:
    """Return what a command left that writes: hashes of the weights and of a page, and the result without clocks."""
    found: dict[str, Any] = {}
    if name == "report" and (run / "report.html").is_file():
        text = _page((run / "report.html").read_text(encoding="utf-8"))
        found["page"] = hashlib.sha256(text.encode()).hexdigest()
    if name not in ("resume", "train", "tune"):
        return found
    if (run / store.WEIGHTS).is_file():
        found["weights"] = hashlib.sha256((run / store.WEIGHTS).read_bytes()).hexdigest()
    with contextlib.suppress(OSError, ValueError):
        found["result"] = _without_clocks(json.loads((run / store.RESULT).read_text()))
    return found


def _page(text: str) -> str:
    """Return a report with its drawings as text, without the numbers that a process counts up in them."""

    def drawing(found: re.Match[str]) -> str:
        return re.sub(rb"(clip|gradient_)\d+", b"", base64.b64decode(found[1])).decode("latin1")

    return re.sub(r"base64,([A-Za-z0-9+/=]+)", drawing, text)


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_clocks(v) for k, v in value.items() if k not in _CLOCK_KEYS}
    return [_without_clocks(each) for each in value] if isinstance(value, list) else value


def _shown(text: str) -> Any:
    """Return an output in a form that is compared: JSON without clocks, else text without clocks."""
    try:
        return _without_clocks(json.loads(text))
    except ValueError:
        return CLOCKS.sub("", text)


def judge(sound: Answer, found: Answer, name: str, subject: Subject, words: list[str]) -> str:
    """Return the kind of an answer; see the top of this file.

    Args:
        sound: of the folder before.
        found: of the damaged one.
        name: of the damaged file.
        subject: of the folder.
        words: of the command.
    """
    if found.code == "TRACEBACK" or "Traceback" in found.err:
        return "TRACEBACK"
    said = found.out + found.err
    named = Path(name).name in said or (name.startswith("checkpoints") and "step-" in said)
    same = _shown(found.out) == _shown(sound.out) and found.left == sound.left
    if found.code == sound.code and same:
        return "named" if named and Path(name).name not in sound.out + sound.err else "unchanged"
    if found.code not in (0, sound.code):
        return "named" if named or "run" in found.err else "SILENT"
    if words[0] == "runs":  # the damaged run is named, or has fewer rows than before; the other is there as it was
        return _of_runs(sound, found, named)
    if named:
        return "named"
    fewer = Path(name).suffix == ".jsonl" or name == store.RESULT
    return "shorter" if fewer and _shorter(sound, found, subject, words) else "SILENT"


def _of_runs(sound: Answer, found: Answer, named: bool) -> str:
    was, now = ({each["run"]: each for each in json.loads(answer.out)} for answer in (sound, found))
    if now.get("beside") != was["beside"]:
        return "SILENT"
    if now.get("run", {}).get("state") == "damaged":
        return "named" if named else "SILENT"
    if "run" not in now:
        return "shorter"  # without its config.toml a folder is no run
    differing = {key for key in was["run"] if was["run"][key] != now["run"].get(key)}
    return (
        "shorter"
        if differing <= {"epochs", "val_accuracy", "state", "test_accuracy", "test_loss"}
        and now["run"]["state"] in ("unfinished", "finished")
        and now["run"]["epochs"] <= was["run"]["epochs"]
        else "SILENT"
    )


def _shorter(sound: Answer, found: Answer, subject: Subject, words: list[str]) -> bool:
    """Whether an answer is that of a folder with fewer rows or no result, as a kill leaves it, with no other number."""
    if words[0] in ("resume", "train", "tune"):
        return found.left == sound.left  # the same end
    if words[0] == "show":
        was, now = json.loads(sound.out), json.loads(found.out)
        rows = [_without_clocks(row) for row in now["rows"]]
        rest = {"rows", "curves", "result", "state", "reason", "next", "sealed"}
        alike = all(was[key] == now[key] for key in was.keys() - rest)
        return alike and rows == [_without_clocks(row) for row in was["rows"]][: len(rows)] and now["result"] in (
            None, was["result"],
        )  # fmt: skip
    return subject.goes_on and words[0] in ("report", "watch")  # of rows that were cut off, they show the others


def files_of(run: Path) -> list[str]:
    """Return the files of a folder that are damaged, by their paths in it."""
    skipped = {store.LOCK, "progress.json", "report.html"}
    return sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and p.name not in skipped)


def trial(subject: Subject, sound: dict[str, Answer], name: str, seed: str, only: str | None) -> dict[str, Any]:
    """Damage one file and run the commands, each in a fresh copy of the damaged folder."""
    chance = random.Random(seed)
    kind = chance.choices(KINDS, weights=(6, 3, 3, 0.3, 0.3))[0]
    answers: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        broken = Path(place) / "broken"
        shutil.copytree(subject.folder, broken)
        if not damage(broken / "run" / name, kind, chance):
            return {"kind": kind, "answers": {}}
        chosen = [only] if only else list(subject.commands)
        for what in chosen:
            _put(broken, subject.folder)
            found = run(subject.commands[what], subject.folder)
            answers[what] = judge(sound[what], found, name, subject, subject.commands[what])
            if answers[what] in ("SILENT", "TRACEBACK"):
                words = f"{found.code}: {found.err[-1500:] or found.out[-300:]}"
                answers[f"{what}: seen"] = words.replace(str(subject.folder.parents[1]), "FOLDER")
    return {"kind": kind, "answers": answers}


def _put(source: Path, target: Path) -> None:
    """Make a folder a copy of another, in its own place: a run knows where it was begun."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def main() -> None:
    """Damage, count, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=500, help="damages of each file")
    parser.add_argument("--minutes", type=float, default=None, help="end then, after equally many of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every-command", action="store_true", help="all commands after each damage, and not in turn")
    parser.add_argument("--only", default="", help="files and folders whose name has this")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, here = time.monotonic(), Path.cwd()
    with tempfile.TemporaryDirectory() as home:
        seen, trouble = _all(Path(home).resolve(), options, began)
        os.chdir(here)
    bad = {kind: sum(counts[kind] for counts in seen.values()) for kind in ("SILENT", "TRACEBACK")}
    report = {
        "date": f"{date.today()}", "surefoot": surefoot.__version__, "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "seed": options.seed, "each": options.each, "minutes": (time.monotonic() - began) / 60,
        "damages": sum(counts["damages"] for counts in seen.values()), **bad,
        "files": {name: dict(counts) for name, counts in seen.items()}, "trouble": trouble[:50],
    }  # fmt: skip
    text = json.dumps(report, indent=1)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text if options.out is None else json.dumps({k: report[k] for k in ("damages", "minutes", *bad)}))
    raise SystemExit(1 if any(bad.values()) else 0)


Seen = dict[str, collections.Counter[str]]


def _all(home: Path, options: argparse.Namespace, began: float) -> tuple[Seen, list[Any]]:
    made = subjects(home)
    wanted: list[tuple[Subject, dict[str, Answer], str, Callable[[], None]]] = []
    for subject in made:
        whole = home / f"{subject.folder.parent.name}-sound"
        shutil.copytree(subject.folder, whole)
        sound: dict[str, Answer] = {}
        for what, words in subject.commands.items():
            _put(whole, subject.folder)
            sound[what] = run(words, subject.folder)
            assert sound[what].code != "TRACEBACK", sound[what].err
        back = partial(_put, whole, subject.folder)
        wanted += [(subject, sound, name, back) for name in files_of(whole / "run")
                   if options.only in f"{subject.name}/{name}"]  # fmt: skip
    seen: Seen = collections.defaultdict(collections.Counter)
    trouble: list[Any] = []
    for number in range(options.each):
        for subject, sound, name, back in wanted:
            if options.minutes is not None and time.monotonic() - began > 60 * options.minutes:
                return seen, trouble
            back()
            title = f"{subject.name}/{re.sub('members/.*?/', 'members/KEY/', name)}"
            turn = list(subject.commands)[number % len(subject.commands)]
            only = None if options.every_command else turn
            found = trial(subject, sound, name, f"{options.seed}/{title}/{number}", only)
            counts = seen[title]
            if not found["answers"]:
                continue
            counts["damages"] += 1
            counts.update(value for key, value in found["answers"].items() if not key.endswith("seen"))
            if {"SILENT", "TRACEBACK"} & set(found["answers"].values()):
                trouble.append({"file": title, "number": number, **found})
    return seen, trouble


if __name__ == "__main__":
    main()
