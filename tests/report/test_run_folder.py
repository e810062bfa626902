"""What a report reads from folders, and how it is thinned."""

import itertools
import json

import pytest
from compared import comparison

from surefoot.errors import CheckpointError
from surefoot.record import store
from surefoot.record.comparison import NAME
from surefoot.record.decision import Decision
from surefoot.report.run_folder import read_run_folder, thinned

MADE = Decision(step=3, name="batch-size", verdict="pass", claim="c", reason="r", value={}, evidence={}, seconds=1.0)


def written(folder, *lines):
    folder.mkdir()
    (folder / store.DECISIONS).write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_a_folder_with_decisions_alone_is_a_search_with_its_command(tmp_path):
    folder = written(tmp_path / "it", json.dumps(MADE.to_dict()))
    (folder / store.COMMAND).write_text("surefoot noise digits\n", encoding="utf-8")
    found = read_run_folder("it", tmp_path)
    assert (found.stored, found.name, found.decisions) == (None, "it", (MADE,))
    assert found.command == "surefoot noise digits"
    assert found.rows == ()


def test_a_line_that_a_kill_cut_short_is_left_out_and_one_in_the_middle_is_damage(tmp_path):
    good = json.dumps(MADE.to_dict())
    assert read_run_folder(written(tmp_path / "cut", good, good[:30])).decisions == (MADE,)
    with pytest.raises(CheckpointError, match="line 1"):
        read_run_folder(written(tmp_path / "damaged", good[:30], good))


def test_a_comparison_is_read_whole_or_refused(tmp_path):
    (tmp_path / NAME).write_text(json.dumps(comparison().to_dict(), allow_nan=False), encoding="utf-8")
    found = read_run_folder(tmp_path)
    assert found.comparison == comparison()
    assert found.command == ""
    (tmp_path / NAME).write_text('{"rules": 3}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="must be a comparison"):
        read_run_folder(tmp_path)


@pytest.mark.parametrize(("count", "most"), [(10, 10), (11, 10), (1000, 7), (3, 2)])
def test_thinned_keeps_both_ends_the_order_and_the_most(count, most):
    found = thinned(range(count), most)
    assert len(found) == min(count, most)
    assert (found[0], found[-1]) == (0, count - 1)
    assert found == sorted(set(found))
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert max(gaps) - min(gaps) <= 1
