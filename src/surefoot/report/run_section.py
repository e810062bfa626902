"""What a page says of one run, in words, tables and figures: plain values that the template places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median_high
from typing import Any

from surefoot.curves.baseline import beside_baseline
from surefoot.record.baseline import Baseline
from surefoot.record.comparison import Comparison
from surefoot.record.decision import Decision, Finding
from surefoot.record.figures import reached_text
from surefoot.record.intervals import is_less, wilson
from surefoot.record.stored import changed_settings
from surefoot.record.test_time import words_of
from surefoot.report.answers import answer_figures
from surefoot.report.classifier import classifier_figures, confused_pairs, labelled, scored_part
from surefoot.report.compare import comparison_figures
from surefoot.report.curves import run_figure
from surefoot.report.layers import layers_figure
from surefoot.report.look import Figure
from surefoot.report.loss_code import Calls
from surefoot.report.pytorch_code import program_of
from surefoot.report.run_folder import RunFolder, thinned
from surefoot.report.steps import step_figure

LIST_COLUMNS = ("run", "state", "data", "model", "lr", "batch size", "momentum", "weight decay", "schedule", "seed",
                "epochs", "best validation", "test", "test loss", "seconds")  # fmt: skip
_ROW_COLUMNS = ("epoch", "step", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "grad_norm",
                "update_ratio", "examples_per_second", "seconds")  # fmt: skip
_MOST_LINES = 200
"""Rows of a table in the page, evenly thinned; the record in it has more. Chosen by hand."""
_MOST_LETTERS = 400
"""Of one piece of evidence. Chosen by hand."""
_PROCEDURE = {
    0: "wiring", 1: "initial-loss", 2: "overfit-sample", 3: "learning-rate", 4: "coarse-grid", 5: "refine", 6: "curves",
}  # fmt: skip
"""The steps of the procedure by the names of their decisions."""
_UNCHECKED = {
    "wiring": "the wiring", "initial-loss": "the initial loss", "overfit-sample": "whether it overfits a sample",
    "learning-rate": "other learning rates",
}  # fmt: skip
"""What nobody looked at where a decision of this name is not there."""


def run_section(folder: RunFolder, number: int) -> dict[str, Any]:
    """Return all that the page says of a run, with its figures not drawn yet.

    Args:
        folder: of the run.
        number: of the run in the page.
    """
    comparison, stored = folder.comparison, folder.stored
    section: dict[str, Any] = {
        "id": f"part-{number}", "name": folder.name, "answer": summary(folder), "command": folder.command,
        **_steps(folder, number),
    }  # fmt: skip
    if comparison is not None:
        about = {**comparison.machine, "data_fingerprint": comparison.data_fingerprint}
        return section | {"compared": _compared(comparison), "about": _about(about), "unchecked": unchecked(folder)}
    if stored is None:  # a search, or one step alone
        evidence = folder.decisions[0].evidence if folder.decisions else {}
        about = {name: evidence[name] for name in ("device", "threads", "seed") if name in evidence}
        return section | {"about": _about(about), "unchecked": []}
    if stored.rows:
        per_epoch = max(1, round(stored.rows[-1].step / stored.rows[-1].epoch))
        calls = Calls.of(stored.environment, stored.config.target)
        section["code"] = program_of(stored.config, stored.config.recipe, per_epoch, calls)
    curves = run_figure(folder, pins_of(folder.decisions))
    shown = thinned(stored.rows, _MOST_LINES)
    metrics = list(shown[-1].metrics) if shown else []
    return section | {
        "recipe": _recipe(folder),
        "curves": [figure for figure in (curves, layers_figure(folder.shown_rows)) if figure is not None],
        "row_columns": [name.replace("_", " ") for name in (*_ROW_COLUMNS, *metrics)],
        "rows": [
            [
                *(rounded(getattr(row, name)) for name in _ROW_COLUMNS),
                *(rounded(row.metrics.get(name)) for name in metrics),
            ]
            for row in shown
        ],
        "rows_note": f"{len(shown)} of {len(stored.rows):,}" if len(shown) < len(stored.rows) else "",
        "about": _about(stored.environment),
        "unchecked": [str(text) for text in folder.result.get("unchecked") or []] or unchecked(folder),
        **(_classifier(folder.scores) if folder.scores is not None else {}),
    }


def figures_of(section: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of a section, those of its steps last."""
    compared = section.get("compared") or {}
    figures = [*section.get("curves", ()), *section.get("classifier", ()), *compared.get("drawn", ())]
    return figures + [step["drawn"] for step in section["steps"] if step["drawn"] is not None]


def listed(folder: RunFolder) -> list[Any]:
    """Return a run as a line of the table of several; see `LIST_COLUMNS`."""
    stored, result = folder.stored, folder.result
    if stored is None:
        return [folder.name, "comparison" if folder.comparison else "search", *[None] * (len(LIST_COLUMNS) - 2)]
    recipe = stored.config.recipe
    best = max((row.val_accuracy for row in stored.rows if row.val_accuracy is not None), default=None)
    line = [
        folder.name, stored.state, stored.config.data, stored.config.model, recipe.lr, recipe.batch_size,
        recipe.momentum, recipe.weight_decay, recipe.schedule.kind, stored.config.seed,
        stored.rows[-1].epoch if stored.rows else 0.0, best, result.get("test_accuracy"), result.get("test_loss"),
        result.get("train_seconds"),
    ]  # fmt: skip
    return [cell if isinstance(cell, str) else rounded(cell) for cell in line]


def pins_of(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Return the findings that decisions pin to steps of the curve: evidence `pins`, of `step` and `finding`."""
    return [
        {"step": pin["step"], "finding": str(pin["finding"])}
        for decision in decisions
        for pin in decision.evidence.get("pins") or []
        if isinstance(pin, dict) and isinstance(pin.get("step"), int | float) and "finding" in pin
    ]


def summary(folder: RunFolder) -> list[str]:
    """Return what came of it, the most important sentence first."""
    stored, decisions, result = folder.stored, folder.decisions, folder.result
    if folder.comparison is not None:
        return _comparison_summary(folder.comparison)
    if stored is None:
        if len(decisions) == 1:  # one step alone, as surefoot noise does
            advice = decisions[0].advice
            return [f"{_sentence(decisions[0].reason)}.", *([f"{advice}."] if advice else [])]
        bad = next((decision for decision in decisions if decision.verdict == "fail"), None)
        return [
            f"Step {bad.step}, {bad.name}, fails: {bad.reason}." if bad else "A search without a final training yet."
        ]
    if stored.result is None:
        where = f"epoch {stored.rows[-1].epoch:.4g}" if stored.rows else "its beginning"
        return [f"This run is not done ({stored.state}); it has come to {where}."]
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
    lines += [] if (views := words_of(result)) is None else [f"{views[0].upper()}{views[1:]}."]
    lines += _beside(result) or ([] if lines else _on_validation(result))
    lines += [
        f"{stored.config.model} on {stored.config.data}, {result.get('outcome')}: {result.get('reason')}.",
        *_of_weights(result),
        f"Training took {result.get('train_seconds') or 0:.1f} s for {result.get('epochs') or 0:.4g} epochs, "
        f"{result.get('steps') or 0:,} steps. One run with one seed: intervals speak of the examples that were scored, "
        "not of other seeds.",
    ]
    if (text := reached_text(result.get("reached"))) is not None:
        lines.append(f"{_sentence(text)}.")
    if any(decision.name != "curves" for decision in decisions):  # of a training alone, the curves come further down
        doubted = [f"{made.name} ({made.verdict})" for made in decisions if made.verdict != "pass"]
        doubt = f"; in doubt: {', '.join(doubted)}" if doubted else ""
        lines.append(f"How sure: {len(decisions) - len(doubted)} of {len(decisions)} steps passed{doubt}.")
    cost = result.get("cost")
    if isinstance(cost, Mapping) and cost.get("trainings") is not None:
        lines.append(f"The search before it cost {cost['trainings']:.2f} final trainings, budget {cost.get('budget')}.")
    return lines


def _of_weights(result: Mapping[str, Any]) -> list[str]:
    """Return of which step the weights are that are used, what the best were, and from where they started."""
    lines, best, origin = list[str](), result.get("best"), result.get("started_from")
    if isinstance(best, Mapping):
        value = f"{best.get('metric')} {rounded(best.get('value'))}"
        used = result.get("weights_from_step")
        if used == best.get("step"):
            lines.append(f"The weights are those of step {used:,}, the best on the validation part: {value}.")
        else:
            lines.append(f"The weights are those of step {used:,}; the best on the validation part, {value} at step "
                         f"{best.get('step'):,}, lie beside them in best.safetensors.")  # fmt: skip
    if isinstance(origin, Mapping):
        step = f", step {origin['step']:,}" if origin.get("step") else ""
        lines.append(f"It started from the weights of {origin.get('from')}{step}.")
    return lines


def _on_validation(result: Mapping[str, Any]) -> list[str]:
    """Return the answer where there is neither a test part nor a comparison with simple answers."""
    accuracy, loss = result.get("val_accuracy"), result.get("val_loss")
    if accuracy is None and loss is None:
        return []
    score = f"The loss is {loss:.4g}" if accuracy is None else f"{accuracy:.2%} are right"
    return [f"{score} on the validation part (there is no test part; choices may have been made on it)."]


def _beside(result: Mapping[str, Any]) -> list[str]:
    """Return what the result is worth beside the simplest answers; without a test part it is the answer itself."""
    if not isinstance(result.get("baseline"), Mapping):
        return []
    return [f"{_sentence(each.reason)}." for each in beside_baseline(Baseline.from_dict(result["baseline"]))]


def _comparison_summary(comparison: Comparison) -> list[str]:
    best = min(comparison.rules, key=lambda rule: median_high(rule.final_losses))
    others = [rule for rule in comparison.rules if rule is not best]
    tied = [rule.name for rule in others if not is_less(best.final_losses, rule.final_losses)]
    first = f"{median_high(best.final_losses):.3g} ({min(best.final_losses):.3g} to {max(best.final_losses):.3g}"
    return [
        f"Lowest training loss at the end: {best.name}, {first} over {len(comparison.seeds)} seeds)"
        + (f"; the seeds do not tell it from {' and '.join(tied)}." if tied else "."),
        f"{len(comparison.rules)} rules on {comparison.data} with {comparison.model}, "
        f"{comparison.budget_examples:,} examples a run, rates found by the same search; "
        f"it took {comparison.seconds:.0f} s.",
        *(f"{_sentence(each.reason)}." for each in comparison.findings if each.name.startswith("first")),
    ]


def unchecked(folder: RunFolder) -> list[str]:
    """Return what nobody looked at, so that the page does not seem to know more than it does."""
    if (comparison := folder.comparison) is not None:
        return [
            f"Not checked: other data than {comparison.data}, other models than {comparison.model}, longer runs than "
            f"{comparison.budget_examples:,} examples: the order of rules may be another there.",
            "Not checked: rates between those of the search, which had one seed, the final runs "
            f"{len(comparison.seeds)}.",
            "Not checked: other batch sizes, momenta and schedules than those of the table, unless named as rules.",
        ]
    done = {decision.name for decision in folder.decisions}
    left = [f"Not checked: {text}." for name, text in _UNCHECKED.items() if name not in done]
    return [*left, "Not checked: other seeds."] if folder.stored is not None else left


def worded(value: Any) -> str:
    """Return nested values in words: a list by commas, its settings by semicolons.

    >>> worded([{"lr": 0.1, "momentum": 0.9}, {"lr": 0.2, "momentum": 0.9}])
    'lr 0.1, momentum 0.9; lr 0.2, momentum 0.9'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {worded(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(each, Mapping | list | tuple) for each in value)
        return ("; " if nested else ", ").join(map(worded, value))
    return str(rounded(value))


def rounded(value: Any) -> Any:
    """Return a float with five digits, "-" for what is missing or not a number, and anything else as it is."""
    if value is None or value != value:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else value


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and values in words that fit a cell."""
    pairs = []
    for name, value in values.items():
        text = worded(value)
        if len(text) > _MOST_LETTERS:
            text = f"{text[:_MOST_LETTERS]} ... ({len(text):,} letters; decisions.jsonl has all)"
        pairs.append((str(name), text))
    return pairs


def _about(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, str(value) if value != "" else "-") for name, value in values.items()]


def _recipe(folder: RunFolder) -> list[tuple[str, str]]:
    """Return the settings that a run was made with, and how far a search found others as good."""
    assert folder.stored is not None
    config = folder.stored.config
    recipe = config.recipe
    names = ("rule", "lr", "batch_size", recipe.update_rule.memory, "weight_decay")[recipe.rule == "sgd" :]
    shown = {name: getattr(recipe, name) for name in names}
    shown |= {"schedule": config.recipe.schedule.kind, "seed": config.seed, **changed_settings(config)}
    made = (each.value for each in reversed(folder.decisions) if each.name == "refine" and each.value)
    return [(name, worded(value)) for name, value in shown.items()] + _as_good(next(made, {}))


def _as_good(refined: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the intervals of a refined recipe: what the search could not tell from it, within its noise."""
    pairs = []
    if refined.get("lr_low") is not None and refined.get("lr_high") is not None:
        pairs.append(("lr, as good within the noise", f"{refined['lr_low']:.3g} to {refined['lr_high']:.3g}"))
    names = ("lr", "momentum", "weight_decay")
    alike = [
        recipe for recipe in refined.get("alike") or []
        if isinstance(recipe, Mapping) and all(isinstance(recipe.get(name), int | float) for name in names)
    ]  # fmt: skip
    decays = [each["weight_decay"] for each in alike if all(each[name] == refined.get(name) for name in names[:2])]
    if len(decays) > 1:
        pairs.append(("weight_decay, as good at this lr and momentum", f"{min(decays):.3g} to {max(decays):.3g}"))
    momenta = sorted({recipe["momentum"] for recipe in alike})
    if len(momenta) > 1:
        others = ", ".join(f"{momentum:g}" for momentum in momenta)
        pairs.append(("momentum, as good with a fitting lr and weight_decay", others))
    return pairs


def _steps(folder: RunFolder, number: int) -> dict[str, Any]:
    steps = [
        {
            "decision": decision,
            "verdict": decision.verdict if decision.verdict in ("pass", "suspect", "fail") else "suspect",
            "value": _pairs(decision.value or {}),
            "findings": [_finding(finding) for finding in decision.findings],
            "evidence": _pairs({name: value for name, value in decision.evidence.items() if name != "members"}),
            "drawn": step_figure(decision, folder.trials, f"step-{number}-{i}-{decision.step}"),
        }
        for i, decision in enumerate(folder.decisions)
    ]
    overview = [(made.step, made.name, made.verdict, f"{made.seconds:.1f} s", made.reason) for made in folder.decisions]
    return {"steps": steps, "overview": sorted([*overview, *_left_out(folder)], key=lambda line: line[0])}


def _left_out(folder: RunFolder) -> list[tuple[int, str, str, str, str]]:
    """Return the steps of the procedure that a search did without, as lines of its overview, with its words for why."""
    said = folder.result.get("unchecked")
    if not isinstance(said, list):  # no search
        return []
    done = {decision.step for decision in folder.decisions}
    why = {n: next((str(text) for text in said if str(text).startswith(f"step {n}")), "left out") for n in _PROCEDURE}
    return [(n, name, "not done", "-", why[n]) for n, name in _PROCEDURE.items() if n not in done]


def _classifier(scores: Mapping[str, Any]) -> dict[str, Any]:
    if scores["kind"] == "numbers":
        return {"classifier": classifier_figures(scores), "scored": scored_part(scores)}
    names = labelled([each["name"] for each in scores["per_class"]])
    columns = ("precision", "recall", "f1", "support", "predicted")
    classes = [
        (name, *(rounded(each[column]) for column in columns))
        for name, each in zip(names, scores["per_class"], strict=True)
    ][:1000]
    if scores["kind"] != "classes":
        masks = [
            {"name": each["name"], "right": f"{each['right']:.1%}", "images": [
                f"data:image/png;base64,{each[key]}" for key in ("png", "true_png", "predicted_png") if each[key]
            ]}
            for each in scores.get("masks", ())
        ]  # fmt: skip
        drawn = {"classifier": answer_figures(scores, names), "scored": scored_part(scores)}
        return drawn | {"classes": classes, "masks": masks}
    return {
        "classifier": classifier_figures(scores),
        "scored": scored_part(scores),
        "pairs": [(a, b, n, f"{share:.1%}") for a, b, n, share in confused_pairs(scores)],
        "classes": classes,
        "mistakes": [
            {"name": each["name"], "true": names[each["true"]], "predicted": names[each["predicted"]],
             "probability": f"{each['probability']:.1%}",
             "image": f"data:image/png;base64,{each['png']}" if each["png"] else None}
            for each in scores["mistakes"]
        ],
    }  # fmt: skip


def _compared(comparison: Comparison) -> dict[str, Any]:
    rows = [
        (rule.name, rounded(rule.lr), rule.batch_size, rule.steps, rounded(sum(rule.final_losses) / len(rule.losses)),
         rounded(rule.step_seconds))
        for rule in comparison.rules
    ]  # fmt: skip
    return {
        "columns": ("rule", "lr", "batch size", "steps", "final loss, mean", "seconds a step"), "rows": rows,
        "drawn": comparison_figures(comparison), "findings": [_finding(each) for each in comparison.findings],
    }  # fmt: skip


def _finding(finding: Finding) -> tuple[str, str, str, str]:
    return finding.name, finding.verdict, finding.reason, finding.advice or "-"
