"""What a page says of one run, in words, tables and figures: plain values that the template places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surefoot.record.decision import Decision, Finding
from surefoot.report import compare
from surefoot.report.answer import answer, recipe_of, unchecked
from surefoot.report.classifier import classifier_figures, confused_pairs, labelled
from surefoot.report.contents import Contents, thinned
from surefoot.report.curves import run_figure
from surefoot.report.figure import Figure
from surefoot.report.layers import layers_figure
from surefoot.report.plain import plain_pytorch
from surefoot.report.steps import step_figure
from surefoot.report.words import rounded, short

_MOST_LINES = 200
"""Rows of a table in the page, evenly thinned; the record in it has more. Chosen by hand."""
_ROW_COLUMNS = ("epoch", "step", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "grad_norm",
                "update_ratio", "examples_per_second", "seconds")  # fmt: skip
_CAPTIONS = {
    "loss": "The same runs against steps, examples and seconds: who is first depends on what is counted.",
    "search": "Every rule got its rate by the same search; the ring marks the rate of its final runs.",
    "cost": "To the left a step is cheap, to the bottom its direction is sure. Larger batches go right and down.",
    "rates": "One rule at four rates: too small, good, too large, diverging.",
    "averaging": "Single gradients scatter around the full one; steps with momentum average them.",
    "paths": "Where the weights went, on the plane that holds most of their movement; dark is a low loss.",
    "known": "A surface whose answer theory knows, as a check of the rules themselves.",
}
"""How to read each picture of a comparison, by the first word of its name."""
_PROCEDURE = {
    0: "wiring", 1: "initial-loss", 2: "overfit-sample", 3: "learning-rate", 4: "coarse-grid", 5: "refine", 6: "curves",
}  # fmt: skip
"""The steps of the procedure by the names of their decisions."""
LIST_COLUMNS = ("run", "state", "data", "model", "lr", "batch size", "momentum", "weight decay", "schedule", "seed",
                "epochs", "best validation", "test", "test loss", "seconds")  # fmt: skip


def part_of(contents: Contents, number: int) -> dict[str, Any]:
    """Return all that the page says of a run, with its figures not drawn yet."""
    part: dict[str, Any] = {
        "id": f"part-{number}",
        "name": contents.name,
        "answer": answer(contents),
        "command": contents.command,
    }
    part |= _steps(contents, number)
    if contents.compared is not None:
        part["compared"] = _compared(contents)
    run = contents.run
    if run is None:
        part["about"] = _where(contents)
        part["unchecked"] = unchecked(contents) if contents.compared is not None else []
        return part
    result = run.result or {}
    recipe = run.config.recipe
    if run.rows:
        per_epoch = max(1, round(run.rows[-1].step / run.rows[-1].epoch))
        part["code"] = plain_pytorch(recipe, int(result.get("steps") or run.rows[-1].step), per_epoch)
    part["recipe"] = recipe_of(contents)
    curves = run_figure(contents, pins_of(contents.decisions))
    part["curves"] = [each for each in (curves, layers_figure(contents.shown_rows)) if each is not None]
    shown = thinned(run.rows, _MOST_LINES)
    part["row_columns"] = [name.replace("_", " ") for name in _ROW_COLUMNS]
    part["rows"] = [[rounded(getattr(row, name)) for name in _ROW_COLUMNS] for row in shown]
    part["rows_note"] = f"{len(shown)} of {len(run.rows):,}" if len(shown) < len(run.rows) else ""
    if contents.scores is not None:
        part |= _classifier(contents.scores)
    part["about"] = [(name, str(value) if value != "" else "-") for name, value in run.environment.items()]
    part["unchecked"] = [str(text) for text in result.get("unchecked") or []] or unchecked(contents)
    return part


def _where(contents: Contents) -> list[tuple[str, str]]:
    """Return where something ran that was no run: a comparison, or one step alone."""
    if contents.compared is not None:
        said = contents.compared
        shown = {**said.machine, "data_fingerprint": said.data_fingerprint}
        return [(name, str(value) if value != "" else "-") for name, value in shown.items()]
    known = [each.evidence for each in contents.decisions[:1]]
    return [(name, str(each[name])) for each in known for name in ("device", "threads", "seed") if name in each]


def pins_of(decisions: tuple[Decision, ...]) -> list[dict[str, Any]]:
    """Return the findings that decisions pin to steps of the curve: evidence `pins`, of `step` and `finding`."""
    return [
        {"step": pin["step"], "finding": str(pin["finding"])}
        for decision in decisions
        for pin in decision.evidence.get("pins") or []
        if isinstance(pin, dict) and isinstance(pin.get("step"), int | float) and "finding" in pin
    ]


def listed(contents: Contents) -> list[Any]:
    """Return a run as a line of the table of several; see `LIST_COLUMNS`."""
    run = contents.run
    if run is None:
        return [contents.name, "comparison" if contents.compared else "search", *[None] * (len(LIST_COLUMNS) - 2)]
    recipe, result = run.config.recipe, run.result or {}
    best = max((row.val_accuracy for row in run.rows if row.val_accuracy is not None), default=None)
    line = [
        contents.name, run.state, run.config.data, run.config.model, recipe.lr, recipe.batch_size, recipe.momentum,
        recipe.weight_decay, recipe.schedule.kind, run.config.seed, run.rows[-1].epoch if run.rows else 0.0, best,
        result.get("test_accuracy"), result.get("test_loss"), result.get("train_seconds"),
    ]  # fmt: skip
    return [each if isinstance(each, str) else rounded(each) for each in line]


def _steps(contents: Contents, number: int) -> dict[str, Any]:
    made = contents.decisions
    steps = [
        {
            "decision": each,
            "verdict": each.verdict if each.verdict in ("pass", "suspect", "fail") else "suspect",
            "value": _pairs(each.value or {}),
            "findings": [_finding(finding) for finding in each.findings],
            "evidence": _pairs({name: value for name, value in each.evidence.items() if name != "members"}),
            "drawn": step_figure(each, contents.tried, f"step-{number}-{i}-{each.step}"),
        }
        for i, each in enumerate(made)
    ]
    overview = [(each.step, each.name, each.verdict, f"{each.seconds:.1f} s", each.reason) for each in made]
    overview = sorted([*overview, *_left_out(contents)], key=lambda line: line[0])
    return {"steps": steps, "overview": overview}


def _left_out(contents: Contents) -> list[tuple[int, str, str, str, str]]:
    """Return the steps of the procedure that a search did without, as lines of its overview, with its words for why."""
    said = (contents.run.result or {}).get("unchecked") if contents.run is not None else None
    if not isinstance(said, list):  # no search
        return []
    done = {each.step for each in contents.decisions}
    why = {n: next((str(text) for text in said if str(text).startswith(f"step {n}")), "left out") for n in _PROCEDURE}
    return [(n, name, "not done", "-", why[n]) for n, name in _PROCEDURE.items() if n not in done]


def _classifier(scores: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"classifier": classifier_figures(scores)}
    if scores["kind"] == "numbers":
        return found
    names = labelled([each["name"] for each in scores["per_class"]])
    found["pairs"] = [(a, b, n, f"{share:.1%}") for a, b, n, share in confused_pairs(scores)]
    found["classes"] = [
        (name, *(rounded(each[key]) for key in ("precision", "recall", "f1", "support", "predicted")))
        for name, each in zip(names, scores["per_class"], strict=True)
    ][:1000]
    found["mistakes"] = [
        {"name": each["name"], "true": names[each["true"]], "predicted": names[each["predicted"]],
         "probability": f"{each['probability']:.1%}",
         "image": f"data:image/png;base64,{each['png']}" if each["png"] else None}
        for each in scores["mistakes"]
    ]  # fmt: skip
    return found


def _compared(contents: Contents) -> dict[str, Any]:
    said = contents.compared
    assert said is not None
    figures = [
        Figure(
            name=name,
            title=name.replace("-", " ").capitalize(),
            caption=_CAPTIONS.get(name.split("-")[0], ""),
            chart=chart,
        )
        for name, chart in compare.figures(said).items()
    ]
    rows = [
        (rule.name, rounded(rule.lr), rule.batch_size, rule.steps, rounded(sum(rule.final_losses) / len(rule.losses)),
         rounded(rule.step_seconds))
        for rule in said.rules
    ]  # fmt: skip
    columns = ("rule", "lr", "batch size", "steps", "final loss, mean", "seconds a step")
    return {"columns": columns, "rows": rows, "drawn": figures, "findings": [_finding(each) for each in said.findings]}


def _finding(finding: Finding) -> tuple[str, str, str, str]:
    return finding.name, finding.verdict, finding.reason, finding.advice or "-"


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(name), short(value)) for name, value in values.items()]
