"""`surefoot predict` gives a row for every input, as a table, CSV or JSON, and says by its code if one failed."""

import contextlib
import csv
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from surefoot import load
from surefoot.cli.app import run
from surefoot.inference.predict import predict
from surefoot.training.open import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs: digits, a classifier; line, a regression on a .csv."""
    runs = tmp_path_factory.mktemp("runs")
    train("digits", "linear", epochs=2, lr=0.1, runs_dir=runs, name="digits")
    x = np.random.default_rng(0).normal(size=(60, 2))
    (runs / "line.csv").write_text("".join(f"{a},{b},{a - 2 * b}\n" for a, b in x))
    train(str(runs / "line.csv"), "linear", target="numbers", epochs=20, batch_size=8, runs_dir=runs, name="line")
    return runs


def as_flag(form):
    return [] if form == "table" else [f"--{form}"]


@pytest.fixture
def pictures(tmp_path):
    """A folder of five digits, one of them in a folder below."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    x = load("digits").test.x
    for i in range(5):
        Image.fromarray(x[i, 0].numpy()).save(folder / (f"{i}.png" if i < 4 else "below/4.png"))
    return folder


def answer(capsys, runs, *words):
    code = run(["predict", *map(str, words), "--runs-dir", str(runs)])
    return code, capsys.readouterr()


def test_a_folder_becomes_a_table(runs, pictures, capsys):
    code, captured = answer(capsys, runs, "digits", pictures)
    lines = [line.split() for line in captured.out.splitlines()]
    expected = predict(runs / "digits", pictures)
    assert code == 0
    assert lines[0] == ["name", "label", "probability"]
    assert [line[0] for line in lines[1:]] == list(expected.names)
    assert [line[1] for line in lines[1:]] == list(expected.labels)
    assert [float(line[2]) for line in lines[1:]] == pytest.approx(expected.outputs.max(1), abs=5.1e-5)
    assert captured.err == ""


def test_json_has_the_probabilities(runs, pictures, capsys):
    code, captured = answer(capsys, runs, "digits", pictures, "--json", "--top", 10)
    plain, expected = json.loads(captured.out), predict(runs / "digits", pictures)
    assert (code, plain["run"], plain["failed"]) == (0, "digits", 0)
    for i, row in enumerate(plain["predictions"]):
        assert row["label"] == expected.labels[i]
        p = dict(row["top"])
        assert [p[name] for name in plain["classes"]] == expected.outputs[i].tolist()
        assert list(p.values()) == sorted(p.values(), reverse=True)


def test_csv_can_be_read_back(runs, pictures, capsys):
    code, captured = answer(capsys, runs, "digits", pictures, "--csv", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    expected = predict(runs / "digits", pictures)
    assert code == 0
    assert list(rows[0]) == ["name", "label", "probability", "label 2", "probability 2"]
    for i, row in enumerate(rows):
        assert [row["label"], row["label 2"]] == [name for name, _ in expected.top(i, 2)]
        assert float(row["probability 2"]) == pytest.approx(expected.top(i, 2)[1][1], rel=1e-6)


@pytest.mark.parametrize(("name", "words"), [("p.csv", []), ("p.json", []), ("p.txt", ["--csv"])])
def test_a_file_gets_what_stdout_would_have_got(runs, pictures, capsys, tmp_path, name, words):
    form = "json" if name == "p.json" else "csv"
    _, captured = answer(capsys, runs, "digits", pictures, *as_flag(form))
    code, silent = answer(capsys, runs, "digits", pictures, "--out", tmp_path / name, *words)
    assert code == 0
    assert (tmp_path / name).read_text() == captured.out
    assert silent.out == ""
    assert name in silent.err


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_an_unreadable_image_is_reported_and_the_others_are_predicted(runs, pictures, capsys, form):
    (pictures / "2.png").write_bytes(b"no image")
    code, captured = answer(capsys, runs, "digits", pictures, "absent.png", *as_flag(form))
    assert code == 1
    assert "2 of 6 could not be predicted" in captured.err
    assert "2.png" in captured.err
    assert "no such file" in captured.out
    if form == "json":
        rows = json.loads(captured.out)["predictions"]
        assert [("error" in row, "label" in row) for row in rows].count((True, False)) == 2
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(captured.out)))
        assert [bool(row["error"]) for row in rows].count(True) == 2
        assert all(bool(row["label"]) != bool(row["error"]) for row in rows)


def test_all_unreadable_is_still_a_table(runs, capsys):
    code, captured = answer(capsys, runs, "digits", "absent.png")
    assert code == 1
    assert captured.out.splitlines()[0].split() == ["name", "label", "probability", "error"]


def test_a_stream_of_text_alone_gets_it_too(runs, pictures, capsys):
    code, captured = answer(capsys, runs, "digits", pictures, "--csv")
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        assert run(["predict", "digits", str(pictures), "--csv", "--runs-dir", str(runs)]) == code == 0
    assert stream.getvalue().splitlines() == captured.out.splitlines()


def test_numbers_have_values(runs, capsys, tmp_path):
    (tmp_path / "x.csv").write_text("0.5,0.25\n1,1\nx,1\n")
    code, captured = answer(capsys, runs, "line", tmp_path / "x.csv", "--csv")
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert code == 1
    assert list(rows[0]) == ["name", "value", "error"]
    assert [float(row["value"]) for row in rows[:2]] == pytest.approx([0.0, -1.0], abs=0.15)
    assert "'x'" in rows[2]["error"]


def test_numbers_that_differ_late_are_told_apart(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(60, 1))
    np.savez(tmp_path / "times.npz", x=x, y=1.7e9 + 20 * x[:, 0])
    np.save(tmp_path / "new.npy", x[:5].astype(np.float32))
    train(str(tmp_path / "times.npz"), "linear", target="numbers", epochs=20, batch_size=8, runs_dir=tmp_path, name="t")
    expected = predict(tmp_path / "t", tmp_path / "new.npy").outputs[:, 0].tolist()
    _, captured = answer(capsys, tmp_path, "t", tmp_path / "new.npy", "--csv")
    assert [float(row["value"]) for row in csv.DictReader(io.StringIO(captured.out))] == expected
    _, captured = answer(capsys, tmp_path, "t", tmp_path / "new.npy")
    assert [float(line.split()[1]) for line in captured.out.splitlines()[1:]] == pytest.approx(
        expected, rel=0, abs=0.01
    )


def test_names_cannot_command_the_terminal_nor_stop_the_output(runs, pictures, capsys, monkeypatch):
    (pictures / "1.png").rename(pictures / "a\x1b[2Jb\nc.png")
    (pictures / "2.png").rename(str(pictures / "bad") + "\udcff.png")
    for form in ("table", "csv"):
        monkeypatch.setattr("sys.stdout.isatty", lambda form=form: form == "csv")
        code, captured = answer(capsys, runs, "digits", pictures, *as_flag(form))
        assert code == 0
        assert "\x1b" not in captured.out
        assert len(captured.out.splitlines()) == 6
    assert answer(capsys, runs, "digits", pictures, "--json")[0] == 0


def test_odd_names_are_exact_and_differ_in_csv_and_json(runs, tmp_path, capfdbinary):
    folder = tmp_path / "odd"
    folder.mkdir()
    odd = [
        *(
            "a",
            "a\u200b",
            "a\u200d",
            "a\u202e",
            "a\x01",
            "a\x1b[2J",
            "a\nb",
            "a\r",
            "a\r\nb",
            "a\t",
            "a,b",
            'a"b',
            '"a"',
            "a ",
        ),
        *(
            " a",
            "a\x85",
            "\udcff",
            "\udcfe",
            "a\udcff",
            "\u00e9",
            "e\u0301",
            "=1+1",
            "a;b",
            "\ufeffa",
            "a\u2028b",
            "-a",
            "a\\nb",
        ),
    ]
    picture = load("digits").test.x[0, 0].numpy()
    for name in odd:
        Image.fromarray(picture).save(os.path.join(folder, name), format="PNG")
    there = {os.fsencode(folder / name) for name in odd}
    settings = ["--runs-dir", str(runs)]
    assert run(["predict", "digits", str(folder), "--out", str(tmp_path / "p.csv"), *settings]) == 0
    assert run(["predict", "digits", str(folder), "--out", str(tmp_path / "p.json"), *settings]) == 0
    with open(tmp_path / "p.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(odd)
    assert {os.fsencode(row["name"]) for row in rows} == there
    assert len({row["label"] for row in rows}) == 1
    listed = json.loads((tmp_path / "p.json").read_text())["predictions"]
    assert {os.fsencode(row["name"]) for row in listed} == there
    capfdbinary.readouterr()
    assert run(["predict", "digits", str(folder), "--csv", *settings]) == 0
    assert capfdbinary.readouterr().out == (tmp_path / "p.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["absent", "a.png"], 1, "is not a run"),
        (["digits"], 2, "at least one image"),
        (["digits", "a.png", "--top", "0"], 2, "at least 1"),
        (["digits", "a.png", "--json", "--csv"], 2, "two formats"),
        (["digits", "a.png", "--out", "p.txt"], 2, ".csv, .json or .npz"),
        (["digits", "a.png", "--out", "no/such/p.csv"], 2, "folder that exists"),
        (["digits", "line.csv"], 1, "no table"),
        (["line", "line.csv"], 1, "labels out"),
        (["line", "bare.csv", "--top", "2"], 2, "predicts numbers"),
    ],
)
def test_every_mistake_is_one_line_and_a_code(runs, capsys, monkeypatch, words, code, message):
    monkeypatch.chdir(runs)
    (runs / "bare.csv").write_text("1,2\n")
    found, captured = answer(capsys, runs, *words)
    assert (found, captured.out) == (code, "")
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(("mean", "spread"), [(1.7e9, 5.0), (1e6, 0.01), (350_000.0, 2000.0), (0.0, 1e-6)])
def test_numbers_of_any_unit_are_told_apart(tmp_path, capsys, mean, spread):
    x = np.random.default_rng(0).normal(size=(60, 2))
    y = mean + spread * (x[:, 0] - x[:, 1])
    data = tmp_path / "t.csv"
    data.write_text(
        "a,b,y\n" + "".join(f"{p!r},{q!r},{v!r}\n" for (p, q), v in zip(x.tolist(), y.tolist(), strict=True))
    )
    train(str(data), "linear", target="numbers", epochs=30, lr=0.05, runs_dir=tmp_path, name="it")
    found = {}
    for words in ([], ["--csv"], ["--json"]):
        assert run(["predict", "it", str(data), "--runs-dir", str(tmp_path), *words]) == 0
        found[tuple(words)] = capsys.readouterr().out
    exact = np.array([row["values"][0] for row in json.loads(found[("--json",)])["predictions"]])
    assert np.abs(exact - y).max() < spread
    of_csv = [float(row["value"]) for row in csv.DictReader(found[("--csv",)].splitlines())]
    assert of_csv == exact.tolist()
    of_table = np.array([float(line.split()[-1]) for line in found[()].splitlines()[1:]])
    assert np.abs(of_table - exact).max() <= 1e-3 * (exact.max() - exact.min())
