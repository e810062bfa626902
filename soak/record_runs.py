"""Run the list of commands with the source of a version, each in a process and a folder of its own.

A work folder holds `source/`, `inputs/`, `cache/` and `results/DIGEST/COMMAND/`, where `done.json` says by a key what
was run; where the key is still the same it is not run again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record_commands import Command
from record_differences import read
from record_rules import Rules

REPOSITORY = Path(__file__).parents[1]
LONGEST_SECONDS = 900
"""A command that takes longer has failed: the longest of the list takes half a minute. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A version of the program.

    Attributes:
        given: as it was given.
        commit: its hash; None where it is no commit.
        changed: whether the source is not that of the commit.
        digest: SHA-256 over its source.
        source: folder that holds `surefoot`.
        results: folder of what it has written.
    """

    given: str
    commit: str | None
    changed: bool
    digest: str
    source: Path
    results: Path

    @property
    def title(self) -> str:
        """How it is called in what is printed and kept."""
        text = self.commit[:12] if self.commit else "no commit"
        return f"{text} with changes" if self.commit and self.changed else text


@contextlib.contextmanager
def locked(work: Path) -> Iterator[None]:
    """Make the work folder and hold it: a second program that is given it waits."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def side(given: str, work: Path) -> Side:
    """Copy the source of a commit, or of a checkout's folder, into the work folder."""
    checkout = Path(given)
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        copy = Path(temporary) / "src"
        if (checkout / "src" / "surefoot").is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(checkout / "src" / "surefoot", copy / "surefoot", ignore=ignored)
            head = _git("rev-parse", "HEAD", folder=checkout)
            changed = head is None or bool(_git("status", "--porcelain", "--", "src", folder=checkout))
            commit = head.strip() if head else None
        else:
            head = _git("rev-parse", "--verify", "--quiet", f"{given}^{{commit}}")
            if head is None:
                raise SystemExit(f"{given}: it must be a commit of this repository or the folder of a checkout. "
                                 "Give a hash, a branch, a tag or a path.")  # fmt: skip
            commit, changed = head.strip(), False
            packed = subprocess.run(
                ["git", "archive", "--format=tar", commit, "src/surefoot"], cwd=REPOSITORY, capture_output=True,
                check=True,
            ).stdout  # fmt: skip
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(temporary, filter="data")
        digest = digest_of(copy)
        source = work / "source" / digest[:16]
        if not source.is_dir():
            source.parent.mkdir(exist_ok=True)
            copy.rename(source)
    results = work / "results" / digest[:16]
    return Side(given=given, commit=commit, changed=changed, digest=digest, source=source, results=results)


def digest_of(folder: Path) -> str:
    """Return a SHA-256 over the names and contents of all files of a folder but compiled ones."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            total.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def machine() -> dict[str, Any]:
    """Return what the bits of a result may depend on besides source and command."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about = [
            line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "flags", "Features"))
        ]
        processor = (
            f"{about[0]} {hashlib.sha256(' '.join(sorted(set(about))).encode()).hexdigest()[:8]}" if about else ""
        )
    versions = {
        name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy", "scikit-learn", "safetensors")
    }
    return {
        "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(), "processor": processor, **versions,
    }  # fmt: skip


def environment(source: Path, work: Path) -> dict[str, str]:
    """Return the environment of a command: this one's, with one thread, that source, and caches of our own.

    The caches are shared by both sides: what a version measures once and keeps there is the same for both.
    """
    cache = work / "cache"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUREFOOT_")}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB")}
    paths = [str(source), str(work / "inputs")]
    return kept | threads | {
        "PYTHONPATH": os.pathsep.join(paths), "SUREFOOT_CACHE": str(cache), "XDG_CACHE_HOME": str(cache),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"), "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip


def check_import(of: Side, work: Path) -> str:
    """Return the version of a side, after looking that it is that source which is imported."""
    code = "import surefoot; print(surefoot.__file__); print(surefoot.__version__)"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=work, env=environment(of.source, work), capture_output=True, text=True
    )  # fmt: skip
    if ended.returncode != 0:
        raise SystemExit(f"{of.given}: it cannot be imported.\n{ended.stderr}")
    file, version = ended.stdout.split()
    if not Path(file).is_relative_to(of.source):
        raise SystemExit(
            f"{of.given}: another surefoot is imported, not that of its source. Look at the site packages."
        )
    return version


def run_all(
    sides: Sequence[Side], every: Sequence[Command], work: Path, jobs: int, keys: dict[str, str], rules: Rules
) -> None:
    """Run the commands of both sides, so many side by side, each after the one whose run it reads."""
    with ThreadPoolExecutor(jobs) as pool:
        began: dict[tuple[Path, str], Future[None]] = {}

        def go(command: Command, of: Side) -> None:
            if command.of is not None:
                began[of.results, command.of].result()
            kept = done(of.results / command.name, keys[command.name])
            told = kept or run(command, of, work, keys[command.name], rules)
            said = "was run before" if kept else f"{told['seconds']:.1f} s"
            print(f"{of.title:>26}  {command.name:<24} {said}", file=sys.stderr, flush=True)

        for command in every:  # in their order: what is waited for has begun
            for of in sides:
                began[of.results, command.name] = pool.submit(go, command, of)
        for each in began.values():
            each.result()


def run(command: Command, of: Side, work: Path, key: str, rules: Rules) -> dict[str, Any]:
    """Run one command in a folder of its own, and return its exit status and what it took."""
    folder = of.results / command.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(work / "inputs", folder / "inputs")
    if command.of is not None:
        copy_run(of.results / command.of / "runs" / command.of, folder / "runs" / command.of, command, rules)
    began = time.monotonic()
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "surefoot", *command.words], cwd=folder, env=environment(of.source, work),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST_SECONDS,
        )  # fmt: skip
        code, out, errors = ended.returncode, ended.stdout, ended.stderr
    except subprocess.TimeoutExpired:
        code, out, errors = -1, b"", f"it took longer than {LONGEST_SECONDS} s".encode()
    (folder / "stdout").write_bytes(out)
    (folder / "stderr").write_bytes(
        errors.replace(str(of.source).encode(), b"SOURCE").replace(str(work).encode(), b"WORK")
    )
    told = {"key": key, "exit": code, "seconds": round(time.monotonic() - began, 1)}
    (folder / "done.json").write_text(json.dumps(told))
    return told


def done(folder: Path, key: str) -> dict[str, Any] | None:
    """Return what is known of a command that has been run with that key."""
    try:
        told = json.loads((folder / "done.json").read_text())
    except (OSError, ValueError):
        return None
    return told if told["key"] == key and told["exit"] >= 0 else None  # what was killed from outside is tried again


_SEALED = {"seal", "files", "settings"}
"""Values of a run that say what its other values are; they would refuse fixed numbers."""


def copy_run(run: Path, to: Path, command: Command, rules: Rules) -> None:
    """Copy a run that another command has written, with fixed numbers for those of a clock where that is asked for."""
    if not run.is_dir():  # the command that writes it has failed, which is said there
        return
    shutil.copytree(run, to)
    for path in (path for path in to.rglob("*.json*") if command.frozen):
        values = rules.frozen(f"{command.of}/runs/{command.of}/{path.relative_to(to).as_posix()}", read(path))
        rows = values if path.suffix == ".jsonl" else [values]
        # A seal over other numbers would be refused.
        rows = [{name: value for name, value in row.items() if name not in _SEALED} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def keys_of(every: Sequence[Command], inputs: str, on: dict[str, Any], rules: Rules) -> dict[str, str]:
    """Return what stands for each command, its data and the machine: where one of them changes, it is run again."""
    keys: dict[str, str] = {}
    for each in every:
        frozen = [str(rule) for rule in rules.left_out] if each.frozen else None
        about = (each.name, each.words, keys.get(each.of or ""), frozen, inputs, sorted(on.items()))
        keys[each.name] = hashlib.sha256(repr(about).encode()).hexdigest()
    return keys


def _git(*words: str, folder: Path | None = None) -> str | None:
    ended = subprocess.run(["git", *words], cwd=folder or REPOSITORY, capture_output=True, text=True)
    return ended.stdout if ended.returncode == 0 else None
