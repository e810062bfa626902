"""`surefoot.doctor`: what this machine can do, kept as its figures, and what is wrong with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from surefoot.checkup.judge import Measured, Surroundings, busy, judge
from surefoot.checkup.measure import measure
from surefoot.checkup.surroundings import surroundings
from surefoot.record.decision import Finding, Verdict, worst
from surefoot.record.figures import write_figures
from surefoot.record.lines import plain
from surefoot.training.figures import figures_of
from surefoot.training.machine import device_named


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """What was measured and seen of a machine, and what it means.

    Attributes:
        devices: what was measured: of the processor, and of the card that was asked for.
        around: what a training finds around it.
        findings: what that means.
        files: in which figures were kept for rules to read.
        notes: why some were not kept, and which were there and did not count.
    """

    devices: tuple[Measured, ...]
    around: Surroundings
    findings: tuple[Finding, ...]
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The gravest of the findings'."""
        return worst(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return plain({"verdict": self.verdict, **dataclasses.asdict(self)})


def doctor(*, device: str = "auto", runs_dir: str | Path = "runs", say: Callable[[str], None] | None = None) -> Checkup:
    """Measure what this machine can do, keep it as the machine's figures, and look for what commonly goes wrong.

    It takes five to ten seconds. The figures are kept in the cache folder, for this processor or card and this version
    of PyTorch, and read from then on: by the rule that chooses how many members are computed as one, and by training,
    which says which share of them it reached. They are not kept where something else was at work meanwhile.

    Args:
        device: auto, cpu, cuda or cuda:N; auto is the processor, and the card where there is one.
        runs_dir: folder in which runs would lie; its disk is looked at, and nothing is made there.
        say: is told what is measured next; None: nobody is.

    Raises:
        ConfigError: there is no such device.

    >>> import surefoot
    >>> surefoot.doctor(device="cuda:99")
    Traceback (most recent call last):
    surefoot.errors.ConfigError: device = 'cuda:99': this machine has ... CUDA devices. Use device cpu or auto.
    """
    asked = device_named(device)
    devices = [torch.device("cpu")] if asked.type == "cpu" or device == "auto" else []
    devices += [asked] if asked.type == "cuda" else []
    around, measured, files, notes = surroundings(Path(runs_dir)), list[Measured](), list[str](), list[str]()
    for each in devices:
        notes += [why for why in (figures_of(each)[1],) if why is not None]
        measured.append(measure(each, say))
        why = busy(measured[-1])
        if why is not None:
            notes.append(f"the figures of {each} are not kept: {why}")
            continue
        try:
            files.append(str(write_figures(measured[-1].figures)))
        except OSError as error:
            notes.append(f"the figures of {each} are not kept: {error.strerror or error}")
    findings = tuple(judge(around, measured))
    return Checkup(devices=tuple(measured), around=around, findings=findings, files=tuple(files), notes=tuple(notes))
