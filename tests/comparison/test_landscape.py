"""The slice through paths: its plane is that of their main directions, and its losses those of the model there."""

import numpy as np
import pytest
import small
import torch

import surefoot
from surefoot.comparison.landscape import grid_of, losses_on, plane_through
from surefoot.comparison.runs import flat
from surefoot.config import Recipe
from surefoot.record.progress import Progress, finished
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import start


def test_points_on_a_plane_lie_on_it():
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(30, 2)))
    inside = rng.normal(size=(12, 2)) * [5.0, 1.0]
    points = torch.from_numpy(inside @ axes.T + rng.normal(size=30))
    made = plane_through([points[:5], points[5:]])
    assert sum(made.shares) == pytest.approx(1)
    assert made.shares[0] > made.shares[1] > 0
    torch.testing.assert_close(made.axes @ made.axes.T, torch.eye(2, dtype=torch.float64))
    back = made.origin + torch.cat(made.paths) @ made.axes
    torch.testing.assert_close(back, points)


def test_shares_are_those_of_the_singular_values():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 6)))
    made = plane_through([points])
    values = torch.linalg.svdvals(points - points.mean(0)).square()
    assert made.shares == pytest.approx((values[:2] / values.sum()).tolist())


def test_the_grid_holds_the_paths_with_a_margin_and_one_scale():
    a, b = grid_of([torch.tensor([[0.0, 0.0], [4.0, 1.0]])], 5)
    assert a[0] < 0 < 4 < a[-1]
    assert b[0] < 0 < 1 < b[-1]
    assert a[1] - a[0] == pytest.approx(b[1] - b[0])


@pytest.mark.parametrize("model", ["linear", small.BatchNormDropoutNet])
def test_the_loss_at_a_point_of_the_grid_is_that_of_the_weights_there(model):
    task = surefoot.task(small.images(), model, precision="fp32", threads=1)
    state = start(task, surefoot.plan(Recipe(steps=1, batch_size=10), task.data.examples))
    first = flat(state.model)
    other = first + torch.from_numpy(np.random.default_rng(0).normal(size=(2, len(first))).astype(np.float32)) * 0.1
    plane = plane_through([torch.stack([first, *other])])
    at = plane.paths[0][0]
    buffers = {name: value.clone() for name, value in state.model.named_buffers()}
    grid = at[:1].numpy(), at[1:].numpy()
    seen = finished(losses_on(task, state, plane, grid, task.data.train, Progress(0, 0)))
    assert seen.shape == (1, 1)
    if model == "linear":
        wanted = evaluate_part(task, state.model, state.weights, task.data.train).loss
        assert seen[0, 0] == pytest.approx(wanted, rel=1e-5)
    assert np.isfinite(seen).all()
    for name, value in state.model.named_buffers():
        assert torch.equal(value, buffers[name]), "the statistics of batch norm are not written to"
