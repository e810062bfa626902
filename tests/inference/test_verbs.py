"""`evaluate` and `predict` say what the run's own test said, take data in every shape, and change nothing."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from surefoot import load
from surefoot.data import images
from surefoot.errors import CheckpointError, ConfigError, DataError
from surefoot.inference.inputs import as_channels
from surefoot.inference.verbs import evaluate, predict
from surefoot.record import store
from surefoot.training.open import open_run, resolve, train

COLOURS = ("red", "green", "blue")


class Drawing(torch.nn.Linear):
    """A model that draws random numbers even in evaluation mode."""

    def forward(self, input):
        return super().forward(input) + 1e-3 * torch.rand(())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def digits(runs):
    """The result of a small classifier of 8x8 grey images."""
    return train("digits", "linear", epochs=3, lr=0.1, runs_dir=runs, name="digits")


@pytest.fixture(scope="module")
def table(runs):
    """The result of a classifier of two numbers, trained from a .csv, and the file."""
    draw = np.random.default_rng(0)
    y = draw.integers(3, size=150)
    x = 3 * np.eye(3)[y][:, :2] + draw.normal(size=(150, 2))
    file = runs / "colours.csv"
    lines = [f"{a:.4f},{b:.4f},{COLOURS[i]}" for (a, b), i in zip(x, y, strict=True)]
    file.write_text("a,b,colour\n" + "\n".join(lines) + "\n")
    return train(
        str(file), "linear", label="colour", epochs=20, lr=0.1, batch_size=16, runs_dir=runs, name="table"
    ), file


@pytest.fixture(scope="module")
def line(runs):
    """The result of a regression on arrays, given in Python with a module of the user's own, and its data."""
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5]).astype(np.float32)
    data = {"train": (x[:150], y[:150]), "test": (x[150:], y[150:])}
    model = Drawing(3, 1)
    result = train(data, model, target="numbers", epochs=30, lr=0.1, batch_size=16, runs_dir=runs, name="line")
    return result, data, model


@pytest.fixture
def test_part():
    return load("digits").test


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path_factory.mktemp("cache")))


def save_images(part, folder, of=("3", "7"), mode="L"):
    """Write the examples of some classes as folder/CLASS/NUMBER.png and return their numbers."""
    chosen = [i for i in range(len(part)) if str(int(part.y[i])) in of]
    for i in chosen:
        place = folder / str(int(part.y[i]))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part.x[i, 0].numpy()).convert(mode).save(place / f"{i:04d}.png")
    return chosen


# evaluate


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
    assert dataclasses.replace(scores, of="", loss=0.0) == dataclasses.replace(same, of="", loss=0.0)
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
    assert scores.mse == pytest.approx(result.summary["test_loss"], rel=1e-5)
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
        ((np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 2, -1]), DataError, "whole numbers from 0"),
        ((np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 2, 0.5]), DataError, "whole numbers from 0"),
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


def test_an_unfinished_run_says_how_to_finish_it(tmp_path):
    config = resolve({"data": "digits", "model": "linear"})
    with open_run(config, name="cut", runs_dir=tmp_path) as run:
        run.advance(3)
        run.save()
    with pytest.raises(CheckpointError, match="surefoot resume cut"):
        evaluate("cut", runs_dir=tmp_path)


def test_a_run_from_python_needs_its_data_and_its_model_again(line):
    result, data, model = line
    with pytest.raises(ConfigError, match="given in Python"):
        evaluate(result)
    with pytest.raises(CheckpointError, match="buildable"):
        evaluate(result.folder, data)
    before = model.weight.clone()
    assert evaluate(result.folder, data, model=model) == evaluate(result, data)
    assert torch.equal(model.weight, before), "the given architecture is copied"


def test_damaged_weights_are_refused(digits, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (store.CONFIG, store.MODEL, store.WEIGHTS):
        content = bytearray((digits.folder / name).read_bytes())
        content[-1] ^= name == store.WEIGHTS
        (copy / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        predict(copy, np.zeros((1, 8, 8), np.uint8))


# predict


def test_predictions_are_those_that_were_evaluated(digits, test_part):
    predictions = predict(digits, test_part.x)
    right = np.mean([label == str(int(y)) for label, y in zip(predictions.labels, test_part.y, strict=True)])
    assert right == digits.summary["test_accuracy"]
    p = predictions.outputs[np.arange(len(test_part)), test_part.y]
    assert -np.log(p).mean() == pytest.approx(digits.summary["test_loss"], rel=1e-5)
    np.testing.assert_allclose(predictions.outputs.sum(1), 1)


def test_the_normalisation_is_the_runs_and_not_that_of_the_inputs(digits, test_part):
    all_, one = predict(digits, test_part.x), predict(digits, test_part.x[5])
    assert one.outputs.shape == (1, 10)
    np.testing.assert_allclose(one.outputs[0], all_.outputs[5], atol=1e-6)


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.numpy(),
        lambda x: x[:, 0].numpy(),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.expand(-1, 3, -1, -1),
        lambda x: x.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy(),
        lambda x: x.to(torch.int64),
        lambda x: x.float() / 255,
        lambda x: x.double() / 255,
    ],
    ids=["uint8", "NHW", "NHWC", "colour", "colour NHWC", "int64", "float32", "float64"],
)
def test_arrays_come_in_every_usual_layout(digits, test_part, layout):
    x = test_part.x[:20]
    np.testing.assert_allclose(predict(digits, layout(x)).outputs, predict(digits, x).outputs, atol=1e-5)


def test_files_and_folders_give_what_their_arrays_give(digits, test_part, tmp_path):
    chosen = save_images(test_part, tmp_path / "nested", mode="RGB")
    names = sorted((tmp_path / "nested").rglob("*.png"))
    nested, listed = predict(digits, tmp_path / "nested"), predict(digits, names)
    assert nested.names == listed.names == tuple(map(str, names))
    array = predict(digits, test_part.x[sorted(chosen, key=lambda i: (int(test_part.y[i]), i))])
    np.testing.assert_array_equal(nested.outputs, array.outputs)
    np.savez(tmp_path / "x.npz", other=np.zeros(3), x=test_part.x[chosen].numpy())
    assert predict(digits, tmp_path / "x.npz").names[3] == f"{tmp_path / 'x.npz'}:3"
    np.testing.assert_array_equal(
        predict(digits, tmp_path / "x.npz").outputs, predict(digits, test_part.x[chosen]).outputs
    )


def test_images_of_another_size_are_resized_as_in_training(digits, tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(30, 41, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    expected = predict(digits, images.pixels(tmp_path / "large.png", 1, 8))
    np.testing.assert_array_equal(predict(digits, tmp_path / "large.png").outputs, expected.outputs)


def test_grey_is_pillows_bit_for_bit():
    colours = np.random.default_rng(0).integers(256, size=(2, 50, 50, 3), dtype=np.uint8)
    ours = as_channels(torch.from_numpy(colours).permute(0, 3, 1, 2), 1)
    theirs = np.stack([np.asarray(Image.fromarray(each).convert("L")) for each in colours])
    np.testing.assert_array_equal(ours[:, 0].numpy(), theirs)


def test_what_cannot_be_read_is_a_row_with_an_error(digits, test_part, tmp_path):
    save_images(test_part, tmp_path)
    (tmp_path / "3" / "broken.png").write_bytes(b"no image")
    (tmp_path / "3" / "empty.jpg").touch()
    predictions = predict(digits, [tmp_path, tmp_path / "absent.png"])
    wrong = {
        name.rpartition("/")[2] for name, error in zip(predictions.names, predictions.errors, strict=True) if error
    }
    assert wrong == {"broken.png", "empty.jpg", "absent.png"}
    assert predictions.failed == 3
    assert predictions.labels[-1] is None
    assert np.isnan(predictions.outputs[-1]).all()
    good = [i for i, error in enumerate(predictions.errors) if error is None]
    assert len(good) == len(predictions) - 3
    np.testing.assert_array_equal(
        predictions.outputs[good], predict(digits, [predictions.names[i] for i in good]).outputs
    )


def test_a_table_is_predicted_with_or_without_header_and_labels(table, tmp_path):
    result, file = table
    rows = [line.split(",") for line in file.read_text().splitlines()[1:6]]
    numbers = np.array([[float(a), float(b)] for a, b, _ in rows])
    expected = predict(result, numbers).outputs
    (tmp_path / "bare.csv").write_text("".join(f"{a},{b}\n" for a, b, _ in rows))
    (tmp_path / "header.tsv").write_text("a\tb\n" + "\n".join(f"{a}\t{b}" for a, b, _ in rows))
    (tmp_path / "labels.csv").write_text("colour;a;b\n" + "\n".join(f"{c};{a};{b}" for a, b, c in rows))
    for name, first in (("bare.csv", 1), ("header.tsv", 2), ("labels.csv", 2)):
        predictions = predict(result, tmp_path / name)
        assert predictions.names[0] == f"{tmp_path / name}:{first}"
        np.testing.assert_array_equal(predictions.outputs, expected)
    assert set(predict(result, numbers).labels) <= set(COLOURS)


def test_a_bad_row_of_a_table_stops_no_other(table, tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n\n1,x\n1\n1,inf\n3,4\n")
    predictions = predict(table[0], tmp_path / "rows.csv")
    assert [name.rpartition(":")[2] for name in predictions.names] == ["2", "4", "5", "6", "7"]
    assert [error is None for error in predictions.errors] == [True, False, False, False, True]
    assert "'x'" in predictions.errors[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [("1,2,3\n", "labels out"), ("1\n", "takes 2"), ("", "is empty"), ('1,"2\n', "must be a table")],
)
def test_a_table_that_does_not_fit_is_refused(table, tmp_path, text, words):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        predict(table[0], tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (np.zeros((2, 1, 9, 9), np.uint8), "1x8x8"),
        (np.zeros((2, 5, 8, 8), np.uint8), "1x8x8"),
        (np.full((1, 8, 8), 300), "0 .. 255"),
        (np.full((1, 8, 8), 30.0), "Divide by 255"),
        (np.zeros((0, 1, 8, 8), np.uint8), "at least one"),
        (["a", 3], "hold numbers"),
        ([[1.0], [1.0, 2.0]], "are an array"),
        ([], "at least one"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(digits, inputs, words):
    with pytest.raises(DataError, match=words):
        predict(digits, inputs)


def test_a_damaged_npz_and_a_folder_without_images_are_refused(digits, tmp_path):
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut short")
    np.savez(tmp_path / "objects.npz", x=np.array([{}]))
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, np.zeros((1, 8, 8), np.uint8))
    for path in (*tmp_path.glob("*.npz"), tmp_path):
        with pytest.raises(DataError, match=str(path)):
            predict(digits, path)


def test_numbers_are_predicted_for_a_regression(line):
    result, data, _ = line
    x, y = data["test"]
    predictions = predict(result, x)
    assert predictions.labels == (None,) * 50
    assert ((predictions.outputs[:, 0] - y) ** 2).mean() == pytest.approx(result.summary["test_loss"], rel=1e-4)
    broken = x.copy()
    broken[3] = np.inf
    assert [i for i, error in enumerate(predict(result, broken).errors) if error] == [3]


def test_an_image_for_a_model_of_numbers_is_an_error_of_that_image(line, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert "3 numbers" in predict(line[0], tmp_path / "a.png").errors[0]


# neither changes anything


def test_neither_verb_changes_a_file_a_random_state_or_the_model(digits, line, test_part, tmp_path):
    def everything():
        files = {
            path: (path.read_bytes(), path.stat().st_mtime_ns) for path in digits.folder.rglob("*") if path.is_file()
        }
        weights = [value.clone() for value in digits.model.state_dict().values()]
        return files, weights, torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()

    save_images(test_part, tmp_path)
    digits.model.train()
    before = everything()
    evaluate(digits)
    evaluate(digits, tmp_path)
    predict(digits, tmp_path)
    evaluate(line[0], line[1])
    predict(line[0], line[1]["test"][0])
    after = everything()
    assert digits.model.training, "the given model keeps its mode"
    digits.model.eval()
    assert before[0] == after[0]
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert torch.equal(before[2], after[2])
    assert (before[3] == after[3]).all()
    assert before[4] == after[4]


def test_objects_do_not_get_the_settings_shipped_for_other_data(line):
    config = line[0].config
    assert (config.data, config.model, config.augment) == ("in-memory", "in-memory", ())
    assert config.recipe.label_smoothing == 0
