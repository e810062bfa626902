"""`surefoot schedule`: print and draw learning-rate schedules, published ones by name and ours by kind."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
from cyclopts import Parameter

from surefoot.cli.probe import check_picture, save_picture
from surefoot.cli.tables import print_json
from surefoot.config import Schedule, ScheduleKind
from surefoot.errors import ConfigError, nearest
from surefoot.optim.plan import schedule_of
from surefoot.optim.presets import ALIASES, PRESETS, Preset, preset
from surefoot.optim.schedules import ScheduleFn
from surefoot.report.schedules import Curve, schedule_chart

KINDS = tuple(kind for kind in get_args(ScheduleKind) if kind != "preset")
DEFAULT_STEPS = 1000
"""Length at which a kind is drawn; it counts as 100 epochs. Chosen by hand."""
_PUBLISHED = ("citation", "optimizer", "batch_size", "momentum", "weight_decay", "uncertain", "notes")
POINTS = 1000
"""Points per curve of a picture, besides both sides of every seam: more than there are pixels."""


@dataclass(frozen=True)
class _Shown:
    """A schedule ready to be printed and drawn."""

    name: str
    steps: int
    peak_lr: float
    lr: ScheduleFn
    seams: tuple[int, ...]
    changes: tuple[str, ...]
    preset: Preset | None


def schedule(
    *names: str,
    steps: int | None = None,
    lr: float | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    out: Path | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Print and draw learning-rate schedules: published ones by name, and the kinds that a recipe can have.

    Args:
        names: Presets or kinds; --list shows them. A name that is both is the preset.
        steps: Rescale to this many updates. A preset has its own length; a kind is drawn over 1000, as 100 epochs.
        lr: Peak learning rate. A preset has its own; a kind is drawn with 0.1.
        list_: List the presets and the kinds.
        out: Draw the curves into this file, .png, .svg or .html.
        json_: Print JSON on stdout in place of text.
    """
    if list_:
        _print_list(as_json=json_)
        return
    if not names:
        raise ConfigError("no schedule named", "name at least one preset or kind", "see surefoot schedule --list")
    if steps is not None and steps < 1:
        raise ConfigError(f"steps = {steps}", "a run has at least 1 update", "try --steps 1000")
    if lr is not None and not (np.isfinite(lr) and lr > 0):
        raise ConfigError(f"lr = {lr}", "lr must be above 0", "try --lr 0.1")
    check_picture("out", out)
    shown = [_shown(name, steps, lr) for name in dict.fromkeys(names)]
    if out is not None:
        save_picture(schedule_chart([_curve(each) for each in shown]), out)
    if json_:
        print_json([_plain(each) | {"picture": None if out is None else str(out)} for each in shown])
        return
    print("\n\n".join(_text(each) for each in shown))
    if out is None:
        print("\nDraw with --out schedules.png (or .svg, .html).")


def _shown(name: str, steps: int | None, lr: float | None) -> _Shown:
    if name not in PRESETS and name not in ALIASES:
        if name in KINDS:
            return _shown_kind(name, steps or DEFAULT_STEPS, 0.1 if lr is None else lr)
        choices = [*PRESETS, *ALIASES, *KINDS]
        raise ConfigError(f"schedule {name!r}", "it must be a preset or a kind of schedule", nearest(name, choices))
    original = preset(name)
    rescaled, changes = original.rescaled(steps or original.steps)
    if lr is not None and lr != rescaled.peak_lr:
        changes = (*changes, f"peak {rescaled.peak_lr:g} -> {lr:g}")
    peak = rescaled.peak_lr if lr is None else lr
    return _Shown(rescaled.name, rescaled.steps, peak, rescaled.schedule(peak), rescaled.seams, changes, rescaled)


def _shown_kind(kind: str, steps: int, lr: float) -> _Shown:
    """A kind with its own defaults, a hundredth of the run counting as an epoch; step drops at 30, 60 and 90."""
    drops = (30.0, 60.0, 90.0) if kind == "step" else None
    # `kind` is one of the literals: the caller looked it up among them, and `Schedule` checks it again.
    shape = Schedule(kind=kind, milestones_epochs=drops)  # pyright: ignore[reportArgumentType]
    curve = schedule_of(shape, lr, steps, steps / 100)
    seams = {
        "step": [0.3 * steps, 0.6 * steps, 0.9 * steps],
        "one-cycle": [max(1, round(0.3 * steps))],
        "wsd": [steps - max(1, round(0.2 * steps))],
    }.get(kind, [])
    inside = tuple(at for at in (round(seam) for seam in seams) if 0 < at < steps)
    return _Shown(kind, steps, lr, curve, inside, (), None)


def _curve(shown: _Shown) -> Curve:
    even = np.linspace(0, shown.steps - 1, min(POINTS, shown.steps)).round().astype(np.int64)
    edges = [at for seam in shown.seams for at in (seam - 1, seam)]
    at = np.unique(np.concatenate([even, np.asarray(edges, dtype=np.int64)]))
    return Curve(shown.name, at, shown.lr(at))


def _plain(shown: _Shown) -> dict[str, Any]:
    """The schedule as JSON values; what is not known of a kind is None."""

    def values(steps: range) -> list[dict[str, Any]]:
        return [{"step": at, "lr": shown.lr(at)} for at in steps]

    published = shown.preset
    return {
        "name": shown.name, "steps": shown.steps, "peak_lr": shown.peak_lr,
        "first": values(range(min(3, shown.steps))), "last": values(range(max(0, shown.steps - 3), shown.steps)),
        "seams": [{"step": at, "lr_before": shown.lr(at - 1), "lr": shown.lr(at)} for at in shown.seams],
        "rescaled": list(shown.changes),
        **{name: published and getattr(published, name) for name in _PUBLISHED},
    }  # fmt: skip


def _text(shown: _Shown) -> str:
    plain, published = _plain(shown), shown.preset
    first, last = (", ".join(f"{at['step']:,}: {at['lr']:.5g}" for at in plain[end]) for end in ("first", "last"))
    seams = [f"{at['step'] - 1:,}: {at['lr_before']:.5g} -> {at['step']:,}: {at['lr']:.5g}" for at in plain["seams"]]
    entries = [
        ("updates", f"{shown.steps:,}"),
        ("peak", f"{shown.peak_lr:g}"),
        ("first", first),
        ("last", last),
        *(("seam", seam) for seam in seams),
        ("rescaled", "; ".join(shown.changes) or ("nothing" if published else "")),
    ]  # fmt: skip
    if published:
        words = ("batch size", "momentum", "weight decay")
        numbers = {word: getattr(published, word.replace(" ", "_")) for word in words}
        entries += [
            ("source", published.citation),
            ("optimizer", published.optimizer),
            ("flags", f"--preset {published.name}, which stands for {_flags(published)}"),
            ("with", ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if value is not None)),
            ("uncertain", published.uncertain or "nothing"),
            ("notes", published.notes),
        ]
    if shown.name == "plateau":
        entries.append(("notes", "constant until the validation loss stops falling; then the record decides"))
    lines = textwrap.TextWrapper(110, subsequent_indent=" " * 12, break_on_hyphens=False)
    return "\n".join([shown.name, *(lines.fill(f"  {name:<10}{value}") for name, value in entries if value)])


def _flags(published: Preset) -> str:
    """Return the settings that a preset sets, as flags.

    >>> _flags(preset("resnet-cifar"))
    '--lr 0.1 --momentum 0.9 --weight-decay 0.0001'
    """
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in published.settings.items())


def _print_list(*, as_json: bool) -> None:
    if as_json:
        rows = [{"name": each.name, "steps": each.steps, "peak_lr": each.peak_lr, "optimizer": each.optimizer,
                 "citation": each.citation} for each in PRESETS.values()]  # fmt: skip
        print_json({"presets": rows, "aliases": ALIASES, "kinds": list(KINDS)})
        return
    print(f"{'preset':<20}{'updates':>10}{'peak lr':>10}  optimizer of the original")
    for each in PRESETS.values():
        print(f"{each.name:<20}{each.steps:>10,}{each.peak_lr:>10g}  {each.optimizer}")
    print(f"\nAlso known as: {', '.join(f'{alias} ({name})' for alias, name in ALIASES.items())}.")
    print(f"Kinds: {', '.join(KINDS)}. (sgdr is shown as the preset.)")
