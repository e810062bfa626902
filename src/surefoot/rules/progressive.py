"""Progressive resizing: training images are small at first, so that early updates cost less.

    ("16:0.25", "20:0.5")   16 pixels for a quarter of the run, 20 for the next quarter, then full size

A share of the run and not a number of epochs says when, so that a shorter run is a complete small one.

Reference: the fast.ai and DIU entries of DAWNBench 2018 (Howard, "Training Imagenet in 3 hours for $25; and CIFAR10 for
$0.26", fast.ai, 30 April 2018); Tan & Le 2021, EfficientNetV2 (arXiv 2104.00298), section 4.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from surefoot.errors import ConfigError

_ALLOWED = "a stage is a side in pixels and the share of the run until which images have it; both rise"
_EXAMPLE = "write for example 16:0.25 20:0.5"


def stages_of(given: Sequence[str]) -> tuple[tuple[int, float], ...]:
    """Return the stages that texts describe: a side in pixels, and the share of the run at which it ends.

    Raises:
        ConfigError: a text is no stage, or sides or shares do not rise.

    >>> stages_of(["16:0.25", "20:0.5"])
    ((16, 0.25), (20, 0.5))
    >>> stages_of(["16"])
    Traceback (most recent call last):
    surefoot.errors.ConfigError: progressive_resizing '16': a stage is a side in pixels and the share of the run until \
which images have it; both rise. Write for example 16:0.25 20:0.5.
    """
    found = tuple(_stage(each) for each in given)
    for before, after in itertools.pairwise(found):
        if not (before[0] < after[0] and before[1] < after[1]):
            raise ConfigError(f"progressive_resizing {' '.join(given)!r}", _ALLOWED, _EXAMPLE)
    return found


def side_at(stages: Sequence[tuple[int, float]], step: int, steps: int) -> int | None:
    """Return the side in pixels of training images at update `step` of `steps`; None for their full size.

    >>> [side_at(((16, 0.25), (20, 0.5)), step, 8) for step in (0, 1, 2, 3, 4, 7)]
    [16, 16, 20, 20, None, None]
    """
    return next((side for side, share in stages if step < round(share * steps)), None)


def _stage(text: str) -> tuple[int, float]:
    side, colon, share = text.partition(":")
    try:
        pixels, until = int(side), float(share)
    except ValueError:
        pixels, until = 0, math.nan
    if not colon or pixels < 1 or not 0 < until < 1:
        raise ConfigError(f"progressive_resizing {text!r}", _ALLOWED, _EXAMPLE)
    return pixels, until
