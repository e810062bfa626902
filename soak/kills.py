"""Kill a training run with SIGKILL at random moments, start the same command again, and compare what comes out.

    python soak/kills.py --runs 50 --out soak/results/kills.json

Each run is killed once or more (seeded), three in ten times aimed inside the writing of a checkpoint, and then
started again with the same command until it ends. Final weights, optimizer state and metrics (without what a clock
wrote) must have the SHA-256 of an undisturbed run. Then the controls: one item of the saved state at a time is
dropped from a checkpoint, whose manifest is made to fit, and the same comparison must fail.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import safetensors.torch
import torch
from reference import SETTINGS

from surefoot import __version__
from surefoot.record.run import CLOCK_FIELDS
from surefoot.record.store import SEAL

HERE = Path(__file__).parent
ENDED = "ended"


def command(name: str, folder: Path) -> list[str]:
    """Return the one command that begins, continues and reports the run."""
    return [
        sys.executable, "-m", "surefoot", "train", "digits", "--model", "reference:Reference",
        "--config", str(folder / "settings.toml"), "--name", name, "--runs-dir", str(folder / "runs"),
        "--threads", "1", "--json", "--quiet",
    ]  # fmt: skip


def begin(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own."""
    paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.Popen(
        command(name, folder), cwd=HERE, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def finish(name: str, folder: Path) -> None:
    """Run the command to its end."""
    process = begin(name, folder)
    _, errors = process.communicate(timeout=300)
    if process.returncode != 0:
        raise SystemExit(f"{name}: exit code {process.returncode}\n{errors.decode()}")


def digests(run: Path) -> dict[str, str]:
    """Return the SHA-256 of the final weights, of all tensors and fields of the last checkpoint, and of the metrics."""
    last = max((run / "checkpoints").glob("step-*"))
    fields = json.loads((last / "state.json").read_text())
    fields.pop("seconds")
    fields["tally"].pop("seconds")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in row.items() if key not in (*CLOCK_FIELDS, SEAL)} for row in rows]
    return {
        "weights": _sha256((run / "model.safetensors").read_bytes()),
        "checkpoint_model": _sha256((last / "model.safetensors").read_bytes()),
        "optimizer": _sha256((last / "state.safetensors").read_bytes()),
        "state": _sha256(json.dumps(fields, sort_keys=True).encode()),
        "metrics": _sha256(json.dumps(metrics, sort_keys=True).encode()),
    }


def kill_inside_save(process: subprocess.Popen[bytes], run: Path, chance: random.Random) -> str:
    """Kill as soon as a checkpoint is being written, after letting a random few writes of it begin."""
    wanted, seen = chance.randrange(1, 40), set()
    while process.poll() is None:
        for path in (run / "checkpoints").glob(".step-*.tmp-*"):
            seen.add(path.name)
            if len(seen) >= wanted:
                time.sleep(chance.uniform(0, 0.002))
                _kill(process)
                return "inside a save" if list((run / "checkpoints").glob(".step-*.tmp-*")) else "just after a save"
    return ENDED


def kill_at_random(process: subprocess.Popen[bytes], run: Path, chance: random.Random, seconds: float) -> str:
    """Kill after a random part of the time that an undisturbed run takes."""
    time.sleep(chance.random() * seconds)
    if process.poll() is not None:
        return ENDED
    _kill(process)
    return "while training" if (run / "config.toml").is_file() else "before training"


def trial(number: int, folder: Path, expected: dict[str, str], seconds: float) -> dict[str, Any]:
    """Kill one run one to three times, let it end, and compare; one that ended before its first kill is repeated."""
    chance = random.Random(number)
    name = f"killed-{number}"
    run = folder / "runs" / name
    wanted = chance.choice((1, 1, 2, 3))
    kills: list[str] = []
    while len(kills) < wanted:
        process = begin(name, folder)
        inside = chance.random() < 0.3
        kill = kill_inside_save(process, run, chance) if inside else kill_at_random(process, run, chance, seconds)
        process.communicate()
        if kill != ENDED:
            kills.append(kill)
        elif kills:
            break
        else:
            shutil.rmtree(run)
    finish(name, folder)
    found = digests(run)
    shutil.rmtree(run)
    return {
        "run": number,
        "kills": kills,
        "equal": found == expected,
        "differs": [key for key in found if found[key] != expected[key]],
    }


def edit_state(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Return a control that changes the scalars of a checkpoint."""

    def control(checkpoint: Path) -> None:
        fields = json.loads((checkpoint / "state.json").read_text())
        change(fields)
        (checkpoint / "state.json").write_text(json.dumps(fields))

    return control


def shift_step(checkpoint: Path) -> None:
    """Make a checkpoint claim the step before its own."""
    fields = json.loads((checkpoint / "state.json").read_text())
    fields["step"] -= 1
    (checkpoint / "state.json").write_text(json.dumps(fields))
    checkpoint.rename(checkpoint.with_name(f"step-{fields['step']:08d}"))


def edit_tensors(
    file: str, chosen: Callable[[str], bool], value: Callable[[str, torch.Tensor, Path], torch.Tensor]
) -> Callable[[Path], None]:
    """Return a control that replaces some tensors of a checkpoint."""

    def control(checkpoint: Path) -> None:
        tensors = safetensors.torch.load_file(checkpoint / file)
        tensors = {key: value(key, old, checkpoint) if chosen(key) else old for key, old in tensors.items()}
        safetensors.torch.save_file(tensors, checkpoint / file)

    return control


def fresh(key: str, old: torch.Tensor, checkpoint: Path) -> torch.Tensor:
    """Return what the tensor was before training began."""
    return safetensors.torch.load_file(checkpoint.parents[3] / "fresh.safetensors")[key]


def current(key: str, old: torch.Tensor, checkpoint: Path) -> torch.Tensor:
    """Return the weight itself in place of its moving average."""
    return safetensors.torch.load_file(checkpoint / "model.safetensors")[key.removeprefix("average/")]


def zero(key: str, old: torch.Tensor, checkpoint: Path) -> torch.Tensor:
    """Return zeros."""
    return torch.zeros_like(old)


CONTROLS: dict[str, Callable[[Path], None]] = {
    "parameters": edit_tensors("model.safetensors", lambda key: "running" not in key and "num_" not in key, fresh),
    "buffers (batch-norm statistics)": edit_tensors("model.safetensors", lambda key: "running" in key, fresh),
    "buffers (batches seen)": edit_tensors("model.safetensors", lambda key: "num_" in key, fresh),
    "velocity": edit_tensors("state.safetensors", lambda key: key.startswith("velocity/"), zero),
    "moving average": edit_tensors("state.safetensors", lambda key: key.startswith("average/"), current),
    "step": shift_step,
    "validation losses (plateau)": edit_state(lambda fields: fields.update(val_losses=[])),
    "tally: loss": edit_state(lambda fields: fields["tally"].update(loss=0.0)),
    "tally: correct": edit_state(lambda fields: fields["tally"].update(correct=0)),
    "tally: examples": edit_state(lambda fields: fields["tally"].update(examples=1)),
    "tally: gradient norm": edit_state(lambda fields: fields["tally"].update(grad_norm=0.0)),
    "tally: losses": edit_state(lambda fields: fields["tally"].update(losses=fields["tally"]["losses"][:1])),
}


def run_controls(folder: Path, expected: dict[str, str], stop_step: int) -> dict[str, list[str]]:
    """Return, for each item dropped from the state, which digests then differ. None may be empty."""
    from surefoot.settings import merged, nested, read_toml
    from surefoot.training.configure import resolve
    from surefoot.training.open import open_run

    origin = folder / "runs" / "origin"
    words = {"data": "digits", "model": "reference:Reference", "threads": 1}
    config = resolve(merged(read_toml(folder / "settings.toml"), nested(words)))
    with open_run(config, name="origin", runs_dir=folder / "runs") as run:
        run.advance(stop_step)
    for earlier in (origin / "checkpoints").glob("*"):
        if earlier.name != f"step-{stop_step:08d}":
            shutil.rmtree(earlier)
    outcome = {}
    for item, control in {"nothing": lambda checkpoint: None, **CONTROLS}.items():
        shutil.copytree(origin, folder / "runs" / "control")
        checkpoint = folder / "runs" / "control" / "checkpoints" / f"step-{stop_step:08d}"
        control(checkpoint)
        _mend_manifest(next(checkpoint.parent.glob("step-*")))
        finish("control", folder)
        found = digests(folder / "runs" / "control")
        outcome[item] = [key for key in found if found[key] != expected[key]]
        shutil.rmtree(folder / "runs" / "control")
        print(f"control: without {item}: {', '.join(outcome[item]) or 'equal'}", file=sys.stderr, flush=True)
    return outcome


def main() -> None:
    """Run the trials and the controls, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    began = time.time()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "settings.toml").write_text(SETTINGS)
        clock = time.monotonic()
        finish("undisturbed", folder)
        seconds = time.monotonic() - clock
        expected = digests(folder / "runs" / "undisturbed")
        _write_fresh(folder)
        trials = []
        for number in range(options.first_seed, options.first_seed + options.runs):
            trials.append(trial(number, folder, expected, seconds))
            print(json.dumps(trials[-1]), file=sys.stderr, flush=True)
        controls = run_controls(folder, expected, stop_step=178)
    kills = [kill for each in trials for kill in each["kills"]]
    result = {
        "what": "training runs killed by SIGKILL at random moments and started again with the same command",
        "equal": sum(each["equal"] for each in trials),
        "runs": len(trials),
        "kills": {kind: kills.count(kind) for kind in sorted(set(kills))},
        "controls_that_failed_as_they_must": sum(bool(found) for item, found in controls.items() if item != "nothing"),
        "controls": controls,
        "undisturbed": expected,
        "seconds_undisturbed": round(seconds, 1),
        "seconds": round(time.time() - began),
        "date": date.today().isoformat(),
        "versions": {"surefoot": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"cpus": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "trials": trials,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "trials"}, indent=2))
    sound = result["equal"] == result["runs"] and all(controls[item] for item in CONTROLS) and not controls["nothing"]
    raise SystemExit(0 if sound else 1)


def _write_fresh(folder: Path) -> None:
    from surefoot.data.load import load
    from surefoot.models.build import build

    sys.path.insert(0, str(HERE))
    digits = load("digits")
    model = build("reference:Reference", digits.input_shape, digits.outputs, seed=0)
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / "fresh.safetensors")


def _mend_manifest(checkpoint: Path) -> None:
    manifest = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path.read_bytes())}
        for path in checkpoint.iterdir()
        if path.name != "MANIFEST.json"
    }
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
