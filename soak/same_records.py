"""Run the same commands in two versions of the program, and compare all that they write but what a clock wrote.

    python soak/same_records.py OLD NEW --work FOLDER --out verdict.json
    python soak/same_records.py HEAD . --quick              # the last commit against what is not committed yet
    python soak/same_records.py main HEAD --only "tune-*"   # some commands, and those whose runs they read
    python soak/same_records.py --self-test                 # does it see a change of one constant?

OLD and NEW are commits of this repository, or folders of a checkout, whose source is copied first. Each command
(`record_commands.py`) runs in a process of its own, with one thread, the same words and the same data on both sides;
then records, decisions, evidence, weights, stdout, stderr and exit status are compared (`record_differences.py`). The
exit status here is 0 only where all of it is equal. A --work folder keeps what was run, by the source, the command and
the machine, so that OLD does not run again; where OLD and NEW are the same source, it runs twice.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from record_commands import Command, commands, write_inputs
from record_differences import Compared, compare_folders
from record_rules import LeftOut, Renamed, RenamedFile, Rules
from record_runs import REPOSITORY, Side, check_import, digest_of, keys_of, locked, machine, run_all, side

# Names that were changed on purpose, so that the change is no difference. Both sides are brought to the new name.

RENAMED_FILES: tuple[RenamedFile, ...] = (
    # RenamedFile(old="members.jsonl", new="trials.jsonl", reason="they are trials"),
)
"""Files and folders inside a run's folder."""

RENAMED: tuple[Renamed, ...] = (
    # Renamed(file="tune-*", old="**/{learning-rate}/evidence/rates/[]/word", new="**/{}/evidence/rates/[]/label",
    #         reason="one word for one thing"),
)
"""Keys and paths inside files. A wildcard of `old` stands in `new` at the place where its part goes."""

# All that is not compared. Whatever is not named here is.

CLOCK: tuple[LeftOut, ...] = (
    LeftOut(path="**/seconds", reason="of a row, a trial, a decision, a step, a search, a predicted size: measured"),
    LeftOut(path="**/examples_per_second", reason="of a row, a result, a size: measured"),
    LeftOut(path="**/train_seconds", reason="of a result: measured"),
    LeftOut(path="**/reached", reason="of a result: what train_seconds comes to on this machine"),
    LeftOut(path="**/search_seconds", reason="of a result's cost: measured"),
    LeftOut(path="**/step_seconds", reason="of a batch size, a race, a rule: measured"),
    LeftOut(path="**/step_seconds_range", reason="of a rule in compare: measured"),
    LeftOut(file="*/timings.json", path="$", wholly=True, reason="what was timed, by name"),
    LeftOut(file="*/heartbeat.json", path="$", wholly=True, reason="how far a run was, and when"),
    LeftOut(
        file="*/MANIFEST.json", path="$/state.json/sha256", reason="of a file with seconds in it; that is compared"
    ),
    LeftOut(file="*/MANIFEST.json", path="$/state.json/bytes", reason="of a file with seconds in it; that is compared"),
    LeftOut(path="**/{batch-size}/reason", reason="its sentence has the predicted seconds"),
    LeftOut(file="noise-*-sizes/*", path="**/{batch-size}/verdict", reason="the worst of its findings, a race's too"),
    LeftOut(file="noise-*-sizes/*", path="**/{batch-size}/value/batch_size", reason="chosen by seconds of a step"),
    LeftOut(file="noise-*-sizes/*", path="**/{batch-size}/value/batch_size_interval", reason="likewise"),
    LeftOut(
        file="noise-*-sizes/*", path="**/{choice-certain}", wholly=True, reason="whether that choice hangs on the noise"
    ),
    LeftOut(
        file="noise-*-sizes/*", path="**/{raced-*}", wholly=True, reason="a race is won in the time of another run"
    ),
    LeftOut(file="noise-*-sizes/*", path="**/evidence/races", wholly=True, reason="likewise: who races, and how long"),
    LeftOut(file="compare*/*", path="**/{cost-per-step}/reason", reason="milliseconds of a step"),
    LeftOut(file="compare*/*", path="**/{first-in-seconds}/reason", reason="seconds to the target"),
)
"""What a clock wrote, or was decided by what one wrote."""

NO_RECORD: tuple[LeftOut, ...] = (
    LeftOut(path="**/untouched", reason="SHA-256 over the process's random states too, which the system seeds"),
    LeftOut(file="*/lock", path="$", wholly=True, reason="the number of the process that wrote the run"),
    LeftOut(file="*/figures/*", path="$", wholly=True, reason="drawings of comparison.json, which is compared"),
    LeftOut(path="**/seal", wholly=True, reason="a hash over clocks too; new on 2026-11-28"),
    LeftOut(path="**/files", wholly=True, reason="hashes of files that hold clocks; new on 2026-11-28"),
    LeftOut(path="**/settings", file="*/environment.json", wholly=True, reason="config.toml again; new on 2026-11-28"),
    LeftOut(path="**/identity", file="*/environment.json", wholly=True, reason="new on 2026-11-28"),
    LeftOut(path="**/features", file="*/model.json", wholly=True, reason="new on 2026-11-28"),
    LeftOut(path="**/computed", file="*/members.jsonl", wholly=True, reason="new on 2026-11-28"),
    LeftOut(path="**/sealed", wholly=True, reason="new on 2026-11-28"),
    LeftOut(path="**/rule", wholly=True, reason="of a recipe, and of step 3's evidence: new on 2026-11-28"),
    LeftOut(path="$/tune/given", file="*/tune.toml", wholly=True, reason="new on 2026-11-28"),
    LeftOut(path="**/{learning-rate}/evidence/dampening", wholly=True, reason="new on 2026-11-28"),
    LeftOut(path="**/{learning-rate}/evidence/weight_decay_form", wholly=True, reason="new on 2026-11-28"),
    LeftOut(path="**/evidence/members", reason="hashes of recipes, which have a rule since 2026-11-28"),
    LeftOut(path="$/[]/key", file="*/members.jsonl", reason="likewise"),
    LeftOut(path="**/searched", wholly=True, reason="new on 2026-11-28"),
    LeftOut(path="$/has_velocity", file="*/state.json", wholly=True, reason="slots since 2026-11-28"),
    LeftOut(path="$/slots", file="*/state.json", wholly=True, reason="new on 2026-11-28"),
    LeftOut(path="$/schema", file="*/state.json", reason="2 since 2026-11-28, of slots"),
    LeftOut(file="compare*/*", path="$/figures", wholly=True, reason="their paths, until 2026-11-28"),
    LeftOut(file="compare*/*", path="$/rates", wholly=True, reason="drawn until 2026-11-28"),
    LeftOut(file="compare*/*", path="$/rates_of", wholly=True, reason="drawn until 2026-11-28"),
    LeftOut(file="compare*/*", path="$/surfaces/[3]", wholly=True, reason="a valley that was drawn until 2026-11-28"),
    LeftOut(file="compare*/*", path="$/version", reason="2 since these are gone"),
    LeftOut(file="noise*/stdout", path="$/picture", wholly=True, reason="a drawing that was there until 2026-11-28"),
)
"""What is no record."""

SHOWN = 8
"""Differences of a command that the table shows."""
KEPT = 100
"""Differences of a command that --out keeps."""

PLANTED: tuple[tuple[str, str, str, str], ...] = (
    ("the velocity of Sutskever's form decays a millionth more",
     "torch._foreach_mul_(velocity, momentum)", "torch._foreach_mul_(velocity, momentum * 0.999999)",
     "train-mlp-sutskever"),
    ("the share of the best drop that a rate must reach is 0.51 in place of 0.5",
     "SHARE_OF_BEST = 0.5", "SHARE_OF_BEST = 0.51", "find-lr-linear"),
    ("a rate of the search is rounded to five digits in place of four",
     'float(f"{rate:.4g}")', 'float(f"{rate:.5g}")', "tune-linear-2x"),
)  # fmt: skip
"""Changes of the self-test: what it is, the text that stands once in the source, the new text, a command that shows."""


def chosen(every: Sequence[Command], only: str | None, *, quick: bool) -> list[Command]:
    """Return the commands that are asked for and, before them, those whose runs they read."""
    wanted = [
        each for each in every if (each.quick or not quick) and (only is None or fnmatch.fnmatchcase(each.name, only))
    ]
    needed = {each.of for each in wanted}
    return [each for each in every if each in wanted or each.name in needed]


def judged(command: Command, sides: Sequence[Side], rules: Rules) -> dict[str, Any]:
    """Return what came out for one command."""
    folders = [each.results / command.name for each in sides]
    told = [json.loads((folder / "done.json").read_text()) for folder in folders]
    found: Compared = compare_folders(command.name, folders[0], folders[1], rules, ("inputs", "done.json"))
    exits = [each["exit"] for each in told]
    differences = [str(each) for each in found.differences]
    if exits[0] != exits[1]:
        differences.insert(0, f"exit status: {exits[0]} != {exits[1]}")
    if exits[0] != command.exit:
        error = (folders[0] / "stderr").read_text(errors="replace").strip().splitlines()
        differences.insert(0, f"OLD ended with {exits[0]} in place of {command.exit}: {error[-1] if error else ''}")
    return {
        "command": command.name, "words": ["surefoot", *command.words], "files": found.files, "values": found.values,
        "equal": not differences, "count": len(differences), "differences": differences[:KEPT],
        "seconds": [each["seconds"] for each in told],
    }  # fmt: skip


def print_table(verdicts: Sequence[dict[str, Any]], most: int = SHOWN) -> None:
    """Print a line for each command, and its first differences below it."""
    width = max(len(each["command"]) for each in verdicts)
    print(f"{'command':<{width}}  files   values  verdict")
    for each in verdicts:
        verdict = "equal" if each["equal"] else f"DIFFERENT: {each['count']:,}"
        print(f"{each['command']:<{width}}  {each['files']:>5}  {each['values']:>7,}  {verdict}")
        for text in each["differences"][:most]:
            print(f"    {text}")
        if each["count"] > most:
            print(f"    ... and {each['count'] - most:,} more")


def compare(given: Sequence[str], work: Path, jobs: int, every: Sequence[Command]) -> dict[str, Any]:
    """Run and compare two versions, and return the verdict with all that it rests on."""
    rules = Rules((*CLOCK, *NO_RECORD), RENAMED, RENAMED_FILES)
    if not (work / "inputs").is_dir():
        with tempfile.TemporaryDirectory(dir=work) as temporary:
            write_inputs(Path(temporary) / "inputs")
            (Path(temporary) / "inputs").rename(work / "inputs")
    sides = [side(each, work) for each in given]
    if sides[0].digest == sides[1].digest:
        sides[1] = replace(sides[1], results=sides[1].results.with_name(sides[1].results.name + "-again"))
    versions = [check_import(each, work) for each in sides]
    on, inputs = machine(), digest_of(work / "inputs")
    run_all(sides, every, work, jobs, keys_of(every, inputs, on, rules), rules)
    rules.used.clear()
    verdicts = [judged(each, sides, rules) for each in every]
    return {
        "what": "the same commands in two versions of the source: records, decisions, evidence, weights, stdout",
        "equal": sum(each["equal"] for each in verdicts),
        "commands": len(verdicts),
        "old": {"commit": sides[0].title, "source_sha256": sides[0].digest, "version": versions[0]},
        "new": {"commit": sides[1].title, "source_sha256": sides[1].digest, "version": versions[1]},
        "same_source_twice": sides[0].digest == sides[1].digest,
        "renamings_used": {
            str(rule): {"reason": rule.reason, "times": rules.used[str(rule)]}
            for rule in (*RENAMED_FILES, *RENAMED) if rules.used[str(rule)]
        },
        "left_out": {
            str(rule): {"reason": rule.reason, "times": rules.used[str(rule)]} for rule in (*CLOCK, *NO_RECORD)
        },
        "machine": on,
        "date": date.today().isoformat(),
        "verdicts": verdicts,
    }  # fmt: skip


def self_test(work: Path, jobs: int) -> bool:
    """Change one constant of the source at a time, and return whether each change is seen, and none where is none."""
    sound = True
    unchanged = [("nothing is changed", "", "", planted[3]) for planted in PLANTED]
    for what, old, new, name in (*unchanged, *PLANTED):
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / "src"
            shutil.copytree(REPOSITORY / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
            if old:
                plant(copy, old, new)
            seen = compare((str(REPOSITORY), temporary), work, jobs, chosen(commands(), name, quick=False))
        equal = seen["equal"] == seen["commands"]
        sound = sound and equal == (not old)
        print(f"{name}: {what}: {'equal' if equal else 'different'}", flush=True)
        for text in seen["verdicts"][-1]["differences"][:2]:
            print(f"    {text}")
    return sound


def plant(source: Path, old: str, new: str) -> None:
    """Replace a text that stands exactly once in the source."""
    found = [path for path in sorted(source.rglob("*.py")) if old in path.read_text()]
    if len(found) != 1 or found[0].read_text().count(old) != 1:
        raise SystemExit(f"{old!r} must stand exactly once in the source. Give PLANTED another text that does.")
    found[0].write_text(found[0].read_text().replace(old, new))


def main(arguments: Sequence[str] | None = None, every: Callable[[], list[Command]] = commands) -> int:
    """Compare two versions, print the table, write the verdict, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", nargs="?", help="commit, or folder of a checkout")
    parser.add_argument("new", nargs="?", help="commit, or folder of a checkout")
    parser.add_argument("--work", type=Path, help="folder that keeps what was run; temporary if left out")
    parser.add_argument("--out", type=Path, help="JSON file for the verdict")
    parser.add_argument("--only", metavar="PATTERN", help="commands by name, with wildcards: 'tune-*'")
    parser.add_argument("--quick", action="store_true", help="a subset of the commands")
    parser.add_argument("--jobs", type=int, default=1, help="commands side by side, each with one thread")
    parser.add_argument("--differences", type=int, default=SHOWN, help="most that are shown of a command")
    parser.add_argument("--list", action="store_true", help="print the commands, run nothing")
    parser.add_argument("--self-test", action="store_true", help="see whether a changed constant is found")
    options = parser.parse_args(arguments)
    asked = chosen(every(), options.only, quick=options.quick)
    if options.list:
        for each in asked:
            print(f"{each.name:<24} surefoot {' '.join(each.words)}")
        return 0
    if not options.self_test and (options.old is None or options.new is None):
        parser.error("two versions are compared: give OLD and NEW")
    if not asked:
        parser.error(f"no command is called {options.only}: --list prints all names")
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        with locked(work):
            if options.self_test:
                return 0 if self_test(work, options.jobs) else 1
            found = compare((options.old, options.new), work, options.jobs, asked)
    print_table(found["verdicts"], options.differences)
    for name, used in found["renamings_used"].items():
        print(f"renamed on purpose: {name} ({used['reason']}): {used['times']:,} times")
    again = ", the same source run twice" if found["same_source_twice"] else ""
    print(f"\n{found['equal']} of {found['commands']} commands equal: {found['old']['commit']} and "
          f"{found['new']['commit']}{again}")  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if found["equal"] == found["commands"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
