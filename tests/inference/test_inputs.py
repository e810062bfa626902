"""What people have becomes batches of the model's kind; what cannot be read is an error in its place."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from surefoot.data import images
from surefoot.data.load import load
from surefoot.errors import DataError
from surefoot.inference.evaluate import evaluate
from surefoot.inference.form import as_channels
from surefoot.inference.predict import predict
from surefoot.training.open import train

from .conftest import COLOURS, save_images


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


def test_every_file_of_a_folder_is_read_or_named(digits, test_part, tmp_path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    save_images(test_part, elsewhere, of=("3",))
    first = next(elsewhere.rglob("*.png")).read_bytes()
    home.mkdir()
    for name in ("a.jfif", "b.jpe", "c", "d.JPG", "e.unknown", ".hidden.png", "Thumbs.db"):
        (home / name).write_bytes(first)
    (home / "linked").symlink_to(elsewhere / "3")
    (home / "linked again").symlink_to(home)
    (home / "f.avif").write_bytes(b"\0\0\0 ftypavif" + bytes(64))
    (home / "g.txt").write_text("notes")
    (home / "h.png").symlink_to(home / "nowhere")
    predictions = predict(digits, home)
    linked = sorted(home / "linked" / path.name for path in (elsewhere / "3").iterdir())
    names = ["a.jfif", "b.jpe", "c", "d.JPG", "e.unknown", "f.avif", "g.txt", "h.png"]
    assert list(predictions.names) == [str(path) for path in sorted([*(home / name for name in names), *linked])]
    wrong = {name for name, error in zip(predictions.names, predictions.errors, strict=True) if error is not None}
    assert wrong == {str(home / name) for name in ("f.avif", "g.txt", "h.png")}


def test_a_table_is_predicted_with_or_without_header_and_labels(table, tmp_path):
    result, file = table
    rows = [line.split(",") for line in file.read_text().splitlines()[1:6]]
    numbers = np.array([[float(a), float(b)] for a, b, _ in rows])
    expected = predict(result, numbers).outputs
    (tmp_path / "bare.csv").write_text("".join(f"{a},{b}\n" for a, b, _ in rows))
    (tmp_path / "header.tsv").write_text("a\tb\n" + "\n".join(f"{a}\t{b}" for a, b, _ in rows))
    (tmp_path / "bare.csv.gz").write_bytes(gzip.compress((tmp_path / "bare.csv").read_bytes()))
    (tmp_path / "labels.csv").write_text("colour;a;b\n" + "\n".join(f"{c};{a};{b}" for a, b, c in rows))
    for name, first in (("bare.csv", 1), ("bare.csv.gz", 1), ("header.tsv", 2), ("labels.csv", 2)):
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


@pytest.mark.parametrize("first", ["?,1.0", "1.0,NA", "x,1.0", ",1.0", "1_0,2"])
def test_a_first_row_with_a_gap_or_that_cannot_be_read_is_a_row(table, first, tmp_path):
    (tmp_path / "bare.csv").write_text(f"{first}\n1,2\n3,4\n")
    predictions = predict(table[0], tmp_path / "bare.csv")
    gap = not {"x", "1_0"} & set(first.split(","))
    assert [error is None for error in predictions.errors] == [gap, True, True]
    assert [note[:4] for note in predictions.notes] == ["gaps"] * gap


def test_columns_of_a_table_are_matched_by_name(table, tmp_path):
    result, file = table
    rows = [line.split(",") for line in file.read_text().splitlines()[1:9]]
    expected = predict(result, np.array([[float(a), float(b)] for a, b, _ in rows])).outputs
    texts = {
        "swapped.csv": "b,a\n" + "".join(f"{b},{a}\n" for a, b, _ in rows),
        "labels.csv": "b;colour;a\n" + "".join(f"{b};{c};{a}\n" for a, b, c in rows),
        "quoted.tsv": '"b"\t" a "\n' + "".join(f"{b}\t{a}\n" for a, b, _ in rows),
        "bare.csv": "".join(f"{a},{b}\n" for a, b, _ in rows),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        np.testing.assert_array_equal(predict(result, tmp_path / name).outputs, expected)
    for header, words in (
        ("b,A", "has no column 'a'.* a"),
        ("x,y", "has no column 'a', 'b'"),
        ("a,b,id", "has an unknown column 'id'"),
        ("a,b,a", "has twice the column 'a'"),
        ("a", "has no column 'b'"),
    ):
        (tmp_path / "bad.csv").write_text(f"{header}\n{'1,' * header.count(',')}2\n")
        with pytest.raises(DataError, match=words):
            predict(result, tmp_path / "bad.csv")


class Frame:
    """As much of a table of pandas' as is read: numbers under the names of their columns."""

    def __init__(self, columns):
        self.columns, self.values = list(columns), np.stack(list(columns.values()), axis=1)

    def to_numpy(self):
        return self.values

    def __array__(self, dtype=None, copy=None):
        return self.values


def test_columns_of_a_frame_are_matched_by_name(tmp_path):
    a, b = np.random.default_rng(0).normal(size=(2, 200))
    y = a > 0
    swapped = Frame({"b": b, "a": a})
    data = {"train": (Frame({"a": a, "b": b}), y), "test": (swapped, y)}
    result = train(data, "linear", epochs=10, lr=0.5, batch_size=16, runs_dir=tmp_path)
    assert result.summary["test_accuracy"] > 0.95
    assert evaluate(result, (swapped, y)).accuracy == result.summary["test_accuracy"]
    np.testing.assert_array_equal(predict(result, swapped).outputs, predict(result, np.stack([a, b], 1)).outputs)
    with pytest.raises(DataError, match="inputs: has no column 'a'"):
        predict(result, Frame({"b": b, "c": a}))


def test_names_that_are_numbers_are_names(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 3))
    lines = [",".join(f"{v:.3f}" for v in row) for row in x]
    kinds = ["ab"[int(row[0] > 0)] for row in x]
    text = "400,402,404,variety\n" + "\n".join(f"{line},{kind}" for line, kind in zip(lines, kinds, strict=True))
    (tmp_path / "t.csv").write_text(text)
    result = train(str(tmp_path / "t.csv"), "linear", epochs=10, lr=0.5, batch_size=16, runs_dir=tmp_path)
    (tmp_path / "p.csv").write_text("404,402,400\n" + "\n".join(",".join(reversed(line.split(","))) for line in lines))
    labels = predict(result, tmp_path / "p.csv").labels
    assert np.mean([label == kind for label, kind in zip(labels, kinds, strict=True)]) > 0.95


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


@pytest.mark.parametrize("shape", [(10, 2), (10, 1, 1), (1, 2), (0, 1)])
def test_other_than_the_models_features_are_refused(shape, tmp_path):
    x = np.arange(32.0)
    result = train((x, x > 16), epochs=1, batch_size=8, runs_dir=tmp_path)
    assert len(predict(result, x)) == len(predict(result, x[:, None])) == 32
    assert len(predict(result, 3.0)) == 1
    with pytest.raises(DataError):
        predict(result, np.zeros(shape))
    np.savez(tmp_path / "x.npz", x=np.zeros(shape))
    with pytest.raises(DataError):
        predict(result, tmp_path / "x.npz")


def test_a_damaged_npz_and_an_empty_folder_are_refused(digits, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut short")
    np.savez(tmp_path / "objects.npz", x=np.array([{}]))
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, np.zeros((1, 8, 8), np.uint8))
    for path in (*tmp_path.glob("*.npz"), tmp_path / "empty"):
        with pytest.raises(DataError, match=str(path)):
            predict(digits, path)


def test_an_image_for_a_model_of_numbers_is_an_error_of_that_image(line, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert "3 numbers" in predict(line[0], tmp_path / "a.png").errors[0]


# neither changes anything


@pytest.fixture(scope="module")
def mixed(runs):
    """The result of a classifier of a table with a category, a wide one, a date, a gap and a number of the row."""
    draw = np.random.default_rng(0)
    lines = [
        f"{i},{'' if i % 9 == 0 else f'{draw.normal() + i % 2:.3f}'},{['red', 'blue'][draw.integers(2)]},"
        f"2020-{1 + i % 12:02d}-{1 + i % 28:02d},town {i % 60},{'pn'[i % 2]}"
        for i in range(240)
    ]
    file = runs / "mixed.csv"
    file.write_text(",a,hue,day,town,kind\n" + "\n".join(lines) + "\n")
    return train(str(file), epochs=3, lr=0.1, batch_size=16, runs_dir=runs, name="mixed"), file


@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_a_table_of_all_kinds_is_scored_and_predicted_as_it_was_trained(mixed, model, tmp_path):
    result, file = mixed
    result = result if model == "mlp" else train(str(file), model, epochs=1, runs_dir=tmp_path)
    own, given = evaluate(result, part="validation"), evaluate(result, file)
    assert own.accuracy == result.summary["val_accuracy"]
    assert given.examples == 240
    whole = predict(result, file)
    assert np.mean([a == "pn"[i % 2] for i, a in enumerate(whole.labels)]) == given.accuracy
    assert not whole.notes
    rows = [line.split(",") for line in file.read_text().splitlines()]
    swapped = [[row[i] for i in (4, 3, 1, 2)] for row in rows]
    (tmp_path / "swapped.csv").write_text("\n".join(";".join(row) for row in swapped))
    np.testing.assert_array_equal(predict(result, tmp_path / "swapped.csv").outputs, whole.outputs)
    frame = pa.table({name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])})
    np.testing.assert_array_equal(predict(result, frame).outputs, whole.outputs)
    assert evaluate(result, (frame.drop(["kind"]), [row[-1] for row in rows[1:]])).accuracy == given.accuracy


def test_a_new_level_is_counted_and_a_cell_of_another_kind_is_an_error_of_its_row(mixed, tmp_path):
    (tmp_path / "new.csv").write_text(
        "hue,a,town,day\npink,1,town 1,2021-01-01\nred,,Rome,2020-05-05\nred,tall,town 2,2020-05-05\nred,1,town 3,\n"
    )
    found = predict(mixed[0], tmp_path / "new.csv")
    assert found.errors == (None, None, "column 'a' holds text, 'tall'", None)
    assert found.notes == (
        "cells with a level that the model has not learned, taken for 'other': 1 of 'hue', 1 of 'town'; "
        "gaps where the training part had none, imputed: 1 of 'day'",
    )
    (tmp_path / "less.csv").write_text("hue,a,day\nred,1,2020-01-01\n")
    with pytest.raises(DataError, match="has no column 'town'"):
        predict(mixed[0], tmp_path / "less.csv")


def test_what_was_loaded_with_columns_of_its_own_is_refused(mixed, tmp_path):
    lines = mixed[1].read_text().splitlines()
    (tmp_path / "half.csv").write_text("\n".join(lines[:100]))
    with pytest.raises(DataError, match="its columns were fitted when it was loaded"):
        evaluate(mixed[0], load(tmp_path / "half.csv"), part="train")
    (tmp_path / "gap.csv").write_text("\n".join([*lines[:30], "0,1,red,,town 1,p"]))
    assert evaluate(mixed[0], tmp_path / "gap.csv").examples == 30, "a gap that the training part had not is imputed"
