"""The maps of trials: what a cell says, how many cells there are, and when each trial is drawn by itself."""

import pytest
import vl_convert

from surefoot.config import Recipe
from surefoot.record.decision import Decision
from surefoot.record.trial import Trial, TrialResult
from surefoot.report.maps import map_cells, map_chart


def tried(lr, loss, *, decay=1e-3, seed=0, momentum=0.9):
    trial = Trial(stage="refine", recipe=Recipe(lr=lr, weight_decay=decay, momentum=momentum), seed=seed, share=0.1)
    return TrialResult(trial=trial, outcome="diverged" if loss is None else "finished", examples=10, train_loss=loss,
                 val_loss=loss, val_accuracy=None, seconds=1.0)  # fmt: skip


def decision(**value):
    return Decision(step=5, name="refine", verdict="pass", claim="c", reason="r", value=value, evidence={}, seconds=1.0)


def random_search(count):
    """Recipes that share no coordinate, as a search at random has them."""
    momenta = (0.0, 0.8, 0.9)
    return [
        tried((1 - momenta[i % 3]) * 1.1**i, 1 + i / 10, decay=1e-4 * 1.2 ** (i * 7 % count), momentum=momenta[i % 3])
        for i in range(count)
    ]


def test_a_cell_has_mean_spread_and_number_in_decoupled_coordinates():
    (cell,) = map_cells([tried(0.1, 1.0), tried(0.1, 2.0, seed=1), tried(0.1, None, seed=2)])
    assert cell["lr"] == "1", "lr / (1 - momentum)"
    assert cell["decay"] == "0.0001", "lr x weight decay"
    assert (cell["mean"], cell["spread"], cell["runs"], cell["diverged"]) == (1.5, 0.5, 3, 1)
    assert cell["label"].split("\n") == ["1.5", "±0.5", "n = 3"]
    assert cell["lines"] == 3


def test_rates_that_make_the_same_step_in_the_long_run_share_a_column():
    cells = map_cells([tried(0.1, 1.0, momentum=0.9), tried(0.5, 1.0, momentum=0.5)])
    assert {cell["lr"] for cell in cells} == {"1"}


def test_letters_are_white_on_the_dark_half_of_the_colours_alone():
    cells = {cell["lr"]: cell for cell in map_cells([tried(0.1, 0.1), tried(0.2, 1.0), tried(0.3, None)])}
    assert [cells[lr]["dark"] for lr in ("1", "2", "3")] == [False, True, False]
    assert cells["3"]["label"] == "diverged"


def test_columns_stand_in_the_order_of_their_rates():
    _, caption, chart = map_chart(decision(), [tried(10.0, 1.0), tried(0.2, 1.5)])
    assert chart.to_dict()["layer"][0]["encoding"]["x"]["sort"] == ["2", "100"]
    assert caption.startswith("2 short trainings.")
    assert map_chart(decision(), [tried(0.1, 1.0)])[1].startswith("1 short training.")
    assert map_chart(decision(), []) is None


@pytest.mark.parametrize("count", [9, 12, 48, 200])
def test_a_search_at_random_gets_cells_of_several_trials_and_loses_none(count):
    trials = random_search(count)
    cells = map_cells(trials)
    assert sum(cell["runs"] for cell in cells) == count
    columns, rows = {cell["lr"] for cell in cells}, {cell["decay"] for cell in cells}
    assert max(len(columns), len(rows)) <= 6, "a page is not wide enough for more"
    assert max(cell["runs"] for cell in cells) > 1
    assert all("\N{EN DASH}" in column for column in columns)
    best = min(trials, key=lambda each: each.val_loss).trial.recipe
    assert any(cell["best"].startswith(f"lr {best.lr:g}, ") for cell in cells)


def test_without_weight_decay_there_is_a_band_of_its_own():
    cells = map_cells([*random_search(20), tried(0.1, 1.0, decay=0.0)])
    assert {cell["decay"] for cell in cells} >= {"0"}


def test_each_trial_stands_against_both_coordinates_in_the_colour_of_its_momentum():
    trials = random_search(12)
    chart = map_chart(decision(lr=0.5, momentum=0.5, weight_decay=0.01), trials)[2].to_dict()
    _, against_step, against_shrink = chart["vconcat"]
    for panel, field, chosen in ((against_step, "step", 1.0), (against_shrink, "shrink", 0.005)):
        points, mark, _ = panel["layer"]
        assert len(points["data"]["values"]) == 12
        assert points["encoding"]["color"]["field"] == "momentum"
        assert points["encoding"]["x"]["field"] == field
        assert mark["data"]["values"][0][field] == pytest.approx(chosen)
    assert vl_convert.vegalite_to_svg(chart).startswith("<svg")


def test_one_momentum_needs_no_colours_and_no_decay_no_axis_of_it():
    assert "vconcat" not in map_chart(decision(), [tried(0.1, 1.0), tried(0.2, 1.5)])[2].to_dict()
    trials = [tried(0.1, 1.0, decay=0.0, momentum=0.9), tried(0.3, 1.5, decay=0.0, momentum=0.8)]
    assert len(map_chart(decision(), trials)[2].to_dict()["vconcat"]) == 2
