"""All that is to be known of a card, by one command, in at most six minutes, without a download.

    python benchmarks/card.py --cifar10 FOLDER --wheels FOLDER --airbench airbench94.py --out card.json
    python benchmarks/card.py --device cpu --out card.json     # the CPU stands in, with small sizes

FOLDER of CIFAR-10 holds the six binary files, 31 MB each, so that they can come two by two. The folder of wheels holds
those packages that this machine lacks (`pip download --no-deps`): they go into a folder that is removed at the end.
airbench94.py is that of github.com/KellerJordan/cifar10-airbench, if it is to be timed on the same card; without it the
2.16 s stand that it took on an H200 (SGD, not compiled, n = 5).

Sections, each in a process and a time of its own; what one found is written and shown as soon as it is there:

    laws       tests/laws/test_card.py on this device
    steps      a step of each shipped model: ours, a plain loop of PyTorch on a fixed batch, and that as one CUDA graph
    members    K members of a population, in steps of single members a second, as the engine computes them
    fast       `surefoot train cifar10 --model fast --target 0.94`, seeds 0 to 4: seconds, and accuracy on the test part
    airbench   airbench94 on the same card, for as many runs

Without a card nothing is captured: the function itself stands in for its graph, and times say nothing of a card.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PACKAGES = {  # what a plain machine with PyTorch may lack: how it is imported, and the name of its wheel
    "cyclopts": "cyclopts", "docstring_parser": "docstring_parser", "attrs": "attrs", "rich": "rich",
    "altair": "altair", "narwhals": "narwhals", "vl_convert": "vl_convert_python", "pooch": "pooch",
    "platformdirs": "platformdirs", "tomli_w": "tomli_w", "sklearn": "scikit_learn", "joblib": "joblib",
    "threadpoolctl": "threadpoolctl", "expecttest": "expecttest", "pyarrow": "pyarrow", "scipy": "scipy",
    "safetensors": "safetensors", "hypothesis": "hypothesis", "pytest_timeout": "pytest_timeout",
    "rich_rst": "rich_rst", "docutils": "docutils", "jsonschema": "jsonschema", "referencing": "referencing",
    "rpds": "rpds_py", "jsonschema_specifications": "jsonschema_specifications",
}  # fmt: skip
SECONDS = {"laws": 55.0, "steps": 75.0, "members": 65.0, "fast": 75.0, "airbench": 50.0}
"""At most for each section, 320 s in all; what one leaves over goes to the next. Chosen by hand."""
TOTAL_SECONDS = 345.0
TARGETS = {"step": 1.15, "members": 20 * 570.0, "fast": 0.8}
"""Of a step against its graph by PyTorch; member-steps a second of the mlp at K = 32, twenty times the 570 of the loop
before (H200); seconds to 94 % against airbench94."""
AIRBENCH_SECONDS = 2.16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", help="folder of the six binary files; without it what needs them is left out")
    parser.add_argument("--wheels", help="folder of wheels of what this machine lacks")
    parser.add_argument("--airbench", help="the file airbench94.py")
    parser.add_argument("--out", default="card.json")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--only", nargs="+", default=list(SECONDS), choices=list(SECONDS))
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="at most, all in all")
    given = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        environment, lacking = prepared(given.wheels, Path(folder))
        found: dict[str, Any] = {"about": about(given.device, environment), "lacking": lacking, "sections": {}}
        left_over = 0.0
        for name in given.only:
            left = given.seconds - (time.perf_counter() - began)
            seconds, since = min(left, SECONDS[name] + left_over), time.perf_counter()
            section = measured(name, given, environment, Path(folder), seconds)
            left_over = max(0.0, SECONDS[name] + left_over - (time.perf_counter() - since))
            found["sections"][name] = section | {"took_seconds": round(time.perf_counter() - since, 1)}
            written(found, given.out)
            print(f"\n== {name}, {found['sections'][name]['took_seconds']} s: {section['outcome']}", flush=True)
            print("\n".join(table(section["rows"])), flush=True)
        found["targets"] = targets(found["sections"], given.device)
        found["took_seconds"] = round(time.perf_counter() - began, 1)
        written(found, given.out)
        print(f"\n== targets; {found['took_seconds']} s in all; {given.out}")
        print("\n".join(table(found["targets"])))


def prepared(wheels: str | None, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return the environment of the sections, in which lacking packages lie in a folder, and what lacks still."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    target = folder / "packages"
    normal = {name: re.sub(r"[-_.]+", "_", PACKAGES[name]).lower() for name in missing}
    wanted = [
        str(file)
        for file in (sorted(Path(wheels).glob("*.whl")) if wheels else [])
        if re.sub(r"[-_.]+", "_", file.name.split("-")[0]).lower() in normal.values()
    ]
    if wanted:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
        subprocess.run([*pip, *wanted], check=False)
    paths = [str(ROOT / "src"), *([str(target)] if target.is_dir() else []), os.environ.get("PYTHONPATH", "")]
    there = {path.name for path in target.iterdir()} if target.is_dir() else set[str]()
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}, [
        name for name in missing if not there & {name, f"{name}.py"}
    ]


def about(device: str, environment: dict[str, str]) -> dict[str, Any]:
    """Return the machine: the card, its libraries, and which commit this is."""
    code = (
        "import json, torch; here = torch.cuda.is_available();"
        "print(json.dumps({'torch': torch.__version__, 'cuda': torch.version.cuda,"
        "'cudnn': torch.backends.cudnn.version() if here else None,"
        "'card': torch.cuda.get_device_name() if here else None}))"
    )
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "date": date.today().isoformat(), "device": device, "python": platform.python_version(), "cpus": os.cpu_count(),
        "commit": commit.stdout.strip() or None, **(json.loads(said.stdout) if said.returncode == 0 else {}),
    }  # fmt: skip


def measured(name: str, given: Any, environment: dict[str, str], folder: Path, seconds: float) -> dict[str, Any]:
    """Return the rows of a section, and how it ended: what it had found stands where its time was out."""
    if seconds < 5:
        return {"outcome": "left out: no time", "rows": []}
    if name == "laws":
        return laws(given.device, environment, seconds)
    if name == "airbench" and given.airbench is None:
        return {"outcome": f"left out: no file; {AIRBENCH_SECONDS} s on an H200", "rows": []}
    rows = folder / f"{name}.jsonl"
    command = [sys.executable, str(HERE / "card_cells.py"), name, "--device", given.device, "--rows", str(rows)]
    command += ["--seconds", str(seconds), "--folder", str(folder)]
    command += ["--cifar10", str(Path(given.cifar10).resolve())] if given.cifar10 else []
    command += ["--airbench", str(Path(given.airbench).resolve())] if given.airbench else []
    ended = ran(command, environment, seconds)
    outcome = "done" if ended.code == 0 else f"failed: {ended.last_words[:300]}"
    if ended.code is None:
        outcome = f"cut after {seconds:.0f} s"
    lines = rows.read_text(encoding="utf-8").splitlines() if rows.is_file() else []
    return {"outcome": outcome, "rows": [json.loads(line) for line in lines]}


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, None where its time was out, and what it wrote."""

    code: int | None
    said: str
    told: str

    @property
    def last_words(self) -> str:
        """The last line of what it wrote of errors."""
        return (self.told.strip().splitlines() or ["no word"])[-1]


def ran(command: list[str], environment: dict[str, str], seconds: float) -> Ended:
    """Run a command in the repository for so long; what it started ends with it, so that the card is free again."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)
    try:
        said, told = process.communicate(timeout=seconds)
        return Ended(process.returncode, said, told)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, told = process.communicate()
        return Ended(None, said, told)


def laws(device: str, environment: dict[str, str], seconds: float) -> dict[str, Any]:
    """Return what the laws said: a row for each that does not hold, and the count."""
    asked = "card" if device == "cuda" else "not card"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    command += ["-W", "ignore::pytest.PytestConfigWarning", "-m", asked, "tests/laws/test_card.py"]
    ended = ran(command, environment, seconds)
    lines = ended.said.strip().splitlines() or [ended.last_words]
    if ended.code is None:
        return {"outcome": f"cut after {seconds:.0f} s", "rows": [{"law": line[:200]} for line in lines[-3:]]}
    broken = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"outcome": lines[-1].strip("= "), "rows": [{"law": line[:200]} for line in broken], "code": ended.code}


def targets(sections: dict[str, Any], device: str) -> list[dict[str, Any]]:
    """Return each target, what was measured, and whether it is met."""
    rows = {name: section["rows"] for name, section in sections.items()}
    found = [
        {"target": f"step of {row['cell']} against its graph", "at most": TARGETS["step"], "is": row["to_graph"]}
        for row in rows.get("steps", [])
        if row.get("to_graph")
    ]
    found += [
        {"target": "member-steps a second of mlp, K = 32", "at least": TARGETS["members"], "is": row["steps_a_second"]}
        for row in rows.get("members", [])
        if row.get("model") == "mlp" and row.get("members") == 32
    ]
    runs = [row for row in rows.get("fast", []) if row.get("train_seconds")]
    theirs = [row["seconds"] for row in rows.get("airbench", []) if row.get("seconds")]
    if runs:
        beside = statistics.median(theirs) if theirs else AIRBENCH_SECONDS
        ours = statistics.median(row["train_seconds"] for row in runs)
        found.append({"target": "seconds to 94 % against airbench94", "at most": TARGETS["fast"], "is": ours / beside})
        accuracy = statistics.mean(row["test_accuracy"] for row in runs)
        found.append({"target": f"test accuracy, mean of {len(runs)}", "at least": 0.94, "is": accuracy})
    for row in found:
        met = row["is"] <= row["at most"] if "at most" in row else row["is"] >= row["at least"]
        row["met"] = ("yes" if met else "no") if device == "cuda" else "says nothing: no card"
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows as lines of aligned columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_shown(row.get(name)) for name in names] for row in rows)] if rows else []
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def written(found: dict[str, Any], path: str) -> None:
    """Write what is known so far; a run that is cut leaves it whole."""
    temporary = Path(f"{path}.tmp")
    temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")
    shutil.move(temporary, path)


if __name__ == "__main__":
    main()
