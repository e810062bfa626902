"""The gradient noise along a run, a line for each measurement, in a file of its own beside the rows.

The file's presence says that this run measures noise, so that a run that is resumed goes on measuring.
"""

from __future__ import annotations

import json
from pathlib import Path

from surefoot.errors import CheckpointError
from surefoot.record.noise import Noise
from surefoot.record.store import write_bytes

NOISE = "noise.jsonl"


def append_noise(folder: Path, noise: Noise) -> None:
    """Add a measurement to a run's noise."""
    with (folder / NOISE).open("a", encoding="utf-8") as file:
        file.write(_line(noise))
        file.flush()


def read_noise(folder: Path) -> tuple[Noise, ...]:
    """Return the noise of a run, oldest first; empty where none was measured. A cut last line is left out.

    Raises:
        CheckpointError: a line before the last is damaged.
    """
    path = folder / NOISE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(str(path), f"it must be readable ({error})", "restore it from a copy") from None
    found: list[Noise] = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Noise.from_dict(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if number < len(lines):
                raise CheckpointError(
                    f"{path}, line {number}", f"it must be a measurement of noise ({error})", "restore it from a copy"
                ) from None
    return tuple(found)


def keep_noise(folder: Path, until_step: int) -> tuple[Noise, ...]:
    """Drop what was measured after a step, which a run that goes on from there measures again; return the rest.

    Makes the file where there is none.
    """
    kept = tuple(noise for noise in read_noise(folder) if noise.step <= until_step)
    write_bytes(folder / NOISE, "".join(map(_line, kept)).encode())
    return kept


def _line(noise: Noise) -> str:
    return json.dumps(noise.to_dict(), allow_nan=False) + "\n"
