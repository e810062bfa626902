"""What people have becomes batches of the model's kind; what cannot be read is an error in its place."""

import numpy as np
import pytest
import torch
from PIL import Image

from surefoot.data import images
from surefoot.errors import DataError
from surefoot.inference.inputs import as_channels
from surefoot.inference.predict import predict

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


@pytest.mark.parametrize("first", ["?,1.0", "1.0,NA", "x,1.0", ",1.0", "1_0,2"])
def test_a_first_row_that_cannot_be_read_is_a_row_with_an_error(table, first, tmp_path):
    (tmp_path / "bare.csv").write_text(f"{first}\n1,2\n3,4\n")
    predictions = predict(table[0], tmp_path / "bare.csv")
    assert [error is None for error in predictions.errors] == [False, True, True]


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


def test_an_image_for_a_model_of_numbers_is_an_error_of_that_image(line, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert "3 numbers" in predict(line[0], tmp_path / "a.png").errors[0]


# neither changes anything
