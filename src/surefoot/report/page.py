"""The report: one page of HTML made from the folders of runs, which needs nothing but itself.

    page = report_page([read_contents("first")])

Every text comes through the template's escaping or as JSON inside a script element of data. The content security policy
names the hash of the one style and the two scripts that we wrote, and allows no address at all.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from altair.utils import schemapi

from surefoot.errors import ConfigError
from surefoot.record.lines import plain
from surefoot.report.charts import save_chart
from surefoot.report.contents import Contents, thinned
from surefoot.report.curves import several_figure
from surefoot.report.embed import data_uri, hashed, in_script, program, svg
from surefoot.report.figure import Figure
from surefoot.report.layers import carried
from surefoot.report.part import LIST_COLUMNS, listed, part_of
from surefoot.settings import to_dict

SCHEMA = 1
"""Of the data inside the page; raised when a field changes its meaning or goes."""
_MOST_TRIED = 2000
"""Trials of a search that the page carries; its folder has all. Chosen by hand."""
_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"')

_SHAPE = re.compile(r' (?:d|transform)="[^"<>]*"')
_DECIMALS = re.compile(r"(\d\.\d\d)\d+")
"""Shapes in an SVG keep a hundredth of a pixel."""
_TAG = re.compile(r"<[^<>]*>")
_READ_ALOUD = re.compile(r' (?:aria-[a-z]+|role)="[^"<>]*"')
"""What an SVG says of each mark to a screen reader. Inside an image nobody hears it: the image has a text of its own.
Of a picture of thousands of marks it is two thirds."""


def report_page(runs: Sequence[Contents]) -> str:
    """Return the report of one or more runs, as HTML.

    Args:
        runs: at least one, in the order in which they are shown.

    Raises:
        ConfigError: there are none.
    """
    with schemapi.debug_mode(False):  # checking charts against their schema takes half of the time; tests do it
        parts, several = _told(runs)
    for part in parts:
        for figures, owner in _places(part):
            owner[figures] = [_drawn(each, part["id"]) for each in owner[figures]]
        for step in part["steps"]:
            step["drawn"] = _drawn(step["drawn"], part["id"]) if step["drawn"] is not None else None
    if several is not None:
        several["drawn"] = [_drawn(each, "all") for each in several["drawn"]]
    style, script, vega = _own("style.css"), _own("page.js"), program()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True)
    return environment.from_string(_own("page.html")).render(
        title=parts[0]["name"] if len(parts) == 1 else f"{len(parts)} runs: {parts[0]['name']} ... {parts[-1]['name']}",
        parts=parts, several=several, sections=_sections(parts, several), data=in_script(embedded(runs)),
        style=style, page_script=script, vega=vega,
        style_hash=hashed(style), script_hashes=f"{hashed(vega)} {hashed(script)}",
    )  # fmt: skip


def save_report(runs: Sequence[Contents], path: str | Path) -> Path:
    """Write the report of runs into a file and return its path.

    Raises:
        ConfigError: no runs, or the file cannot be written.
    """
    target = Path(path)
    page = report_page(runs)
    try:
        # A name from a damaged file system may hold half a character, which UTF-8 cannot say.
        target.write_bytes(page.encode("utf-8", errors="replace"))
    except OSError as error:
        given = f"out = {path} ({error.strerror or error})"
        raise ConfigError(given, "its folder must exist and be writable", "check the path") from None
    return target


def save_figures(runs: Sequence[Contents], folder: str | Path) -> list[Path]:
    """Write every figure of the report as PNG and SVG into a folder, made if it is missing, and return their paths.

    Raises:
        ConfigError: no runs, or the folder cannot be written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"figures = {folder} ({error.strerror or error})", "a folder", "check the path") from None
    return [
        save_chart(figure.chart, target / f"{name}{end}")
        for name, figure in figures(runs).items()
        for end in (".png", ".svg")
    ]


def figures(runs: Sequence[Contents]) -> dict[str, Figure]:
    """Return every figure of the report by name; of several runs, names begin with the run's number.

    A notebook shows each as a picture, offline.

    Raises:
        ConfigError: no runs.
    """
    parts, several = _told(runs)
    found = [(part["id"], each) for part in parts for name, owner in _places(part) for each in owner[name]]
    found += [(part["id"], step["drawn"]) for part in parts for step in part["steps"] if step["drawn"] is not None]
    found += [("all", each) for each in several["drawn"]] if several is not None else []
    return {each.name if len(parts) == 1 else f"{place}-{each.name}": each for place, each in found}


def embedded(runs: Sequence[Contents]) -> dict[str, Any]:
    """Return the numbers that the page carries: what the folders hold, rows thinned to what is drawn."""
    return {
        "schema": SCHEMA,
        "runs": [
            {
                "name": each.name,
                "config": to_dict(each.run.config) if each.run else None,
                "command": each.command or None,
                "environment": plain(each.run.environment) if each.run else None,
                "result": _result(each),
                "rows_in_all": len(each.rows),
                "rows": carried(each.shown_rows),
                "decisions": [decision.to_dict() for decision in each.decisions],
                "members_in_all": len(each.tried),
                "members": [tried.to_dict() for tried in thinned(each.tried, _MOST_TRIED)],
                "comparison": each.compared.to_dict() if each.compared else None,
            }
            for each in runs
        ],
    }


def _result(contents: Contents) -> dict[str, Any] | None:
    result = contents.run.result if contents.run else None
    return None if result is None else plain({k: v for k, v in result.items() if k != "decisions"})


def _told(runs: Sequence[Contents]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    if not runs:
        raise ConfigError("no run", "a report needs at least one", "name a run; surefoot runs lists them")
    parts = [part_of(each, i) for i, each in enumerate(runs)]
    if len(runs) == 1:
        return parts, None
    overlaid = several_figure(runs)
    return parts, {
        "columns": LIST_COLUMNS, "rows": [listed(each) for each in runs],
        "drawn": [overlaid] if overlaid is not None else [],
    }  # fmt: skip


def _places(part: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return where a part keeps lists of figures: the name, and the dictionary that has it."""
    places = [(name, part) for name in ("curves", "classifier") if part.get(name)]
    return [*places, ("drawn", part["compared"])] if part.get("compared") else places


def _drawn(figure: Figure, place: str) -> dict[str, Any]:
    spec = _rounded(figure.chart.to_dict(validate=False))
    spec.setdefault("description", f"{figure.title}. {figure.caption}")
    picture = _SHAPE.sub(lambda found: _DECIMALS.sub(r"\1", found[0]), svg(spec))
    picture = _TAG.sub(lambda found: _READ_ALOUD.sub("", found[0]), picture)
    size = _SIZE.search(picture)
    width, height = (round(float(each)) for each in size.groups()) if size else (700, 300)
    return {
        "id": f"{place}-{figure.name}", "figure": dataclasses.replace(figure, chart=None), "width": width,
        "height": height, "still": data_uri(picture.encode(), "image/svg+xml"), "spec": in_script(plain(spec)),
    }  # fmt: skip


def _rounded(value: Any) -> Any:
    """Return the data of a chart with six digits, more than a screen can show; the record in the page is exact."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return {name: _rounded(each) for name, each in value.items()} if isinstance(value, dict) else value


def _sections(parts: Sequence[dict[str, Any]], several: Any) -> list[tuple[str, str]]:
    found = [("all", "All runs")] if several else []
    if len(parts) > 1:
        return [*found, *((part["id"] if i else "answer", part["name"]) for i, part in enumerate(parts))]
    part = parts[0]
    names = {"steps": "The steps", "curves": "The curves", "classifier": "On the test part", "compared": "The rules",
             "about": "Environment"}  # fmt: skip
    return [("answer", "The answer"), *((f"{part['id']}-{key}", name) for key, name in names.items() if part.get(key)),
            ("record", "The record")]  # fmt: skip


def _own(name: str) -> str:
    return (importlib.resources.files("surefoot.report") / name).read_text(encoding="utf-8")
