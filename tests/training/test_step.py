import pytest
import torch
import torch.nn.functional as F
from small import bits, images
from torch import nn

from surefoot.config import Recipe, Schedule
from surefoot.data.batches import batch_indices, fetch
from surefoot.optim.plan import plan
from surefoot.seeds import StepSeeds
from surefoot.training.alone import Alone
from surefoot.training.loop import start
from surefoot.training.make import task
from surefoot.training.step import Stretch, gradient


def begun(**recipe):
    work = task(images(), "mlp", seed=2)
    made = plan(Recipe(**{"steps": 4, "batch_size": 12, "schedule": Schedule(kind="constant")} | recipe), 60)
    return work, made, start(work, made)


def step(work, made, state, lr, *, measure_update=False):
    stretch = Stretch(0, state.step, [lr], measure_update)
    with StepSeeds(work.seed, "step") as seeds:
        Alone(work, made, state).run([stretch], seeds)
    return stretch


def batch(work, at: int = 0):
    epoch, indices = batch_indices(60, 12, work.seed, at)
    return fetch(work.data, work.data.train, indices, seed=work.seed, epoch=epoch)


def test_what_a_step_sees_is_what_the_batch_says():
    work, made, state = begun(momentum=0.0, weight_decay=0.0, lr=0.05)
    x, y = batch(work)
    model = work.fresh_model()
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    norm = torch.cat([grad.flatten() for grad in grads]).norm().item()
    size = torch.cat([p.detach().flatten() for p in model.parameters()]).norm().item()
    seen = step(work, made, state, 0.05, measure_update=True)
    assert seen.losses == pytest.approx([loss.item()], rel=1e-6)
    assert seen.correct == int((logits.argmax(1) == y).sum())
    assert seen.grad_norms == pytest.approx([norm], rel=1e-5)
    assert seen.update_ratio == pytest.approx(0.05 * norm / size, rel=1e-3)
    named = {name.removesuffix(".weight"): i for i, (name, p) in enumerate(model.named_parameters()) if p.dim() > 1}
    assert list(seen.layers) == list(named)
    for name, i in named.items():
        own, weight = grads[i].norm().item(), list(model.parameters())[i].norm().item()
        assert seen.layers[name] == pytest.approx((own, 0.05 * own / weight), rel=1e-3)
    assert state.step == 0, "the loop counts, and not the step"
    assert all(p.grad is None for p in state.model.parameters())


def test_measuring_the_update_does_not_change_it():
    results = []
    for measured in (True, False):
        work, made, state = begun(clip_norm=0.5)
        seen = step(work, made, state, 0.1, measure_update=measured)
        assert (seen.update_ratio is None) == (not measured)
        results.append([bits(value) for value in state.model.state_dict().values()])
    assert results[0] == results[1]


def test_the_norm_is_that_before_clipping_and_the_update_that_after():
    free, clipped = (begun(momentum=0.0, weight_decay=0.0, clip_norm=c) for c in (None, 0.1))
    seen = [step(*each, 1.0, measure_update=True) for each in (free, clipped)]
    assert seen[0].grad_norms == seen[1].grad_norms
    assert seen[0].grad_norms[0] > 0.1
    assert seen[1].update_ratio / seen[0].update_ratio == pytest.approx(0.1 / seen[0].grad_norms[0], rel=1e-3)


def test_a_gradient_left_on_the_model_is_not_added():
    work, made, state = begun()
    clean = gradient(work, made, state)[2]
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    again = gradient(work, made, state)[2]
    assert [bits(grad) for grad in again] == [bits(grad) for grad in clean]


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(poison):
    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x * 1 if poison == "gradient" else x * float("nan")

        @staticmethod
        def backward(context, grad):
            return grad * float("inf")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(192, 3)

        def forward(self, x):
            return Poisoned.apply(self.head(self.norm(x).flatten(1)))

    work = task(images(), Model())
    made = plan(Recipe(steps=4, batch_size=12), 60)
    state = start(work, made)
    before = {name: bits(value) for name, value in state.model.state_dict().items()}
    seen = step(work, made, state, 0.1, measure_update=True)
    assert (seen.failed, seen.done, seen.correct) == (True, 0, 0)
    assert {name: bits(value) for name, value in state.model.state_dict().items()} == before
    assert state.slots == {}


@pytest.mark.parametrize(
    ("loss", "norm", "finite"),
    [
        (1, 1, True),
        (float("nan"), 1, False),
        (float("inf"), 1, False),
        (1, float("inf"), False),
        (1, float("nan"), False),
    ],
)
def test_finite_means_loss_and_gradient(loss, norm, finite):
    stretch = Stretch(0, 5, [0.1] * 3, losses=[1.0, loss], grad_norms=[1.0, norm])
    assert (stretch.failed, stretch.done) == (not finite, 1 + finite)


def test_biases_and_norms_are_left_out_of_decay_on_request():
    moved = {}
    for decay_on in ("all", "weights"):
        work, made, state = begun(weight_decay=0.5, decay_on=decay_on, momentum=0.0)
        with torch.no_grad():
            state.model.head.bias.fill_(1.0)
        step(work, made, state, 0.1)
        moved[decay_on] = state.model.head.bias.mean().item()
    assert moved["all"] == pytest.approx(moved["weights"] - 0.1 * 0.5, abs=1e-4)


def test_the_model_is_computed_in_bf16_and_the_weights_stay_fp32():
    dtypes = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x):
            out = self.head(x.flatten(1))
            dtypes.append(out.dtype)
            return out

    work = task(images(), Watching(), precision="bf16")
    made = plan(Recipe(steps=2, batch_size=12), 60)
    state = start(work, made)
    step(work, made, state, 0.1)
    assert set(dtypes) == {torch.bfloat16}
    assert state.model.head.weight.dtype == torch.float32
    assert state.slots["velocity"][0].dtype == torch.float32
