"""`surefoot check` shows steps 0 to 2 as a table or as JSON, and its exit code says whether one fails."""

import json

import numpy as np
import pytest

from surefoot.cli.app import run
from surefoot.cli.check import USED
from surefoot.record.decision import Decision
from surefoot.settings import flat_settings
from surefoot.steps.overfit import check as overfit


@pytest.fixture
def quick(monkeypatch):
    """Let step 2 pass at once: it has its own tests."""
    asked = []

    def overfit_sample(*given, **settings):
        asked.append((given, settings))
        return Decision(step=2, name="overfit-sample", claim="", verdict="pass", reason="learned by heart")

    monkeypatch.setattr(overfit, "overfit_sample", overfit_sample)
    return asked


def answer(capsys, *words):
    code = run(["check", *map(str, words)])
    return code, capsys.readouterr()


def test_a_sound_pair_passes_and_progress_is_on_stderr(quick, capsys):
    code, captured = answer(capsys, "digits", "--model", "mlp", "--seed", "1")
    assert code == 0
    lines = captured.out.splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["0", "wiring", "pass"],
        ["1", "initial-loss", "pass"],
        ["2", "overfit-sample", "pass"],
    ]
    assert len(lines) == 4
    assert captured.err.splitlines()[-1] == "step 2, overfitting a small sample"
    assert quick[0][1]["seed"] == 1


def test_quiet_shows_no_progress_and_json_has_every_finding(quick, capsys):
    code, captured = answer(capsys, "digits", "--model", "linear", "--json", "-q")
    assert code == 0
    assert captured.err == ""
    wiring, initial, _ = [Decision.from_dict(each) for each in json.loads(captured.out)]
    assert {finding.name for finding in wiring.findings} >= {"labels", "gradients", "dead-relus", "dependence"}
    assert initial.value["loss"] == pytest.approx(np.log(10), abs=1e-4)
    assert len(wiring.untouched) == 64


def test_what_fails_is_explained_ends_with_3_and_nothing_is_trained_on(quick, capsys, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(60, 4)), y=np.arange(60) % 20 * 3 + 1)
    code, captured = answer(capsys, tmp_path / "a.npz", "--model", "mlp")
    assert code == 3
    assert "labels may be off by one" in captured.out
    assert "do: subtract 1 from the labels" in captured.out
    assert "Mend what fails" in captured.out
    assert not quick


def test_what_is_suspect_ends_with_0(quick, capsys, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(900, 4)), y=rng.integers(0, 3, 900))
    code, captured = answer(capsys, tmp_path / "a.npz", "--model", "mlp")
    assert code == 0
    assert "wiring, dependence: suspect" in captured.out
    assert len(quick) == 1


def test_settings_come_from_a_file_and_reach_the_data(quick, capsys, tmp_path):
    rng = np.random.default_rng(0)
    rows = "".join(f"{a},{b},{a - 2 * b}\n" for a, b in rng.normal(size=(200, 2)))
    (tmp_path / "line.csv").write_text(rows)
    (tmp_path / "job.toml").write_text('target = "numbers"\nmodel = "linear"\n')
    code, captured = answer(capsys, tmp_path / "line.csv", "--config", tmp_path / "job.toml", "--json")
    assert code == 0
    assert json.loads(captured.out)[1]["evidence"]["classes"] is None


def test_loss_and_what_is_done_to_the_numbers_reach_the_steps(quick, capsys, tmp_path):
    rng = np.random.default_rng(0)
    rows = "".join(f"{a},{b},{1e3 * (a - 2 * b)}\n" for a, b in rng.normal(size=(200, 2)))
    (tmp_path / "line.csv").write_text(rows)
    words = (tmp_path / "line.csv", "--model", "linear", "--target", "numbers", "--loss", "mae", "--json")
    code, captured = answer(capsys, *words, "--no-standardise-targets", "--no-normalise")
    assert code == 0, captured
    assert 500 < json.loads(captured.out)[1]["value"]["loss"] < 5000, "absolute and not squared"
    ((_, data, loss), _) = quick[0]
    assert loss == "mae"
    assert data.target_mean is None
    assert not data.mean.any()


def test_settings_without_an_effect_are_named_on_stderr_also_quietly(quick, capsys, tmp_path):
    (tmp_path / "job.toml").write_text('model = "mlp"\n[recipe]\nweight_decay = 1e-3\nmomentum = 0.8\n')
    words = ("digits", "--config", tmp_path / "job.toml", "--lr", "0.1", "--augment", "flip", "--schedule", "cosine")
    code, captured = answer(capsys, *words, "--json", "--quiet")
    assert code == 0
    assert captured.err == "not used by check: augment, lr, momentum, schedule\n"
    initial = json.loads(captured.out)[1]["value"]
    assert initial["with_weight_decay"] > initial["loss"], "the decay of the file is used"
    assert quick, "and the steps are done all the same"


def test_the_settings_that_are_said_to_be_used_are_settings():
    assert set(flat_settings()) > USED


@pytest.mark.parametrize(("words", "code"), [(["nothing"], 2), (["digits", "--model", "none"], 2), (["./none.npz"], 1)])
def test_mistakes_are_messages(quick, capsys, words, code):
    found, captured = answer(capsys, *words)
    assert found == code
    assert captured.err.splitlines()[-1].startswith("surefoot: ")
