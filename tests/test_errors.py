import pytest

from surefoot.errors import CheckpointError, ConfigError, DataError, SurefootError, nearest


@pytest.mark.parametrize(("kind", "code"), [(ConfigError, 2), (DataError, 1), (CheckpointError, 1)])
def test_an_error_says_three_things_and_has_an_exit_code(kind, code):
    error = kind("what was given", "what is allowed", "do this next")
    assert isinstance(error, SurefootError)
    assert str(error) == "what was given: what is allowed. Do this next."
    assert (error.given, error.allowed, error.do) == ("what was given", "what is allowed", "do this next")
    assert error.exit_code == code


def test_a_question_keeps_its_question_mark():
    assert str(ConfigError("a", "b", "did you mean 'c'?")) == "a: b. Did you mean 'c'?"


def test_only_the_first_letter_of_the_advice_changes():
    assert str(ConfigError("a", "b", "set CUDA_HOME")) == "a: b. Set CUDA_HOME."


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("momentun", "did you mean 'momentum'?"),
        ("zzz", "choose one of lr, momentum"),
        (5, "choose one of lr, momentum"),
    ],
)
def test_the_near_name_is_suggested(word, expected):
    assert nearest(word, ["lr", "momentum"]) == expected
