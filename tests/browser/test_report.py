"""A report in a real browser: charts are drawn under the page's own policy, and nothing is fetched or refused."""

import dataclasses
import json
import re
import shutil
import subprocess

import pytest

from surefoot.report.page import embedded, save_report
from surefoot.report.run_folder import read_run_folder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, so no page was opened in it")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=20000",
    "--enable-logging=stderr",
)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a real run of a second."""
    import surefoot

    runs = tmp_path_factory.mktemp("runs")
    surefoot.train("digits", "mlp", epochs=3, lr=0.1, runs_dir=runs, name="first")
    contents = read_run_folder("first", runs)
    return contents, save_report([contents], runs / "report.html")


def opened(path, profile, width=1100):
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--window-size={width},9000", f"--user-data-dir={profile}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_charts_are_drawn_and_the_console_is_silent(report, tmp_path):
    contents, path = report
    dom, said = opened(path, tmp_path / "profile")
    assert said == [], "no error, and nothing that the content security policy had to refuse"
    figures = re.findall(r'<figure class="([^"]*)" id="([^"]*)"', dom)
    assert len(figures) >= 4
    assert all(kind == "chart drawn" for kind, _ in figures), figures
    assert dom.count("<canvas") == len(figures)
    held = re.search(r'<script type="application/json" id="data">(.*?)</script>', dom, re.DOTALL)
    assert held is not None
    assert json.loads(held[1]) == json.loads(json.dumps(embedded([contents])))


def test_the_pictures_of_a_search_are_drawn_and_the_console_is_silent(report, tmp_path):
    """Drawn as SVG for who has no scripts, a chart may say nothing of what a browser's console complains of."""
    from surefoot.config import Recipe
    from surefoot.record.decision import Decision
    from surefoot.record.trial import Trial, TrialResult

    contents, _ = report
    recipes = [Recipe(lr=0.01 * 1.1**i, momentum=(0.0, 0.8, 0.9)[i % 3], weight_decay=1e-5 * 1.2 ** (i * 7 % 40))
               for i in range(40)]  # fmt: skip
    tried = tuple(
        TrialResult(
            trial=Trial(stage="coarse-grid", seed=0, share=0.2, recipe=recipe),
            outcome="finished" if i else "diverged", examples=1, train_loss=1.0, val_loss=1 + i / 10 if i else None,
            val_accuracy=0.5, seconds=1.0,
        )
        for i, recipe in enumerate(recipes)
    )  # fmt: skip
    rates = [{"lr": 10.0 ** (k - 3), "final_losses": [2.3 - 0.3 * k], "drop": 0.3 * k, "word": "drops",
              "curve": [2.3, 2.3 - 0.3 * k]} for k in range(5)]  # fmt: skip
    chosen = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    bracket = {"lr": 0.07, "low": 0.01, "high": 0.1, "low_interval": [0.01, 0.01], "high_interval": [0.1, 0.3]}
    evidence = {"rates": rates, "curve_steps": [1, 2], "initial_losses": [2.3], "steps": 2}
    said = {"verdict": "pass", "claim": "c", "reason": "r", "seconds": 1.0}
    decisions = (
        Decision(step=1, name="initial-loss", value={}, evidence={"loss": 2.3, "chance": 2.3}, **said),
        Decision(step=3, name="learning-rate", value=bracket, evidence=evidence, **said),
        Decision(step=4, name="coarse-grid", value=chosen, evidence={}, **said),
    )  # fmt: skip
    page = save_report([dataclasses.replace(contents, decisions=decisions, trials=tried)], tmp_path / "search.html")
    for width in (1100, 500):
        dom, console = opened(page, tmp_path / f"profile{width}", width)
        assert console == []
        kinds = re.findall(r'<figure class="([^"]*)" id="([^"]*)"', dom)
        assert {"chart drawn"} == {kind for kind, _ in kinds}
        assert sum("step-" in name for _, name in kinds) == 2
        assert any(name.endswith("-layers") for _, name in kinds)


def test_tables_sort_and_tooltips_and_zoom_work(report, tmp_path):
    """A script of ours is added to a copy of the page, with its hash in the policy; what it saw, it leaves as text."""
    from surefoot.report.page import hashed

    _, path = report
    script = """
    const until = async (holds) => { while (!holds()) await new Promise((done) => setTimeout(done, 50)); };
    (async () => {
      await until(() => window.charts["part-0-curves"]);
      const view = window.charts["part-0-curves"], seen = {};
      const table = document.querySelector("#part-0-curves details table.sorts");
      const first = () => table.tBodies[0].rows[0].cells[1].textContent;
      const button = table.querySelectorAll("th button")[1];
      button.click(); seen.up = first(); button.click(); seen.down = first();
      seen.sort = table.querySelectorAll("th")[1].getAttribute("aria-sort");
      const find = (item) => item.tooltip && item.tooltip.loss !== undefined ? item
        : (item.items || []).map(find).find(Boolean);
      const item = find(view.scenegraph().root);
      view.tooltip()(view, new MouseEvent("mousemove", {clientX: 50, clientY: 50}), item, item.tooltip);
      seen.tip = document.getElementById("tip").textContent;
      const canvas = document.querySelector("#part-0-curves canvas");
      const domain = () => JSON.stringify(view.scale("x").domain());
      const before = domain();
      const box = canvas.getBoundingClientRect();
      const at = {clientX: box.left + 300, clientY: box.top + 150, bubbles: true, cancelable: true};
      canvas.dispatchEvent(new PointerEvent("pointermove", at));
      canvas.dispatchEvent(new WheelEvent("wheel", {...at, deltaY: -300}));
      await view.runAsync();
      seen.domains = [before, domain()];
      const out = document.createElement("p"); out.id = "seen"; out.textContent = JSON.stringify(seen);
      document.body.append(out);
    })();
    """
    page = path.read_text(encoding="utf-8").replace("script-src ", f"script-src {hashed(script)} ", 1)
    head, _, tail = page.rpartition("</body>")  # the program that draws has the word in it too
    page = f"{head}<script>{script}</script></body>{tail}"
    copy = tmp_path / "copy.html"
    copy.write_text(page, encoding="utf-8")
    dom, said = opened(copy, tmp_path / "profile")
    assert said == []
    found = re.search(r'<p id="seen">(.*?)</p>', dom)
    assert found is not None, "the script did not come to its end"
    seen = json.loads(found[1])
    assert int(seen["up"]) < int(seen["down"])
    assert seen["sort"] == "descending"
    assert re.search(r"loss: \d", seen["tip"]), seen
    before, after = map(json.loads, seen["domains"])
    assert after[1] - after[0] < 0.9 * (before[1] - before[0]), seen


def test_nothing_is_wider_than_a_phone_and_pins_are_drawn(report, tmp_path):
    """At 500 pixels, the narrowest window that headless Chromium has; the page's layout for phones begins at 520."""
    from compared import comparison

    from surefoot.record.decision import Decision
    from surefoot.report.page import hashed
    from surefoot.report.run_folder import RunFolder

    contents, _ = report
    pins = [{"step": 5, "finding": "loss-spike"}, {"step": 20, "finding": "plateau"}]
    seen = Decision(step=6, name="curves", verdict="suspect", claim="c", reason="r", value={}, evidence={"pins": pins},
                    seconds=1.0)  # fmt: skip
    pinned = dataclasses.replace(contents, decisions=(seen,))
    rules = RunFolder(stored=None, name="rules", comparison=comparison())
    path = save_report([pinned, rules], tmp_path / "report.html")
    script = """
    (async () => {
      while (document.querySelector("figure.chart:not(.drawn)")) await new Promise((done) => setTimeout(done, 50));
      const over = (each) => each.scrollWidth - each.clientWidth;
      const texts = (item) => item.text ? [item.text] : (item.items || []).flatMap(texts);
      const seen = {
        room: document.querySelector("figure").clientWidth, page: over(document.documentElement),
        charts: [...document.querySelectorAll(".live")].map((each) => [each.parentNode.id, over(each)]),
        texts: texts(window.charts["part-0-curves"].scenegraph().root),
      };
      const out = document.createElement("p"); out.id = "seen"; out.textContent = JSON.stringify(seen);
      document.body.append(out);
    })();
    """
    page = path.read_text(encoding="utf-8").replace("script-src ", f"script-src {hashed(script)} ", 1)
    head, _, tail = page.rpartition("</body>")
    path.write_text(f"{head}<script>{script}</script></body>{tail}", encoding="utf-8")
    dom, said = opened(path, tmp_path / "profile", width=500)
    assert said == []
    found = re.search(r'<p id="seen">(.*?)</p>', dom)
    assert found is not None, "the script did not come to its end"
    seen = json.loads(found[1])
    assert seen["room"] < 520, "this is the layout for phones"
    assert seen["page"] <= 0
    # A slice of a loss surface keeps its shape: a few pixels of it may be scrolled.
    assert max(over for _, over in seen["charts"]) <= 8, seen["charts"]
    assert {"loss-spike", "plateau"} <= set(seen["texts"])
