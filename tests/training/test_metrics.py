"""Metrics of each kind of targets against what scikit-learn says of all examples at once, and what is refused."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics as sk
from small import images, number_arrays
from target_kinds import kinds, labels, masks, tokens
from torch import nn

import surefoot
from surefoot.data.dataset import IGNORED
from surefoot.errors import ConfigError
from surefoot.training import evaluate
from surefoot.training.evaluate import evaluate_part, outputs_of
from surefoot.training.make import task
from surefoot.training.metrics import OF, asked_metrics


def found(work, part=None):
    """Return metrics of a part by the meter, a few examples at a time, and its outputs and targets."""
    part, model = part or work.data.train, work.fresh_model()
    weights = model.state_dict()
    pairs = list(outputs_of(work, model, weights, part))
    outputs, targets = (torch.cat(side) for side in zip(*pairs, strict=True))
    return evaluate_part(work, model, weights, part, metrics=True), outputs, targets


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch):
    monkeypatch.setattr(evaluate, "_BATCH_EXAMPLES", 7)


def test_of_classes_all_are_those_of_scikit_learn():
    work = task(images(), "linear", metrics=[name for name in OF["classes"] if name != "top5"])
    torch.nn.init.normal_(work.template.get_parameter("head.weight"))
    seen, z, y = found(work)
    guessed = z.argmax(1)
    macro = {"average": "macro", "zero_division": 0}
    assert seen.metrics == pytest.approx({
        "accuracy": sk.accuracy_score(y, guessed), "balanced_accuracy": sk.balanced_accuracy_score(y, guessed),
        "precision": sk.precision_score(y, guessed, **macro), "recall": sk.recall_score(y, guessed, **macro),
        "f1": sk.f1_score(y, guessed, **macro), "mcc": sk.matthews_corrcoef(y, guessed),
        "auc": sk.roc_auc_score(y, z.double().softmax(1), multi_class="ovr"),
        "average_precision": sk.average_precision_score(F.one_hot(y), z.double().softmax(1)),
    })  # fmt: skip


def test_of_numbers_they_are_in_the_unit_of_the_targets_though_their_mean_is_far():
    x, y = number_arrays()
    work = task(surefoot.load((x, 50.0 * y + 1e6), target="numbers"), nn.Linear(x.shape[1], 1), metrics=OF["numbers"])
    seen, z, y = found(work)
    std, mean = (float(each) for each in (work.data.target_std, work.data.target_mean))
    z, y = z[:, 0].double() * std + mean, y.double() * std + mean
    assert seen.metrics["rmse"] == pytest.approx(math.sqrt(((z - y) ** 2).mean()))
    assert seen.metrics["rmse"] ** 2 == pytest.approx(seen.loss, rel=1e-4)
    assert seen.metrics["mae"] == pytest.approx(float((z - y).abs().mean()))
    assert seen.metrics["r2"] == pytest.approx(sk.r2_score(y, z), abs=1e-6)


def test_of_labels_an_output_is_a_logit_though_all_lie_between_0_and_1():
    class Half(nn.Linear):
        def forward(self, x):
            return super().forward(x).sigmoid()

    work = task(surefoot.load(labels(), target="multilabel"), Half(6, 3), metrics=OF["multilabel"])
    seen, z, y = found(work)
    assert bool((z > 0).all())
    assert seen.metrics["recall"] == 1, "every answer is a yes"
    assert seen.metrics["exact_match"] == float((y == 1).all(1).float().mean())
    assert seen.metrics["f1"] == pytest.approx(sk.f1_score(y, z > 0, average="macro"))
    areas = [sk.roc_auc_score(y[:, i], z[:, i]) for i in range(3) if 0 < y[:, i].sum() < len(y)]
    assert seen.metrics["auc"] == pytest.approx(np.mean(areas))


def test_a_label_that_nobody_has_counts_in_no_area():
    x, y = labels()
    y[:, 2] = 0
    data = surefoot.load({"train": (x, y)}, target="multilabel", validation=0)
    seen, z, y = found(task(data, nn.Linear(6, 3), metrics="auc"))
    assert seen.metrics["auc"] == pytest.approx(np.mean([sk.roc_auc_score(y[:, i], z[:, i]) for i in range(2)]))


def test_of_pixels_what_is_ignored_does_not_count_and_no_outputs_are_kept():
    work = task(surefoot.load(masks()), nn.Conv2d(1, 4, 1), metrics=OF["segmentation"])
    seen, z, y = found(work)
    true, guessed = y[y != IGNORED], z.argmax(1)[y != IGNORED]
    assert len(true) < y.numel()
    macro = {"average": "macro", "zero_division": 0}
    assert seen.metrics["iou"] == pytest.approx(sk.jaccard_score(true, guessed, **macro))
    assert seen.metrics["dice"] == pytest.approx(sk.f1_score(true, guessed, **macro))
    assert seen.metrics["mcc"] == pytest.approx(sk.matthews_corrcoef(true, guessed))
    assert seen.metrics["accuracy"] == seen.accuracy


def smoothed(z, y):
    return F.cross_entropy(z.flatten(0, 1), y.flatten(), label_smoothing=0.5)


@pytest.mark.parametrize("loss", [None, smoothed])
def test_the_perplexity_of_tokens_is_that_of_the_likelihood_whatever_the_loss(loss):
    work = task(surefoot.load(tokens()), nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 9)), loss=loss)
    seen, z, y = found(work)
    assert seen.metrics == pytest.approx({"perplexity": float(F.cross_entropy(z.flatten(0, 1), y.flatten()).exp())})
    if loss is None:
        assert seen.metrics["perplexity"] == pytest.approx(math.exp(seen.loss))


@pytest.mark.parametrize(("kind", "usual"), [("multilabel", "f1"), ("segmentation", "iou"), ("tokens", "perplexity")])
def test_rows_have_what_is_usual_for_their_targets_unless_others_or_none_are_asked_for(kind, usual):
    data, model = kinds()[kind]
    data = surefoot.load(data, target=kind)
    assert task(data, model).metrics.every == (usual,)
    assert task(data, model, metrics=[]).metrics.every == ()
    assert task(data, model, metrics="accuracy").metrics.every == ("accuracy",)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("avg_precision", "classes have accuracy, .*Did you mean 'average_precision'"),
        ("iou", "metric 'iou' for targets that are classes: it is for segmentation"),
        (["f1", "perplexity"], "it is for tokens"),
        ("loss", "metric 'loss'"),
        ("top5", "metric 'top5' for 3 classes"),
        (3, "metrics = 3"),
        ([lambda z, y: 1.0], "with a name of yours"),
        ({"f1": lambda z, y: 1.0}, "call it my_f1|Call it my_f1"),
        ({"a:b:min": lambda z, y: 1.0}, "a metric is a name"),
        ({"mine": 3}, "a metric is a name"),
        ({"mine": lambda z: 1.0}, "metric 'mine' cannot be computed: .*positional"),
        ({"mine": lambda z, y: "many"}, "it returned str, and must return a number"),
        ({"mine": lambda z, y: z}, "it returned Tensor, and must return a number"),
    ],
)
def test_what_does_not_fit_is_refused_before_training_with_what_does(asked, says):
    with pytest.raises(ConfigError, match=says):
        task(images(), "linear", metrics=asked)


def test_outputs_that_are_no_answers_have_no_metrics_by_name():
    x, y = number_arrays()
    rates = surefoot.load((x, np.abs(y).round()), target="numbers")
    with pytest.raises(ConfigError, match="metric 'mae' with this loss"):
        task(rates, nn.Linear(x.shape[1], 1), loss=nn.PoissonNLLLoss(), metrics="mae")
    with pytest.raises(ConfigError, match="with loss_fn"):
        task(images(), "linear", loss_fn=lambda m, b: F.cross_entropy(m(b[0]), b[1]), metrics={"mine": lambda z, y: 1})


@pytest.mark.parametrize("asked", ["f1", {"mine": lambda z, y: 1}])
def test_a_loss_of_model_and_batch_says_how_to_get_metrics(asked):
    with pytest.raises(ConfigError, match=r"loss_fn\(model, batch\) shows no outputs\. Give forward and loss"):
        task(images(), "linear", loss_fn=lambda m, b: F.cross_entropy(m(b[0]), b[1]), metrics=asked)


class Counting:
    """A metric that is fed batch by batch, as those of torchmetrics are."""

    def reset(self):
        self.right, self.seen, self.batches = 0, 0, 0

    def update(self, outputs, targets):
        self.right += int((outputs.argmax(1) == targets).sum())
        self.seen, self.batches = self.seen + len(targets), self.batches + 1

    def compute(self):
        return torch.tensor(self.right / self.seen)


def test_those_of_the_users_get_all_outputs_or_batch_by_batch_and_may_change_them():
    def spoiling(outputs, targets):
        return float(outputs.zero_().sum())

    counting = Counting()
    asked = {"spoiling": spoiling, "right": counting, "share": lambda z, y: (z.argmax(1) == y).double().mean()}
    seen, _, _ = found(task(images(), "linear", metrics=asked))
    assert seen.metrics == pytest.approx({"spoiling": 0.0, "right": seen.accuracy, "share": seen.accuracy})
    assert counting.batches > 1


def test_of_numbers_functions_get_the_unit_of_the_targets():
    x, y = number_arrays()
    data = surefoot.load((x, 100 * y + 1000), target="numbers")
    seen, _, _ = found(
        task(data, nn.Linear(x.shape[1], 1), metrics={"mean": lambda z, y: y.mean(), "form": lambda z, y: z.dim()})
    )
    assert seen.metrics["mean"] == pytest.approx(float(data.train.y.double().mean()))
    assert seen.metrics["form"] == data.train.y.dim()


def test_one_that_fails_on_few_examples_alone_is_computed_and_one_that_fails_later_is_named(tmp_path):
    def area(z, y):
        if len(y) < 5:
            raise ValueError("Only one class is present")
        return 0.5

    assert found(task(images(), "linear", metrics=[area]))[0].metrics == {"area": 0.5}

    def failing(z, y):
        raise ValueError("never defined")

    with pytest.raises(ConfigError, match="metric 'failing' cannot be computed: never defined"):
        surefoot.train(images(), "linear", metrics=[failing], epochs=1, runs_dir=tmp_path)


def test_outputs_that_are_not_finite_have_no_metrics():
    work = task(images(), "linear", metrics=["f1", "auc"])
    with torch.no_grad():
        work.template.get_parameter("head.weight").fill_(math.nan)
    seen, _, _ = found(work)
    assert all(math.isnan(value) for value in seen.metrics.values())


def test_names_come_in_one_text_a_list_or_a_mapping():
    assert asked_metrics("f1, auc") == asked_metrics(["f1", "auc"]) == {"f1": None, "auc": None}
    assert asked_metrics({"f1": "f1", "mine": len}) == {"f1": None, "mine": len}
    assert asked_metrics(None) is None


def test_rows_and_the_result_have_them_and_a_row_of_an_older_version_loads(tmp_path):
    from surefoot.record.run import Row, read_rows

    arrays = image_parts()
    result = surefoot.train(arrays, "linear", metrics=["f1"], epochs=2, runs_dir=tmp_path, seed=1)
    rows = read_rows(result.folder)
    assert [dict(row.metrics) for row in rows] == [dict(row.metrics) for row in result.record.rows]
    assert result.summary["val_metrics"] == dict(rows[-1].metrics)
    assert set(result.summary["test_metrics"]) == {"f1"}
    old = {name: value for name, value in rows[-1].to_dict().items() if name != "metrics"}
    assert Row.from_dict(old) == dataclasses.replace(rows[-1], metrics={})


def image_parts():
    data = images()
    pair = (data.train.x.numpy(), data.train.y.numpy())
    return {"train": pair, "validation": pair, "test": pair}


@pytest.mark.parametrize("choice", ["f1", "mine", "mine:min", "loss"])
def test_the_weights_that_are_kept_are_those_of_the_best_row_by_the_number_that_chooses(choice, tmp_path):
    sequence = iter([0.0, 0.4, 0.2, 0.9, 0.5, *[0.6] * 9])  # the first is the trial before training
    result = surefoot.train(
        image_parts(), "linear", metrics={"mine": lambda z, y: next(sequence)}, choose_by=choice, weights="best",
        epochs=4, lr=0.3, momentum=0.0, runs_dir=tmp_path,
    )  # fmt: skip
    rows, best = result.record.rows, result.summary["best"]
    values = {
        "f1": [row.metrics.get("f1") for row in rows], "loss": [-row.val_loss for row in rows],
        "mine": [row.metrics["mine"] for row in rows], "mine:min": [-row.metrics["mine"] for row in rows],
    }[choice]  # fmt: skip
    assert best["step"] == rows[int(np.argmax(values))].step
    assert best["metric"] == choice


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"choose_by": "accuracyy"}, "what chooses is one of loss, accuracy, .*Did you mean 'accuracy'"),
        ({"choose_by": "mae"}, "metric 'mae' for targets that are classes"),
        ({"choose_by": "f1:min"}, "of f1 more is better"),
        ({"choose_by": "mine"}, "what chooses is one of"),
        ({"choose_by": "error", "metrics": {"error": None}}, "metric 'error'"),
    ],
)
def test_a_choice_by_what_rows_have_not_is_refused(given, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        surefoot.train(images(), "linear", epochs=1, runs_dir=tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_a_metric_that_says_which_way_is_better_is_not_chosen_by_the_other(tmp_path):
    counting = Counting()
    counting.higher_is_better = False
    with pytest.raises(ConfigError, match="less of it is better"):
        surefoot.train(images(), "linear", metrics={"c": counting}, choose_by="c", epochs=1, runs_dir=tmp_path)
    result = surefoot.train(images(), "linear", metrics={"c": counting}, choose_by="c:min", epochs=1, runs_dir=tmp_path)
    assert result.summary["best"]["metric"] == "c:min"
