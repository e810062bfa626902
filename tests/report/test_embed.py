"""What goes into the page: data that cannot end its element, and a program that is kept and proven."""

import json

import pytest

from surefoot.report import embed


@pytest.fixture
def bundles(tmp_path, monkeypatch):
    """How often the library was made, in a cache of its own."""
    made = []
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path))
    monkeypatch.setattr(
        embed.vl_convert, "javascript_bundle", lambda: made.append(1) or 'a("</script>"); b("<!--");'
    )  # fmt: skip
    return made


def test_the_program_cannot_end_its_element(bundles):
    found = embed.program()
    assert "</script" not in found
    assert "<!--" not in found
    assert found == 'a("<\\/script>"); b("<\\!--");'


def test_the_program_is_made_once(bundles):
    assert embed.program() == embed.program()
    assert len(bundles) == 1


def test_a_kept_program_that_somebody_changed_is_made_anew(bundles, tmp_path):
    good = embed.program()
    (kept,) = tmp_path.glob("*.js")
    kept.write_text("evil()")
    assert embed.program() == good
    assert kept.read_text() == good
    assert len(bundles) == 2


def test_a_cache_that_cannot_be_written_costs_time_alone(bundles, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "file" / "below"))
    assert embed.program()


def test_data_in_a_script_is_the_data_and_holds_no_letter_of_markup():
    value = {"</script><script>alert(1)</script>": ["<!--", "&amp;", 1.5, None]}
    text = embed.in_script(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_numbers_that_json_does_not_know_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        embed.in_script(float("nan"))


def test_an_svg_of_a_chart():
    spec = {"mark": "point", "data": {"values": [{"x": 1}]}, "encoding": {"x": {"field": "x", "type": "quantitative"}}}
    assert embed.svg(spec).startswith("<svg")
