import numpy as np
import pytest
from target_kinds import labels, masks, tokens
from torch import nn

import surefoot
from surefoot.errors import DataError

KINDS = {
    "multilabel": (labels, lambda: nn.Linear(6, 3)),
    "segmentation": (masks, lambda: nn.Conv2d(1, 4, 1)),
    "tokens": (tokens, lambda: nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 9))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_other_data_are_those_of_its_own_outputs(kind, tmp_path):
    data, make = KINDS[kind]
    model = make()
    result = surefoot.train(data(), model, epochs=1, batch_size=8, lr=0.01, runs_dir=tmp_path)
    x, y = data(seed=1)
    scores = surefoot.evaluate(result, (x, y), model=model)
    work = surefoot.task(surefoot.load((x, y), validation=0), result.model.net)
    assert scores.examples == len(x)
    assert 0 <= scores.accuracy.low <= scores.accuracy.value <= scores.accuracy.high <= 1
    assert work.data.target == kind


def test_targets_of_another_form_are_refused(tmp_path):
    model = nn.Linear(6, 3)
    result = surefoot.train(labels(), model, epochs=1, batch_size=8, lr=0.01, runs_dir=tmp_path)
    x, y = labels(seed=1)
    with pytest.raises(DataError):
        surefoot.evaluate(result, (x, np.concatenate([y, y], 1)), model=model)
