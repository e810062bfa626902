import pytest

from surefoot.record.task_scores import scores_by_class, share_of_answers


@pytest.mark.parametrize(("right", "value"), [([0, 0, 0], 0.0), ([4, 2, 6], 1.0), ([2, 1, 3], 0.5)])
def test_examples_that_are_all_alike_do_not_make_sure(right, value):
    found = share_of_answers(right, [4, 2, 6])
    assert found.value == value
    assert 0 <= found.low <= value <= found.high <= 1
    assert found.high - found.low > 0.4


def test_classes_that_neither_occur_nor_were_predicted_have_no_score_and_iou_follows_from_f1():
    first, third = scores_by_class(("a", "b", "c"), [3, 0, 0], [4, 0, 0], [5, 0, 2])
    assert (first.name, third.name) == ("a", "c")
    assert first.iou == pytest.approx(3 / 6)
    assert (third.recall, third.precision, third.iou) == (None, 0.0, 0.0)
