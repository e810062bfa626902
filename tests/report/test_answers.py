import pytest

from surefoot.report.answers import answer_figures


def scores(kind, positions=()):
    per_class = [{"f1": 0.5, "recall": 0.4, "support": 7}, {"f1": 1.0, "recall": 1.0, "support": 3}]
    return {"kind": kind, "per_class": per_class, "loss_by_position": list(positions)}


@pytest.mark.parametrize(("kind", "first"), [("multilabel", 0.5), ("segmentation", 1 / 3)])
def test_each_class_has_its_bar_the_worst_first(kind, first):
    (figure,) = answer_figures(scores(kind), ["cat", "dog"])
    bars = figure.chart.to_dict()["data"]["values"]
    assert [(bar["class"], pytest.approx(bar["value"])) for bar in bars] == [("cat", first), ("dog", 1.0)]
    assert "the worst first" in figure.caption


def test_the_loss_of_each_position_is_drawn_where_there_are_several():
    names = [figure.name for figure in answer_figures(scores("tokens", [2.0, None, 1.0]) | {"per_class": []}, [])]
    assert len(names) == 1
    assert not answer_figures(scores("tokens", [2.0]) | {"per_class": []}, [])
