"""The methods of `field.py`: Surefoot's commands as a user types them, and scikit-learn's estimators with defaults."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from field_sets import FieldSet

PEERS = ("dummy", "linear", "mlp", "boosting")
"""scikit-learn's: the most frequent class or the mean; logistic or ridge regression; MLP; histogram boosting."""
COMMANDS = ("train", "tune")
"""Surefoot's."""
MOST_CATEGORIES = 50
"""Columns that scikit-learn's one-hot coding makes of a text column; rarer values share one. Chosen by hand."""
PROGRESS = re.compile(r"^(run|data|model|recipe|length|machine|epoch|step|\s|[a-z-]+ +(pass|warn) )")


@dataclass(frozen=True)
class Split:
    """A data set as files, and the answers of its test part.

    Attributes:
        train, test, inputs: the training part, the test part with labels, and without.
        truth: of the test part; text for classes, numbers [N] or [N, D] else.
        digest: of what the files hold.
    """

    train: Path
    test: Path
    inputs: Path
    truth: np.ndarray
    digest: str


@dataclass
class Ran:
    """What came of a method on a data set.

    Attributes:
        answers: for the test part, as `Split.truth`; None where there are none.
        outcome: how it ended, in a word.
        flags: what must not be.
        said: what it said, a line each.
        facts: what else is worth keeping.
        seconds: of training, the reading of the file with it.
    """

    answers: np.ndarray | None = None
    outcome: str = ""
    flags: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def surefoot_command(command: str, of: FieldSet, split: Split, folder: Path, most_seconds: int) -> Ran:
    """Train or tune with all defaults by the command line, then evaluate and predict the test part.

    Args:
        command: "train" or "tune".
        of: the data set.
        split: its files.
        folder: for the run's folder, `command` in it; what is there is not looked at.
        most_seconds: after which it is stopped, and flagged.
    """
    ran = Ran()
    words = [command, str(split.train), "--name", command, "--runs-dir", str(folder), "--threads", "1"]
    words += ["--json", "--quiet", "--no-report"]
    words += ["--label", of.label] if of.label else []
    words += ["--target", "numbers"] if of.target == "numbers" else []
    words += ["--budget", "2x"] if command == "tune" else []
    began = time.perf_counter()
    code, out, err = _called(words, ran, most_seconds)
    ran.seconds = time.perf_counter() - began
    ran.said += [line for line in err.splitlines() if line.strip()][-15:]
    result = _json(out)
    ran.facts = {"recipe": result.get("recipe"), "exit": code}
    ran.facts |= {key: result.get(key) for key in ("model", "steps", "epochs", "curves", "unchecked", "baseline")}
    ran.outcome = str(result.get("outcome", f"exit {code}"))
    if ran.flags:
        return ran
    if ran.outcome == "diverged":
        ran.flags.append("diverged")
    elif code == 3:
        ran.flags.append("a step failed")
        failed = [each for each in result.get("decisions") or [] if each.get("verdict") == "fail"]
        ran.said += [f"{each.get('step')}: {each.get('reason')}" for each in failed]
    elif code != 0:
        ran.flags.append("refused")
    if not (folder / command / "model.safetensors").is_file():
        return ran
    _answered(of, split, folder, command, ran, most_seconds)
    return ran


def _answered(of: FieldSet, split: Split, folder: Path, run: str, ran: Ran, most_seconds: int) -> None:
    """Fill in the answers for the test part, and flag where `evaluate` says something else of them."""
    place = ["--runs-dir", str(folder)]
    out = folder / f"{run}.csv"
    code, _, err = _called(["predict", run, str(split.inputs), "--out", str(out), *place], ran, most_seconds)
    if code != 0 or not out.is_file():
        ran.flags.append("predict fails")
        ran.said += err.splitlines()[-5:]
        if not out.is_file():
            return
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = ["label"] if of.target == "classes" else [name for name in rows[0] if name.startswith("value")]
    if len(rows) != len(split.truth):
        ran.flags.append("predict loses rows")
        return
    if of.target == "classes":
        ran.answers = np.array([row["label"] for row in rows], dtype=str)
    else:
        values = [[float(row[name]) if row[name] else np.nan for name in columns] for row in rows]
        ran.answers = np.array(values).reshape(split.truth.shape)
    code, text, err = _called(["evaluate", run, "--data", str(split.test), "--json", *place], ran, most_seconds)
    if code != 0:
        ran.flags.append("evaluate fails")
        ran.said += err.splitlines()[-5:]
        return
    scores, ours = _json(text), score(of, split.truth, ran.answers)
    theirs = scores.get("accuracy", scores.get("r2"))
    if theirs is None or (np.ndim(split.truth) == 1 and abs(theirs - ours) > 1e-3 * max(1.0, abs(ours))):
        ran.flags.append("evaluate and predict differ")
        ran.said.append(f"evaluate says {theirs}, the predictions {ours:.5f}")


def _called(words: list[str], ran: Ran, most_seconds: int) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command in this process; what escapes it is a flag."""
    from surefoot.cli.app import run

    out, err = io.StringIO(), io.StringIO()
    code = -1
    try:
        with _at_most(most_seconds), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(words)
    except TimeoutError:
        ran.flags.append("too slow")
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException as error:  # whatever a user would have seen as a traceback
        ran.flags.append("traceback")
        ran.said.append(f"surefoot {' '.join(words[:1])}: {type(error).__name__}: {error}")
        ran.said += [line.strip() for line in traceback.format_exc().splitlines() if "surefoot" in line][-4:]
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"stopped after {seconds} s")

    former = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def _json(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(text[text.index("{") :])
        return found if isinstance(found, dict) else {}
    return {}


def peer(method: str, of: FieldSet, x: tuple[Any, Any], y: np.ndarray) -> Ran:
    """Fit scikit-learn's estimator with defaults, behind the usual preprocessing, and answer for the test part.

    Args:
        method: one of `PEERS`.
        of: the data set.
        x: features of the training and the test part: tables with types, or arrays.
        y: answers of the training part.
    """
    ran = Ran(outcome="finished")
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        model = _pipeline(method, of, x[0], np.ndim(y) > 1)
        ran.answers = model.fit(x[0], y).predict(x[1])
    ran.seconds = time.perf_counter() - began
    ran.said = sorted({str(each.message).splitlines()[0] for each in warned})[:3]
    return ran


def _pipeline(method: str, of: FieldSet, x: Any, several: bool) -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = of.target == "classes"
    match method:
        case "dummy":
            model: Any = DummyClassifier() if classes else DummyRegressor()
        case "linear":
            model = LogisticRegression() if classes else Ridge()
        case "mlp":
            model = MLPClassifier(random_state=0) if classes else MLPRegressor(random_state=0)
        case _:
            made = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
            model = made(random_state=0)
    if several and method == "boosting":
        model = MultiOutputRegressor(model)
    if not classes and method == "mlp":  # which learns nothing of targets of 1e9, and all of 1e-6 is noise to it
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    return make_pipeline(*_preprocessing(x), model)


def _preprocessing(x: Any) -> list[Any]:
    """Gaps imputed, text one-hot, numbers standardised."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    if isinstance(x, np.ndarray):
        return [FunctionTransformer(_flat), StandardScaler()]
    numbers = [name for name in x.columns if pd.api.types.is_numeric_dtype(x[name])]
    texts = [name for name in x.columns if name not in numbers]
    coder = OneHotEncoder(max_categories=MOST_CATEGORIES, handle_unknown="infrequent_if_exist", sparse_output=False)
    return [
        ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
                ("texts", make_pipeline(SimpleImputer(strategy="most_frequent"), coder), texts),
            ]
        )
    ]


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float64)


def score(of: FieldSet, truth: np.ndarray, answers: np.ndarray) -> float:
    """Return accuracy, or R2 averaged over targets."""
    return float(1 - losses(of, truth, answers).mean())


def losses(of: FieldSet, truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return a loss for each example, [N], whose mean is 1 - score: 0 or 1, or the squared error over the variance."""
    if of.target == "classes":
        return 1.0 - np.array([_same(a, b) for a, b in zip(truth, answers, strict=True)], dtype=float)
    variance = np.maximum(truth.var(axis=0), np.finfo(float).tiny)
    each = (truth - answers) ** 2 / variance
    return np.nan_to_num(each if each.ndim == 1 else each.mean(axis=1), nan=1e6, posinf=1e6)


def _same(truth: str, answer: str) -> bool:
    """Whether two spellings are the same class: 1 and 1.0 are."""
    if truth == answer:
        return True
    try:
        return float(truth) == float(answer)
    except ValueError:
        return False
