import pytest

from surefoot.diagnose import costs
from surefoot.record.decision import Decision


def decision(**evidence):
    return Decision(step=0, name="any", claim="any", verdict="pass", reason="any", evidence=evidence)


@pytest.mark.parametrize(
    ("cost", "evidence", "expected"),
    [
        (costs.counted, {"trained_examples": 640, "evaluated_examples": 100}, 640 + 34),  # a third, rounded up
        (costs.counted, {"trained_examples": 640}, 640),
        (costs.counted, {}, 0),  # model and data do not fit: nothing was trained
        (costs.batch_size,
         {"steps": 200, "batch_size": 64, "sizes": [{"batch_size": 128, "step_seconds": [0.1, 0.1]}],
          "races": [{"batch_size": 128, "reached": None, "limit": 50}, {"batch_size": 96, "reached": 7, "limit": 60}]},
         2 * 200 * 64 + 2 * 128 + 128 * 50 + 96 * 7),
    ],
)  # fmt: skip
def test_a_step_costs_what_its_evidence_says(cost, evidence, expected):
    assert cost(decision(**evidence)) == expected
