import base64
import dataclasses
import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from surefoot.errors import CheckpointError, ConfigError
from surefoot.record.decision import Decision, Finding
from surefoot.record.run import Row, append_rows
from surefoot.record.scores import SCORES, scored_classes
from surefoot.report import page as page_module
from surefoot.report.page import embedded, in_script, report_page, save_figures, save_report
from surefoot.report.run_folder import MOST_ROWS, read_run_folder

ROW = Row(
    step=10, epoch=1.0, examples=640, lr=0.1, train_loss=1.5, train_accuracy=0.4, val_loss=1.2, val_accuracy=0.5,
    grad_norm=1.0, update_ratio=1e-3, losses=(2.0, 1.5, 1.0), seconds=1.0, examples_per_second=640.0,
)  # fmt: skip
OURS = {
    "a", "article", "body", "br", "button", "code", "details", "div", "figcaption", "figure", "h1", "h2", "h3",
    "head", "header", "html", "img", "li", "main", "meta", "nav", "p", "pre", "script", "section", "span", "strong",
    "style", "summary", "table", "tbody", "td", "th", "thead", "title", "tr", "ul",
}  # fmt: skip


class Reader(HTMLParser):
    """Every element and attribute of a page, and the text of its data."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.inside, self.data = [], [], 0, "", ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.inside = dict(attrs).get("id", "") if tag == "script" else ""
        self.scripts += tag == "script" and dict(attrs).get("type") is None

    def handle_data(self, data):
        if self.inside == "data":
            self.data += data


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


@pytest.fixture(autouse=True)
def _short_program(request, monkeypatch):
    """The library that draws is long and takes seconds to make; what surrounds it is what is tested here."""
    if "bundles" not in request.fixturenames:
        monkeypatch.setattr(page_module, "program", lambda: "window.nothing = 1;")


def folder_of(place, name="first", rows=(ROW,), classes=("cat", "dog"), data="digits"):
    import tomli_w

    from surefoot.config import Config, Recipe
    from surefoot.record import store
    from surefoot.settings import to_dict

    folder = place / name
    folder.mkdir()
    config = dataclasses.replace(Config(), data=data, recipe=Recipe(lr=0.1))
    (folder / store.CONFIG).write_text(tomli_w.dumps(_known(to_dict(config))), encoding="utf-8")
    (folder / store.COMMAND).write_text("surefoot train digits", encoding="utf-8")
    store.write_json(folder / store.ENVIRONMENT, {"python": "3.11"})
    append_rows(folder, rows)
    result = {
        "outcome": "finished", "reason": "all 10 steps were done", "test_accuracy": 0.5, "test_examples": 2,
        "test_loss": 0.7, "train_seconds": 1.0, "epochs": 1.0, "steps": 10,
    }  # fmt: skip
    store.write_json(folder / store.RESULT, result)
    outputs, targets = np.eye(len(classes))[[0, 0]] * 3, np.array([0, 1])
    store.write_json(
        folder / SCORES,
        scored_classes(outputs, targets, tuple(classes), of="test", name_of=lambda i: f"{classes[i]}.png",
                       picture=lambda i: b"png"),
    )  # fmt: skip
    return folder


def _known(values):
    return {k: _known(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}


def test_the_page_says_the_answer_first_and_its_data_equal_the_record(tmp_path):
    contents = read_run_folder(folder_of(tmp_path))
    page = report_page([contents])
    assert "50.00% of the 2 examples" in page
    assert page.index("50.00%") < page.index("How it went") < page.index("Who is taken for whom")
    held = json.loads(read(page).data)
    assert held == json.loads(json.dumps(embedded([contents])))
    assert held["runs"][0]["rows"] == [{k: v for k, v in ROW.to_dict().items() if k != "losses"}]


def test_nothing_in_the_page_leads_out_of_it(tmp_path):
    reader = read(report_page([read_run_folder(folder_of(tmp_path))]))
    for tag, name, value in reader.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name != "style"
        if name in ("src", "href"):
            assert value.startswith(("data:image/", "#")), (tag, value[:60])
    policy = next(value for _, name, value in reader.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def hostile():
    seeds = [
        "<script>alert(1)</script>", "</script><script>alert(2)</script>", "<img src=x onerror=alert(3)>",
        "\"><svg onload=alert(4)>", "'><b>", "{{ 7*7 }}", "{% raw %}", "<!--", "-->", "]]>", "javascript:alert(5)",
        "&lt;b&gt;", "\x00\x1b[31m", "‮abc", "=cmd()", "${7*7}", "datum.x; alert(6)", "</style><h1>",
        "</title><iframe>", "a" * 300,
    ]  # fmt: skip
    return [f"{seeds[i % len(seeds)]}{i}" for i in range(500)]


def test_500_hostile_names_end_as_text(tmp_path):
    names = hostile()
    rows = [dataclasses.replace(ROW, layers=dict.fromkeys(names[:40], (1.0, 1e-3)))]
    folder = folder_of(tmp_path, rows=rows, classes=names, data=names[0])
    decisions = [
        Decision(
            step=i, name=name, claim=name, verdict="fail", reason=name, advice=name, value={name: name},
            findings=(Finding(name=name, verdict="fail", reason=name, advice=name),), evidence={name: [name]},
        )
        for i, name in enumerate(names[:40])
    ]  # fmt: skip
    (folder / "decisions.jsonl").write_text("".join(json.dumps(each.to_dict()) + "\n" for each in decisions))
    (folder / "command.txt").write_text(names[1])
    (folder / "environment.json").write_text(json.dumps({name: name for name in names}))
    found = read_run_folder(folder)
    assert found.stored is not None
    config = dataclasses.replace(found.stored.config, model=names[2], augment=tuple(names[3:6]))
    # A folder cannot have all of these names, but a folder made elsewhere can; two runs make the table of all runs too.
    stored = dataclasses.replace(found.stored, config=config)
    runs = [dataclasses.replace(found, name=name, stored=stored) for name in names[:20]]
    reader = read(report_page([*runs[:1], *(dataclasses.replace(each, scores=None) for each in runs[1:])]))
    assert set(reader.tags) <= OURS, set(reader.tags) - OURS
    assert reader.scripts == 2, "the two that we wrote"
    assert all(not name.startswith("on") for _, name, _ in reader.attributes)
    assert {value.split(",")[0] for _, name, value in reader.attributes if name == "src"} <= {
        "data:image/svg+xml;base64", "data:image/png;base64",
    }  # fmt: skip
    assert json.loads(reader.data)["runs"][0]["environment"][names[7]] == names[7]


def test_several_runs_are_one_table_and_overlaid_curves(tmp_path):
    runs = [read_run_folder(folder_of(tmp_path, name)) for name in ("one", "two")]
    page = report_page(runs)
    assert "All runs" in page
    assert "Curves of all runs" in page
    assert [each["name"] for each in json.loads(read(page).data)["runs"]] == ["one", "two"]


def test_a_long_run_stays_small(tmp_path):
    layers = {f"stage.{k}.conv": (1.0 + k, 1e-3 * k) for k in range(54)}
    rows = [dataclasses.replace(ROW, step=i, epoch=i / 100, losses=(1.0,), layers=layers) for i in range(1, 20_001)]
    page = report_page([read_run_folder(folder_of(tmp_path, rows=rows))])
    assert len(page) < 4e6
    held = json.loads(read(page).data)["runs"][0]
    assert (held["rows_in_all"], len(held["rows"]), held["rows"][-1]["step"]) == (20_000, MOST_ROWS, 20_000)


def test_a_still_holds_no_words_that_nobody_hears_and_all_that_is_seen(tmp_path):
    name = 'a role="b"'
    page = report_page([read_run_folder(folder_of(tmp_path, classes=(name, "dog")))])
    sources = [value for tag, attribute, value in read(page).attributes if (tag, attribute) == ("img", "src")]
    stills = [ElementTree.fromstring(base64.b64decode(each.split(",")[1])) for each in sources if "svg" in each]
    assert len(stills) == 4
    marks = [mark for still in stills for mark in still.iter()]
    assert not [key for mark in marks for key in mark.attrib if key.startswith("aria") or key == "role"]
    assert name in {mark.text for mark in marks}


def test_figures_are_files(tmp_path):
    files = save_figures([read_run_folder(folder_of(tmp_path))], tmp_path / "figures")
    assert {each.name for each in files} >= {"curves.png", "curves.svg", "confusion.png"}


def test_mistakes_are_said(tmp_path):
    with pytest.raises(ConfigError, match="no run"):
        report_page([])
    with pytest.raises(CheckpointError, match="not a run"):
        read_run_folder("nothing", tmp_path)
    with pytest.raises(ConfigError, match="folder must exist"):
        save_report([read_run_folder(folder_of(tmp_path))], tmp_path / "none" / "report.html")


@pytest.fixture
def bundles(tmp_path, monkeypatch):
    """How often the library was made, in a cache of its own."""
    made = []
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path))
    monkeypatch.setattr(
        page_module.vl_convert, "javascript_bundle", lambda: made.append(1) or 'a("</script>"); b("<!--");'
    )  # fmt: skip
    return made


def test_the_program_cannot_end_its_element(bundles):
    found = page_module.program()
    assert "</script" not in found
    assert "<!--" not in found
    assert found == 'a("<\\/script>"); b("<\\!--");'


def test_the_program_is_made_once(bundles):
    assert page_module.program() == page_module.program()
    assert len(bundles) == 1


def test_a_kept_program_that_somebody_changed_is_made_anew(bundles, tmp_path):
    good = page_module.program()
    (kept,) = tmp_path.glob("*.js")
    kept.write_text("evil()")
    assert page_module.program() == good
    assert kept.read_text() == good
    assert len(bundles) == 2


def test_a_cache_that_cannot_be_written_costs_time_alone(bundles, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "file" / "below"))
    assert page_module.program()


def test_data_in_a_script_is_the_data_and_holds_no_letter_of_markup():
    value = {"</script><script>alert(1)</script>": ["<!--", "&amp;", 1.5, None]}
    text = in_script(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_numbers_that_json_does_not_know_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        in_script(float("nan"))
