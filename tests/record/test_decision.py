"""A decision speaks through the gravest of its findings, and comes back from JSON as it was."""

import json
import math

import pytest

from surefoot.record.decision import Decision, Finding, decision, fails, passes, suspect, worst

GOOD, ODD, BAD = passes("a", "fine"), suspect("b", "odd", "look"), fails("c", "broken", "mend")


def test_a_decision_has_the_reason_and_advice_of_its_gravest_finding():
    made = decision(0, "wiring", "it fits", [GOOD, ODD, BAD], value={"x": 1})
    assert (made.verdict, made.reason, made.advice, made.value) == ("fail", "broken", "mend", {"x": 1})
    assert decision(0, "wiring", "it fits", [GOOD, ODD]).reason == "odd"
    passed = decision(0, "wiring", "it fits", [GOOD], reason="all 1 checks passed")
    assert (passed.verdict, passed.reason, passed.advice) == ("pass", "all 1 checks passed", None)


def test_of_equally_grave_findings_the_first_speaks():
    assert decision(0, "wiring", "it fits", [GOOD, suspect("d", "first", "look"), ODD]).reason == "first"


def test_a_decision_comes_back_from_json_and_what_is_not_finite_as_none():
    made = decision(1, "initial-loss", "chance", [GOOD, BAD], evidence={"loss": math.nan, "losses": (1.0, math.inf)})
    back = Decision.from_dict(made.to_dict())
    assert back.findings == made.findings
    assert back.evidence == {"loss": None, "losses": [1.0, None]}


FINDING = Finding(name="a", verdict="suspect", reason="it is odd")


def test_a_decision_comes_back_from_json_and_what_is_not_finite_is_none():
    decision = Decision(
        step=3, name="lr", claim="a rate is found", verdict="pass", reason="it is", value={"lr": 0.1},
        findings=(FINDING,), evidence={"losses": [1.0, math.inf], "pairs": [[1, 2]]}, seconds=1.5,
    )  # fmt: skip
    plain = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    back = Decision.from_dict(plain)
    assert back.evidence == {"losses": [1.0, None], "pairs": [[1, 2]]}
    assert back.findings == (FINDING,)
    assert (back.value, back.seconds, back.passed) == ({"lr": 0.1}, 1.5, True)
    assert back.to_dict() == plain
    assert (
        Decision.from_dict({name: plain[name] for name in ("step", "name", "claim", "verdict", "reason")}).findings
        == ()
    )


@pytest.mark.parametrize("values", [{}, {"step": 1}, {"unknown": 1}])
def test_what_is_no_decision_is_not_read_as_one(values):
    with pytest.raises(TypeError):
        Decision.from_dict(values)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [((), "pass"), (("pass", "suspect"), "suspect"), (("fail", "suspect", "pass"), "fail")],
)
def test_the_gravest_verdict_counts(verdicts, expected):
    assert worst([Finding(name="a", verdict=verdict, reason="r") for verdict in verdicts]) == expected
