"""What the cells of one column of a table are, numbers, categories, booleans or dates, and the cells as float64."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions as it is imported, which the type checker does not see.

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Kind = Literal["number", "category", "boolean", "date"]

MARKS = ("", "?", "-", "--", ".", "*", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none", "nil", "missing")
"""What tables hold where a number or a date is missing, in lower case."""

_BLANKS = tuple(mark for mark in MARKS if mark not in ("none", "nil", "missing", ".", "*"))
"""The same for categories, of which "none" is one as often as not."""

_PAIRS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("off", "on"))
"""Words for 0 and 1."""

_SYMBOLS = "%$€£¥"
_DIGITS = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_INFINITE = r"^[+-]?(?i:inf|infinity)$"
_GROUPED = {".": r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$", ",": r"^[+-]?[1-9]\d{0,2}([. ']\d{3})+(,\d*)?$"}
_DECIMAL_COMMA = r"^[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?$"

_ISO = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?$"
_DAYS = (
    "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%b %d %Y",
)  # fmt: skip
_TIMES = ("%H:%M", "%H:%M:%S")
FORMATS = ("ISO 8601", *(" ".join(each).strip() for each in itertools.product(_DAYS, ("", *_TIMES))), *_TIMES)
"""How dates are written. Where 5/6 may be a day and a month or the other way round, the month is taken to be first."""

_STRAYS = 3
"""Words that may stand among numbers or dates and be taken for slips, if each is there once, or for gaps, if they
repeat; more of them make categories of the column. Chosen by hand."""
_FEW_NUMBERS = 20
"""Numbers up to which a repeated word among them, such as 3+, makes categories of a column. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the cells of a column are read.

    Attributes:
        kind: number, category, boolean (0 and 1) or date (seconds since 1970).
        symbol: that stands before or after every number, such as $ or %.
        decimal: point or comma of the numbers.
        format: of the dates, one of `FORMATS`.
        gaps: words that stand for a missing value here, beyond those that do everywhere.
        note: what of this a person may have meant otherwise.
    """

    kind: Kind
    symbol: str = ""
    decimal: str = "."
    format: str = ""
    gaps: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Cells:
    """The cells of a column as they were read.

    Attributes:
        reading: how.
        values: float64 [N]; NaN for a gap; of categories the position in `levels`.
        levels: the categories that there are, as they are spelled.
        faults: rows whose cell is not what the column holds.
        texts: what those cells hold.
    """

    reading: Reading
    values: NDArray[np.float64]
    levels: tuple[str, ...] = ()
    faults: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()


def cells_of(column: pa.ChunkedArray, reading: Reading | None = None, decimal: str = ".") -> Cells:
    """Return the cells of a column, read as another column was, or as what they look like.

    Args:
        column: the cells, text or of a type of their own.
        reading: of the other column; None for what they look like.
        decimal: what a comma is where it could be either: "," a decimal one, "." one that parts thousands, as in 1,234.

    Raises:
        TypeError: the column holds lists or other things that are neither numbers, text nor dates.

    >>> cells_of(pa.chunked_array([["1", "", "2.5"]])).values.tolist()
    [1.0, nan, 2.5]
    >>> cells_of(pa.chunked_array([["red", "blue", "red"]])).levels
    ('red', 'blue')
    """
    kind: Kind | None
    column, kind = _plain(column)
    if kind is not None and (reading is None or reading.kind == kind):
        if kind == "date":
            column = pc.cast(pc.cast(column, pa.timestamp("us"), safe=False), pa.int64())
        values = _array(pc.cast(column, pa.float64(), safe=False)) / (1e6 if kind == "date" else 1)
        return _checked(Cells(reading or Reading(kind=kind), values))
    if kind is not None:
        column = pc.cast(column, pa.string())
    if reading is None or reading == Reading(kind="number"):
        try:  # a column of nothing but numbers, which most are, needs no second look
            return _checked(Cells(Reading(kind="number"), _array(pc.cast(column, pa.float64()))))
        except pa.ArrowInvalid:
            pass
    coded = pc.dictionary_encode(pc.utf8_trim_whitespace(pc.fill_null(column, ""))).combine_chunks()
    coded = coded if isinstance(coded, pa.DictionaryArray) else pa.chunked_array([coded]).combine_chunks()
    words, codes = coded.dictionary, coded.indices.to_numpy(zero_copy_only=False)
    return _read(words, codes, reading or recognised(words, np.bincount(codes, minlength=len(words)), decimal))


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of categories as what its categories are."""
    if not pa.types.is_dictionary(column.type):
        return column
    kind = column.type.value_type
    kind = pa.string() if str(kind) in ("string_view", "large_string") else kind  # Polars' own text
    chunks = [pc.take(pc.cast(chunk.dictionary, kind), chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(chunks, kind)


def _plain(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, Kind | None]:
    """Return a column of numbers, of moments or of text, and what of it is known by its type."""
    column = decoded(column)
    kind = column.type
    if pa.types.is_null(kind):
        return pc.cast(column, pa.float64()), "number"
    if pa.types.is_boolean(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view":
        return pc.cast(column, pa.string()), None
    if pa.types.is_string(kind):
        return column, None
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pc.cast(column, pa.string()), None
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column, "number"
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return pc.cast(column, pa.int32() if pa.types.is_time32(kind) else pa.int64()), "number"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column, "date"
    raise TypeError(str(kind))


def _array(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return column.to_numpy() if column.null_count == 0 else pc.fill_null(column, np.nan).to_numpy()


def _checked(cells: Cells) -> Cells:
    """Return the cells with those that float32 cannot hold as faults, and a gap in their place."""
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(np.abs(cells.values) > float(np.finfo(np.float32).max))
    if not len(bad):
        return cells
    texts = tuple(f"{value:g}".replace("e+", "e") for value in cells.values[bad].tolist())
    values = cells.values.copy()
    values[bad] = np.nan
    return replace(cells, values=values, faults=tuple(bad.tolist()), texts=texts)


def recognised(words: pa.Array, counts: NDArray[Any], decimal: str = ".") -> Reading:
    """Return how a column is to be read, by the words in it and how often each is there.

    It is of numbers or dates if all words but gaps are. If only most of the cells are, the others are slips, to be
    named by row, where there are at most three and each is there once; gaps where they repeat, but not among few
    numbers; and else the column holds categories.

    >>> recognised(pa.array(["1", "2", "x"]), np.array([3, 2, 1])).kind
    'number'
    >>> recognised(pa.array(["1", "2", "3+"]), np.array([3, 2, 9])).kind
    'category'
    """
    lower = [word.lower() for word in words.to_pylist()] if len(words) <= 100 else []
    filled = np.array(pc.invert(_among(words, MARKS)))
    if not filled.any():
        return Reading(kind="number")
    for pair in _PAIRS:
        if lower and {word for word in lower if word not in MARKS} == set(pair):
            return Reading(kind="boolean")
    best, share = Reading(kind="category"), 0.5
    for reading in _candidates(words.filter(pa.array(filled)), decimal):
        fits = ~np.isnan(_numbers_or_dates(words, reading))
        if fits[filled].all():
            return reading
        now = counts[filled & fits].sum() / counts[filled].sum()
        if now > share:
            best, share = reading, now
    if best.kind == "category":
        return best
    fits = ~np.isnan(_numbers_or_dates(words, best))
    others, others_counts = words.filter(pa.array(filled & ~fits)), counts[filled & ~fits]
    if (others_counts == 1).all() and len(others) <= _STRAYS:
        return best
    if len(others) <= _STRAYS and (filled & fits).sum() > _FEW_NUMBERS:
        pairs = zip(others.to_pylist(), others_counts, strict=True)
        listed = " and ".join(f"{word!r}, {count} times," for word, count in pairs)
        return replace(best, gaps=tuple(others.to_pylist()), note=f"{listed} is taken for a gap among {best.kind}s")
    note = f"{share:.0%} of it are {best.kind}s and {len(others)} other words, so all of it is taken for categories"
    return Reading(kind="category", note=note)


def _among(words: pa.Array, marks: tuple[str, ...]) -> pa.Array:
    return pc.is_in(pc.utf8_lower(words), pa.array(marks))


def _candidates(words: pa.Array, decimal: str) -> Iterator[Reading]:
    """Yield the readings as numbers and dates that are worth trying."""
    note = "its commas are taken for decimal points"
    numeric = {".": Reading(kind="number"), ",": Reading(kind="number", decimal=",", note=note)}
    commas = pc.any(pc.match_substring(words, ",")).as_py()
    order = [numeric[decimal], *(each for mark, each in numeric.items() if mark != decimal)]
    order = order if commas else [numeric["."]]
    sample = words[0].as_py()
    for symbol in ("", *(symbol for symbol in _SYMBOLS if symbol in sample)):
        yield from (replace(each, symbol=symbol) for each in order)
    if any(letter.isdigit() for letter in sample):
        yield from _dates(words)


def _dates(chosen: pa.Array) -> Iterator[Reading]:
    few = chosen.slice(0, 100)
    fitting = [each for each in FORMATS if (~np.isnan(_moments(few, each))).mean() > 0.5]
    for each in fitting:
        twin = each.replace("%m/%d", "%d/%m") if "%m/%d" in each else each.replace("%d-%m", "%m-%d")
        note = ""
        if twin != each and twin in fitting and not np.isnan(_moments(chosen, twin)).any():
            note = f"its dates are read as {each}; they could be {twin}"
        yield Reading(kind="date", format=each, note=note)


def _numbers_or_dates(words: pa.Array, reading: Reading) -> NDArray[np.float64]:
    """Return the value of each word, NaN where it is none."""
    return _moments(words, reading.format) if reading.kind == "date" else _numbers(words, reading)


def _numbers(words: pa.Array, reading: Reading, *, lenient: bool = False) -> NDArray[np.float64]:
    if reading.symbol:
        bare = pc.replace_substring_regex(words, rf"^([+-]?)\s*[{reading.symbol}]\s*|\s*[{reading.symbol}]$", r"\1")
        # a price may do without its symbol in another table; 0.5 among percentages is of another unit
        whole = pc.if_else(pc.match_substring(words, reading.symbol), bare, "")
        words = bare if lenient and reading.symbol != "%" else whole
    grouped = pc.match_substring_regex(words, _GROUPED[reading.decimal])
    if pc.any(grouped).as_py():
        words = pc.if_else(
            grouped, pc.replace_substring_regex(words, "," if reading.decimal == "." else "[. ']", ""), words
        )
    if reading.decimal == ",":
        comma = pc.match_substring_regex(words, _DECIMAL_COMMA)
        words = pc.if_else(comma, pc.replace_substring(words, ",", "."), words)
    fits = pc.or_(pc.match_substring_regex(words, _DIGITS), pc.match_substring_regex(words, _INFINITE))
    return pc.cast(pc.if_else(fits, words, "nan"), pa.float64()).to_numpy(zero_copy_only=False)


def _moments(words: pa.Array, written: str) -> NDArray[np.float64]:
    """Return seconds since 1970, in UTC where a zone is given, of words that are such dates, else NaN."""
    if written not in ("", FORMATS[0]):  # "": the column that was fitted held moments by its type
        full = pc.match_substring_regex(words, r"\d{4}" if "%Y" in written else r"^\d{1,2}:\d{2}")
        found = pc.strptime(pc.if_else(full, words, ""), format=written, unit="us", error_is_null=True)
        return _seconds(found)
    fits = pc.match_substring_regex(words, _ISO)
    short = pc.replace_substring_regex(words, r"(\.\d{6})\d+", r"\1")
    zoned = pc.and_(fits, pc.match_substring_regex(words, r"(Z|:\d{2}[+-]\d{2}:?\d{2}|:\d{2}\.\d+[+-]\d{2}:?\d{2})$"))
    naive = pc.and_(fits, pc.match_substring_regex(words, r"^\d{4}-\d{2}-\d{2}([ T][\d:.]+)?$"))
    try:
        there = pc.cast(pc.if_else(zoned, short, None), pa.timestamp("us", "UTC"))
        here = pc.cast(pc.if_else(naive, short, None), pa.timestamp("us"))
    except pa.ArrowInvalid:  # a thirteenth month
        each = [_moment(word) if fit else np.nan for word, fit in zip(short.to_pylist(), fits.to_pylist(), strict=True)]
        return np.array(each)
    return np.where(np.isnan(_seconds(here)), _seconds(there), _seconds(here))


def _moment(word: str) -> float:
    try:
        kind = pa.timestamp("us", "UTC") if word[10:].strip("0123456789:. T") else pa.timestamp("us")
        return pc.cast(pc.cast(pa.scalar(word), kind), pa.int64()).as_py() / 1e6
    except pa.ArrowInvalid:
        return np.nan


def _seconds(moments: pa.Array) -> NDArray[np.float64]:
    whole = pc.cast(pc.cast(moments, pa.timestamp("us")), pa.int64())
    return pc.fill_null(pc.cast(whole, pa.float64()), np.nan).to_numpy(zero_copy_only=False) / 1e6


def _read(words: pa.Array, codes: NDArray[np.intp], reading: Reading) -> Cells:
    """Return the cells whose words are at these positions."""
    gaps = np.array(_among(words, _BLANKS if reading.kind == "category" else MARKS))
    if reading.gaps:
        gaps |= np.array(pc.is_in(words, pa.array(reading.gaps)))
    if reading.kind == "category":
        place = np.where(gaps, np.nan, np.cumsum(~gaps) - 1.0)
        return Cells(reading, place[codes], tuple(words.filter(pa.array(~gaps)).to_pylist()))
    if reading.kind == "boolean":
        worth = {word: float(value) for pair in _PAIRS for value, word in enumerate(pair)} | {"0": 0.0, "1": 1.0}
        values = np.array([worth.get(word.lower(), np.nan) for word in words.to_pylist()])
    elif reading.kind == "number":
        values = _numbers(words, reading, lenient=True)
    else:
        values = _moments(words, reading.format)
    wrong = np.isnan(values) & ~gaps
    values = np.where(gaps, np.nan, values)
    cells = _checked(Cells(reading, values[codes]))
    if wrong.any():
        rows = np.flatnonzero(wrong[codes])
        texts = [words[int(code)].as_py() for code in codes[rows[:1000]]]
        texts += [""] * (len(rows) - len(texts))
        cells = replace(cells, faults=(*cells.faults, *rows.tolist()), texts=(*cells.texts, *texts))
    return cells
