"""`surefoot doctor`: what this machine can do, and what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.cli.flags import Quiet, RunsDir, Switch
from surefoot.cli.tables import clean, print_json, print_table

if TYPE_CHECKING:
    from surefoot.checkup.doctor import Checkup
    from surefoot.checkup.judge import Measured
    from surefoot.record.figures import Operation

_LEFT = ("work", "look at", "verdict", "what was seen")


def doctor(
    *, device: str = "auto", runs_dir: RunsDir = Path("runs"), json: Switch = False, quiet: Quiet = False
) -> int:
    """Measure what this machine can do, and look for what commonly goes wrong. It takes five to ten seconds.

    Matrix products, convolutions and copies in fp32 and bf16, with one thread and all, and the cost of an operator call
    are kept in the cache folder as the machine's figures, which are read from then on: by the rule for how members are
    computed, and by train, which says the share that it reached. They are not kept where something else was at work.

    Args:
        device: auto, cpu, cuda or cuda:N; auto is the processor, and the card where there is one.
        runs_dir: Folder of the runs, of which the disk is looked at.
        json: Print as JSON.
    """
    from surefoot.checkup.doctor import doctor as looked_at

    def say(text: str) -> None:
        if not quiet:
            print(f"measuring {text}", file=sys.stderr, flush=True)

    checkup = looked_at(device=device, runs_dir=runs_dir, say=say)
    print_json(checkup.to_dict()) if json else _show(checkup)
    return 0


def _show(checkup: Checkup) -> None:
    versions = checkup.around.versions
    for measured in checkup.devices:
        about = measured.figures.machine
        print(f"{about['device']:9}{clean(about['name'])}, {clean(about['capability'])}")
    print("versions ", ", ".join(f"{name} {clean(value)}" for name, value in versions.items() if value), sep="")
    for measured in checkup.devices:
        print()
        _show_rates(measured)
    print()
    rows = [(finding.name, finding.verdict, finding.reason) for finding in checkup.findings]
    print_table(("look at", "verdict", "what was seen"), rows, left=_LEFT)
    doubts = [finding for finding in checkup.findings if finding.advice is not None]
    for finding in doubts:
        print(f"{finding.name}, do: {clean(finding.advice)}")
    for text in (*checkup.notes, *(f"kept in {path}" for path in checkup.files)):
        print(clean(text))


def _show_rates(measured: Measured) -> None:
    figures = measured.figures
    precisions = list(dict.fromkeys(rate.precision for rate in figures.rates))
    rows = []
    lines: list[tuple[Operation, int]] = [(rate.operation, rate.threads) for rate in figures.rates]
    for operation, threads in dict.fromkeys(lines):
        unit, scale = ("GB/s", 1e9) if operation == "copy" else ("GFLOP/s", 1e9)
        if not measured.shares and operation != "copy":
            unit, scale = "TFLOP/s", 1e12
        values = (figures.per_second(operation, precision, threads) for precision in precisions)
        where = figures.machine["device"] if not measured.shares else threads
        rows.append((f"{operation}, {unit}", where, *(None if v is None else f"{v / scale:,.1f}" for v in values)))
    print_table(("work", "threads", *precisions), rows, left=_LEFT)
    print(f"an operator call in a training step takes {1e6 * figures.call_seconds:.2f} us")
