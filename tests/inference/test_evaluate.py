"""Scores are those of the run, or of other data brought to its classes and shape."""

import dataclasses

import numpy as np
import pytest

import surefoot
from surefoot.errors import CheckpointError, ConfigError, DataError
from surefoot.inference.evaluate import evaluate
from surefoot.inference.predict import predict
from surefoot.training.open import train

from .conftest import save_images


@pytest.mark.parametrize("how", ["name", "folder", "result"])
def test_evaluating_gives_what_the_run_said_of_its_test_part(digits, runs, how):
    run = {"name": "digits", "folder": digits.folder, "result": digits}[how]
    scores = evaluate(run, runs_dir=runs)
    assert scores.of == "digits, test part"
    assert scores.examples == digits.summary["test_examples"]
    assert scores.accuracy == digits.summary["test_accuracy"]
    assert scores.loss == pytest.approx(digits.summary["test_loss"], rel=1e-6)  # fp32 sums against fp64
    assert scores.accuracy > 0.8


def test_the_validation_part_is_the_one_that_the_record_saw(digits):
    scores, row = evaluate(digits, part="validation"), digits.record.last
    assert (scores.accuracy, scores.loss) == (row.val_accuracy, pytest.approx(row.val_loss, rel=1e-6))


def test_given_data_is_matched_by_the_names_of_its_classes(digits, test_part, tmp_path):
    chosen = save_images(test_part, tmp_path)
    scores = evaluate(digits, tmp_path)
    same = evaluate(digits, (test_part.x[chosen], test_part.y[chosen]))
    assert scores.of == f"{tmp_path}, all of it"
    # The same images lie elsewhere in memory, and vector units sum them in another order.
    assert scores.loss == pytest.approx(same.loss, rel=1e-12)
    assert scores.calibration_error == pytest.approx(same.calibration_error, rel=1e-12)
    rest = {"of": "", "loss": 0.0, "calibration_error": 0.0, "baseline": None}
    assert dataclasses.replace(scores, **rest) == dataclasses.replace(same, **rest)
    assert scores.baseline.against[0].words == "always answering '1'", "the training part's, not this data's"
    support = {each.name: each.support for each in scores.per_class}
    assert {name for name, count in support.items() if count} == {"3", "7"}
    assert scores.accuracy > 0.8, "a class matched by its position would score near 0"


def test_colour_files_are_brought_to_a_grey_model(digits, test_part, tmp_path):
    save_images(test_part, tmp_path / "grey")
    save_images(test_part, tmp_path / "colour", mode="RGB")
    grey, colour = (dataclasses.replace(evaluate(digits, tmp_path / name), of="") for name in ("grey", "colour"))
    assert grey == colour


def test_a_class_that_the_run_does_not_know_is_refused(digits, test_part, tmp_path):
    save_images(test_part, tmp_path)
    (tmp_path / "7").rename(tmp_path / "seven")
    with pytest.raises(DataError, match="no class 'seven'"):
        evaluate(digits, tmp_path)


def test_parts_of_given_data_are_kept_apart(line):
    result, data, _ = line
    scores = evaluate(result, data)
    assert (scores.of, scores.examples) == ("arrays, test part", 50)
    assert scores.mse == pytest.approx(result.summary["test_loss"], rel=1e-3)  # of 3.5e-7: rounding
    assert scores.r2 > 0.99
    with pytest.raises(DataError, match="no validation part"):
        evaluate(result, data, part="validation")


def test_data_that_changed_since_the_run_is_not_scored_as_its_own(table):
    result, file = table
    before = file.read_text()
    try:
        file.write_text(before + "0,0,red\n")
        with pytest.raises(DataError, match="has changed since"):
            evaluate(result, part="train")
        assert evaluate(result, file).examples == 151
    finally:
        file.write_text(before)
    assert evaluate(result, part="validation").accuracy == result.record.last.val_accuracy


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ((np.zeros((4, 1, 9, 9), np.uint8), [0, 1, 2, 3]), DataError, "the model takes"),
        ((np.zeros((4, 5), np.float32), [0, 1, 2, 3]), DataError, "holds numbers"),
        ((np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 2, 12]), DataError, "no class '12'"),
        ((np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 2, -1]), DataError, "no class '-1'"),
        ((np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 2, 0.5]), DataError, "whole numbers or text"),
        ("no/such/folder", DataError, "no such file"),
        ("digitz", ConfigError, "digits"),
    ],
)
def test_data_that_does_not_fit_is_refused(digits, data, error, words):
    with pytest.raises(error, match=words):
        evaluate(digits, data if isinstance(data, str) else (data[0], np.array(data[1])))


def test_values_that_are_not_finite_are_named(line):
    result, data, _ = line
    x, y = data["test"]
    x = x.copy()
    x[7, 1] = np.nan
    with pytest.raises(DataError, match="row 7"):
        evaluate(result, (x, y))


def test_an_unknown_part_and_an_unknown_run_are_refused(digits, runs):
    with pytest.raises(ConfigError, match="train, validation, test"):
        evaluate(digits, part="tset")
    with pytest.raises(CheckpointError, match="is not a run"):
        evaluate("absent", runs_dir=runs)


@pytest.mark.parametrize("names", [[1, 2, 3], [-1, 1], [2, 4]])
def test_labels_that_do_not_begin_at_0_are_matched_by_name(names, tmp_path):
    draw = np.random.default_rng(0)
    place = draw.integers(len(names), size=200)
    x, y = np.eye(len(names))[place] + 0.1 * draw.normal(size=(200, len(names))), np.array(names)[place]
    result = train((x, y), "linear", epochs=5, lr=0.5, batch_size=16, runs_dir=tmp_path)
    assert evaluate(result, (x, y)).accuracy == 1
    last = y == names[-1]
    assert evaluate(result, (x[last], y[last].astype(object))).accuracy == 1
    assert set(predict(result, x).labels) == set(map(str, names))
    with pytest.raises(DataError, match="knows no class '0'"):
        evaluate(result, (x, 0 * y))


def test_columns_of_a_table_are_matched_by_name(table, tmp_path):
    result, file = table
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    for name, order in (("same", (0, 1, 2)), ("swapped", (1, 0, 2)), ("label first", (2, 1, 0))):
        path = tmp_path / f"{name}.csv"
        path.write_text("".join(",".join(np.array(row)[list(order)]) + "\n" for row in (["a", "b", "colour"], *rows)))
        assert evaluate(result, path).accuracy == evaluate(result, file).accuracy
    (tmp_path / "other.csv").write_text("b,c,colour\n1,2,red\n3,4,blue\n")
    with pytest.raises(DataError, match="has no column 'a'"):
        evaluate(result, tmp_path / "other.csv")


def test_a_run_without_a_test_part_is_scored_on_its_validation_part_and_that_is_said(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 2))
    rows = [f"{a},{b},{'up' if a > b else 'down'}" for a, b in x]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["a,b,label", *rows]))
    result = surefoot.train(table, "linear", epochs=2, batch_size=10, runs_dir=tmp_path)
    scores = surefoot.evaluate(result)
    assert scores.of == f"{table}, validation part (there is no test part; choices may have been made on it)"
    assert scores.accuracy == result.summary["val_accuracy"]
    with pytest.raises(DataError, match="no test part"):
        surefoot.evaluate(result, part="test")


@pytest.mark.parametrize("numbers", [False, True])
def test_a_run_with_a_training_part_alone_is_scored_on_it_and_that_is_said(tmp_path, numbers):
    x = np.random.default_rng(0).normal(size=(60, 2))
    rows = [f"{a},{b},{a - b if numbers else 'up' if a > b else 'down'}" for a, b in x]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["a,b,label", *rows]))
    result = surefoot.train(table, "linear", epochs=2, batch_size=10, validation=0, runs_dir=tmp_path)
    scores = surefoot.evaluate(result)
    assert (scores.of, scores.examples) == (f"{table}, train part (there is no other; the model learned from it)", 60)
    with pytest.raises(DataError, match="no validation part"):
        surefoot.evaluate(result, part="validation")


def test_a_run_that_diverged_says_so_with_every_answer(tmp_path):
    result = surefoot.train("digits", "linear", epochs=2, lr=1e30, momentum=0, runs_dir=tmp_path)
    assert "the run diverged: the loss was no longer finite" in surefoot.evaluate(result).of
    answers = surefoot.predict(result, surefoot.load("digits").test.x[:600])
    assert [note for note in answers.notes if "diverged" in note] == list(answers.notes)
    assert len(answers.notes) == 1


def test_a_run_whose_result_is_gone_says_so_with_every_answer(tmp_path):
    result = surefoot.train("digits", "linear", epochs=1, runs_dir=tmp_path)
    (result.folder / "result.json").unlink()
    assert "result.json is gone" in surefoot.evaluate(result).of
    assert "result.json is gone" in surefoot.predict(result, surefoot.load("digits").test.x[:3]).notes[0]


@pytest.mark.parametrize("kind", ["numbers", "images", "wide"])
def test_data_on_disk_is_scored_as_in_memory(kind, tmp_path, monkeypatch):
    """It is scored where it lies: the run's own and other data."""
    from surefoot.data import mapped

    rng = np.random.default_rng(0)
    x = {"numbers": rng.normal(size=(60, 3)), "wide": 1.7e9 + rng.normal(size=(60, 3)),
         "images": rng.integers(0, 255, (60, 8, 8, 3), dtype=np.uint8)}[kind]  # fmt: skip
    y = np.arange(60) % 2
    np.save(tmp_path / "x.npy", x)
    result = surefoot.train((x, y), "linear", epochs=1, runs_dir=tmp_path, name="a")
    here = evaluate(result, (x, y))
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    there = evaluate(result, (np.load(tmp_path / "x.npy", mmap_mode="r"), y))
    assert there.to_dict() == here.to_dict()
    x = x.astype(np.float64)
    x[7] = np.nan
    np.save(tmp_path / "bad.npy", x)
    if kind != "images":
        with pytest.raises(DataError, match="1 examples hold values that are not finite: row 7"):
            evaluate(result, (np.load(tmp_path / "bad.npy", mmap_mode="r"), y))
