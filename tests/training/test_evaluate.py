import contextlib
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import BatchNormDropoutNet, bits, images, number_arrays
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import surefoot
from surefoot.data.batches import fetch
from surefoot.training import evaluate
from surefoot.training.evaluate import evaluate_part, evaluation_mode, outputs_of
from surefoot.training.make import task


@pytest.fixture(scope="module")
def work():
    return task(images(), BatchNormDropoutNet, seed=1, precision="fp32", augment=["flip"])


def test_it_is_mean_loss_and_share_of_right_answers_without_dropout_augmentation_or_smoothing(work):
    model = work.fresh_model()
    part = work.data.test
    x, y = fetch(work.data, part, np.arange(len(part)))
    reference = work.fresh_model().eval()
    logits = reference(x).detach()
    found = evaluate_part(work, model, model.state_dict(), part)
    assert found.loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-6)
    assert found.accuracy == int((logits.argmax(1) == y).sum()) / 21
    assert found.examples == 21


@pytest.mark.parametrize("at_once", [1, 4, 20, 21, 1000])
def test_how_many_are_evaluated_at_once_does_not_matter(at_once, work, monkeypatch):
    model = work.fresh_model()
    whole = evaluate_part(work, model, model.state_dict(), work.data.test)
    monkeypatch.setattr(evaluate, "_BATCH_EXAMPLES", at_once)
    pieces = evaluate_part(work, model, model.state_dict(), work.data.test)
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-6)
    assert (pieces.accuracy, pieces.examples) == (whole.accuracy, whole.examples)


def test_it_judges_the_weights_that_it_is_given_and_not_those_of_the_model(work):
    model = work.fresh_model()
    weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    found = evaluate_part(work, model, weights, work.data.test)
    assert found.loss == pytest.approx(float(np.log(3)), rel=1e-6)
    assert bits(model.head.weight) == bits(work.template.head.weight)


def test_it_changes_neither_buffers_nor_modes_nor_gradients(work):
    model = work.fresh_model().train()
    model.norm.eval()
    before = {name: bits(value) for name, value in model.state_dict().items()}
    evaluate_part(work, model, model.state_dict(), work.data.test)
    assert {name: bits(value) for name, value in model.state_dict().items()} == before
    assert (model.training, model.norm.training, model.drop.training) == (True, False, True)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_modes_come_back_after_an_exception(work):
    model = work.fresh_model().train()
    with contextlib.suppress(KeyError), evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert all(module.training for module in model.modules())


def test_outputs_come_in_order_and_in_fp32():
    bf16 = task(images(), BatchNormDropoutNet, precision="bf16")
    model = bf16.fresh_model()
    pairs = list(outputs_of(bf16, model, model.state_dict(), bf16.data.test))
    assert all(outputs.dtype == torch.float32 for outputs, _ in pairs)
    assert torch.equal(torch.cat([targets for _, targets in pairs]), bf16.data.test.y)


def test_a_regression_has_no_accuracy():
    data = surefoot.load(number_arrays(), target="numbers")
    work = task(data, "linear")
    model = work.fresh_model()
    found = evaluate_part(work, model, model.state_dict(), data.train)
    assert found.accuracy is None
    variance = data.train.y.var(correction=0).item()  # the weights begin at zero, which answers the mean
    assert found.loss == pytest.approx(variance, rel=1e-5)


def test_tied_weights_are_judged():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(192, 192), nn.Linear(192, 192), nn.Linear(192, 3)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.head(self.b(self.a(x.flatten(1))))

    work = task(images(), Tied())
    model = work.fresh_model()
    x, y = fetch(work.data, work.data.test, np.arange(21))
    found = evaluate_part(work, model, {k: v.clone() for k, v in model.state_dict().items()}, work.data.test)
    assert found.loss == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-5)


def test_between_two_batches_nothing_of_the_callers_is_changed(work, monkeypatch):
    monkeypatch.setattr("surefoot.training.evaluate._BATCH_EXAMPLES", 5)
    model = work.fresh_model().train()
    outputs = outputs_of(work, model, model.state_dict(), work.data.train)
    next(outputs)
    assert torch.is_grad_enabled()
    assert all(module.training for module in model.modules())
    assert not next(outputs)[0].requires_grad


@pytest.mark.parametrize(
    ("y", "loss", "answers"),
    [
        ("counts", nn.PoissonNLLLoss(), False),
        ("yes", nn.BCEWithLogitsLoss(), False),
        ("signs", nn.SoftMarginLoss(), False),
        ("signs", nn.HingeEmbeddingLoss(), False),
        ("shares", nn.KLDivLoss(reduction="batchmean"), False),
        ("shares", nn.CrossEntropyLoss(), False),
        ("counts", nn.PoissonNLLLoss(log_input=False), True),
        ("counts", nn.MSELoss(reduction="sum"), True),
        ("counts", nn.L1Loss(), True),
        ("signs", nn.HuberLoss(), True),
        ("shares", lambda out, y: torch.maximum(0.9 * (y - out), 0.1 * (out - y)), True),
    ],
)
def test_only_outputs_that_are_meant_to_equal_the_targets_are_scored_against_them(y, loss, answers, tmp_path):
    x = torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    given = {
        "counts": (1 + x[:, 0].exp()).round(),
        "yes": (x[:, 0] > 0).float(),
        "signs": x[:, 0].sign(),
        "shares": x.softmax(1),
    }[y]
    result = surefoot.train((x, given), "linear", loss=loss, target="numbers", epochs=1, lr=1e-3, runs_dir=tmp_path)
    assert (result.summary["baseline"] is not None) == answers
    assert (result.folder / "scores.json").exists() == answers


@pytest.mark.parametrize("most", [20, 5, 1])
def test_where_memory_is_too_small_examples_are_evaluated_in_smaller_pieces(most, work):
    model = work.fresh_model()
    whole = evaluate_part(work, model, model.state_dict(), work.data.test)

    def forward(x):
        if len(x) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return type(model).forward(model, x)

    model.forward = forward
    kept = []
    pieces = evaluate_part(work, model, model.state_dict(), work.data.test, kept)
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-6)
    assert (pieces.accuracy, pieces.examples) == (whole.accuracy, 21)
    assert torch.equal(torch.cat([y for _, y in kept]), work.data.test.y), "each once, in order"


def test_another_error_in_evaluation_is_passed_on(work):
    model = work.fresh_model()
    model.forward = lambda x: (_ for _ in ()).throw(RuntimeError("shapes"))
    with pytest.raises(RuntimeError, match="shapes"):
        evaluate_part(work, model, model.state_dict(), work.data.test)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_accuracy_of_tokens_is_of_those_that_count_however_they_are_batched(at_once, monkeypatch):
    y = torch.arange(40).reshape(20, 2) % 3
    y[:4], y[5:9, 0] = -100, -100
    x = torch.nn.functional.one_hot(torch.arange(40).reshape(20, 2) // 2 % 3, 3).float()
    work = task(surefoot.load((x, y), target="tokens", validation=0), Scaled, seed=0)
    monkeypatch.setattr(evaluate, "_BATCH_EXAMPLES", at_once)
    model = work.fresh_model()
    found = evaluate_part(work, model, model.state_dict(), work.data.train)
    counted = y != -100
    share = ((x.argmax(-1) == y) & counted).sum() / counted.sum()
    assert found.accuracy == pytest.approx(float(share), abs=1e-6)


def test_a_part_in_which_nothing_counts_has_no_score_and_stops_nothing(tmp_path):
    x, y = torch.rand(20, 2, 3), torch.arange(40).reshape(20, 2) % 3
    data = {"train": (x, y), "validation": (torch.rand(4, 2, 3), torch.full((4, 2), -100))}
    result = surefoot.train(data, Scaled, target="tokens", choose_by="accuracy", epochs=1, runs_dir=tmp_path)
    assert (result.summary["val_accuracy"], result.summary["val_loss"], result.summary["best"]) == (None, None, None)
    assert any("is not defined at step" in note for note in result.notes)


class Scaled(nn.Module):
    """Gives its inputs back, as logits."""

    def __init__(self, outputs):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, x):
        return x * self.scale


class Reads(TorchDispatchMode):
    """Counts numbers that are read back: each waits on a card for all that is computed."""

    count = 0

    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("target", ["classes", "tokens"])
def test_no_batch_reads_a_number_back(target, work, monkeypatch):
    if target == "tokens":
        y = torch.arange(40).reshape(20, 2) % 3
        work = task(surefoot.load((torch.rand(20, 2, 3), y), target="tokens", validation=0), Scaled)
    model, counts = work.fresh_model(), []
    for at_once in (1000, 3):
        monkeypatch.setattr(evaluate, "_BATCH_EXAMPLES", at_once)
        with Reads() as reads:
            evaluate_part(work, model, model.state_dict(), work.data.train)
        counts.append(reads.count)
    assert counts[0] == counts[1] <= 4


def test_on_a_card_more_examples_are_evaluated_at_once_as_far_as_its_memory_goes(work, monkeypatch):
    card = dataclasses.replace(work, machine=dataclasses.replace(work.machine, device=torch.device("cuda")))
    assert evaluate.examples_at_once(work) == 1000
    for memory, at_once in ((80 * 2**30, 4096), (2**30, 2**27 // (4 * 64 * 192)), (1, 1)):
        monkeypatch.setattr(evaluate, "total_bytes", lambda _, memory=memory: memory)
        assert evaluate.examples_at_once(card) == at_once
