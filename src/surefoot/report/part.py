"""What a page says of one run, in words, tables and figures: plain values that the template places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surefoot.record.decision import Decision, Finding
from surefoot.record.scores import wilson
from surefoot.record.stored import changed_settings
from surefoot.report import compare
from surefoot.report.classifier import classifier_figures, confused_pairs, labelled
from surefoot.report.contents import Contents, thinned
from surefoot.report.curves import run_figure
from surefoot.report.figure import Figure
from surefoot.report.layers import layers_figure
from surefoot.report.plain import plain_pytorch
from surefoot.report.steps import step_figure

_MOST_LINES = 200
"""Rows of a table in the page, evenly thinned; the record in it has more. Chosen by hand."""
_DEEP = 400
"""Letters of one piece of evidence that are shown. Chosen by hand."""
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
        return part
    result = run.result or {}
    recipe = run.config.recipe
    if run.rows:
        per_epoch = max(1, round(run.rows[-1].step / run.rows[-1].epoch))
        part["code"] = plain_pytorch(recipe, int(result.get("steps") or run.rows[-1].step), per_epoch)
    part["recipe"] = _recipe(contents)
    curves = run_figure(contents, pins_of(contents.decisions))
    part["curves"] = [each for each in (curves, layers_figure(contents.shown_rows)) if each is not None]
    shown = thinned(run.rows, _MOST_LINES)
    part["row_columns"] = [name.replace("_", " ") for name in _ROW_COLUMNS]
    part["rows"] = [[_number(getattr(row, name)) for name in _ROW_COLUMNS] for row in shown]
    part["rows_note"] = f"{len(shown)} of {len(run.rows):,}" if len(shown) < len(run.rows) else ""
    if contents.scores is not None:
        part |= _classifier(contents.scores)
    part["about"] = [(name, str(value) if value != "" else "-") for name, value in run.environment.items()]
    part["unchecked"] = [str(text) for text in result.get("unchecked") or []] or unchecked(contents)
    return part


def _where(contents: Contents) -> list[tuple[str, str]]:
    """Return where something ran that was no run: a comparison, or one step alone."""
    if contents.compared is not None:
        return [(name, str(value) if value != "" else "-") for name, value in contents.compared.machine.items()]
    known = [each.evidence for each in contents.decisions[:1]]
    return [(name, str(each[name])) for each in known for name in ("device", "threads", "seed") if name in each]


def answer(contents: Contents) -> list[str]:
    """Return what came of it, the most important sentence first."""
    if contents.compared is not None:
        said = contents.compared
        best = min(said.rules, key=lambda rule: _middle(rule.final_losses))
        return [
            f"Lowest training loss at the end: {best.name}, {_middle(best.final_losses):.3g} "
            f"({min(best.final_losses):.3g} to {max(best.final_losses):.3g} over {len(said.seeds)} seeds).",
            f"{len(said.rules)} rules on {said.data} with {said.model}, {said.budget_examples:,} examples a run, rates "
            f"found by the same search; it took {said.seconds:.0f} s.",
            *(
                f"{each.reason[:1].upper()}{each.reason[1:]}."
                for each in said.findings
                if each.name.startswith("first")
            ),
        ]
    run = contents.run
    if run is None:
        if len(contents.decisions) == 1:  # one step alone, as surefoot noise does
            only = contents.decisions[0]
            return [f"{only.reason[:1].upper()}{only.reason[1:]}.", *([f"{only.advice}."] if only.advice else [])]
        bad = next((each for each in contents.decisions if each.verdict == "fail"), None)
        return [
            f"Step {bad.step}, {bad.name}, fails: {bad.reason}." if bad else "A search without a final training yet."
        ]
    result = run.result
    if result is None:
        where = f"epoch {run.rows[-1].epoch:.4g}" if run.rows else "its beginning"
        return [f"This run is not done ({run.state}); it has come to {where}."]
    lines = []
    accuracy, count = result.get("test_accuracy"), result.get("test_examples")
    if accuracy is not None and count:
        low, high = wilson(round(accuracy * count), count)
        lines.append(
            f"{accuracy:.2%} of the {count:,} examples of the test part are right "
            f"(95 % interval {low:.2%} to {high:.2%})."
        )
    elif result.get("test_loss") is not None:
        lines.append(f"The loss on the test part is {result['test_loss']:.4g}.")
    lines.append(f"{run.config.model} on {run.config.data}, {result.get('outcome')}: {result.get('reason')}.")
    lines.append(
        f"Training took {result.get('train_seconds') or 0:.1f} s for {result.get('epochs') or 0:.4g} epochs, "
        f"{result.get('steps') or 0:,} steps. One run with one seed: the interval speaks of the test examples, not of "
        "other seeds."
    )
    lines += _sure(contents.decisions)
    cost = result.get("cost")
    if isinstance(cost, Mapping) and cost.get("trainings") is not None:
        lines.append(f"The search before it cost {cost['trainings']:.2f} final trainings, budget {cost.get('budget')}.")
    return lines


def _middle(losses: Sequence[float]) -> float:
    return sorted(losses)[len(losses) // 2]


def _sure(decisions: tuple[Decision, ...]) -> list[str]:
    """How sure the procedure is of its answer: what did not pass, by name."""
    if all(each.name == "curves" for each in decisions):  # a training alone: its curves are read further down
        return []
    doubted = [f"{each.name} ({each.verdict})" for each in decisions if each.verdict != "pass"]
    passed = f"{len(decisions) - len(doubted)} of {len(decisions)} steps passed"
    return [f"How sure: {passed}{'; in doubt: ' + ', '.join(doubted) if doubted else ''}."]


def unchecked(contents: Contents) -> list[str]:
    """Return what nobody looked at in this run, so that the page does not seem to know more than it does."""
    done = {each.name for each in contents.decisions}
    steps = {
        "wiring": "the wiring",
        "initial-loss": "the initial loss",
        "overfit-sample": "whether it overfits a sample",
        "learning-rate": "other learning rates",
    }
    left = [f"Not checked: {text}." for name, text in steps.items() if name not in done]
    return [*left, "Not checked: other seeds."] if contents.run is not None else left


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
    return [each if isinstance(each, str) else _number(each) for each in line]


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
    return {"steps": steps, "overview": overview}


def _classifier(scores: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"classifier": classifier_figures(scores)}
    if scores["kind"] == "numbers":
        return found
    names = labelled([each["name"] for each in scores["per_class"]])
    found["pairs"] = [(a, b, n, f"{share:.1%}") for a, b, n, share in confused_pairs(scores)]
    found["classes"] = [
        (name, *(_number(each[key]) for key in ("precision", "recall", "f1", "support", "predicted")))
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
        (rule.name, _number(rule.lr), rule.batch_size, rule.steps, _number(sum(rule.final_losses) / len(rule.losses)),
         _number(rule.step_seconds))
        for rule in said.rules
    ]  # fmt: skip
    columns = ("rule", "lr", "batch size", "steps", "final loss, mean", "seconds a step")
    return {"columns": columns, "rows": rows, "drawn": figures, "findings": [_finding(each) for each in said.findings]}


def _recipe(contents: Contents) -> list[tuple[str, str]]:
    run = contents.run
    assert run is not None
    recipe = run.config.recipe
    names = ("lr", "batch_size", "momentum", "weight_decay")
    shown = {name: getattr(recipe, name) for name in names}
    shown |= {"schedule": recipe.schedule.kind, "seed": run.config.seed}
    refined = next((each.value for each in reversed(contents.decisions) if each.name == "refine" and each.value), {})
    pairs = [(name, _worded(value)) for name, value in {**shown, **changed_settings(run.config)}.items()]
    if refined.get("lr_low") is not None and refined.get("lr_high") is not None:
        pairs.append(("lr, as good within the noise", f"{refined['lr_low']:.3g} to {refined['lr_high']:.3g}"))
    return pairs


def _finding(finding: Finding) -> tuple[str, str, str, str]:
    return finding.name, finding.verdict, finding.reason, finding.advice or "-"


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(name), _short(value)) for name, value in values.items()]


def _short(value: Any) -> str:
    text = _worded(value)
    return text if len(text) <= _DEEP else f"{text[:_DEEP]} ... ({len(text):,} letters; decisions.jsonl has all)"


def _worded(value: Any) -> str:
    """Nested values in words: a list by commas, its settings by semicolons."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_worded(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(each, Mapping | list | tuple) for each in value)
        return ("; " if nested else ", ").join(map(_worded, value))
    return str(_number(value))


def _number(value: Any) -> Any:
    if value is None or value != value:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else value
