"""A finished run, ready to be applied: its weights on their device, with what goes before and after them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from surefoot.config import Config
from surefoot.data.dataset import DataSet, Part, Source
from surefoot.errors import CheckpointError
from surefoot.record import store
from surefoot.record.stored import read_config
from surefoot.seeds import torch_stream
from surefoot.training.evaluate import outputs_of
from surefoot.training.machine import machine
from surefoot.training.preprocessed import Preprocessed
from surefoot.training.run import Result
from surefoot.training.task import Task
from surefoot.training.weights import Trained, load_trained

Which = Literal["best", "last"]


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, ready to be applied to examples."""

    folder: Path
    config: Config
    trained: Trained
    task: Task

    @property
    def doubt(self) -> str | None:
        """What is to be said of the weights: that the run diverged, or that what it came to cannot be read."""
        path = self.folder / store.RESULT
        if not path.is_file():
            return f"{path} is gone: what the run came to is not known"
        try:
            result = store.read_sealed(path)
        except CheckpointError as error:
            return str(error)
        return f"the run diverged: {result.get('reason')}" if result.get("outcome") == "diverged" else None

    def of_weights(self, asked: Which | None) -> str | None:
        """What is to be said of weights that were asked for by name: of which step they are; None where none were."""
        if asked is None:
            return None
        about = self.trained.information
        step = (
            about.get("step") if asked == about.get("weights", "last") else (about.get("beside") or about).get("step")
        )
        return f"the {asked} weights" + (f", of step {step:,}" if step is not None else "")

    def outputs(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return logits [N, C] or numbers [N, ...] in the targets' unit, and the targets, of a part, on the CPU."""
        model, place = self.task.template, self.task.machine
        if self.trained.preprocessing.input == "integers":
            part = replace(part, x=part.x.long())
        placed = replace(part, x=place.place(part.x), y=place.place(part.y))
        with place.computing(), torch_stream(self.task.seed, "test"):
            outputs = torch.cat([o.cpu() for o, _ in outputs_of(self.task, model, model.state_dict(), placed)])
        return Preprocessed(nn.Identity(), self.trained.preprocessing).answers(outputs), part.y


def finished_run(
    run: str | Path | Result,
    runs_dir: str | Path,
    model: nn.Module | None,
    device: str | None,
    weights: Which | None = None,
) -> FinishedRun:
    """Return a run's finished weights on its device, or on the CPU where this machine lacks that one.

    Raises:
        ConfigError: it has no such weights.
        CheckpointError: the run does not exist, is unfinished or damaged.
    """
    if isinstance(run, Result):
        run, model = run.folder, run.model if model is None else model
    folder = store.run_folder(run, runs_dir)
    config = read_config(folder)
    trained = load_trained(folder, model, weights=weights)
    if device is None:
        device = config.device if torch.cuda.is_available() else "cpu"
    place = machine(device, config.precision, config.threads, trained.model.net, trained.input_shape)
    about, y = trained.preprocessing, torch.zeros(1, dtype=torch.int64)
    data = DataSet(
        name=config.data,
        kind="images" if trained.kind == "images" else "numbers",
        train=Part(torch.zeros(1, *trained.input_shape), y, Source()),
        validation=None,
        test=None,
        classes=trained.classes,
        mean=about.mean.flatten().float() if trained.kind == "images" else about.mean,
        std=about.std.flatten().float() if trained.kind == "images" else about.std,
        fingerprint="",
    )
    return FinishedRun(
        folder, config, trained, Task(data, place.place_model(trained.model.net), None, None, config.seed, place)
    )
