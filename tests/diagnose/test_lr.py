"""The judge of step 3 on invented losses."""

import math

import numpy as np
import pytest

from surefoot.diagnose import lr as judge

LRS = np.geomspace(1e-4, 1e1, 21)
EDGE = 0.5


def invented(best=0.05, edge=EDGE, seeds=3, lrs=LRS, noise=0.0, steps=40):
    """Losses [R, S, T] that fall to a parabola in log rate around `best`, and diverge from `edge` on."""
    rng = np.random.default_rng(0)
    ends = 0.5 + 0.25 * np.log10(lrs / best) ** 2
    ends = np.minimum(ends, 2.3)
    ramp = np.clip(np.arange(steps) / (steps - 20), 0, 1)
    curves = 2.3 + (ends[:, None, None] - 2.3) * ramp + noise * rng.normal(size=(len(lrs), seeds, steps))
    curves[lrs >= edge] = np.inf
    untrained = 2.3 + noise * rng.normal(size=(seeds, 20))
    return curves, untrained


def scores(**settings):
    return judge.scored(settings.get("lrs", LRS), *invented(**settings))


@pytest.mark.parametrize("best", [0.003, 0.0123, 0.05])
def test_the_low_end_is_the_rate_of_the_grid_nearest_to_the_planted_least_loss(best):
    found = judge.bracket(scores(best=best))
    assert found is not None
    assert found.low == LRS[np.argmin(abs(np.log(LRS / best)))]


def test_the_high_end_is_the_last_rate_before_divergence_and_its_interval_holds_the_edge():
    found = judge.bracket(scores())
    assert found is not None
    assert found.high == LRS[LRS < EDGE].max()
    assert found.high_interval[0] <= EDGE <= found.high_interval[1]
    assert found.lr == pytest.approx(math.sqrt(found.low * found.high))


def test_the_suggestion_keeps_a_margin_to_the_edge_and_is_never_below_the_low_end():
    for best, steps in ((0.056, 3), (0.1, 2), (0.178, 1), (0.316, 0)):  # the last rate before divergence is 0.316
        found = judge.bracket(scores(best=best))
        assert found is not None
        assert found.high / found.low == pytest.approx(judge.MARGIN**steps)
        assert found.lr == pytest.approx(max(found.low, found.high / judge.MARGIN ** max(1, steps / 2)))


def test_the_low_end_goes_down_to_rates_that_seeds_cannot_tell_from_the_best():
    best, far = [2.0, 1.8, 1.8], [0.5, 0.5, 0.5]
    for below, low in (
        ([1.7, 1.5, 1.5], 10),  # worse by 0.3 in every seed: the spread between seeds is no excuse
        ([1.9, 1.9, 1.6], 9),  # worse by 0.07 +- 0.1
        ([1.7, 2.1, 1.5], 9),  # worse by 0.1 +- 0.2
        ([np.nan, 1.8, 1.8], 10),  # one seed diverged
    ):
        drops = np.array([far, below, best, [1.5] * 3, [-1.0] * 3])
        curves = (2.3 - drops)[:, :, None].repeat(20, axis=2)
        seen = judge.scored(LRS[8:13], curves, np.full((3, 20), 2.3))
        found = judge.bracket(seen)
        assert seen.best == 2
        assert found is not None
        assert found.low == LRS[low], below


def test_a_rate_with_less_than_half_of_the_best_drop_is_beyond_the_high_end():
    for share, inside in ((0.6, True), (0.4, False)):
        drops = np.array([1.0, 2.0, share * 2.0, 0.1])
        curves = (2.3 - drops)[:, None, None].repeat(2, axis=1).repeat(20, axis=2)
        found = judge.bracket(judge.scored(LRS[8:12], curves, np.full((2, 20), 2.3)))
        assert found is not None
        assert (found.high == LRS[10]) == inside


def test_one_seed_that_diverges_makes_a_rate_unsafe():
    curves, untrained = invented(edge=1e9)
    at = int(np.searchsorted(LRS, 0.3))
    curves[at:, 1, 30:] = np.inf
    found = judge.bracket(judge.scored(LRS, curves, untrained))
    assert found is not None
    assert found.high < LRS[at]
    assert found.high_interval[1] > LRS[at], "the other seeds' edges are higher, and the interval says so"


def test_no_drop_is_no_bracket_and_a_failure():
    curves, untrained = np.full((5, 3, 40), 2.3), np.full((3, 20), 2.3)
    seen = judge.scored(LRS[:5], curves, untrained)
    assert judge.bracket(seen) is None
    assert judge.judged(seen, None, 40)[0].verdict == "fail"


def test_seeds_that_differ_at_the_best_rate_do_not_hide_the_sure_drop_below_it():
    """At the best rate one seed of three has not come off the plateau yet, as in deep networks without norm."""
    drops = np.array([[0.20, 0.22, 0.18], [1.5, 0.02, 0.02], [-1.0, -1.0, -1.0]])
    seen = judge.scored(LRS[8:11], (2.3 - drops)[:, :, None].repeat(20, axis=2), np.full((3, 20), 2.3))
    found = judge.bracket(seen)
    assert seen.best == 1
    assert found is not None
    assert (found.low, found.high) == (LRS[8], LRS[9])


def test_noise_alone_is_no_drop():
    rng = np.random.default_rng(1)
    curves, untrained = 2.3 + 0.05 * rng.normal(size=(9, 3, 100)), 2.3 + 0.05 * rng.normal(size=(3, 20))
    seen = judge.scored(LRS[:9], curves, untrained)
    found = judge.bracket(seen)
    assert judge.judged(seen, found, 100)[0].verdict in ("suspect", "fail")


def test_everything_diverged_asks_for_lower_rates_and_says_so():
    seen = judge.scored(LRS[-4:], np.full((4, 2, 30), np.inf), np.full((2, 20), 2.3))
    assert max(judge.beyond(seen, 4)) < LRS[-4]
    assert "4 of them diverged" in judge.judged(seen, None, 30)[0].reason


@pytest.mark.parametrize(("best", "edge"), [(0.05, 0.5), (1e-5, 1e-3), (0.01, 1e9), (3.0, 1e9)])
def test_widening_ends_with_the_answer_inside_or_at_the_limits(best, edge):
    lrs = [float(lr) for lr in np.geomspace(1e-4, 1e-1, 13)]
    for _ in range(20):
        seen = scores(best=best, edge=edge, lrs=np.array(lrs))
        more = judge.beyond(seen, 4)
        if not more:
            break
        lrs = sorted({*lrs, *more})
    assert not more
    assert min(lrs) >= judge.LIMITS[0] * 0.99
    assert max(lrs) <= judge.LIMITS[1] * 1.01
    found = judge.bracket(seen)
    assert found is not None
    assert abs(math.log10(found.low / best)) <= 0.125 + 1e-9, "the nearest of four rates a decade"


def test_seeds_far_apart_are_suspect_and_one_seed_alone_too():
    curves, untrained = invented(edge=1e9)
    for seed, edge in enumerate((0.1, 3.0, 3.0)):
        curves[edge <= LRS, seed] = 2.5
    seen = judge.scored(LRS, curves, untrained)
    named = {each.name: each.verdict for each in judge.judged(seen, judge.bracket(seen), 40)}
    assert named["seeds-agree"] == "suspect"
    alone = scores(seeds=1)
    named = {each.name: each.verdict for each in judge.judged(alone, judge.bracket(alone), 40)}
    assert named["seeds-agree"] == "suspect"


def test_a_wider_spread_of_seeds_widens_the_interval():
    quiet, noisy = judge.bracket(scores(noise=0.001)), judge.bracket(scores(noise=0.2))
    assert quiet is not None
    assert noisy is not None
    assert math.log(quiet.low_interval[1] / quiet.low_interval[0]) < math.log(
        noisy.low_interval[1] / noisy.low_interval[0]
    )


def test_losses_below_zero_are_judged_by_their_drop():
    curves, untrained = invented()
    found, shifted = (judge.bracket(judge.scored(LRS, curves - by, untrained - by)) for by in (0.0, 10.0))
    assert found is not None
    assert shifted is not None
    assert found.high == shifted.high
    assert found.low == pytest.approx(shifted.low, rel=1e-6)


def test_words():
    found = judge.bracket(scores())
    assert judge.word(0.05, 1.8, 1.8, found) == "drops"
    assert judge.word(5.0, 0.1, 1.8, found) == "too high"
    assert judge.word(1e-4, -0.01, 1.8, found) == "does not drop"


def test_a_grid_that_was_cut_blames_the_budget_and_not_the_model():
    rising = scores(best=0.003, lrs=LRS[:6])
    for cut, words in ((False, "not usual"), (True, "no more updates were granted")):
        inside = next(
            x for x in judge.judged(rising, judge.bracket(rising), 40, cut=cut) if x.name == "inside-the-grid"
        )
        assert inside.verdict == "suspect"
        assert words in inside.advice
