"""A figure: offline data, a look, and how a notebook shows it."""

import altair as alt

from surefoot.report.figure import Figure, dressed, values, zoom


def figure():
    chart = alt.Chart(values([{"x": 1, "y": 2}])).mark_point().encode(x="x:Q", y="y:Q")
    return Figure(name="it", title="A title", caption="A caption.", chart=dressed(chart))


def test_the_data_is_in_the_chart_and_not_at_an_address():
    plain = figure().chart.to_dict()
    assert plain["data"] == {"values": [{"x": 1, "y": 2}]}
    assert plain["config"]["background"] == "white"


def test_a_notebook_gets_a_picture_that_fetches_nothing_and_words():
    bundle = figure()._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg")
    assert "<script" not in bundle["image/svg+xml"]
    assert bundle["text/plain"] == "A title. A caption."


def test_zoom_is_along_x_by_its_scale():
    chart = alt.Chart(values([{"x": 1}])).mark_point().encode(x="x:Q").add_params(zoom("near"))
    (param,) = chart.to_dict()["params"]
    assert (param["name"], param["bind"], param["select"]["encodings"]) == ("near", "scales", ["x"])
