import pytest

from surefoot.record.decision import Decision
from surefoot.search import costs


def decision(**evidence):
    return Decision(step=0, name="any", claim="any", verdict="pass", reason="any", evidence=evidence)


@pytest.mark.parametrize(
    ("cost", "evidence", "expected"),
    [
        (costs.wiring, {"dependence": {"steps": 10}}, 3 * 64 * 10 + 1000),
        (costs.wiring, {"dependence": None}, 1000),
        (costs.initial_loss, {"examples": 640}, 640),
        (costs.overfit, {"sample": {"batch_size": 16}, "runs": [{"steps": [5, 80]}, {"steps": []}]}, 80 * 16),
        (costs.bracket, {"rates": [{"final_losses": [1, 2]}, {"final_losses": [1]}], "steps": 100, "batch_size": 8},
         3 * 100 * 8),
        (costs.bracket, {"rates": [], "range_test": {}, "steps": 100, "batch_size": 8}, 100 * 8),
        (costs.batch_size,
         {"steps": 200, "batch_size": 64, "sizes": [{"batch_size": 128, "step_seconds": [0.1, 0.1]}],
          "races": [{"batch_size": 128, "reached": None, "limit": 50}, {"batch_size": 96, "reached": 7, "limit": 60}]},
         2 * 200 * 64 + 2 * 128 + 128 * 50 + 96 * 7),
    ],
)  # fmt: skip
def test_a_step_costs_what_its_evidence_says(cost, evidence, expected):
    assert cost(decision(**evidence)) == expected
