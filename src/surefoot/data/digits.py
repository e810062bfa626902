"""The embedded digits: 1,797 grey images of 8x8 pixels, ten classes.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository
(1998), the test part, as it ships inside scikit-learn (load_digits). Read from its file without importing it.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from surefoot.data.dataset import Raw, RawPart, Source, stratified
from surefoot.errors import DataError

LEVEL = 15
"""The file's grey levels 0..16 become 0..240 by this factor: the largest that keeps them exactly proportional."""

TEST_SHARE = 0.2
"""Share of the test part. It is drawn by a seed of its own, so it is the same in every run. Chosen by hand."""

_FILE = Path("datasets", "data", "digits.csv.gz")


def file() -> Path | None:
    """Return the path of the file inside the installed scikit-learn, or None."""
    package = importlib.util.find_spec("sklearn")
    folders = (package.submodule_search_locations or []) if package is not None else []
    return next((Path(folder) / _FILE for folder in folders if (Path(folder) / _FILE).is_file()), None)


def read() -> Raw:
    """Return the digits, uint8 [N, 1, 8, 8], with a fixed stratified test part.

    Raises:
        DataError: scikit-learn or its file is missing, or does not hold what it should.

    >>> {name: part.x.shape for name, part in read().parts.items()}
    {'train': (1438, 1, 8, 8), 'test': (359, 1, 8, 8)}
    """
    path = file()
    if path is None:
        raise DataError("digits", "its file comes inside scikit-learn, which is missing", "pip install scikit-learn")
    try:
        with gzip.open(path, "rt", encoding="ascii") as text:
            lines = text.readlines()
        table = np.loadtxt(lines, delimiter=",") if lines else np.empty((0, 0))
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: {error}", "it must be scikit-learn's own file", "reinstall scikit-learn") from None
    if table.shape != (1797, 65) or table.min() < 0 or table[:, :64].max() > 16 or table[:, 64].max() > 9:
        raise DataError(
            f"{path}: shape {table.shape}",
            "it must hold 1,797 rows of 64 levels 0..16 and a digit",
            "reinstall scikit-learn",
        )
    x = (table[:, :64] * LEVEL).astype(np.uint8).reshape(-1, 1, 8, 8)
    y = table[:, 64].astype(np.int64)
    kept, held = stratified(y, len(y), TEST_SHARE, seed=0, stream="digits-test")
    source = Source("row ", first=1)
    parts = {name: RawPart(x[at], y[at], source.taken(at)) for name, at in (("train", kept), ("test", held))}
    return Raw("digits", parts, tuple(str(digit) for digit in range(10)))
