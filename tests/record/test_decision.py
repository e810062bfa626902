"""A decision speaks through the gravest of its findings, and comes back from JSON as it was."""

import math

from surefoot.record.decision import Decision, decision, fails, passes, suspect

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
