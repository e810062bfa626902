"""The commands whose records `same_records.py` compares, and the data that they read.

All of it is fixed: names, seeds, sizes. A command has a folder to itself, in which `inputs/` lies, and writes its run
to `runs/`. It says one thread and where that is possible JSON, and no checkpoint by the clock.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Command:
    """One call of the program.

    Attributes:
        name: of it and of its folder.
        words: of the command line, after `surefoot`.
        quick: it belongs to the subset of `--quick`.
        of: name of the command whose run it reads; a copy of that lies in its folder.
        frozen: in that copy, what a clock wrote is replaced by fixed numbers, since the command shows it.
        exit: the status that it ends with.
    """

    name: str
    words: tuple[str, ...]
    quick: bool = False
    of: str | None = None
    frozen: bool = False
    exit: int = 0


NEVER = "1000000"
"""Seconds between checkpoints: none but the last, since a clock would say where the others lie."""


def commands() -> list[Command]:
    """Return the list, those that read a run after those that write it."""
    return [*_train(), *_measure(), *_compare(), *_tune(), *_use()]


def _run(kind: str, name: str, data: str, words: str, *, quick: bool = False, exit: int = 0) -> Command:
    """Return a command that leaves a run behind it."""
    rest = f"--name {name} --runs-dir runs --threads 1 --checkpoint-seconds {NEVER} --no-report --json --quiet"
    return Command(name=name, words=(kind, data, *words.split(), *rest.split()), quick=quick, exit=exit)


def _train() -> list[Command]:
    schedules = {
        "cosine": "--schedule cosine",
        "step": "--schedule step --milestones-epochs 2 --milestones-epochs 3 --factor 0.2",
        "one-cycle": "--schedule one-cycle",
        "plateau": "--schedule plateau --patience-epochs 0 --factor 0.5",
    }
    lengths = {"linear": 6, "mlp": 6, "cnn": 2}
    quick = {"linear-cosine", "linear-step", "linear-one-cycle", "mlp-cosine", "mlp-step", "mlp-plateau", "cnn-cosine"}
    plain = {
        f"{model}-{schedule}": f"--model {model} --epochs {epochs} {words}"
        for model, epochs in lengths.items()
        for schedule, words in schedules.items()
        if (model, schedule) != ("cnn", "plateau")
    }
    plain["cnn-step"] = plain["cnn-step"].replace(
        "--milestones-epochs 2 --milestones-epochs 3", "--milestones-epochs 1"
    )
    mlp = {
        "ema": "--ema-decay 0.95",
        "clip": "--clip-norm 0.5",
        "micro-batches": "--batch-size 256 --micro-batch-size 48",
        "full-batch": "--batch-size full --steps 12",
        "one-example": "--batch-size 1 --lr 0.003 --steps 60",
        "nesterov": "--momentum-form nesterov",
        "sutskever": "--momentum-form sutskever --schedule cosine",
        "no-momentum": "--momentum 0",
        "dampening": "--dampening 0.5",
        "decoupled": "--weight-decay 0.01 --weight-decay-form decoupled --decay-on weights",
        "smoothing": "--label-smoothing 0.1",
        "fp32": "--precision fp32",
        "bf16": "--precision bf16",
        "rows": "--rows-per-epoch 3 --seed 5",
        "validation": "--validation 0.25",
        "no-validation": "--validation 0",
        "gradient-noise": "--measure-noise",
        "warmup": "--schedule linear --warmup-epochs 1 --warmup-start 0.1 --decay-from start --end 0.05",
        "constant": "--schedule constant",
        "polynomial": "--schedule polynomial --power 3",
        "exponential": "--schedule exponential --factor 0.7",
        "inverse-sqrt": "--schedule inverse-sqrt --warmup-epochs 1",
        "wsd": "--schedule wsd --decay-epochs 2",
        "sgdr": "--schedule sgdr --cycle-epochs 1 --cycle-mult 2",
        "preset": "--schedule preset --preset airbench94",
    }
    quick |= {f"mlp-{name}" for name in ("ema", "clip", "micro-batches", "nesterov", "sutskever", "bf16")}
    variants = {f"mlp-{name}": f"--model mlp {words}" for name, words in mlp.items()} | {
        "cnn-augmented": "--model cnn --epochs 2 --augment flip --augment crop:1 --augment cutout:2",
        "cnn-full-precision": "--model cnn --epochs 1 --precision fp32 --ema-decay 0.9 --clip-norm 1",
        "resnet20": "--model resnet20 --steps 6 --batch-size 32 --augment flip-alternate",
        "module": "--model reference:Reference --epochs 3 --batch-size 64 --lr 0.4 --augment flip --augment crop:1 "
        "--ema-decay 0.98 --label-smoothing 0.1 --rows-per-epoch 2 --schedule plateau --warmup-epochs 0.5 "
        "--patience-epochs 0 --factor 0.5",
    }
    quick.add("module")
    found = [
        _run("train", f"train-{name}", "digits", _long(words), quick=name in quick)
        for name, words in (plain | variants).items()
    ]
    return [
        *found,
        _run("train", "train-diverged", "digits", "--model mlp --lr 1e6 --epochs 2", exit=1, quick=True),
        _run("train", "train-numbers", "inputs/numbers.csv", "--model mlp --target numbers --epochs 4 --lr 0.01",
             quick=True),
        _run("train", "train-table", "inputs/kinds.csv", "--model linear --label kind --epochs 4"),
        _run("train", "train-arrays", "inputs/arrays.npz", "--model cnn --epochs 2"),
        _run("train", "train-folder", "inputs/pictures",
             "--model cnn --image-size 8 --batch-size 16 --epochs 2 --augment flip"),
    ]  # fmt: skip


def _long(words: str) -> str:
    """Return the words of a training with a length: 4 epochs where they give none."""
    return words if "--epochs " in words or "--steps" in words else f"{words} --epochs 4"


def _measure() -> list[Command]:
    said = "--threads 1 --json --quiet"

    def measured(name: str, words: str, *, quick: bool = False) -> Command:
        return Command(name=name, words=(*words.split(), *said.split()), quick=quick)

    noise = "--name noise --runs-dir runs --no-report"
    return [
        measured("check-linear", "check digits --model linear", quick=True),
        measured("check-mlp", "check digits --model mlp", quick=True),
        measured("check-cnn", "check digits --model cnn"),
        measured("check-module", "check digits --model reference:Reference"),
        measured("check-numbers", "check inputs/numbers.csv --target numbers --model mlp"),
        measured("check-table", "check inputs/kinds.csv --label kind --model linear"),
        measured("find-lr-mlp", "find-lr digits --model mlp"),
        measured("find-lr-linear", "find-lr digits --model linear --steps 40 --seeds 2", quick=True),
        measured("find-lr-numbers", "find-lr inputs/numbers.csv --target numbers --model mlp --steps 30 --seeds 2"),
        measured("noise-mlp", f"noise digits --model mlp --sizes 128 --probe-steps 60 --points 3 {noise}", quick=True),
        measured("noise-mlp-sizes", f"noise digits --model mlp --sizes 64 --sizes 128 --sizes 256 --lr 0.05 {noise}"),
        measured("noise-cnn", f"noise digits --model cnn --sizes 64 --batch-size 64 --probe-steps 12 --points 1 "
                 f"{noise}"),
    ]  # fmt: skip


def _compare() -> list[Command]:
    small = "--epochs 1 --examples 400 --seeds 2"
    rest = "--name compared --runs-dir runs --no-report --threads 1 --json --quiet"
    chosen = ("--rule", "momentum lr=0.05 batch_size=64 schedule=cosine", "--rule", "nesterov batch_size=64")
    return [
        Command(name="compare", words=("compare", "digits", "--model", "mlp", *small.split(), *rest.split())),
        Command(
            name="compare-two",
            words=("compare", "digits", "--model", "linear", *chosen, *small.split(), "--no-pictures", *rest.split()),
            quick=True,
        ),
    ]


def _tune() -> list[Command]:
    numbers, table = "--target numbers --model mlp --epochs 4", "--label kind --model linear --epochs 4"
    return [
        _run("tune", "tune-mlp-2x", "digits", "--model mlp --budget 2x", quick=True),
        _run("tune", "tune-linear-2x", "digits", "--model linear --budget 2x"),
        _run("tune", "tune-cnn-2x", "digits", "--model cnn --budget 2x --epochs 3"),
        _run("tune", "tune-module-2x", "digits", "--model reference:Reference --budget 2x --epochs 3"),
        _run("tune", "tune-linear-8x", "digits", "--model linear --budget 8x", quick=True),
        _run("tune", "tune-mlp-8x", "digits", "--model mlp --budget 8x"),
        _run("tune", "tune-linear-14x", "digits", "--model linear --budget 14x --epochs 3"),
        _run("tune", "tune-mlp-14x", "digits", "--model mlp --budget 14x"),
        _run("tune", "tune-fixed", "digits", "--model mlp --budget 4x --epochs 4 --lr 0.05 --momentum 0.8"),
        _run("tune", "tune-numbers", "inputs/numbers.csv", f"{numbers} --budget 8x"),
        _run("tune", "tune-table", "inputs/kinds.csv", f"{table} --budget 8x"),
    ]


def _use() -> list[Command]:
    def used(name: str, of: str, words: str, *, quick: bool = False, frozen: bool = False, exit: int = 0) -> Command:
        first, *rest = words.split()
        rest = [first, of, *rest, "--runs-dir", "runs"]
        return Command(name=name, of=of, words=tuple(rest), quick=quick, frozen=frozen, exit=exit)

    mlp, tuned, numbers = "train-mlp-cosine", "tune-mlp-2x", "train-numbers"
    return [
        used("evaluate-json", mlp, "evaluate --json", quick=True),
        used("evaluate-text", mlp, "evaluate --part validation"),
        used("evaluate-numbers", numbers, "evaluate --json --part train"),
        used("evaluate-other", "train-folder", "evaluate --json --data inputs/pictures"),
        used("predict-json", mlp, "predict inputs/new.npz --format json --top 3", quick=True),
        used("predict-csv", mlp, "predict inputs/new.npz --format csv", quick=True),
        used("predict-text", mlp, "predict inputs/new.npz"),
        used("predict-numbers", numbers, "predict inputs/new-numbers.csv --format csv"),
        used("predict-pictures", "train-folder", "predict inputs/pictures --format json"),
        used("show-json", mlp, "show --json", quick=True, frozen=True),
        used("show-text", mlp, "show", quick=True, frozen=True),
        used("show-diverged", "train-diverged", "show", frozen=True),
        used("show-tuned-json", tuned, "show --json", frozen=True),
        used("show-tuned-text", tuned, "show", frozen=True),
    ]


def write_inputs(folder: Path) -> None:
    """Write what the commands read, the same everywhere: tables, arrays, pictures, and the module of a model."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(400, 6)).round(4)
    y = (2 * x[:, 0] - x[:, 1] * x[:, 2] + 0.1 * draw.normal(size=400)).round(4)
    _write_table(folder / "numbers.csv", [*"abcdef", "y"], np.column_stack([x, y]))
    _write_table(folder / "new-numbers.csv", [*"abcdef"], draw.normal(size=(25, 6)).round(4))
    kinds = np.array(["left", "middle", "right"])[np.digitize(x[:, 0] + 0.3 * x[:, 3], (-0.5, 0.5))]
    _write_table(folder / "kinds.csv", ["a", "b", "kind", "d"], np.column_stack([x[:, 0], x[:, 1], kinds, x[:, 3]]))
    labels = np.arange(300) % 3
    images = draw.integers(0, 120, size=(300, 1, 8, 8)) + 60 * labels[:, None, None, None]
    np.savez(folder / "arrays.npz", x=images.astype(np.uint8), y=labels)
    np.savez(folder / "new.npz", x=draw.integers(0, 256, size=(40, 1, 8, 8)).astype(np.uint8))
    for number in range(60):
        place = folder / "pictures" / ("blue", "red")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 160, size=(12, 12, 3))
        pixels[..., 2 - 2 * (number % 2)] += 80
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:02d}.png")
    shutil.copy(HERE / "reference.py", folder)


def _write_table(path: Path, names: list[str], rows: np.ndarray) -> None:
    lines = [",".join(map(str, row)) for row in [names, *rows.tolist()]]
    path.write_text("\n".join(lines) + "\n")
