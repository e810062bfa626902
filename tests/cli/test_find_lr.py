"""`surefoot find-lr` shows the rates as a table or as JSON, draws them, and says what to do next."""

import json
import shlex

import pytest

from surefoot.cli.app import run

QUICK = ("--model", "linear", "--steps", "20", "--seeds", "2", "--points-per-decade", "2", "--threads", "1")


def answer(capsys, *words):
    code = run(["find-lr", *map(str, words)])
    return code, capsys.readouterr()


def test_the_table_the_answer_and_the_next_command(capsys, tmp_path):
    picture = tmp_path / "rates.svg"
    code, seen = answer(capsys, "digits", *QUICK, "--plot", picture)
    assert code == 0
    assert seen.out.splitlines()[0].split()[:2] == ["lr", "loss"]
    assert "Suggested: lr " in seen.out
    assert "Wu et al. 2018" in seen.out
    command = next(line for line in seen.out.splitlines() if line.startswith("  surefoot train"))
    words = shlex.split(command)
    assert words[:5] == ["surefoot", "train", "digits", "--model", "linear"]
    assert float(words[words.index("--lr") + 1]) > 0
    assert "steps" in seen.err, "progress goes to stderr"
    assert picture.read_text().startswith("<svg")


def test_json_holds_the_decision_and_nothing_else_is_on_stdout(capsys):
    code, seen = answer(capsys, "digits", *QUICK, "--json", "--quiet")
    decision = json.loads(seen.out)
    assert code == 0
    assert seen.err == ""
    assert decision["step"] == 3
    assert decision["value"]["low"] <= decision["value"]["lr"] <= decision["value"]["high"]


def test_labels_without_any_meaning_fail_with_exit_code_3(capsys, tmp_path):
    table = tmp_path / "flat.csv"
    table.write_text("a,label\n" + "".join(f"{i // 2 % 5},{i % 2}\n" for i in range(200)))
    code, seen = answer(capsys, table, *QUICK, "--quiet")
    assert code == 3
    assert "at none of" in seen.out.lower() or "little" in seen.out


@pytest.mark.parametrize(
    "words", [("--lr", "0.1"), ("--epochs", "3"), ("--schedule", "cosine"), ("--plot", "x.pdf"), ("--low", "1")]
)
def test_what_has_no_effect_or_no_meaning_is_refused(capsys, words):
    code, seen = answer(capsys, "digits", *words)
    assert code == 2
    assert words[0][2:] in seen.err


def test_a_preset_says_the_rule_and_nothing_of_it_is_called_unused(capsys):
    code, seen = answer(capsys, "digits", *QUICK, "--preset", "bert", "--json")
    assert code == 0
    assert "not used" not in seen.err
    evidence = json.loads(seen.out)["evidence"]
    assert (evidence["rule"], evidence["eps"]) == ("adamw", 1e-6)


def test_what_a_file_says_of_a_long_training_is_named_and_the_rest_is_used(capsys, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text("checkpoint_seconds = 9.0\n[recipe]\nlr = 0.5\nepochs = 3\nbatch_size = 64\nweight_decay = 1e-3\n")
    code, seen = answer(capsys, "digits", *QUICK, "--config", job, "--ema-decay", "0.9", "--json", "--quiet")
    assert code == 0
    assert seen.err == "not used by find-lr: checkpoint_seconds, lr, epochs, ema_decay\n"
    evidence = json.loads(seen.out)["evidence"]
    assert (evidence["batch_size"], evidence["weight_decay"], evidence["steps"]) == (64, 1e-3, 20)


def test_a_batch_that_was_asked_for_is_never_made_smaller_in_silence(capsys):
    code, seen = answer(capsys, "digits", *QUICK, "--batch-size", "5000")
    assert code == 2
    assert "batch_size = 5000" in seen.err


def test_a_rate_is_found_in_the_middle_of_a_training(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import surefoot
    from surefoot.training.configure import resolve

    given = {
        "data": "digits",
        "model": "linear",
        "recipe": {"epochs": 20, "lr": 0.1, "momentum": 0.5, "weight_decay": 0.01},
    }
    with surefoot.open_run(resolve(given), name="half") as half:
        half.advance(60)
        half.save()
    assert run(["find-lr", "--from", "half", "--steps", "20", "--seeds", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "starts from the newest checkpoint of runs/half, step 60" in err
    evidence = json.loads(out)["evidence"]
    assert max(evidence["initial_losses"]) < 1.5, "fresh weights begin at ln 10"
    assert (evidence["momentum"], evidence["weight_decay"]) == (0.5, 0.01), "the run's own settings"
    assert run(["noise", "--from", "half", "--probe-steps", "20", "--micro-batches", "8", "--no-report", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "step 60" in err
    assert json.loads(out)["evidence"]["noise"][0]["loss"] < 1.5
    assert run(["check", "--from", "half", "--json"]) == 0
    wiring, initial, _ = json.loads(capsys.readouterr().out)
    assert (wiring["verdict"], initial["verdict"]) == ("pass", "pass")
    assert initial["value"]["loss"] < 1.5
