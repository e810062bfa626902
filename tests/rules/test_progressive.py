import pytest

from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.rules.progressive import side_at, stages_of


def test_a_stage_holds_until_its_share_of_the_run():
    stages = stages_of(["4:0.3", "6:0.5"])
    assert [side_at(stages, step, 10) for step in range(10)] == [4] * 3 + [6] * 2 + [None] * 5
    assert [side_at((), step, 3) for step in range(3)] == [None] * 3


def test_a_shorter_run_is_a_complete_small_one():
    stages = stages_of(["4:0.25", "6:0.5"])
    assert [side_at(stages, step, 4) for step in range(4)] == [4, 6, None, None]


@pytest.mark.parametrize(
    "given",
    [["4"], ["4:"], ["4:0"], ["4:1"], ["4:1.5"], ["4:nan"], ["0:0.5"], ["x:0.5"], ["4.5:0.5"], ["4:0.5", "6:0.4"],
     ["6:0.3", "4:0.5"], ["4:0.3", "4:0.5"], [""]],
)  # fmt: skip
def test_what_is_no_stage_or_does_not_rise_is_refused(given):
    with pytest.raises(ConfigError, match=r"progressive_resizing .* both rise. Write for example"):
        Recipe(progressive_resizing=tuple(given))


def test_a_recipe_holds_stages_as_text():
    assert Recipe(progressive_resizing=("16:0.25", "20:0.5")).progressive_resizing == ("16:0.25", "20:0.5")
