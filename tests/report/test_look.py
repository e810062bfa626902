"""The look of every chart, its data, how a notebook shows it, and its files."""

import numpy as np
import pytest

from surefoot.errors import ConfigError
from surefoot.report.look import COLORS, Figure, chart_of, line_of_each, save_chart, styled, zoom
from surefoot.report.schedules import Curve, schedule_chart


def figure():
    chart = chart_of([{"x": 1, "y": 2}]).mark_point().encode(x="x:Q", y="y:Q")
    return Figure(name="it", title="A title", caption="A caption.", chart=styled(chart))


def curve(name="cosine", steps=50, peak=0.1):
    t = np.arange(steps)
    return Curve(name, t, peak * 0.5 * (1 + np.cos(np.pi * t / (steps - 1))))


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
    chart = chart_of([{"x": 1}]).mark_point().encode(x="x:Q").add_params(zoom("near"))
    (param,) = chart.to_dict()["params"]
    assert (param["name"], param["bind"], param["select"]["encodings"]) == ("near", "scales", ["x"])


@pytest.mark.parametrize("crossing", [True, False])
def test_a_line_for_each_name_is_told_apart_by_colour_and_dash(crossing):
    names = [f"run {i}" for i in range(len(COLORS) + 1)]
    lines = {channel: each.to_dict() for channel, each in line_of_each("name", names, crossing=crossing).items()}
    pairs = [(c, str(d)) for c, d in zip(*(lines[at]["scale"]["range"] for at in ("color", "strokeDash")), strict=True)]
    assert len(set(pairs)) == len(names)
    assert (pairs[0][1] != pairs[1][1]) == crossing, "neighbours that may lie on each other differ in their dash"
    assert lines["color"]["legend"] == lines["strokeDash"]["legend"], "one legend for both"


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_each_ending_gives_its_kind_of_file(tmp_path, ending):
    path = save_chart(schedule_chart([curve()]), tmp_path / f"chart.{ending}")
    raw = path.read_bytes()
    if ending == "svg":
        assert b"<svg" in raw
        assert b"learning rate" in raw
    else:
        assert b"vega" in raw
        assert b'src="http' not in raw, "a page must open without a network"


def test_a_picture_has_a_white_ground_and_ink_on_it(tmp_path):
    from PIL import Image

    path = save_chart(schedule_chart([curve()]), tmp_path / "chart.png")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels.shape[1] > 1200
    blue = np.all(np.abs(pixels.astype(int) - [0x00, 0x72, 0xB2]) < 40, axis=-1)
    assert blue.sum() > 1000, "the line is there"


@pytest.mark.parametrize(
    ("name", "message"), [("a.pdf", r"\.png, \.svg, \.html"), ("a", "end in"), ("no/such/a.svg", "folder must exist")]
)
def test_files_that_cannot_be_written_are_refused(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        save_chart(schedule_chart([curve()]), tmp_path / name)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_name_that_xml_cannot_hold_is_drawn_with_a_mark_in_its_place(tmp_path, ending):
    """Without it, vl-convert aborts the process; half a character, as damaged file names have it, is one too."""
    names = ["nul\x00", "escape\x1b[31m", "half\udc80", "fine \U0001f600"]
    path = save_chart(schedule_chart([curve(name) for name in names]), tmp_path / f"chart.{ending}")
    if ending == "svg":
        text = path.read_text(encoding="utf-8")
        assert "nul\ufffd" in text
        assert "half\ufffd" in text
        assert "fine \U0001f600" in text
