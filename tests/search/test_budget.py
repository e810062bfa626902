import pytest

from surefoot.errors import ConfigError
from surefoot.search.budget import AROUND_SECONDS, RESERVE, Budget, Ledger, budget


@pytest.mark.parametrize(
    ("text", "seconds", "trainings"),
    [("90s", 90, None), ("5m", 300, None), ("1.5h", 5400, None), (" 2x ", None, 2), (".5x", None, 0.5), (20, 20, None)],
)
def test_a_budget_is_a_time_or_a_multiple(text, seconds, trainings):
    assert budget(text) == Budget(seconds=seconds, trainings=trainings)


@pytest.mark.parametrize("text", ["", "5", "5 apples", "-5m", "0x", "m", "1e3s", "nan", "inf", 0, -3.0])
def test_anything_else_is_refused_with_what_is_allowed(text):
    with pytest.raises(ConfigError, match=r"90s, 5m or 1\.5h, or a multiple"):
        budget(text)


def test_the_text_of_a_budget_means_the_same_budget():
    for text in ("5m", "2x", "0.25x", "90s"):
        assert budget(str(budget(text))) == budget(text)


def test_examples_are_counted_against_the_final_training():
    ledger = Ledger(budget("2x"), final_examples=1000)
    ledger.spend("grid", 500, 3.0)
    ledger.spend("grid", 250, 1.0)
    ledger.spend("refine", 250, 9.0)
    assert (ledger.left, ledger.cost) == (1.0, 1.0)
    assert ledger.parts == {"grid": (750, 4.0), "refine": (250, 9.0)}


def test_time_is_kept_back_for_the_final_training_and_a_reserve():
    ledger = Ledger(budget("100s"), final_examples=10, final_seconds=20.0)
    ledger.spend("grid", 5, 35.0)
    assert ledger.left == pytest.approx((100 * (1 - RESERVE) - AROUND_SECONDS - 35 - 20) / 20)
    ledger.spend("grid", 5, 100.0)
    assert ledger.left < 0
