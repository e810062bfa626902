import pytest

from surefoot.steps.wiring.judge_inputs import COPIED, InputFacts, judge_inputs


@pytest.mark.parametrize(
    ("changed", "name", "verdict", "words"),
    [
        ({"unused": ("mask",), "asked": 2}, "unused-inputs", "suspect", "do not depend on mask"),
        ({"unused": ("a", "b.c"), "asked": 2}, "unused-inputs", "suspect", "depend on none of its inputs: a, b.c"),
        ({"mixes": True}, "mixed-examples", "suspect", "other examples of its batch"),
        ({"copied": COPIED, "next_token": 0.1}, "leak", "suspect", "99.0% of the targets are the token at their own"),
        ({"next_token": 1.0, "looks_ahead": True}, "leak", "fail", "the answers are among the inputs"),
        ({"asked": 2}, "inputs", "pass", "on each of 2 inputs"),
        ({"copied": 0.1, "next_token": 1.0, "looks_ahead": False}, "inputs", "pass", "no output looks ahead"),
    ],
)
def test_each_fact_has_its_finding(changed, name, verdict, words):
    (finding,) = judge_inputs(InputFacts(**changed))
    assert (finding.name, finding.verdict) == (name, verdict)
    assert words in finding.reason
    assert verdict == "pass" or finding.advice


def test_several_faults_are_several_findings_and_what_was_not_asked_is_none():
    found = judge_inputs(InputFacts(unused=("a",), asked=2, mixes=True, next_token=1.0, looks_ahead=True))
    assert [finding.name for finding in found] == ["unused-inputs", "mixed-examples", "leak"]
    assert judge_inputs(InputFacts()) == []
    assert judge_inputs(InputFacts(mixes=False, copied=0.98, next_token=0.2)) == []
