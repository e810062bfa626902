"""The pictures of a classifier from invented scores."""

import numpy as np

from surefoot.record.scores import scored_classes
from surefoot.report.classifier import MOST_CLASSES, classifier_figures, confused_pairs, scored_part


def scores(classes, targets, predicted):
    outputs = np.eye(classes)[predicted] * 3.0
    names = tuple(f"c{i}" for i in range(classes))
    return scored_classes(outputs, np.array(targets), names, of="test", name_of=str, picture=lambda _: None)


SEEN = scores(3, [0, 0, 0, 0, 1, 1, 2], [0, 1, 1, 2, 1, 1, 1])
"""c0 is right once in four, twice taken for c1; c1 always right; c2 taken for c1."""


def data(figure):
    plain = figure.chart.to_dict()
    return plain.get("data", plain.get("layer", [{}])[0].get("data"))["values"]


def named(found):
    return {figure.name: figure for figure in found}


def test_confused_pairs_come_with_their_share_of_the_true_class():
    assert confused_pairs(SEEN) == [("c0", "c1", 2, 0.5), ("c0", "c2", 1, 0.25), ("c2", "c1", 1, 1.0)]
    assert len(confused_pairs(SEEN, 1)) == 1


def test_rows_of_the_confusion_are_true_classes():
    figure = named(classifier_figures(SEEN))["confusion"]
    cells = {(each["true"], each["predicted"]): each["examples"] for each in data(figure)}
    assert cells[("c0", "c1")] == 2
    assert cells[("c1", "c0")] == 0
    assert "c0 is taken for c1: 2 times" in figure.caption


def test_a_page_names_the_part_that_was_scored_and_counts_once():
    assert (scored_part({"of": "digits, test part"}), scored_part({})) == ("test", "test")
    seen = scores(3, [0, 0, 0, 1], [0, 0, 1, 1]) | {"of": "a, b part, validation part (there is no test part; chosen)"}
    assert scored_part(seen) == "validation"
    caption = named(classifier_figures(seen))["confusion"].caption
    assert "of the validation part. Most often, c0 is taken for c1: once." in caption


def test_nothing_is_white_in_the_confusion_so_that_one_error_is_seen():
    layers = named(classifier_figures(SEEN))["confusion"].chart.to_dict()["layer"]
    white = next(each for each in layers if each["mark"].get("color") == "white")
    assert "== 0" in str(white["transform"])
    assert "> 0" in str(next(each for each in layers if "scheme" in str(each["encoding"].get("color")))["transform"])


def test_the_worst_class_comes_first():
    found = data(named(classifier_figures(SEEN))["per-class"])
    assert [(each["class"], each["recall"]) for each in found] == [("c2", 0.0), ("c0", 0.25), ("c1", 1.0)]


def test_of_very_many_classes_the_confusion_is_left_to_its_pairs():
    many = MOST_CLASSES + 1
    found = named(classifier_figures(scores(many, list(range(many)), [0] * many)))
    assert "confusion" not in found
    assert len(data(found["per-class"])) == MOST_CLASSES
    assert f"The {MOST_CLASSES} worst of {many}" in found["per-class"].caption


def test_calibration_says_its_error():
    figure = named(classifier_figures(SEEN))["calibration"]
    assert f"{SEEN['calibration_error']:.3f}" in figure.caption
