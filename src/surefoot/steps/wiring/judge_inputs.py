"""Step 0, judged: what outputs depend on, and what they should not: inputs left unused, other examples, the answers."""

from __future__ import annotations

from dataclasses import dataclass

from surefoot.record.decision import Finding, fails, passes, suspect

COPIED = 0.99
"""Share of the tokens from which targets are the inputs themselves. A denoiser whose inputs differ in more than a
hundredth stays under it. Chosen by hand."""
NEXT = 0.75
"""Share of the tokens from which targets are the inputs one position on. In padded sentences the last one never is: of
four words and more the share is above this. Chosen by hand."""


@dataclass(frozen=True)
class InputFacts:
    """What the outputs of a batch depend on, in evaluation mode, with weights moved a little from where they start.

    Attributes:
        unused: names of the tensors of the inputs that change nothing when examples exchange them.
        asked: how many tensors were exchanged; those that are alike in all examples are not.
        mixes: outputs of an example change with the other examples of its batch; None: it could not be seen.
        copied: share of the counted tokens that are the input at their position; None for other targets.
        next_token: share that are the input at the position after theirs; None likewise.
        looks_ahead: outputs change with inputs at later positions; None where that was not asked.
        evaluated_examples: for which outputs were computed.
    """

    unused: tuple[str, ...] = ()
    asked: int = 0
    mixes: bool | None = None
    copied: float | None = None
    next_token: float | None = None
    looks_ahead: bool | None = None
    evaluated_examples: int = 0


def judge_inputs(facts: InputFacts) -> list[Finding]:
    """Judge what outputs depend on.

    >>> [finding.reason for finding in judge_inputs(InputFacts(unused=("mask",), asked=2, mixes=False))]
    ["the model's outputs do not depend on mask"]
    """
    findings = []
    if facts.unused:
        names = ", ".join(facts.unused)
        reason, advice = f"the model's outputs do not depend on {names}", "use it in the model, or leave it out"
        if len(facts.unused) == facts.asked:
            reason = f"the model's outputs depend on none of its inputs: {names}"
        findings.append(suspect("unused-inputs", reason, advice))
    if facts.mixes:
        reason = "the outputs of an example depend on the other examples of its batch, in evaluation mode"
        advice = (
            "look for an axis taken for another: batch_first=True of torch's attention and recurrent layers, reshape "
            "or view in place of permute, a softmax or mean over axis 0"
        )
        findings.append(suspect("mixed-examples", reason, advice))
    if (facts.copied or 0.0) >= COPIED:
        reason = f"{facts.copied:.1%} of the targets are the token at their own position: they can be copied"
        advice = "shift them by one for a next token, labels = ids[:, 1:] with inputs ids[:, :-1], or mask the inputs"
        findings.append(suspect("leak", reason, advice))
    if facts.looks_ahead:
        reason = (
            f"{facts.next_token:.1%} of the targets are the input one position on, and outputs depend on inputs at "
            "later positions: the answers are among the inputs"
        )
        findings.append(fails("leak", reason, "give attention a causal mask, and pad convolutions on the left only"))
    if not findings and facts.asked > 1:
        findings.append(passes("inputs", f"the outputs depend on each of {facts.asked} inputs"))
    if not findings and facts.looks_ahead is False:
        findings.append(passes("inputs", "the targets are the next tokens, and no output looks ahead"))
    return findings
