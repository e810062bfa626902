"""Data that Python objects hold: arrays, tensors, Datasets, streams, mappings of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from surefoot import seeds
from surefoot.data import frames, hugging_face, nested, streams, tree
from surefoot.data.check import Problems
from surefoot.data.columns import Columns
from surefoot.data.dataset import Raw, RawPart, Source, TargetKind, channels_first
from surefoot.data.examples import tensor_array, value_array
from surefoot.data.labels import Target, chosen_target, coded
from surefoot.data.layout import kind_of_array, standard, standard_leaf
from surefoot.data.map_style import Reader, read_examples, unwrapped
from surefoot.data.mapped import Mapped, large
from surefoot.data.npz_names import PARTS
from surefoot.data.statistics import number_type
from surefoot.data.targets import LABEL_NAMES, label_name, special_target
from surefoot.errors import ConfigError

_ARRAYS = (np.ndarray, torch.Tensor, Image.Image)

_READ_ANEW = (
    "the Dataset draws at random: training reads it anew in each epoch, its draws set by (seed, epoch, index); "
    "statistics, and what is held out of it for validation, are of one reading"
)
_READ_ONCE = "the Dataset draws at random: it is read once, and keeps what was drawn"


def read(source: Any, problems: Problems, target: Target = "auto", columns: Columns | None = None) -> Raw:
    """Return the parts of Python objects.

    Args:
        source: (x, y); a mapping of arrays, one of them the targets; a Dataset, a DataLoader of one, a stream
            (`data.streams`), a dataset of Hugging Face's; (train, test) of these; or a mapping from names of parts to
            one of these. x and y may be trees of arrays, see `data.tree`.
            x is images, uint8 [N, H, W], [N, C, H, W] or [N, H, W, C], or float in whole 255ths [N, C, H, W]; or
            numbers [N, ...]; or a table, see `frames`. y is [N] (or [N, D] for a regression).
        problems: takes what is wrong.
        target: "classes", "numbers", or "auto".
        columns: of a trained model, by which tables are read.

    Raises:
        ConfigError: it is none of these.
    """
    parts: dict[str, tuple[Any, Any]] = {}
    readers: dict[str, Reader] = {}
    label: str | None = None
    classes: tuple[str, ...] | None = None
    for name, each in _by_part(source).items():
        prefix = f"{name} row " if isinstance(source, (Mapping, tuple)) and not _is_pair(source) else "row "
        if hugging_face.is_dataset(each):
            classes, each = classes or hugging_face.classes_of(each), hugging_face.opened(each)
        if streams.is_stream(each):
            streamed = streams.read(each, prefix, problems)
            parts[name], label = (streamed.x, streamed.y), label or streamed.label_name
            classes = classes or _classes_of(getattr(each, "dataset", each))
            continue
        workers, each = getattr(each, "num_workers", 0), unwrapped(each, problems)
        if isinstance(each, Mapping) and (label := label_name(each)) is not None and len(each) > 1:
            parts[name] = ({key: value for key, value in each.items() if key != label}, each[label])
        elif _is_pair(each):
            parts[name] = (each[0], each[1])
        elif hasattr(each, "__getitem__") and hasattr(each, "__len__") and not isinstance(each, (str, bytes, dict)):
            x, y, reader, named = read_examples(each, prefix, problems)
            parts[name] = (x, y)
            classes, label = classes or _classes_of(each), label or named
            if reader is not None:
                readers[name] = replace(reader, workers=workers if isinstance(workers, int) else 0)
                problems.notes.append(_READ_ANEW if name == "train" else f"{name}: {_READ_ONCE}")
        else:
            raise _unusable(f"data of type {type(each).__name__} for {name}")
    many = len(parts) > 1 or isinstance(source, Mapping)
    raw = replace(_raw("arrays", parts, problems, target, classes, many, columns), label_name=label)
    if "train" in readers and "train" in raw.parts:
        raw.parts["train"] = replace(raw.parts["train"], reader=readers["train"])
    return raw


def _as_table(x: Any) -> Any:
    array = None if frames.is_frame(x) else _array(x, "x", Problems("x"))
    return x if array is None or array.ndim != 2 else frames.of_array(array)


def _tables(
    name: str, pairs: dict[str, tuple[Any, Any]], problems: Problems, target: Target, columns: Columns | None
) -> Raw:
    """Return parts whose examples are the rows of tables."""
    many = len(pairs) > 1
    labels = {part: _array(y, f"{part} y" if many else "y", problems) for part, (_, y) in pairs.items()}
    read = {
        part: (frames.frame_of(x, f"{part} x" if many else "x"), y[:, 0] if y.shape[1:] == (1,) else y)
        for part, (x, _) in pairs.items()
        if (y := labels[part]) is not None
    }
    if len(read) < len(pairs):
        return Raw(name, {}, None, "numbers")
    label = frames.title_of_label([y for _, y in pairs.values()])
    return replace(frames.read(read, problems, target, columns, label), name=name)


def kind_of(source: Any) -> Literal["images", "numbers"]:
    """Return of what kind the examples of Python objects are, by the first part, or by the first of its Dataset."""
    first: Any = next(iter(_by_part(source).values()), None)
    if hugging_face.is_dataset(first):
        first = hugging_face.opened(first)
    try:
        first = [streams.first_of(first)] if streams.is_stream(first) else unwrapped(first)
    except Exception:  # the user's code: reading all of it will say what is wrong
        return "images"
    if isinstance(first, Mapping):
        return "numbers"
    if _is_pair(first):
        if not tree.is_leaf(tree.as_tree(first[0])) and not _is_numbers(first[0]):
            return "numbers"
        if frames.is_frame(first[0]):
            return "numbers"
        x = _array(first[0], "x", Problems("arrays"))
        return "numbers" if x is None else kind_of_array(x)
    try:
        with seeds.StepSeeds(0, "read-dataset", every=True):
            return kind_of_array(value_array(first[0][0])[None])
    except Exception:  # the user's code: reading all of it will name the example
        return "images"


def _classes_of(dataset: Any) -> tuple[str, ...] | None:
    """Return the names of the classes where the Dataset has them, as torchvision's do in `classes`."""
    classes = getattr(dataset, "classes", None)
    named = isinstance(classes, (list, tuple)) and len(classes) > 1 and all(isinstance(name, str) for name in classes)
    return tuple(classes) if named and classes is not None else None


def _by_part(source: Any) -> dict[str, Any]:
    if isinstance(source, Mapping) and label_name(source) is None:
        unknown = [name for name in source if PARTS.get(str(name).lower()) is None]
        if unknown:
            raise ConfigError(
                f"data with a part {unknown[0]!r}",
                f"parts are train, validation and test; of inputs by name one is the targets: {', '.join(LABEL_NAMES)}",
                "rename it",
            )
        return {PARTS[str(name).lower()]: each for name, each in source.items() if each is not None}
    if isinstance(source, tuple) and not _is_pair(source):
        if len(source) != 2:
            raise _unusable(f"a tuple of {len(source)}")
        return {"train": source[0], "test": source[1]}
    return {"train": source}


def _is_pair(source: Any) -> bool:
    """Return whether this is (x, y): a tuple or list of two arrays, tensors, tables or flat lists."""
    if not isinstance(source, (tuple, list)) or len(source) != 2 or nested.train_and_test(source):
        return False
    if isinstance(source, tuple) and any(_is_tree(each) for each in source):
        return all(_is_tree(each) or _is_array(each) for each in source)
    return all(map(_is_array, source))


def _is_tree(each: Any) -> bool:
    """Return whether this is a tuple or mapping with an array in it, or such a one."""
    values = each.values() if isinstance(each, Mapping) else each if isinstance(each, tuple) else ()
    return any(_is_array(value) or _is_tree(value) for value in values)


def _is_array(each: Any) -> bool:
    return (
        isinstance(each, (np.ndarray, torch.Tensor))
        or hasattr(each, "to_numpy")
        or frames.is_frame(each)
        or frames.is_sparse(each)
        or _is_numbers(each)
    )


def _is_numbers(each: Any) -> bool:
    """Return whether this is a list of numbers, text, arrays or images, and not of examples with labels."""
    if not isinstance(each, list) or not each:
        return False
    return all(isinstance(value, (int, float, str, list, np.generic, *_ARRAYS)) for value in each[:100])


def _unusable(given: str) -> ConfigError:
    return ConfigError(
        given,
        "data is a name, a path, (x, y), a Dataset, (train, test) Datasets, or a mapping of parts to these",
        'give for example {"train": (x, y), "test": (x_test, y_test)}',
    )


def _raw(
    name: str,
    pairs: dict[str, tuple[Any, Any]],
    problems: Problems,
    target: Target,
    classes: tuple[str, ...] | None,
    many: bool,
    columns: Columns | None,
) -> Raw:
    if columns is not None:  # numbers in the order of the run's columns are a table too
        pairs = {part: (_as_table(x), y) for part, (x, y) in pairs.items()}
    pairs = {part: (_several(x, y), _several(y, x)) for part, (x, y) in pairs.items()}
    if pairs and all(frames.is_frame(x) for x, _ in pairs.values()):
        return _tables(name, pairs, problems, target, columns)
    if any(_is_tree(x) or _is_tree(y) for x, y in pairs.values()):
        return _trees(name, pairs, problems, target, many)
    parts, kinds = {}, set()
    for part, (x, y) in pairs.items():
        x, y = _array(x, f"{part} x" if many else "x", problems), _array(y, f"{part} y" if many else "y", problems)
        if x is None or y is None:
            continue
        if y.dtype.kind == "U" and y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        x = Mapped(x) if x.ndim and large(x) else x
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
            problems.add(
                part, f"x has shape {x.shape}, y {y.shape}", "x and y have one entry per example", "make them alike"
            )
            continue
        parts[part] = RawPart(x, y, Source(f"{part} row " if many else "row "))
        kinds.add(kind_of_array(x))
    kind = "images" if kinds == {"images"} else "numbers"
    special = None
    if "train" in parts and classes is None:
        train = parts["train"]
        special = special_target(target, channels_first(train.x) if kind == "images" else train.x, train.y)
    xs = [each.x for each in parts.values()]
    integers, wanted = kind == "numbers" and all(x.dtype.kind in "iu" for x in xs), number_type(*xs)
    parts = {part: RawPart(standard(each.x, kind, wanted), each.y, each.source) for part, each in parts.items()}
    if special is not None:
        _say(special, target, problems)
        return Raw(name, parts, None, kind, integers=integers, target=target, target_kind=special)
    if target == "auto" and "train" in parts and classes is None:
        target = chosen_target(parts["train"].y, target, problems)
    if target != "numbers" and classes is None:
        parts, classes = coded(parts, problems)
    target_found = None if target == "auto" else target
    classes = classes if target != "numbers" else None
    return Raw(name, parts, classes, kind, integers=integers, target=target_found)


def raw_of(
    title: str, parts: dict[str, tuple[Any, Any]], problems: Problems, target: Target,
    classes: tuple[str, ...] | None = None, columns: Columns | None = None,
) -> Raw:  # fmt: skip
    """Return parts of arrays (x, y), checked for form."""
    return _raw(title, parts, problems, target, classes, len(parts) > 1, columns)


def _say(special: TargetKind, target: Target, problems: Problems) -> None:
    if target == "auto" and special != "any":
        what = {"segmentation": "masks", "tokens": "tokens", "multilabel": "several labels, each a yes or no"}[special]
        problems.notes.append(f'targets are taken for {what} (target = "{special}"); set target for something else')


def _trees(name: str, pairs: dict[str, tuple[Any, Any]], problems: Problems, target: Target, many: bool) -> Raw:
    """Return parts whose inputs or targets are several arrays."""
    parts = {}
    for part, pair in pairs.items():
        before, sides = problems.count, list[Any]()
        for letter, side in zip("xy", pair, strict=True):
            title = f"{part} {letter}" if many else letter
            named = dict(tree.named_leaves(nested.checked_names(side, f"data whose {title} is a mapping")))
            arrays = {
                key: _array(value, f"{title}.{key}" if key else title, problems, names=letter == "y" and not key)
                for key, value in named.items()
            }
            sides.append(tree.from_named(side, arrays))
        if problems.count > before:
            continue
        lengths = {
            f"{letter}.{key}" if key else letter: leaf.shape[:1]
            for letter, side in zip("xy", sides, strict=True)
            for key, leaf in tree.named_leaves(side)
        }
        if len(set(lengths.values())) > 1 or () in lengths.values():
            told = ", ".join(f"{key} {length[0] if length else 'a number'}" for key, length in lengths.items())
            problems.add(
                part, f"has arrays of other lengths ({told})", "each has one entry per example", "make them alike"
            )
            continue
        parts[part] = RawPart(
            tree.map_leaves(standard_leaf, sides[0]), sides[1], Source(f"{part} row " if many else "row ")
        )
    if "train" not in parts:
        return Raw(name, {}, None, "numbers")
    for part in parts:
        here, wanted = dict(tree.named_leaves(parts[part].x)), dict(tree.named_leaves(parts["train"].x))
        if here.keys() != wanted.keys():
            of_both = f"are {', '.join(here) or 'one array'} here, and {', '.join(wanted) or 'one array'} in train"
            problems.add(f"{part} inputs", of_both, "all parts have the same inputs", "make them alike")
            return Raw(name, {}, None, "numbers")
        parts[part] = replace(parts[part], x=tree.from_named(parts["train"].x, here))
    kind = "tree" if not tree.is_leaf(parts["train"].x) else kind_of_array(parts["train"].x)
    special = special_target(target, parts["train"].x, parts["train"].y)
    if special is not None:
        _say(special, target, problems)
        return Raw(name, parts, None, kind, target=target, target_kind=special)
    if target == "auto":
        target = chosen_target(parts["train"].y, target, problems)
    classes = None
    if target != "numbers":
        parts, classes = coded(parts, problems)
    return Raw(name, parts, classes, kind, target=None if target == "auto" else target)


def _several(side: Any, other: Any) -> Any:
    """Return inputs or targets as a tree where they are several arrays; how many examples there are, the other says."""
    values = list(other.values()) if isinstance(other, Mapping) else other if isinstance(other, tuple) else [other]
    examples = next((len(each) for each in values if isinstance(each, (np.ndarray, torch.Tensor)) and each.ndim), -1)
    if examples < 0 and isinstance(other, list) and not isinstance(other[0], _ARRAYS):
        examples = len(other)
    if _is_tree(side) or nested.is_several(side, examples):
        return nested.inputs_tree(side, examples)
    return side


def _array(value: Any, name: str, problems: Problems, *, names: bool | None = None) -> np.ndarray | None:
    """Return a NumPy array of numbers or text, or None after noting what is wrong.

    Args:
        value: anything.
        name: of it, for messages.
        problems: takes what is wrong.
        names: whether text is allowed, as names of classes; None: by the name, in y.
    """
    if isinstance(value, torch.Tensor):
        array = tensor_array(value)
    elif frames.is_sparse(value):
        array = frames.dense(value, name)
    else:
        try:
            stacks = isinstance(value, list) and bool(value) and isinstance(value[0], _ARRAYS)
            whole: Any = np.stack([value_array(each) for each in value]) if stacks else value
            array = whole.to_numpy() if hasattr(whole, "to_numpy") else np.asarray(whole)
        except (TypeError, ValueError) as error:
            ragged = "inhomogeneous" in str(error)
            why = "its lists have several lengths" if ragged else str(error).splitlines()[0]
            do = "pad them to one, with a mask beside them" if ragged else "make them alike"
            problems.add(name, f"is no array ({why})", "rows must have one length", do)
            return None
    names = name[-1] == "y" if names is None else names
    if array.dtype.kind in "OST":
        array = typed(array)
    if array.dtype.kind not in ("biufUS" if names else "biuf"):
        undecoded = array.dtype.kind == "O" and any(isinstance(value, bytes) for value in array.ravel()[:1000])
        problems.add(
            name,
            "holds bytes that are no UTF-8" if undecoded else "is None" if value is None else "holds text"
            if array.dtype.kind == "U" else f"has the type {array.dtype}",
            "arrays hold numbers" + (", or names of classes as text" if names else ""),
            "leave it out" if value is None else "leave it out, or give codes of it, whole numbers from 0"
            if array.dtype.kind == "U" else "convert it with .astype",
        )  # fmt: skip
        return None
    return array


def typed(array: np.ndarray) -> np.ndarray:
    """Return Python objects as an array of their type: text, with "" for None and NaN, or numbers. Others stay."""
    values: list[Any] = array.ravel().tolist()
    gone = [
        value is None or (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")
        for value in values
    ]
    kinds = {type(value) for value, missing in zip(values, gone, strict=True) if not missing}
    if bytes in kinds:
        try:
            values = [value.decode() if isinstance(value, bytes) else value for value in values]
        except UnicodeDecodeError:
            return array.astype(object)
        kinds = (kinds - {bytes}) | {str}
    if kinds and kinds <= {bool, int, float}:
        plain = np.array([np.nan if missing else value for value, missing in zip(values, gone, strict=True)])
        return plain.reshape(array.shape)
    if str in kinds and kinds <= {str, bool, int}:
        texts = ["" if missing else str(value) for value, missing in zip(values, gone, strict=True)]
        return np.array(texts, dtype=str).reshape(array.shape)
    return array
