"""Datasets of Hugging Face's library are read by their features. The library is not needed by ours."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import surefoot
from surefoot.data.load import default_model, load
from surefoot.errors import DataError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")

RNG = np.random.default_rng(0)
Y = [int(i % 2) for i in range(40)]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other library
        datasets.disable_progress_bars()
        yield


def pictures():
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    images = [Image.fromarray(RNG.integers(0, 255, (6, 5, 3), dtype=np.uint8)) for _ in Y]
    return datasets.Dataset.from_dict({"image": images, "label": Y}, features=features)


def table():
    columns = {"size": RNG.normal(size=40).tolist(), "colour": ["red", "blue", "red", "green"] * 10, "label": Y}
    return datasets.Dataset.from_dict(columns)


def tokens():
    ids = RNG.integers(0, 9, (40, 6))
    return datasets.Dataset.from_dict({"input_ids": ids.tolist(), "attention_mask": np.ones_like(ids).tolist(),
                                       "labels": Y})  # fmt: skip


def test_pictures_with_their_class_names():
    data = load(pictures())
    assert (data.kind, data.input_shape, data.classes) == ("images", (3, 6, 5), ("cat", "dog"))
    assert default_model(pictures()) == "cnn"


def test_columns_of_cells_are_a_table():
    data = load(table())
    assert data.columns is not None
    assert data.features == ("size", "colour")
    assert (default_model(table()), data.examples) == ("mlp", 36)


def test_tokens_are_a_tree_by_their_names():
    data = load(tokens())
    assert data.input_shape == {"input_ids": (6,), "attention_mask": (6,)}
    assert data.train.x["input_ids"].dtype == torch.int64
    assert data.classes == ("0", "1")


def test_a_dict_of_parts_and_a_stream():
    data = load(datasets.DatasetDict({"train": pictures(), "test": pictures()}))
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 36, "validation": 4, "test": 40}
    assert load(pictures().to_iterable_dataset()).kind == "images"
    streamed, twin = load(tokens().to_iterable_dataset()), load(tokens())
    assert streamed.input_shape == twin.input_shape


def test_a_run_of_each(tmp_path):
    for name, given in (("a", pictures), ("b", table)):
        made = given()
        first = surefoot.train(made, epochs=1, name=name, runs_dir=tmp_path)
        assert first.summary["outcome"] == "finished"
        assert "nothing was trained" in surefoot.train(made, epochs=1, name=name, runs_dir=tmp_path).notes[-1]


def test_a_dataset_without_labels_is_said():
    with pytest.raises(DataError, match=r"columns 'size', 'colour'.*rename_column"):
        load(table().remove_columns("label"))
    with pytest.raises(DataError, match="the columns 'label'"):
        load(table().select_columns("label"))
