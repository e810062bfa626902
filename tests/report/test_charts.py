"""The chart of schedules: what is in it, its files, and what it refuses."""

import json

import numpy as np
import pytest

from surefoot.errors import ConfigError
from surefoot.report.charts import COLORS, Curve, save_chart, schedule_chart


def curve(name="cosine", steps=50, peak=0.1):
    t = np.arange(steps)
    return Curve(name, t, peak * 0.5 * (1 + np.cos(np.pi * t / (steps - 1))))


def panels(chart):
    return chart.to_dict().get("vconcat", [chart.to_dict()])


def test_curves_of_one_length_and_size_share_their_axes():
    (line,) = panels(schedule_chart([curve("a"), curve("b", peak=0.2)]))
    assert {point["name"] for point in line["data"]["values"]} == {"a", "b"}
    assert line["encoding"]["x"]["title"] == "step (updates)"
    assert line["encoding"]["y"]["title"] == "learning rate"
    assert line["encoding"]["color"]["legend"] is not None


@pytest.mark.parametrize("other", [curve("b", steps=60), curve("b", peak=3.0)], ids=["length", "size"])
def test_curves_that_do_not_fit_together_get_a_panel_each(other):
    both = panels(schedule_chart([curve("a"), other]))
    assert [panel["title"]["text"] for panel in both] == ["a", "b"]


def test_every_point_is_drawn_as_given():
    given = curve()
    values = panels(schedule_chart([given]))[0]["data"]["values"]
    assert [point["step"] for point in values] == given.steps.tolist()
    assert [point["lr"] for point in values] == given.lr.tolist()


def test_a_logarithmic_axis_leaves_out_zero():
    (line,) = panels(schedule_chart([curve()], log=True))
    assert line["encoding"]["y"]["scale"]["type"] == "log"
    assert len(line["data"]["values"]) == 49
    assert all(point["lr"] > 0 for point in line["data"]["values"])


def test_more_curves_than_colours_are_told_apart_by_their_dash():
    (only,) = panels(schedule_chart([curve(str(i)) for i in range(len(COLORS) + 1)]))
    encoding = only["encoding"]
    pairs = zip(encoding["color"]["scale"]["range"], map(str, encoding["strokeDash"]["scale"]["range"]), strict=True)
    assert len(set(pairs)) == len(COLORS) + 1


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


def test_nothing_to_draw_is_refused():
    with pytest.raises(ConfigError, match="no curves"):
        schedule_chart([])


def test_the_chart_is_plain_json():
    json.dumps(schedule_chart([curve(), curve("b", steps=9)]).to_dict())
