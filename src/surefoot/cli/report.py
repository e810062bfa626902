"""`surefoot report`: one page of HTML about runs, made from their folders alone."""

from __future__ import annotations

import sys
from pathlib import Path

from surefoot.cli.flags import RunsDir, reference
from surefoot.errors import ConfigError
from surefoot.report.ahead import Drawer, drawn

REPORT = "report.html"


def report(*runs: str, out: Path | None = None, figures: Path | None = None, runs_dir: RunsDir = Path("runs")) -> int:
    """Write a report of one or more runs: one HTML file that needs no network and no other file.

    Args:
        runs: Names of runs, or their folders; several are compared.
        out: File to write; report.html in the run's folder, or here for several runs.
        figures: Folder that also gets every figure as PNG and SVG.
    """
    if not runs:
        raise ConfigError("no run", "a report needs at least one run", "name one; surefoot show lists the runs here")
    from surefoot.report.run_folder import read_run_folder

    folders = [read_run_folder(run, runs_dir) for run in runs]  # what is wrong is said before the seconds of drawing
    from surefoot.report.page import save_figures, save_report

    print("drawing", file=sys.stderr)
    single = next((place for place in (Path(runs[0]), runs_dir / runs[0]) if place.is_dir()), None)
    usual = single / REPORT if len(runs) == 1 and single is not None else Path(REPORT)
    print(save_report(folders, out or usual))
    if figures is not None:
        for path in save_figures(folders, figures):
            print(path)
    return 0


def say_report(folder: Path, *, as_json: bool, quiet: bool, drawer: Drawer | None = None) -> None:
    """Write the report of a run that has just ended into its folder, and say where it lies unless stdout is JSON.

    A picture that cannot be drawn must not lose a run: that is a note.

    Args:
        folder: of the run.
        as_json: whether stdout is JSON.
        quiet: whether nothing is said while it is drawn.
        drawer: who was asked for it already; None: nobody was.
    """
    if not quiet:
        print("drawing report.html", file=sys.stderr)
    answer = (drawer.answer() if drawer is not None else None) or drawn(folder, folder / REPORT)
    if "error" in answer:
        print(f"no report: {answer['error']} Try surefoot report {reference(folder)}", file=sys.stderr)
    elif not as_json:
        print(f"{'report':<11}{answer['path']}")
