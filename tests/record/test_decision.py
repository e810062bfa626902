"""Decisions go through JSON, and the worst finding speaks for all."""

import json
import math

import pytest

from surefoot.record.decision import Decision, Finding, worst

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
