"""Scores of labels, pixels and tokens, counted by the batch, against all at once; and a model beside the shares."""

import base64
import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn import metrics as sk
from target_kinds import kinds, masks, tokens
from torch import nn

import surefoot
from surefoot.data import mapped
from surefoot.data.dataset import IGNORED
from surefoot.record.scores import read_scores
from surefoot.training import evaluate
from surefoot.training.answers import prior_of
from surefoot.training.evaluate import answer_counts, evaluate_part, outputs_of
from surefoot.training.task import task


def counted(kind, monkeypatch=None, **more):
    data, model = kinds()[kind]
    work = task(surefoot.load(data, target=kind), model, **more)
    part, model = work.data.train, work.fresh_model()
    outputs, y = (torch.cat(side) for side in zip(*outputs_of(work, model, model.state_dict(), part), strict=True))
    if monkeypatch is not None:
        monkeypatch.setattr(evaluate, "_BATCH_EXAMPLES", 5)
    counts = answer_counts(work, len(part))
    seen = evaluate_part(work, model, model.state_dict(), part, counts=counts)
    return work, counts, seen, outputs, y


@pytest.mark.parametrize("kind", ["segmentation", "tokens"])
def test_pixels_and_tokens_that_do_not_count_are_in_no_number(kind, monkeypatch):
    _, counts, seen, outputs, y = counted(kind, monkeypatch)
    scores = counts.scores("here", seen.examples, seen.loss)
    axis = 1 if kind == "segmentation" else -1
    used = y != IGNORED
    true, guessed = y[used], outputs.argmax(axis)[used]
    assert scores.answers == int(used.sum()) < y.numel()
    assert scores.accuracy.value == pytest.approx(float((true == guessed).double().mean()))
    assert scores.accuracy.low < scores.accuracy.value < scores.accuracy.high
    assert sum(each.support for each in scores.per_class) == scores.answers
    assert [each.iou for each in scores.per_class] == pytest.approx(
        sk.jaccard_score(true, guessed, average=None, zero_division=0)
    )
    if kind == "segmentation":
        assert scores.metrics["iou"] == pytest.approx(sk.jaccard_score(true, guessed, average="macro", zero_division=0))
    else:
        each = F.cross_entropy(outputs.movedim(-1, 1), y, reduction="none")
        by_position = each.sum(0) / used.sum(0)
        assert scores.loss_by_position[:-1] == pytest.approx(by_position[:-1].tolist())
        assert math.isnan(scores.loss_by_position[-1]), "nothing is asked there"
        assert scores.metrics["perplexity"] == pytest.approx(math.exp(seen.loss))


def test_each_label_has_its_scores_and_one_that_nobody_has_is_left_out(monkeypatch):
    _, counts, seen, outputs, y = counted("multilabel", monkeypatch)
    scores = counts.scores("here", seen.examples, seen.loss)
    names = [int(each.name) for each in scores.per_class]
    assert [each.support for each in scores.per_class] == [int(y[:, i].sum()) for i in names]
    assert [each.f1 for each in scores.per_class] == pytest.approx(
        [sk.f1_score(y[:, i], outputs[:, i] > 0) for i in names]
    )
    assert [each.auc.value for each in scores.per_class] == pytest.approx(
        [sk.roc_auc_score(y[:, i], outputs[:, i]) for i in names]
    )
    assert scores.accuracy.value == pytest.approx(seen.accuracy)


@pytest.mark.parametrize("kind", ["multilabel", "segmentation", "tokens"])
def test_the_simplest_answer_knows_the_shares_of_the_training_part(kind):
    work, counts, _, outputs, y = counted(kind)
    prior, found = prior_of(work), counts.baseline("train")
    if kind == "multilabel":
        of_prior = F.binary_cross_entropy(prior.expand_as(y), y.double())
        ours = F.binary_cross_entropy_with_logits(outputs, y)
        assert prior.tolist() == pytest.approx(((y.sum(0) + 1) / (len(y) + 2)).tolist())
    else:
        flat = y[y != IGNORED]
        of_prior = -prior.log()[flat].mean()
        ours = F.cross_entropy(outputs.movedim(1 if kind == "segmentation" else -1, 1), y)
        assert float(prior.sum()) == pytest.approx(1.0)
    assert found.against[0].score == pytest.approx(float(of_prior), rel=1e-5)
    assert found.score == pytest.approx(float(ours), rel=1e-5)
    assert found.against[0].gain.value == pytest.approx(float(of_prior - ours), abs=1e-6)


@pytest.mark.parametrize("more", [{"class_weights": "balanced"}, {"loss": lambda z, y: F.cross_entropy(z, y)}])
def test_weighted_classes_and_a_loss_of_the_users_have_no_shares_beside_them(more):
    _, counts, seen, _, _ = counted("segmentation", **more)
    assert counts.baseline("train") is None
    assert counts.scores("here", seen.examples, seen.loss).metrics["iou"] >= 0


def parts(arrays):
    x, y = arrays
    third = len(x) // 3
    return {"train": (x[third:], y[third:]), "test": (x[:third], y[:third])}


@pytest.mark.parametrize("kind", ["multilabel", "segmentation", "tokens"])
def test_a_run_has_scores_a_baseline_and_a_page_that_evaluate_agrees_with(kind, tmp_path):
    from surefoot.curves.baseline import beside_baseline
    from surefoot.record.baseline import Baseline
    from surefoot.report.page import report_page
    from surefoot.report.run_folder import read_run_folder

    arrays, model = kinds()[kind]
    data = parts(arrays)
    result = surefoot.train(data, model, target=kind, epochs=3, lr=0.3, name="a", runs_dir=tmp_path)
    written = read_scores(result.folder)
    assert written["kind"] == kind
    assert written["loss"] == pytest.approx(result.summary["test_loss"])
    scores = surefoot.evaluate(result, data).to_dict()
    for name in ("answers", "accuracy", "per_class", "metrics"):
        assert scores[name] == written[name], name
    usual = next(iter(result.summary["test_metrics"]))
    assert written["metrics"][usual] == pytest.approx(result.summary["test_metrics"][usual])
    finding = beside_baseline(Baseline.from_dict(result.summary["baseline"]))[0]
    assert "training part gets" in finding.reason
    assert ("perplexity" in finding.reason) == (kind == "tokens")
    page = report_page([read_run_folder(result.folder)])
    for text in {"multilabel": ["F1 by label"], "segmentation": ["IoU by class"], "tokens": ["Loss by position"]}[kind]:
        assert text in page


def test_a_model_that_knows_nothing_is_said_to_be_no_better_than_the_shares(tmp_path):
    from surefoot.curves.baseline import NO_BETTER, beside_baseline
    from surefoot.record.baseline import Baseline

    rng = np.random.default_rng(0)
    x, (_, y) = rng.integers(0, 9, (40, 5)), tokens()
    arrays = parts((x, rng.permuted(y, axis=0)))
    model = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 9))
    result = surefoot.train(arrays, model, target="tokens", epochs=2, lr=0.01, name="a", runs_dir=tmp_path)
    finding = beside_baseline(Baseline.from_dict(result.summary["baseline"]))[0]
    assert finding.name == NO_BETTER
    assert "not shown to know more" in finding.reason


def test_a_part_in_which_nothing_counts_has_no_scores(tmp_path):
    x, y = masks()
    nothing = np.full_like(y[:4], IGNORED)
    data = {"train": (x[8:], y[8:]), "test": (x[:4], nothing)}
    result = surefoot.train(data, nn.Conv2d(1, 4, 1), target="segmentation", epochs=1, name="a", runs_dir=tmp_path)
    assert result.record.outcome.kind == "finished"
    assert result.summary["test_loss"] is None
    assert result.summary["test_metrics"] == {"iou": None}
    assert read_scores(result.folder) is None
    assert result.summary["baseline"] is None


@pytest.mark.parametrize("kind", ["multilabel", "segmentation", "tokens"])
def test_targets_that_stay_on_disk_are_weighted_scored_and_augmented_alike(kind, tmp_path, monkeypatch):
    (x, y), model = kinds()[kind]
    summaries = []
    for in_memory in (mapped.IN_MEMORY, 100):
        monkeypatch.setattr(mapped, "IN_MEMORY", in_memory)
        folder = tmp_path / str(in_memory)
        folder.mkdir()
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", y)
        result = surefoot.train(
            folder / "x.npy", model, target=kind, class_weights="balanced", epochs=2, lr=0.1, runs_dir=folder,
            augment=["flip"] if kind == "segmentation" else None,
        )  # fmt: skip
        summaries.append({name: result.summary[name] for name in ("val_loss", "val_metrics", "train_loss")})
    assert summaries[0] == summaries[1]


def test_the_worst_masks_are_shown_with_their_image_and_what_was_predicted(monkeypatch, tmp_path):
    x, y = masks(30)
    y[4], y[5] = IGNORED, (y[5] + 1) % 4  # nothing counts in the first, all is wrong in the second
    y[5, :2, :3] = IGNORED
    monkeypatch.setattr(evaluate, "_BATCH_EXAMPLES", 4)
    data = {"train": masks(40, seed=1), "test": (x, y)}
    model = nn.Sequential(nn.Conv2d(1, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1))
    result = surefoot.train(data, model, target="segmentation", epochs=20, lr=0.3, name="a", runs_dir=tmp_path)
    shown = read_scores(result.folder)["masks"]
    assert len(shown) == 8
    assert [each["right"] for each in shown] == sorted(each["right"] for each in shown)
    assert shown[0]["name"].endswith("5")
    assert not any(each["name"].endswith(" 4") for each in shown)
    for key in ("png", "true_png", "predicted_png"):
        assert Image.open(io.BytesIO(base64.b64decode(shown[0][key]))).size == (8, 8)
    true = np.array(Image.open(io.BytesIO(base64.b64decode(shown[0]["true_png"]))))
    assert (true[:2, :3] == 255).all(), "what does not count is white"
    assert len(np.unique(true.reshape(-1, 3), axis=0)) == 5
