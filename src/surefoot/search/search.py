"""A search in progress, on disk or in memory: `Search.advance` searches, and the final training follows.

    with open_search(config, terms) as search:
        while not search.done:
            search.advance()
        run = search.open_final()

Its folder is that of the final run. Until that begins it holds `tune.toml`, what was asked for, and the journal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import tomllib
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from surefoot.config import Config, Recipe
from surefoot.curves.advice import judge_run
from surefoot.errors import CheckpointError, ConfigError
from surefoot.optim.plan import plan, said_of_batch, weight_decay_of
from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.record.lock import locked
from surefoot.record.measures import ACCURACY, words
from surefoot.record.progress import Progress, ProgressFile
from surefoot.search.budget import Ledger, Request, Terms, budget, final_run
from surefoot.search.decide import never_searched
from surefoot.search.execute import Executor, check_examples
from surefoot.search.journal import Journal, open_journal
from surefoot.search.moves import Conclude, Done
from surefoot.search.procedure import next_move
from surefoot.search.response import coordinates
from surefoot.settings import differences, from_dict, to_dict
from surefoot.training.configure import Objects, make_task, recipe_for
from surefoot.training.figures import rule_figures
from surefoot.training.groups import check_lengths
from surefoot.training.identity import another, differing, identity
from surefoot.training.loop import start
from surefoot.training.open import check_choice, open_run
from surefoot.training.place import run_place
from surefoot.training.population.engine import Engine
from surefoot.training.population.strategy import FIGURES, Figures
from surefoot.training.run import Result, Run
from surefoot.training.task import Task, check_label_smoothing


@dataclass
class Search:
    """A search in progress. Made by `open_search`; close it (or use `with`) to save trials and free its folder.

    Attributes:
        folder: where everything lies; None where it is in memory.
        config: what was asked for; its recipe is the one that the search starts from.
        objects: objects in place of the configuration's.
        request: what is searched for.
        executor: carries out the moves.
        command: what to write down as the command of the final run.
        resumed: whether relative paths are read as where it was begun.
        end: what the search came to; None until then.
        now: how far it is; also in its folder, at most once a second.
    """

    folder: Path | None
    config: Config
    objects: Objects
    request: Request
    executor: Executor
    command: str = "library"
    resumed: bool = False
    end: Done | None = None
    now: Progress = field(default_factory=lambda: Progress(0, 0))
    _lock: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _decided: float = 0.0
    _work: Generator[Progress, None, None] | None = None
    _file: ProgressFile | None = None

    @property
    def journal(self) -> Journal:
        """The history, which grows."""
        return self.executor.journal

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All so far, in order."""
        return self.journal.history.decisions

    @property
    def done(self) -> bool:
        """Whether there is nothing left to search."""
        return self.end is not None

    @property
    def recipe(self) -> Recipe | None:
        """What was chosen; None before the end, and where a step failed."""
        return self.end.recipe if self.end else None

    @property
    def notes(self) -> list[str]:
        """What is to be said of the batch that the search begins with, and of what holds for its end alone."""
        base, free = self.request.base, "batch_size" not in self.request.terms.fixed
        recipe = dataclasses.replace(base, batch_size="auto") if free else base
        said = said_of_batch(recipe, self.request.examples)
        if (by := self.config.choose_by) is not None and by != ACCURACY:
            said.append(
                f"recipes are compared by {words(by)}: how far it is off by the examples is not known, and only runs "
                "with several seeds say how sure a difference is"
            )
        if self.config.early_stopping_epochs is not None:
            said.append(
                "trials are trained to their end, so that they can be compared; the final training may stop early"
            )
        return said

    @property
    def failed(self) -> Decision | None:
        """The first decision that fails, if there is one."""
        return next((decision for decision in self.decisions if decision.verdict == "fail"), None)

    @property
    def searched(self) -> tuple[str, ...]:
        """The settings of which more than one value was trained with; all others are as they were given, or a default.

        Weight decay is not searched where it only follows the rate, nor where it stays; a batch size is where its step
        has measured one.
        """
        trials = [result.trial for result in self.journal.history.results.values()]
        recipes, memory = [trial.recipe for trial in trials], self.request.base.update_rule.memory
        several = {
            "lr": len({recipe.lr for recipe in recipes}) > 1,
            "weight_decay": len({recipe.weight_decay for recipe in recipes}) > 1
            and len({round(coordinates(trial.recipe, trial.share)[1], 1) for trial in trials}) > 1,
            memory: len({recipe.memory for recipe in recipes}) > 1,
            "schedule": len({recipe.schedule.kind for recipe in recipes}) > 1,
            "batch_size": len({recipe.batch_size for recipe in recipes}) > 1
            or any(decision.name == "batch-size" and decision.value for decision in self.decisions),
        }
        return tuple(name for name, there in several.items() if there)

    @property
    def ledger(self) -> Ledger:
        """What was spent so far, and what is left."""
        final = final_run(self.request, self.decisions, self.journal.history.timings)
        return Ledger(self.request.terms.budget, final, self.decisions)

    def advance(self) -> Progress:
        """Search a little, about a second, and return how far the search is."""
        self._work = self._work or self._moves()
        now = next(self._work, None)
        if now is not None:
            self.now = self.ledger.progress(now, time.monotonic() - self._decided)
            if self._file is not None and self._file.due:
                self._file.write(self.now)
        return self.now

    def _moves(self) -> Generator[Progress, None, None]:
        self._decided = time.monotonic()
        self._file = ProgressFile(self.folder) if self.folder else None
        while not isinstance(move := next_move(self.request, self.journal.history), Done):
            made = len(self.decisions)
            if isinstance(move, Conclude):  # what is around the training of trials takes time too
                seconds = max(move.decision.seconds, time.monotonic() - self._decided)
                self.journal.decide(dataclasses.replace(move.decision, seconds=seconds))
            else:
                yield from self.executor.carry_out(move)
            if len(self.decisions) > made:
                self._decided = time.monotonic()
        self.end = move
        if self._file is not None:
            self._file.remove()

    def open_final(self) -> Run:
        """Free the folder and open the final run in it, from its newest checkpoint if it has begun."""
        assert self.folder is not None
        assert self.recipe is not None, "a final run comes after a search that has chosen"
        self.close()
        final = dataclasses.replace(self.config, recipe=self.recipe)
        return open_run(
            final,
            name=self.folder.name,
            runs_dir=self.folder.parent,
            objects=self.objects,
            command=self.command,
            resumed=self.resumed,
        )

    def complete(self, result: Result, run: Run) -> dict[str, Any]:
        """Add recipe, decisions (the last reads the final run's curves) and cost to its result, and return that."""
        assert self.end is not None
        made = [decision.to_dict() for decision in self.decisions]
        curves = judge_run(result.record.rows, result.record.outcome, run.config, result.summary | {"decisions": made})
        summary = {
            **result.summary,
            "recipe": to_dict(run.config.recipe),
            "decisions": [*made, curves.to_dict()],
            "cost": self.ledger.to_dict(),
            "searched": list(self.searched),
            "unchecked": [*self.end.unchecked, *never_searched(self.executor.task.data.kind, run.config.augment)],
            "files": store.digests(run.folder, store.SEALED),
        }
        return store.write_sealed(run.folder / store.RESULT, summary)

    def close(self) -> None:
        """Save the trials in progress, and free the folder for other processes."""
        if self._work is not None:
            self._work.close()
        self._lock.close()

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_search(
    config: Config,
    terms: Terms,
    *,
    name: str | None = None,
    runs_dir: str | Path | None = "runs",
    objects: Objects | None = None,
    engine: Engine | None = None,
    command: str = "library",
    resumed: bool = False,
) -> Search:
    """Begin a search, or go on with the one of that name.

    Args:
        config: all settings; its recipe is the one to start from.
        terms: the budget, and what is fixed.
        name: the folder under `runs_dir`; a new name from date, data and model if left out.
        runs_dir: where runs lie; made if missing. None: nothing is written, and no final run can follow.
        objects: objects in place of the configuration's data, model, loss or augmentation.
        engine: computes the trials; None makes one.
        command: what to write down as the command.
        resumed: as in `open_run`.

    Raises:
        ConfigError: settings cannot be used, or differ from those of the search of that name; there is no validation
            part.
        CheckpointError: the folder is held by another process, its journal is damaged, or another version wrote it.
        DataError: the data cannot be used.
    """
    objects = objects or Objects()
    if runs_dir is None:
        return _search(config, terms, objects, _task(config, objects), Journal(), engine or Engine())
    folder = run_place(config, name, runs_dir)
    with contextlib.ExitStack() as cleaner:
        cleaner.enter_context(locked(folder))
        cleaner.callback(_discard_if_empty, folder)
        store.sweep(folder)
        begun = (folder / store.TUNE).is_file()
        if begun:
            _agree(folder, config, terms)
        elif (folder / store.CONFIG).is_file():
            raise ConfigError(
                f"{folder} is a run that was not tuned", "a search has a folder of its own", "choose another name"
            )
        task = _task(config, objects, folder if begun and resumed else None)
        here = identity(task)
        if begun:
            _check_identity(folder, here)
        texts = {store.COMMAND: (command + "\n").encode(), store.TUNE: asked(config, terms).encode()}
        figures = FIGURES[task.machine.device.type] if begun else rule_figures(task.machine.device)
        journal = open_journal(folder, task.data.fingerprint, here, texts, dataclasses.asdict(figures))
        engine = engine or Engine(figures=Figures(**journal.about["figures"]))
        if not begun:
            for name, text in texts.items():  # the last makes the folder a search
                store.write_bytes(folder / name, text)
        search = _search(config, terms, objects, task, journal, engine)
        return dataclasses.replace(search, folder=folder, command=command, resumed=resumed, _lock=cleaner.pop_all())


def _check_identity(folder: Path, here: dict[str, str]) -> None:
    there = store.read_sealed(folder / store.TIMINGS) if (folder / store.TIMINGS).is_file() else None
    if there is not None and (changed := differing(there.get("identity", {}), here)):
        raise another(folder, changed)


def _task(config: Config, objects: Objects, folder: Path | None = None) -> Task:
    task = make_task(config, objects, folder)
    check_label_smoothing(task, config.recipe.label_smoothing)  # before there is a folder
    check_choice(config, task)
    if config.recipe.groups:
        made = plan(config.recipe, task.data.examples)
        check_lengths(made)
        start(task, made)
    if task.data.validation is None:
        raise ConfigError(
            "data without a validation part", "recipes are compared by what they do on held-out examples",
            "give validation a share that is an example at least, such as 0.5; each class needs two",
        )  # fmt: skip
    return task


def _search(config: Config, terms: Terms, objects: Objects, task: Task, journal: Journal, engine: Engine) -> Search:
    assert task.data.validation is not None
    if "batch_size" in terms.fixed:  # one that was given is not made to fit
        plan(Recipe(batch_size=config.recipe.batch_size, steps=1), task.data.examples)
    base = recipe_for(config, task.data)
    base = dataclasses.replace(base, weight_decay=weight_decay_of(base, task.data.examples))
    request = Request(
        terms=terms, base=base, examples=task.data.examples,
        validation_examples=len(task.data.validation), check_examples=check_examples(task),
        device=str(task.machine.device),
    )  # fmt: skip
    model = config.model if objects.model is None else objects.model
    return Search(None, config, objects, request, Executor(task, model, journal, engine, config.choose_by))


def asked(config: Config, terms: Terms) -> str:
    """Return what was asked for as TOML."""
    more = {
        "budget": str(terms.budget),
        "fixed": sorted(terms.fixed),
        "given": sorted(terms.given),
        "force": terms.force,
    }
    return tomli_w.dumps({"tune": more, "start": to_dict(config)})


def read_asked(folder: Path) -> tuple[Config, Terms]:
    """Return what the search in a folder was asked for.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = folder / store.TUNE
    there = store.read_sealed(folder / store.TIMINGS) if (folder / store.TIMINGS).is_file() else {}
    store.check_digests(folder, {name: there["files"][name] for name in (store.TUNE,) if "files" in there})
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        more = values["tune"]
        terms = Terms(
            budget=budget(more["budget"]),
            fixed=frozenset(more["fixed"]),
            given=frozenset(more["given"]),
            force=more["force"],
        )
        return from_dict(Config, values["start"]), terms
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(str(path), f"it must be as the search wrote it ({error})", "restore it") from None


def _agree(folder: Path, config: Config, terms: Terms) -> None:
    there, agreed = read_asked(folder)
    changed = differences(there, config, ignore=("checkpoint_seconds", "workers"))
    if agreed != terms:
        changed.append(f"budget, fixed settings or force ({agreed.budget} there, {terms.budget} here)")
    if changed:
        raise ConfigError(
            f"{folder} was started with other settings: {', '.join(changed)}",
            "a search keeps its settings from beginning to end", "choose another name, or give the same settings",
        )  # fmt: skip


def _discard_if_empty(folder: Path) -> None:
    if not (folder / store.TUNE).is_file():
        store.discard_if_empty(folder)
