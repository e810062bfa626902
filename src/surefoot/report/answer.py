"""What came of a run, in sentences and settings: the head of a page, and what it does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surefoot.record.decision import Decision
from surefoot.record.scores import wilson
from surefoot.record.stored import changed_settings
from surefoot.report.contents import Contents
from surefoot.report.words import worded

_STEPS = {
    "wiring": "the wiring",
    "initial-loss": "the initial loss",
    "overfit-sample": "whether it overfits a sample",
    "learning-rate": "other learning rates",
}
"""What it means when a decision of this name is not there."""


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
    """Return what nobody looked at, so that the page does not seem to know more than it does."""
    if (said := contents.compared) is not None:
        return [
            f"Not checked: other data than {said.data}, other models than {said.model}, longer runs than "
            f"{said.budget_examples:,} examples: the order of rules may be another there.",
            f"Not checked: rates between those of the search, which had one seed, the final runs {len(said.seeds)}.",
            "Not checked: other batch sizes, momenta and schedules than those of the table, unless named as rules.",
        ]
    done = {each.name for each in contents.decisions}
    left = [f"Not checked: {text}." for name, text in _STEPS.items() if name not in done]
    return [*left, "Not checked: other seeds."] if contents.run is not None else left


def recipe_of(contents: Contents) -> list[tuple[str, str]]:
    """Return the settings that a run was made with, and how far a search found others as good."""
    run = contents.run
    assert run is not None
    recipe = run.config.recipe
    names = ("lr", "batch_size", "momentum", "weight_decay")
    shown = {name: getattr(recipe, name) for name in names}
    shown |= {"schedule": recipe.schedule.kind, "seed": run.config.seed}
    refined = next((each.value for each in reversed(contents.decisions) if each.name == "refine" and each.value), {})
    pairs = [(name, worded(value)) for name, value in {**shown, **changed_settings(run.config)}.items()]
    return pairs + _as_good(refined)


def _as_good(refined: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the intervals of a refined recipe: what the search could not tell from it, within its noise."""
    pairs = []
    if refined.get("lr_low") is not None and refined.get("lr_high") is not None:
        pairs.append(("lr, as good within the noise", f"{refined['lr_low']:.3g} to {refined['lr_high']:.3g}"))
    names = ("lr", "momentum", "weight_decay")
    alike = [
        each for each in refined.get("alike") or []
        if isinstance(each, Mapping) and all(isinstance(each.get(name), int | float) for name in names)
    ]  # fmt: skip
    beside = [each["weight_decay"] for each in alike if all(each.get(name) == refined.get(name) for name in names[:2])]
    if len(beside) > 1:
        pairs.append(("weight_decay, as good at this lr and momentum", f"{min(beside):.3g} to {max(beside):.3g}"))
    momenta = sorted({each["momentum"] for each in alike})
    if len(momenta) > 1:
        others = ", ".join(f"{each:g}" for each in momenta)
        pairs.append(("momentum, as good with a fitting lr and weight_decay", others))
    return pairs
