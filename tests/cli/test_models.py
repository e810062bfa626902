"""`surefoot models` counts the parameters that the models really have."""

import json

import pytest

from surefoot.cli.models import models, parse_shape
from surefoot.errors import ConfigError
from surefoot.models.build import SHIPPED, build


def listed(capsys, **options):
    assert models(json=True, **options) == 0
    return json.loads(capsys.readouterr().out)


def test_every_shipped_model_is_listed_with_its_size(capsys):
    answer = listed(capsys)
    assert [each["model"] for each in answer["models"]] == list(SHIPPED)
    for each in answer["models"]:
        real = sum(parameter.numel() for parameter in build(each["model"], (3, 32, 32), 10).parameters())
        assert each["parameters"] == real > 0


def test_sizes_follow_the_input_and_the_outputs(capsys):
    linear = listed(capsys, input_shape="4", outputs=3)["models"][0]
    assert linear["parameters"] == 4 * 3 + 3


def test_a_model_that_cannot_take_the_input_says_why(capsys):
    found = {each["model"]: each for each in listed(capsys, input_shape="4")["models"]}
    assert found["cnn"]["parameters"] is None
    assert "takes images" in found["cnn"]["reason"]
    models(input_shape="4")
    text = capsys.readouterr().out
    assert "cnn" in text
    assert "takes images" in text


@pytest.mark.parametrize("text", ["", "3,", "a", "3,-1", "0", "3.5", "3,,2"])
def test_what_is_no_shape_is_refused(text):
    with pytest.raises(ConfigError, match="whole numbers above 0"):
        parse_shape(text)


@pytest.mark.parametrize("text", ["3,32,32", "3x32x32", " 3, 32 ,32"])
def test_a_shape_may_be_written_as_people_do(text):
    assert parse_shape(text) == (3, 32, 32)


def test_a_model_has_an_output():
    with pytest.raises(ConfigError, match="at least 1 output"):
        models(outputs=0)
