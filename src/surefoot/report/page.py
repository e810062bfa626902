"""The report: one page of HTML made from the folders of runs, which needs nothing but itself.

    page = report_page([read_run_folder("first")])

Every text comes through the template's escaping or as JSON inside a script element of data. The content security policy
names the hash of the one style and the two scripts that we wrote, and allows no address at all.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import importlib.resources
import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from altair.utils import schemapi

from surefoot.errors import ConfigError
from surefoot.record.lines import plain
from surefoot.record.store import write_bytes
from surefoot.report.curves import several_figure
from surefoot.report.layers import carried
from surefoot.report.look import Figure, save_chart, svg, unwritable
from surefoot.report.run_folder import RunFolder, thinned
from surefoot.report.run_section import LIST_COLUMNS, figures_of, listed, run_section
from surefoot.settings import cache_folder, to_dict

SCHEMA = 1
"""Of the data inside the page; raised when a field changes its meaning or goes."""
_MOST_TRIALS = 2000
"""Trials of a search that the page carries; its folder has all. Chosen by hand."""
_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"')

_SHAPE = re.compile(r' (?:d|transform)="[^"<>]*"')
_DECIMALS = re.compile(r"(\d\.\d\d)\d+")
"""Shapes in an SVG keep a hundredth of a pixel."""
_TAG = re.compile(r"<[^<>]*>")
_READ_ALOUD = re.compile(r' (?:aria-[a-z]+|role)="[^"<>]*"')
"""What an SVG says of each mark to a screen reader. Inside an image nobody hears it: the image has a text of its own.
Of a picture of thousands of marks it is two thirds."""


def report_page(runs: Sequence[RunFolder]) -> str:
    """Return the report of one or more runs, as HTML.

    Args:
        runs: at least one, in the order in which they are shown.

    Raises:
        ConfigError: there are none.
    """
    sections, several = _said(runs)
    names = [section["name"] for section in sections]
    style, script, vega = _file("style.css"), _file("page.js"), program()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True)
    return environment.from_string(_file("page.html")).render(
        title=names[0] if len(names) == 1 else f"{len(names)} runs: {names[0]} ... {names[-1]}",
        sections=sections, several=several, places=_places(sections), data=in_script(embedded(runs)), drawn=_drawn,
        style=style, page_script=script, vega=vega,
        style_hash=hashed(style), script_hashes=f"{hashed(vega)} {hashed(script)}",
    )  # fmt: skip


def save_report(runs: Sequence[RunFolder], path: str | Path) -> Path:
    """Write the report of runs into a file and return its path.

    Raises:
        ConfigError: no runs, or the file cannot be written.
    """
    target, page = Path(path), report_page(runs)
    try:
        # A name from a damaged file system may hold half a character, which UTF-8 cannot say.
        target.write_bytes(page.encode("utf-8", errors="replace"))
    except OSError as error:
        raise unwritable("out", path, error) from None
    return target


def save_figures(runs: Sequence[RunFolder], folder: str | Path) -> list[Path]:
    """Write every figure of the report as PNG and SVG into a folder, made if it is missing, and return their paths.

    Raises:
        ConfigError: no runs, or the folder cannot be written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"figures = {folder} ({error.strerror or error})", "a folder", "check the path") from None
    drawn = figures(runs)
    return [save_chart(drawn[name].chart, target / f"{name}{end}") for name in drawn for end in (".png", ".svg")]


def figures(runs: Sequence[RunFolder]) -> dict[str, Figure]:
    """Return every figure of the report by name; of several runs, names begin with the run's number.

    A notebook shows each as a picture, offline.

    Raises:
        ConfigError: no runs.
    """
    sections, several = _said(runs)
    if several is None:
        return {figure.name: figure for figure in figures_of(sections[0])}
    drawn = {f"{section['id']}-{figure.name}": figure for section in sections for figure in figures_of(section)}
    return drawn | {f"all-{figure.name}": figure for figure in several["drawn"]}


def embedded(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Return the numbers that the page carries: what the folders hold, rows thinned to what is drawn."""
    return {"schema": SCHEMA, "runs": [_embedded(run) for run in runs]}


def _embedded(run: RunFolder) -> dict[str, Any]:
    stored = run.stored
    result = stored.result if stored else None
    return {
        "name": run.name,
        "config": to_dict(stored.config) if stored else None,
        "command": run.command or None,
        "environment": plain(stored.environment) if stored else None,
        "result": None if result is None else plain({k: v for k, v in result.items() if k != "decisions"}),
        "rows_in_all": len(run.rows),
        "rows": carried(run.shown_rows),
        "decisions": [decision.to_dict() for decision in run.decisions],
        "members_in_all": len(run.trials),
        "members": [trial.to_dict() for trial in thinned(run.trials, _MOST_TRIALS)],
        "comparison": run.comparison.to_dict() if run.comparison else None,
    }


def in_script(value: Any) -> str:
    r"""Return JSON that can stand inside a script element: nothing in it can end the element.

    >>> in_script("</script><!--")
    '"\\u003c/script\\u003e\\u003c!--"'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def hashed(text: str) -> str:
    """Return what a content security policy calls an inline script or style.

    >>> hashed("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def program() -> str:
    """Return the JavaScript that draws Vega-Lite charts, safe to stand inside a script element.

    It is that of Vega-Embed, out of the vl-convert wheel. Making it takes seconds, so it is cached for the user, by
    version, with its SHA-256.
    """
    folder = cache_folder()
    cached, proof = (folder / f"vega-{version('vl-convert-python')}{end}" for end in (".js", ".sha256"))
    with contextlib.suppress(OSError):
        text = cached.read_bytes()
        if hashlib.sha256(text).hexdigest() == proof.read_text(encoding="ascii").strip():
            return text.decode()
    bundle = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]  # its stub asks for what it does not need
    made = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(OSError):  # a home that cannot be written costs time, not the report
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(cached, made.encode())
        write_bytes(proof, hashlib.sha256(made.encode()).hexdigest().encode())
    return made


def _said(runs: Sequence[RunFolder]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return a section for each run, and what is said of several together."""
    if not runs:
        raise ConfigError("no run", "a report needs at least one", "name a run; surefoot runs lists them")
    with schemapi.debug_mode(False):  # checking charts against their schema takes half of the time; tests do it
        sections = [run_section(run, i) for i, run in enumerate(runs)]
        overlaid = several_figure(runs) if len(runs) > 1 else None
    if len(runs) == 1:
        return sections, None
    return sections, {
        "columns": LIST_COLUMNS, "rows": [listed(run) for run in runs],
        "drawn": [overlaid] if overlaid is not None else [],
    }  # fmt: skip


def _drawn(figure: Figure, place: str) -> dict[str, Any]:
    spec = _rounded(figure.chart.to_dict(validate=False))
    spec.setdefault("description", f"{figure.title}. {figure.caption}")
    picture = _SHAPE.sub(lambda match: _DECIMALS.sub(r"\1", match[0]), svg(spec))
    picture = _TAG.sub(lambda match: _READ_ALOUD.sub("", match[0]), picture)
    size = _SIZE.search(picture)
    width, height = (round(float(each)) for each in size.groups()) if size else (700, 300)
    still = base64.b64encode(picture.encode()).decode()  # as an image: no script inside an SVG runs there
    return {
        "id": f"{place}-{figure.name}", "figure": dataclasses.replace(figure, chart=None), "width": width,
        "height": height, "still": f"data:image/svg+xml;base64,{still}", "spec": in_script(plain(spec)),
    }  # fmt: skip


def _rounded(value: Any) -> Any:
    """Return the data of a chart with six digits, more than a screen can show; the record in the page is exact."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return {name: _rounded(each) for name, each in value.items()} if isinstance(value, dict) else value


def _places(sections: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return where in the page something begins, and its name."""
    if len(sections) > 1:
        ids = ["answer", *(section["id"] for section in sections[1:])]
        return [("all", "All runs"), *zip(ids, (section["name"] for section in sections), strict=True)]
    section = sections[0]
    scored = f"On the {section.get('scored', 'test')} part"
    names = {"steps": "The steps", "curves": "The curves", "classifier": scored, "compared": "The rules",
             "about": "Environment"}  # fmt: skip
    inside = [(f"{section['id']}-{key}", name) for key, name in names.items() if section.get(key)]
    return [("answer", "The answer"), *inside, ("record", "The record")]


def _file(name: str) -> str:
    return (importlib.resources.files("surefoot.report") / name).read_text(encoding="utf-8")
