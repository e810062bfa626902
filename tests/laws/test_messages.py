"""The law of mistakes: whatever is wrong is answered by one message, as written down in docs/messages.md.

Each case makes something wrong in a folder of its own and runs the command there, in this process. Run as a script,
this prints the page: `python tests/laws/test_messages.py > docs/messages.md`.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gzip
import hashlib
import importlib
import io
import json
import os
import random
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest
import torch
from PIL import Image

import surefoot
from surefoot.cli.app import run
from surefoot.data import cifar
from surefoot.errors import CheckpointError, ConfigError, DataError, SurefootError
from surefoot.record import store

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
THREE_PARTS = re.compile(r"[^:]+.*?: .+\. [A-Z].*[.?]|wrong: .+: .+ \(.+; .+\)", re.DOTALL)
"""What was given, what is allowed, what to do: the grammar of `SurefootError`, and that of a list of problems."""


@dataclass(frozen=True)
class Place:
    """Where a case happens."""

    folder: Path
    patch: pytest.MonkeyPatch
    stack: contextlib.ExitStack


Make = Callable[[Place], None]


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        what: was given, as the page says it.
        words: after `surefoot`.
        names: what the message must name of it.
        code: the exit code; or, of a call in Python, the kind of the error, and `words` is the call.
        make: writes the files that are wrong.
    """

    what: str
    words: str
    names: str
    code: int | str = 2
    make: Make | None = None

    @property
    def shown(self) -> str:
        """The command or the call."""
        return self.words if isinstance(self.code, str) else f"surefoot {self.words}"


# What is wrong


def text(name: str, content: str) -> Make:
    return lambda place: _write(place.folder / name, content.encode())


def raw(name: str, content: bytes) -> Make:
    return lambda place: _write(place.folder / name, content)


def nothing(name: str) -> Make:
    return lambda place: (place.folder / name).mkdir(parents=True)


def both(*makes: Make) -> Make:
    def all_of_them(place: Place) -> None:
        for make in makes:
            make(place)

    return all_of_them


def pictures(*names: str, side: int = 8) -> Make:
    """Write grey images that differ; a name that ends in / is a folder without any."""

    def draw(place: Place) -> None:
        for name in names:
            if name.endswith("/"):
                (place.folder / name).mkdir(parents=True)
                continue
            (place.folder / name).parent.mkdir(parents=True, exist_ok=True)
            levels = np.random.default_rng(sum(name.encode())).integers(0, 256, (side, side), dtype=np.uint8)
            Image.fromarray(levels).save(place.folder / name)

    return draw


def npz(**arrays: Any) -> Make:
    return lambda place: np.savez(place.folder / "data.npz", **arrays)


def model(body: str) -> Make:
    """Write the user's module mine.py."""
    return text("mine.py", f"import torch\nfrom torch import nn\n\n{body}\n")


def runs(*names: str) -> Make:
    """Copy runs that were made beforehand."""

    def copy(place: Place) -> None:
        for name in names:
            shutil.copytree(trained() / "runs" / name, place.folder / "runs" / name)

    return copy


def changed(name: str, change: Callable[[bytes], bytes]) -> Make:
    """Copy a run and change files of it, found by a pattern."""

    def rewrite(place: Place) -> None:
        runs(name.partition("/")[0])(place)
        found = sorted(place.folder.glob(f"runs/{name}"))
        assert found, name
        for path in found:
            path.write_bytes(change(path.read_bytes()))

    return rewrite


def torn(content: bytes) -> bytes:
    return content[: len(content) // 2]


def another_hash(place: Place) -> None:
    """Let model.json agree with whatever lies in model.safetensors."""
    folder = place.folder / "runs" / "done"
    information = json.loads((folder / "model.json").read_text())
    information["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    store.write_sealed(folder / "model.json", information)


def held(place: Place) -> None:
    """Hold the lock of the unfinished run, as a process that trains it does."""
    file = place.stack.enter_context((place.folder / "runs" / "half" / "lock").open("r+"))
    file.truncate(0)
    file.write("4711")
    file.flush()
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def offline(place: Place) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("no route to host")

    place.patch.setattr(pooch.HTTPDownloader, "__call__", fail)


def no_cache(place: Place) -> None:
    """Let the cache folder be a file."""
    place.patch.setenv("SUREFOOT_CACHE", str(_write(place.folder / "cache", b"")))


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


PROBES = ("check_wiring", "check_initial_loss", "overfit_sample", "find_lr")
TABLE = "width,height,kind\n" + "".join(f"{i},{i * i % 7},{'ab'[i % 2]}\n" for i in range(20))
ROWS = np.arange(40, dtype=np.float32).reshape(20, 2)
PETS = [f"pets/{kind}/{i}.png" for kind in ("cat", "dog") for i in range(4)]
PARTS = [f"pets/{part}/{kind}/{i}.png" for part in ("train", "test") for kind in ("cat", "dog") for i in range(4)]
FLAT = "def flat(input_shape, outputs):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, {}))"
QUICK = "--model linear --epochs 1"
CLASSES = torch.arange(20) % 2
NAMES: dict[str, Any] = {
    "x": torch.from_numpy(ROWS), "y": CLASSES, "batches": [(torch.from_numpy(ROWS), CLASSES)], "torch": torch,
    "nn": torch.nn, **{name: getattr(surefoot, name) for name in PROBES},
}  # fmt: skip
"""What calls in Python are made of."""


@functools.cache
def trained() -> Path:
    """Return a folder with runs: one finished, one in its middle, and ones on tables and on a model of one's own."""
    home = Path(tempfile.mkdtemp(prefix="surefoot-messages-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    with _inside(home, home / "cache"):
        assert _quiet(f"train digits {QUICK} --name done")[0] == 0
        _write(home / "table.csv", TABLE.encode())
        assert _quiet("train table.csv --model linear --epochs 1 --batch-size 4 --name table")[0] == 0
        _write(home / "slope.csv", "".join(f"{i},{2 * i}\n" for i in range(20)).encode())
        assert _quiet("train slope.csv --target numbers --model linear --epochs 1 --batch-size 4 --name slope")[0] == 0
        net = "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        _write(home / "mine.py", net.encode())
        assert _quiet("train digits --model mine:net --epochs 1 --name own")[0] == 0
        config = surefoot.Config(data="digits", model="linear", recipe=surefoot.Recipe(epochs=2, batch_size=128))
        with surefoot.open_run(config, name="half") as half:
            for _ in range(3):
                half.advance(4)
                half.save()
    return home


# The cases

CASES: dict[str, list[Case]] = {
    "The command line": [
        Case("a command with a typo", "trian digits", "trian"),
        Case("a flag with a typo", "train --lrr 0.1", "--lrr"),
        Case("a flag without its value", "train --lr", "--lr"),
        Case("a flag given twice", "train --lr 1 --lr 2", "--lr"),
        Case("a word in place of a number", "train --lr fast", "lr"),
        Case("neither a number nor full", "train --batch-size all", "batch_size"),
        Case("a choice with a typo", "train --schedule cosin", "schedule"),
        Case("no run", "resume", "unfinished", 1),
        Case("no run to evaluate", "evaluate", "RUN"),
        Case("a part that there is not", "evaluate done --part tset", "part"),
        Case("a name with a slash", "train --name a/b", "'a/b'"),
        Case("no schedule", "schedule", "schedule"),
        Case("a schedule with a typo", "schedule resnet-setp", "resnet-setp"),
        Case("a picture of an unknown format", "schedule cosine --out a.jpg", "a.jpg"),
        Case("the name of a run, to check", "check digits --name a", "--name"),
        Case("short runs that are too short", "find-lr --steps 5", "steps"),
        Case("a rate where rates are looked for", "find-lr --lr 0.1", "--lr"),
        Case("a length where each run is short", "find-lr --epochs 3", "--epochs"),
        Case("a schedule where rates are constant", "find-lr --schedule cosine", "--schedule"),
        Case("noise of a run of no length", "noise --probe-steps 5", "probe_steps"),
        Case("too few micro-batches for an interval", "noise --micro-batches 4", "micro_batches"),
        Case("a group that matches nothing", "train --model mlp --groups haed.lr=10", "'haed'"),
        Case("a group without a setting", "train --groups head", "'head'"),
        Case("a word of a group with a typo", "train --groups head=frozn", "'frozn'"),
        Case("a setting of a group with a typo", "find-lr --groups head.rate=2", "'rate'"),
        Case("a rate that goes up the gradient", "tune --groups head.lr=-1", "-1"),
        Case("a group without a rate", "train --groups head.lr=0", "lr"),
        Case("a group said twice", "train --groups head.lr=1 head.lr=2", "twice"),
        Case(
            "a group that a later one undoes",
            "train --model mlp --groups head.lr=2 '*=frozen' hidden=trained",
            "'head'",
        ),
        Case("everything frozen", "train --model mlp --groups '*=frozen'", "freeze"),
        Case("everything frozen at first", "train --model mlp --groups '*.frozen_epochs=1'", "freeze"),
        Case(
            "frozen for longer than the run", "train --model mlp --epochs 2 --groups hidden.frozen_epochs=3", "'hidden'"
        ),
        Case("a group of a rule that matches nothing", "compare --model mlp --rule 'sgd groups=haed=frozen'", "'haed'"),
        Case("an optimizer that files cannot hold", "train --rule optimizer --lr 0.1", "optimizer"),
        Case(
            "groups of settings that are no settings",
            "train --config c.toml",
            "'head'",
            2,
            text("c.toml", "[recipe.groups]\nhead = 3\n"),
        ),
        Case(
            "a group frozen and with a rate",
            "train --config c.toml",
            "'frozen'",
            2,
            text("c.toml", "[recipe.groups]\nhead = {lr = 3, frozen = true}\n"),
        ),
        Case("a rule with a typo", "compare --rule momentm", "momentm"),
        Case("a rule with a setting that it is not", "compare --rule 'sgd batch_size=4'", "batch_size"),
        Case("two rules of one name", "compare --rule sgd --rule sgd", "sgd"),
        Case("a budget in steps", "compare --steps 3", "--steps"),
        Case("more examples than there are", "compare --model linear --examples 99999", "99999"),
        Case("a budget that means nothing", "tune --budget soon", "soon"),
        Case("nothing to compare recipes on", "tune --validation 0", "validation"),
        Case("a run to watch that is not there", "watch gone", "gone", 1),
        Case("runs by an unknown column", "runs --sort accuracy", "accuracy"),
        Case("runs by no condition", "runs --where finished", "finished"),
        Case("a device that is none", "doctor --device tpu", "tpu"),
        Case("a shape with a letter", "models --input-shape 3,a", "3,a"),
        Case("nothing to predict", "predict done", "input"),
        Case("fewer classes than one", "predict done a.png --top 0", "top"),
        Case("two formats", "predict done a.png --json --csv", "--csv"),
    ],
    "The configuration": [
        Case("a learning rate of 0", "train --lr 0", "lr"),
        Case("a learning rate that is no number", "train --lr nan", "lr"),
        Case("both lengths", "train --epochs 3 --steps 100", "steps"),
        Case("a batch larger than the data", "train --batch-size 5000", "batch_size"),
        Case("a batch of one with batch norm", "train --batch-size 1 --model cnn", "batch"),
        Case("Nesterov without momentum", "train --momentum-form nesterov --momentum 0", "momentum"),
        Case("all of the data for validation", "train --validation 1", "validation"),
        Case("more rows than updates", "train --rows-per-epoch 100", "rows_per_epoch"),
        Case("a step schedule without its steps", "train --schedule step", "milestones_epochs"),
        Case("falling milestones", "train --schedule step --milestones-epochs 60 30", "milestones_epochs"),
        Case("a milestone after the end", "train --schedule step --milestones-epochs 30", "milestones_epochs"),
        Case("an option of another schedule", "train --schedule cosine --power 2", "power"),
        Case("a warmup longer than the run", "train --epochs 3 --warmup-epochs 5", "warmup_epochs"),
        Case("two warmups", "train --schedule one-cycle --warmup-epochs 1", "warmup_epochs"),
        Case("a preset that there is not", "train --schedule preset --preset resnet-stp", "resnet-stp"),
        Case("plateau without validation", "train --schedule plateau --validation 0", "plateau"),
        Case("an unknown augmentation", "train --augment flp", "flp"),
        Case("a crop larger than the images", "train --augment crop:8", "crop:8"),
        Case("a flip of numbers", f"train table.csv {QUICK} --augment flip", "flip", make=text("table.csv", TABLE)),
        Case("a size for what is no folder", "train digits --image-size 8", "image_size"),
        Case("a label that is no column", "train table.csv --label knd", "knd", make=text("table.csv", TABLE)),
        Case("a label for what is no table", "train digits --label y", "label"),
        Case("a regression on classes", "train digits --target numbers", "target"),
        Case("a device that is absent", "train --device cuda:9", "cuda:9"),
        Case("a model with a typo", "train --model resnet2", "resnet2"),
        Case("a module that is not there", "train --model mine:net", "mine"),
        Case("a module without the factory", "train --model mine:nett", "nett", make=model(FLAT.format(10))),
        Case("a module that fails", "train --model mine:net", "mine", make=text("mine.py", "1 / 0\n")),
        Case(
            "a factory that fails",
            "train --model mine:net",
            "mine:net",
            make=model("def net():\n    return {}['width']"),
        ),
        Case("a model with too few outputs", "train --model mine:flat", "output", make=model(FLAT.format(7))),
        Case("images' model for a table", "train table.csv --model cnn", "cnn", make=text("table.csv", TABLE)),
        Case("a file that is not there", "train --config mine.toml", "mine.toml"),
        Case(
            "a file that is not TOML", "train --config mine.toml", "mine.toml", make=text("mine.toml", "model = mlp\n")
        ),
        Case(
            "a key with a typo",
            "train --config mine.toml",
            "momentun",
            make=text("mine.toml", "[recipe]\nmomentun = 0.9\n"),
        ),
        Case("a key in the wrong table", "train --config mine.toml", "lr", make=text("mine.toml", "lr = 0.1\n")),
    ],
    "Weights to choose, to stop by and to start from": [
        Case("a number that no row has", "train --choose-by acc", "acc"),
        Case("a metric that there is not", "train --metrics f1,balanced_acc", "balanced_acc"),
        Case("a metric of other targets", "train --metrics iou", "iou"),
        Case("a choice by a metric of other targets", "train --choose-by perplexity", "perplexity"),
        Case(
            "more than five of few classes",
            f"train table.csv {QUICK} --metrics top5",
            "top5",
            make=text("table.csv", TABLE),
        ),
        Case("a metric of a module that is not there", "train --metrics mine:score", "mine"),
        Case(
            "a metric that fails",
            "train --metrics mine:score",
            "mine:score",
            make=text("mine.py", "def score(outputs):\n    return 1\n"),
        ),
        Case("the other way of a metric", "train --choose-by f1:min", "f1:min"),
        Case("a choice in a comparison", "compare --choose-by f1", "--choose-by"),
        Case(
            "an accuracy of numbers",
            f"train slope.csv --target numbers {QUICK} --choose-by val_accuracy",
            "'accuracy'",
            make=text("slope.csv", "".join(f"{i},{2 * i}\n" for i in range(20))),
        ),
        Case("early stopping without validation", "train --validation 0 --early-stopping-epochs 3", "validation"),
        Case("the best without validation", "train --validation 0 --weights best", "validation"),
        Case("no patience", "train --early-stopping-epochs 0", "early_stopping_epochs"),
        Case(
            "what counts as better, without stopping", "train --early-stopping-min-delta 0.1", "early_stopping_epochs"
        ),
        Case("early stopping in a comparison", "compare --early-stopping-epochs 3", "--early-stopping-epochs"),
        Case("other weights than there are", "evaluate done --weights first", "weights"),
        Case("to start from no run", "train --from dnoe", "dnoe", make=runs("done")),
        Case("to start from a pickle", "train --from weights.pt", "weights.pt", make=text("weights.pt", "")),
        Case(
            "to start from what is no weights",
            "train --from w.safetensors",
            "w.safetensors",
            1,
            text("w.safetensors", ""),
        ),
        Case("to start a comparison from a run", "compare --from done", "--from-run", make=runs("done")),
        Case("weights of another model", "train --from done --model mlp", "done", make=runs("done")),
        Case(
            "weights of other classes",
            f"train table.csv {QUICK} --from done",
            "10 classes",
            make=both(runs("done"), text("table.csv", TABLE)),
        ),
        Case("a rate from where there is none", "find-lr --from gone", "gone"),
        Case(
            "inputs that are not normalised as they were",
            "train --from done --no-normalise",
            "normalise",
            make=runs("done"),
        ),
    ],
    "Data": [
        Case("a named set with a typo", "train cifar1", "cifar1"),
        Case("a path that is not there", "train no/pets", "no/pets", 1),
        Case("a file of another kind", "train notes.txt", "notes.txt", 1, text("notes.txt", "")),
        Case("an empty folder", "train pets", "pets", 1, nothing("pets")),
        Case("images outside of classes", "train pets", "0.png", 1, pictures("pets/0.png", "pets/1.png")),
        Case("one class only", "train pets", "cat", 1, pictures(*PETS[:4])),
        Case(
            "an image that is none",
            "train pets",
            "cat/9.png",
            1,
            both(pictures(*PETS), text("pets/cat/9.png", "hello")),
        ),
        Case("a part without a class", "train pets", "dog", 1, pictures(*PARTS[:12])),
        Case("a table that is empty", "train table.csv", "table.csv", 1, text("table.csv", "")),
        Case("a row that is too short", "train table.csv", "row 22", 1, text("table.csv", TABLE + "4,a\n")),
        Case("a word among numbers", "train table.csv", "row 22", 1, text("table.csv", TABLE + "4,tall,a\n")),
        Case(
            "a table that is not UTF-8",
            "train table.csv",
            "table.csv",
            1,
            raw("table.csv", TABLE.encode() + b"1,2,\xff\n"),
        ),
        Case("labels of one class", "train table.csv", "one class", 1, text("table.csv", TABLE.replace(",b", ",a"))),
        Case("a class that is skipped", "train data.npz", "'1'", 1, npz(x=ROWS, y=np.array([0, 2] * 10))),
        Case("an array without its labels", "train data.npz", "array x", 1, npz(x=ROWS)),
        Case("arrays of other names", "train data.npz", "images, marks", 1, npz(images=ROWS, marks=np.arange(20))),
        Case("one input by name", "train data.npz", "by name (images)", 2, npz(images=ROWS, labels=np.arange(20) % 2)),
        Case("a pipe in place of a file", "train p.npz", "p.npz", 1, lambda place: os.mkfifo(place.folder / "p.npz")),
        Case("a folder without CIFAR-10", "train cifar10 --data-dir here", "here", 1, nothing("here")),
        Case(
            "CIFAR-10 as released for Python",
            "train cifar10 --data-dir py",
            "cifar-10-binary",
            1,
            raw("py/data_batch_1", b"\x80"),
        ),
        Case(
            "an archive that is damaged",
            "train cifar10 --data-dir c.tar.gz",
            "c.tar.gz",
            1,
            raw("c.tar.gz", torn(gzip.compress(random.Random(0).randbytes(4000), mtime=0))),
        ),
        Case("a download without a network", "train cifar10", cifar.URL, 1, offline),
        Case("a cache folder that cannot be one", "train pets", "cache", 1, both(pictures(*PETS), no_cache)),
        Case(
            "a table with faults, checked",
            "data check table.csv",
            "row 22",
            1,
            text("table.csv", TABLE + "tall,2,a\n4,a\n"),
        ),
        Case(
            "classes that the run does not know",
            "evaluate table --data other.csv",
            "'c'",
            1,
            both(runs("table"), text("other.csv", TABLE.replace(",b", ",c"))),
        ),
        Case(
            "data that has changed since the run",
            "evaluate table",
            "table.csv",
            1,
            both(runs("table"), text("table.csv", TABLE + "9,9,a\n")),
        ),
        Case("an input that is not there", "predict done no.png", "no.png", 1, runs("done")),
        Case(
            "an input row with a word",
            "predict table a.csv",
            "a.csv:2",
            1,
            both(runs("table"), text("a.csv", "1,2\n4,tall\n")),
        ),
    ],
    "Runs and checkpoints": [
        Case("a run that there is not", "resume dnoe", "dnoe", 1, runs("done")),
        Case("no runs at all", "show done", "done", 1),
        Case("a run that is finished, to go on with", "resume done", "done", 0, runs("done")),
        Case("a run that is not finished, to measure", "evaluate half", "half", 1, runs("half")),
        Case("the name of a folder of other files", "train --name notes", "notes", 2, text("runs/notes/a.txt", "")),
        Case(
            "the name of a run with other settings", f"train digits {QUICK} --lr 0.2 --name done", "lr", 2, runs("done")
        ),
        Case("a run that another process trains", "resume half", "4711", 1, both(runs("half"), held)),
        Case(
            "checkpoints that are all damaged",
            "resume half",
            "checkpoints",
            1,
            changed("half/checkpoints/*/model.safetensors", torn),
        ),
        Case(
            "metrics damaged in the middle",
            "show half",
            "line 1",
            1,
            changed("half/metrics.jsonl", lambda old: b"{torn\n" + old),
        ),
        Case(
            "weights that are damaged", "evaluate done", "model.safetensors", 1, changed("done/model.safetensors", torn)
        ),
        Case(
            "a pickle in place of weights",
            "evaluate done",
            "model.safetensors",
            1,
            both(changed("done/model.safetensors", lambda _: b"\x80\x02cos\nsystem\n."), another_hash),
        ),
        Case("a run whose module is gone", "evaluate own", "mine", 1, runs("own")),
    ],
    "Probes in Python": [
        Case("batches that can be gone through once", 'find_lr("mlp", iter(batches))', "iterator", "ConfigError"),
        Case("no batches", 'find_lr("mlp", [])', "no examples", "DataError"),
        Case("batches without targets", 'find_lr("mlp", [x, x])', "labels", "DataError"),
        Case("values that are not finite", 'find_lr("mlp", [(x / 0, y)])', "example 0", "DataError"),
        Case("a module for other inputs", "find_lr(nn.Linear(3, 2), batches)", "(2, 2)", "ConfigError"),
        Case("a word as the loss", 'find_lr("mlp", batches, "crossentropy")', "loss", "ConfigError"),
        Case("a sample of nothing", 'overfit_sample("mlp", batches, batches=0)', "batches", "ConfigError"),
        Case("one rate that is no list", 'overfit_sample("mlp", batches, lrs=0.1)', "lrs", "ConfigError"),
    ],
}
ALL = [case for group in CASES.values() for case in group]


# How they are run


@contextlib.contextmanager
def _inside(folder: Path, cache: Path) -> Iterator[pytest.MonkeyPatch]:
    """Work in a folder, with a cache of its own, and forget the user's modules afterwards."""
    path, known, compiled = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUREFOOT_CACHE", str(cache))
        patch.setattr(sys, "argv", ["surefoot"])
        patch.setattr(torch.cuda, "is_available", lambda: False)  # the page is the same on every machine
        try:
            yield patch
        finally:
            sys.path[:], sys.dont_write_bytecode = path, compiled
            for name in set(sys.modules) - known:
                if getattr(sys.modules[name], "__file__", None) == str(folder / "mine.py"):
                    del sys.modules[name]


def _called(call: str) -> tuple[str, str]:
    """Make a call in Python and return the kind of its error, and the message."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            eval(call, dict(NAMES))
        except SurefootError as error:
            return type(error).__name__, str(error)
    return "no error", ""


def _quiet(words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("error")
        code = run(shlex.split(words))
    return code, out.getvalue(), err.getvalue()


def _tree(folder: Path) -> dict[str, str]:
    """Return what a folder holds, without the locks of runs, which name who looked last."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if path.name != "lock"
    }


@dataclass(frozen=True)
class Answer:
    code: int | str
    message: str
    changed: list[str]


def answer(case: Case, home: Path) -> Answer:
    """Run a case in a folder that is empty."""
    folder, cache = home / "here", home / "cache"
    folder.mkdir()
    trained()
    with _inside(folder, cache) as patch, contextlib.ExitStack() as stack:
        if case.make is not None:
            case.make(Place(folder, patch, stack))
        before = _tree(folder)
        if isinstance(case.code, str):
            (code, err), out = _called(case.words), ""
        else:
            code, out, err = _quiet(case.words)
        after = _tree(folder)
    if case.words.startswith("data check") and not err:
        err = "".join(line for line in out.splitlines(keepends=True) if line.startswith("wrong: "))
    err = re.sub(r"^(?:reading |step \d, ).*\n", "", err, flags=re.MULTILINE)  # progress of `check`
    message = re.sub(r"^surefoot: ", "", err.strip(), flags=re.MULTILINE)
    message = message.replace(str(cache), "CACHE").replace(str(folder), "HERE")
    message = re.sub(r"(?<=its result of ).*", "10:46, 28 November 2026", message)
    message = re.sub(r"(CACHE|HERE/cache)/images/\w+", r"\1/images/...", message)  # a hash of where the images lie
    return Answer(code, message, sorted({name for name, _ in before.items() ^ after.items()}))


# The page

HEAD = """# What is said when something is wrong

Every mistake is answered by one message on stderr and an exit code, never by a traceback (`data check` prints its
list on stdout). A message says what was given (the field, file or row), what is allowed, and what to do next. Exit
code 2 means that the command or a setting cannot be used; 1 that data, a checkpoint or a run cannot. All of it is found
before the first step of training, nothing of yours is changed by it, and no half-made run stays behind. The table is
made by `python tests/laws/test_messages.py > docs/messages.md`, and the suite holds every line of it. CACHE and HERE
stand for the cache folder and the working directory. Calls in Python raise an error with such a message: its kind is
given in place of the exit code.
"""


def line(case: Case, found: Answer) -> str:
    message = "<br>".join(_code(each) for each in found.message.split("\n"))
    return f"| {case.what}<br>{_code(case.shown)} | {message} | {found.code} |"


def _code(words: str) -> str:
    """Return words as code in a table of Markdown."""
    words = words.strip().replace("|", "\\|")
    return f"`` {words} ``" if "`" in words else f"`{words}`"


def page() -> str:
    parts = [HEAD]
    for title, cases in CASES.items():
        parts += [f"\n## {title}\n\n| what was given | message | exit code |\n|---|---|---|\n"]
        for case in cases:
            with tempfile.TemporaryDirectory() as home:
                parts.append(line(case, answer(case, Path(home))) + "\n")
    return "".join(parts)


# The law


@pytest.mark.parametrize("case", ALL, ids=[case.what for case in ALL])
def test_a_mistake_is_answered_as_the_page_says(case, tmp_path):
    found = answer(case, tmp_path)
    assert found.code == case.code
    assert case.names in found.message
    assert "Traceback" not in found.message
    assert str(tmp_path) not in found.message
    assert case.code == 0 or THREE_PARTS.search(found.message), "given, allowed, do"
    assert set(found.changed) <= {"runs"}, "nothing was to change, and no run to be left behind"
    known = PAGE.read_text(encoding="utf-8").splitlines()
    start = line(case, Answer(0, "", [])).partition(" | ")[0]
    assert [each for each in known if each.startswith(f"{start} |")] == [line(case, found)], "see the top of this file"


def test_the_page_has_these_cases_and_no_others():
    rows = [row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| ") and "`" in row]
    assert [row.partition("<br>")[0] for row in rows] == [f"| {case.what}" for case in ALL]
    assert PAGE.read_text(encoding="utf-8").startswith(HEAD)


def test_every_kind_of_error_has_its_exit_code():
    assert (ConfigError.exit_code, DataError.exit_code, CheckpointError.exit_code) == (2, 1, 1)


if __name__ == "__main__":
    print(page(), end="")
