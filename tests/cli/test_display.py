import math

import pytest

from surefoot.cli.display import Display, header, line
from surefoot.record.progress import Progress
from surefoot.record.run import Row

ROW = Row(
    step=469, epoch=1.0, examples=60032, lr=0.1, train_loss=0.51234, train_accuracy=0.8125, val_loss=0.4,
    val_accuracy=0.9, grad_norm=1.234, update_ratio=1.2e-3, losses=(0.5,), seconds=3.21, examples_per_second=18765.4,
)  # fmt: skip
NOTHING = Row(
    step=1, epoch=0.5, examples=1, lr=1e-12, train_loss=math.nan, train_accuracy=None, val_loss=None,
    val_accuracy=None, grad_norm=math.inf, update_ratio=math.nan, losses=(), seconds=0.0, examples_per_second=0.0,
)  # fmt: skip

NOW = Progress(
    phase="training", steps_done=5, steps_planned=10, seconds=2.0, examples_per_second=100.0, seconds_left=2.0
)


def test_the_table_has_a_value_under_each_of_its_names():
    assert len(line(ROW)) == len(header())
    values = line(ROW).split()
    assert values == ["1.00", "469", "0.1", "0.5123", "81.25%", "0.4000", "90.00%", "1.23", "1.2e-03", "18765", "3.2"]


def test_what_does_not_exist_is_a_dash():
    values = line(NOTHING).split()
    assert values[3:7] == ["-", "-", "-", "-"]
    assert values[7] == "inf"
    assert len(values) == len(line(ROW).split())


def test_all_of_it_goes_to_stderr_as_plain_lines_without_a_terminal(capsys):
    with Display(10) as display:
        display.say("[bold]not markup[/bold] and \\[not this")
        display.show_rows([ROW, NOTHING])
        display.show(NOW)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["[bold]not markup[/bold] and \\[not this", line(ROW), line(NOTHING)]
    assert "\x1b" not in err


def test_quiet_shows_nothing(capsys):
    with Display(10, quiet=True) as display:
        display.say("hello")
        display.show_rows([ROW])
        display.show(NOW)
    assert capsys.readouterr() == ("", "")


def test_it_ends_with_its_block_also_by_an_exception(capsys):
    with pytest.raises(KeyError), Display(10):
        raise KeyError
    with Display(10) as display:  # rich refuses a second live display while one is up
        display.show(NOW)
