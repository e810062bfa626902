"""Training that starts from weights: those of a run, finished or not, or of a file; with the run's preprocessing.

Weights belong to the inputs that they learned from: so the normalisation is that of the run from which they come, also
on other data. All else is new: the state of the update rule, the average, the schedule and the count of steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surefoot.data import tree
from surefoot.data.column import listed
from surefoot.data.dataset import DataSet
from surefoot.data.named import NAMED
from surefoot.data.paths import is_table
from surefoot.errors import CheckpointError, ConfigError
from surefoot.models.usable import copied
from surefoot.record import store
from surefoot.record.stored import IN_MEMORY, located, read_config
from surefoot.settings import to_dict
from surefoot.training.checkpoint import newest_tensors, read_tensors, tensor_bytes
from surefoot.training.preprocessed import Preprocessing
from surefoot.training.state import Snapshot, named_tensors
from surefoot.training.task import Task
from surefoot.training.weights import preprocessing_of

if TYPE_CHECKING:
    from surefoot.data.columns import Columns

_OF_THE_MACHINE = ("device", "precision", "threads", "from_run")
_FINISHED = (store.WEIGHTS, "best.safetensors", "last.safetensors")
_MOST_NAMES = 3


@dataclass(frozen=True)
class Origin:
    """Weights to start from.

    Attributes:
        snapshot: the weights.
        about: the preprocessing that they have learned with; None where nobody knows.
        classes: names of the classes that their last layer tells apart; None where nobody knows, or for numbers.
        columns: of the table that they have learned from; None for other data.
        source: where they come from, as JSON values: `from`, `weights`, `step`, `data`, `data_fingerprint`, `sha256`.
    """

    snapshot: Snapshot
    about: Preprocessing | None
    classes: tuple[str, ...] | None
    columns: Columns | None
    source: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write the weights into the folder of the run that starts from them, so that it needs no other."""
        store.write_bytes(folder / store.START, tensor_bytes(self.snapshot.tensors))
        about = {
            "source": self.source,
            "extra_state": self.snapshot.extra,
            "preprocessing": None if self.about is None else self.about.to_dict(),
            "classes": None if self.classes is None else list(self.classes),
            "columns": None if self.columns is None else self.columns.to_dict(),
        }
        store.write_sealed(folder / store.START_ABOUT, about)

    @classmethod
    def of_run(cls, folder: Path) -> Origin:
        """Return what the run in a folder started from, as it was written there.

        Raises:
            CheckpointError: it is gone or damaged.
        """
        about = store.read_sealed(folder / store.START_ABOUT)
        source, learned = about["source"], about["preprocessing"]
        tensors = read_tensors(folder / store.START, source["sha256"])
        snapshot = Snapshot(source["step"] or 0, tensors, about["extra_state"])
        return _with_about(snapshot, about, source, None if learned is None else Preprocessing.from_dict(learned))


def found_place(place: Any, runs_dir: str | Path) -> Path:
    """Return the folder of a run, or the file of weights, that `from_run` names: also the run of a `Result`.

    Raises:
        ConfigError: it is neither.
    """
    place = getattr(place, "folder", place)
    if not isinstance(place, str | Path):
        allowed = "it is a run, its name or folder, or a .safetensors file"
        raise ConfigError(f"from_run = {place!r}", allowed, "give one of these")
    path = Path(place).expanduser()
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ConfigError(
                f"from_run = {str(path)!r}",
                "weights are read from a run, or from a .safetensors file; pickles are never loaded",
                "save them with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
            )
        return path
    try:
        return store.run_folder(path, runs_dir)
    except CheckpointError as error:
        allowed = f"it is a run or a .safetensors file: {error.allowed}"
        raise ConfigError(f"from_run = {str(path)!r}", allowed, error.do) from None


def settings_of(place: Path, data: str | None) -> dict[str, Any]:
    """Return the settings of the run that weights come from, as nested values, to lie under those that are given.

    Without what belongs to its machine, without its data's own where other data is given, and with what it fitted to
    its data left to be fitted again. Empty for a file that lies in no run.

    Args:
        place: from `found_place`.
        data: name or path of the data that is given; None for the run's.
    """
    folder = _run_of(place)
    if folder is None:
        return {}
    config = read_config(folder)
    values = to_dict(located(config, folder, NAMED) if data is None else config)
    other = data is not None and data != values["data"]
    tables, folders = (is_table(Path(data)), Path(data).expanduser().is_dir()) if data is not None else (False, False)
    leave = [*_OF_THE_MACHINE, *(("data_dir",) if other else ())]
    leave += ["label", "header"] if other and not tables else []
    leave += ["image_size"] if other and not folders else []
    fitted = store.begun_with(folder).get("fitted", ())
    values["recipe"] |= {name: "auto" for name in ("batch_size", "weight_decay") if name in fitted}
    return {name: value for name, value in values.items() if name not in leave and value != IN_MEMORY}


def _run_of(place: Path) -> Path | None:
    """Return the run whose weights these are: a folder, or that of a file of finished weights; None of another file."""
    if place.is_dir():
        return place
    finished = place.name in _FINISHED and (place.parent / store.MODEL).is_file()
    return place.parent if finished else None


def read_origin(place: Path) -> Origin:
    """Return the weights of a run or a file.

    Of a run that is done they are those of its result; `best.safetensors` or `last.safetensors` in its folder names the
    others. Of one that is not they are those of its newest checkpoint with which it validates: the averaged ones where
    it averages.

    Raises:
        CheckpointError: the run has no checkpoint yet, or a file is damaged.
    """
    folder = _run_of(place)
    if folder is None:
        tensors = read_tensors(place)
        source = _source(str(place), None, None, {}, tensors)
        return Origin(Snapshot(0, tensors, {}), None, None, None, source)
    if (folder / store.MODEL).is_file():
        return _of_finished(place, folder)
    step, tensors, scalars = newest_tensors(folder)
    about, begun = scalars.get("learned_with", {}), store.begun_with(folder)
    source = _source(str(place), "checkpoint", step, begun, tensors)
    learned = Preprocessing.from_dict(about["preprocessing"]) if about else None
    return _with_about(Snapshot(step, tensors, scalars.get("extra_state", {})), about, source, learned)


def _of_finished(place: Path, folder: Path) -> Origin:
    about = store.read_sealed(folder / store.MODEL)
    used, beside = about.get("weights", "last"), about.get("beside")
    file, of_file = (folder / store.WEIGHTS, about) if place.is_dir() else (place, about)
    if place.is_file() and beside is not None and place.name == f"{beside['weights']}.safetensors":
        used, of_file = beside["weights"], beside
    tensors = read_tensors(file, of_file["sha256"])
    step = of_file.get("step")
    source = _source(str(place), used, step, store.begun_with(folder), tensors)
    snapshot = Snapshot(step or 0, tensors, of_file.get("extra_state", {}))
    return _with_about(snapshot, about, source, preprocessing_of(about))


def _with_about(
    snapshot: Snapshot, about: Mapping[str, Any], source: dict[str, Any], preprocessing: Preprocessing | None
) -> Origin:
    classes, columns = (about.get(name) for name in ("classes", "columns"))
    if columns is not None:
        from surefoot.data.columns import Columns  # with pyarrow, which nothing but a table needs

        columns = Columns.from_dict(columns)
    return Origin(
        snapshot,
        preprocessing,
        None if classes is None else tuple(classes),
        columns,
        source,
    )


def _source(
    place: str, weights: str | None, step: int | None, begun: Mapping[str, Any], tensors: dict[str, Tensor]
) -> dict[str, Any]:
    return {
        "from": place, "weights": weights, "step": step, "data": begun.get("settings", {}).get("data"),
        "data_fingerprint": begun.get("data_fingerprint"), "sha256": store.sha256(tensor_bytes(tensors)),
    }  # fmt: skip


def started_from(task: Task, origin: Origin, data: str | None = None) -> Task:
    """Return a task whose model has the weights of an origin, and whose inputs are normalised as they learned them.

    Args:
        task: as its settings make it.
        origin: of the weights.
        data: as configured: the same data in other parts may have in one what was learned from in another.

    Raises:
        ConfigError: weights, inputs or targets are of another kind or shape than the task's.
    """
    whole, said = task.data, list[str]()
    name = origin.source["from"]
    _check_targets(task, origin)
    _check_fits(task, origin)
    if origin.about is None:
        said.append(f"{name} does not say how inputs were normalised that its weights learned from: here it is by this "
                    "data's own mean and deviation")  # fmt: skip
    else:
        fitted, unlike = _with_preprocessing(whole, origin.about, name)
        whole, said = fitted, said + unlike
    if origin.classes is not None and whole.classes is not None and origin.classes != whole.classes:
        said.append(f"the last layer of {name} has learned the classes {listed(origin.classes, _MOST_NAMES)}, in this "
                    f"order, and goes on with {listed(whole.classes, _MOST_NAMES)}")  # fmt: skip
    then = origin.source["data"]
    same = data not in (None, IN_MEMORY) and then is not None and Path(str(data)).name == Path(then).name
    if same and origin.source["data_fingerprint"] != whole.fingerprint:
        said.append(f"{name} learned from {data} as it was, or in other parts (another seed or validation share): what "
                    "it learned from may be in the validation part or the test part here")  # fmt: skip
    template = copied(task.template)
    origin.snapshot.put_into_(template)
    step = f", step {origin.source['step']:,}" if origin.source["step"] else ""
    kind = {"checkpoint": "the newest checkpoint of ", "best": "the best weights of ", "last": "the last weights of "}
    said.insert(0, f"training starts from {kind.get(origin.source['weights'] or '', '')}{name}{step}; the state of the "
                   "update rule, the schedule and the steps begin anew")  # fmt: skip
    whole = dataclasses.replace(whole, notes=(*whole.notes, *said))
    return dataclasses.replace(task, data=whole, template=template, trained=True)


def _with_preprocessing(data: DataSet, about: Preprocessing, name: str) -> tuple[DataSet, list[str]]:
    """Return the data normalised as the weights learned it, and what is to be said of the difference."""
    here = Preprocessing.of(data)
    ours, theirs = _leaves(here), _leaves(about)
    if [(leaf.input, leaf.mean.shape) for leaf in ours] != [(leaf.input, leaf.mean.shape) for leaf in theirs]:
        there = " and ".join(f"{leaf.input} with statistics of shape {tuple(leaf.mean.shape)}" for leaf in theirs)
        raise ConfigError(
            f"{name}, whose weights learned from {there}, with {' and '.join(leaf.input for leaf in ours)} of shape "
            f"{data.input_shape}",
            "weights go on with inputs like those that they learned from",
            "give such data, or train without from_run",
        )
    if any(map(_normalises, theirs)) and not any(map(_normalises, ours)):
        raise ConfigError(
            f"normalise = false with {name}, whose weights learned from normalised inputs",
            "weights go on with inputs like those that they learned from",
            "leave normalise out",
        )
    said = []
    if any(not torch.equal(a.mean, b.mean) or not torch.equal(a.std, b.std) for a, b in zip(ours, theirs, strict=True)):
        said.append(f"inputs are normalised by the mean and deviation of the data that {name} learned from, and not by "
                    "this data's own, so that its weights mean the same")  # fmt: skip
    learned = about if about.leaves is None else about.leaves

    def like(value: Tensor | None, then: Tensor) -> Tensor | None:
        return None if value is None else then.to(value.dtype).reshape(value.shape).to(value.device)

    mean = tree.map_leaves(lambda _, value, leaf: like(value, leaf.mean), data.train.x, data.mean, learned)
    std = tree.map_leaves(lambda _, value, leaf: like(value, leaf.std), data.train.x, data.std, learned)
    changes: dict[str, Any] = {"mean": mean, "std": std}
    if about.target_mean is not None and data.target_mean is not None and about.target_std is not None:
        if not torch.equal(about.target_mean, data.target_mean.double().cpu()):
            said.append(f"targets are standardised as those that {name} learned, too")
        changes |= {"target_mean": about.target_mean, "target_std": about.target_std}
    elif (about.target_mean is None) != (data.target_mean is None) and data.classes is None:
        said.append(f"{name} gives its answers in another unit than this loss: the last layer has that to learn first")
    return dataclasses.replace(data, **changes), said


def _leaves(about: Preprocessing) -> list[Preprocessing]:
    """Return what is done to each tensor of the inputs."""
    return [about] if about.leaves is None else tree.leaves(about.leaves)


def _normalises(about: Preprocessing) -> bool:
    return bool((about.mean != 0).any()) or bool((about.std != 1).any())


def _check_targets(task: Task, origin: Origin) -> None:
    here, there, name = task.data.classes, origin.classes, origin.source["from"]
    if origin.about is None:
        return
    advice = (
        f"give such data; or in Python take net = surefoot.load_trained(...).model.net, give it a last layer for "
        f"{task.data.outputs} outputs, and train with model=net"
    )
    if (here is None) != (there is None):
        learned = "numbers" if origin.about.output in ("numbers", "sigmoid") else "targets that are no classes"
        kinds = (
            learned if there is None else f"{len(there)} classes",
            task.data.target if here is None else f"{len(here)} classes",
        )
        raise ConfigError(
            f"{name}, whose weights predict {kinds[0]}, for targets that are {kinds[1]}",
            "weights go on with targets like those that they learned",
            advice,
        )
    if here is not None and there is not None and len(here) != len(there):
        raise ConfigError(
            f"{name}, whose weights tell {len(there)} classes apart, for data of {len(here)}",
            "weights fit a model with as many outputs",
            advice,
        )
    if origin.columns is not None and task.data.columns is not None:
        then, now = (_meaning(each) for each in (origin.columns, task.data.columns))
        if then != now:
            wrong = [new for old, new in zip(then, now, strict=False) if old != new]
            which = repr(wrong[0][0]) if wrong else f"{len(now)} columns in place of {len(then)}"
            raise ConfigError(
                f"{name} with a table that is read in another way: {which}",
                "each input of the weights must mean what it meant: the same columns with the same levels, in order",
                "give a table with the same columns and levels; rows of both tables in one have them",
            )


def _meaning(columns: Columns) -> list[tuple[Any, ...]]:
    """Return what each column makes of its cells, but for numbers that follow the data, such as a median."""
    return [(c.name, c.use, c.reading.kind, c.levels, c.cycles, c.gaps) for c in columns.columns]


def _check_fits(task: Task, origin: Origin) -> None:
    """Raise ConfigError where weights are not those of the task's model by name and shape, or are not finite."""
    there = {name: value for name, value in origin.snapshot.tensors.items() if not name.startswith("extra/")}
    here, name = named_tensors(task.template), origin.source["from"]
    wrong = [f"{each!r} is not in it" for each in here if each not in there]
    wrong += [f"the model has no {each!r}" for each in there if each not in here]
    wrong += [
        f"{each!r} is {tuple(there[each].shape)} in it and {tuple(value.shape)} in the model"
        for each, value in here.items() if each in there and there[each].shape != value.shape
    ]  # fmt: skip
    if wrong:
        more = f", and {len(wrong) - _MOST_NAMES} more" if len(wrong) > _MOST_NAMES else ""
        raise ConfigError(
            f"{name} does not fit the model: {', '.join(wrong[:_MOST_NAMES])}{more}",
            "weights must have the model's own names and shapes",
            "give the model and the data that they were trained with, or weights of this model",
        )
    bad = [
        each for each, value in here.items()
        if not bool(there[each].isfinite().all()) and bool(value.isfinite().all())
    ]  # fmt: skip
    if bad:
        raise ConfigError(
            f"{name}: {bad[0]!r} holds values that are not finite", "weights are finite numbers", "give sound weights"
        )
