"""The display takes at most 1 % of the time, raises nothing into the run, and knows what a terminal can show."""

import io
import sys

import pytest

from surefoot.cli.display import EVERY_SECONDS, SHARE, Display, SearchDisplay, Terminal, TrainingDisplay
from surefoot.cli.picture import header, line
from surefoot.record.decision import Decision
from surefoot.record.progress import Progress
from surefoot.record.run import Row

ROW = Row(
    step=469, epoch=1.0, examples=60032, lr=0.1, train_loss=0.51234, train_accuracy=0.8125, val_loss=0.4,
    val_accuracy=0.9, grad_norm=1.234, update_ratio=1.2e-3, losses=(0.5,), seconds=3.21, examples_per_second=18765.4,
)  # fmt: skip
NOW = Progress(phase="training", steps_done=5, steps_planned=10, seconds=2.0, seconds_left=2.0)
MEASURING = Progress(steps_done=5, steps_planned=10, doing="learning rates", members=3, alive=2)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class View:
    """A picture that takes a while to draw."""

    def __init__(self, clock, cost=0.0, error=None):
        self.clock, self.cost, self.error, self.drawn = clock, cost, error, 0

    def __rich_console__(self, console, options):
        self.clock.now += self.cost
        self.drawn += 1
        if self.error is not None:
            raise self.error
        yield "x"


def terminal(width=80, **more):
    settings = {"width": width, "height": 24, "force_terminal": True, "stderr": False, "file": io.StringIO(),
                "color_system": "standard", "_environ": {"TERM": "xterm"}}  # fmt: skip
    return Terminal(**{**settings, **more})


@pytest.mark.parametrize("cost", [0.0001, 0.002, 0.05])
def test_drawing_takes_at_most_its_share_of_the_time_however_slow_it_is(cost):
    clock = Clock()
    view = View(clock, cost)
    with Display(view, console=terminal(), clock=clock) as display:
        while clock.now < 100:
            display.draw()
            clock.now += 0.001  # a step of training
    assert view.drawn > 10
    assert view.drawn * cost <= SHARE * clock.now + 2 * cost  # the first picture and the one at the end come on top
    assert view.drawn <= 100 / EVERY_SECONDS + 2


def test_what_goes_wrong_with_drawing_ends_the_display_and_not_the_run():
    clock = Clock()
    view = View(clock, error=ValueError("a picture that cannot be drawn"))
    with Display(view, console=terminal(), clock=clock) as display:
        for _ in range(5):
            display.draw()
            clock.now += 1
    assert view.drawn == 2, "once, and once more at the end"


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("closed", [True, False])
def test_a_terminal_that_has_gone_does_not_stop_the_run(live, closed):
    file = Gone()
    if closed:
        file.close()
    with TrainingDisplay(10, console=terminal(file=file, force_terminal=live)) as display:
        display.say("hello")
        display.show_rows([ROW])
        display.move(NOW)
    with TrainingDisplay(10, console=terminal()) as display:  # rich refuses a second live display while one is up
        display.move(NOW)


def test_a_closed_stderr_does_not_stop_the_run(monkeypatch):
    file = io.StringIO()
    file.close()
    monkeypatch.setattr(sys, "stderr", file)
    with SearchDisplay() as display:
        display.move(MEASURING)


def test_an_error_of_the_run_goes_through():
    with pytest.raises(KeyError), TrainingDisplay(10, console=terminal()):
        raise KeyError


def test_lines_break_between_words_and_hang_under_their_text_on_a_terminal():
    console = terminal(40)
    TrainingDisplay(10, console=console).say("recipe   lr 0.1, batch 128, momentum 0.9 (pytorch), weight decay 0.0005")
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert [line[:9].strip() for line in lines] == ["recipe", ""]
    assert " ".join(" ".join(lines).split()).endswith("weight decay 0.0005")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {}])
def test_without_a_terminal_that_moves_its_cursor_nothing_is_drawn(environment):
    console = terminal(40, _environ=environment, force_terminal=bool(environment))
    with TrainingDisplay(10, console=console) as display:
        display.say("words " * 20)
        display.move(NOW)
        assert not display.live
    assert console.file.getvalue() == "words " * 20 + "\n", "nor is anything broken"


def test_no_color_leaves_no_style_at_all(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = Terminal(file=io.StringIO(), stderr=False, force_terminal=True, _environ={"TERM": "xterm"}, width=80)
    with TrainingDisplay(10, console=console) as display:
        display.say("hello", "bold red")
        display.show_rows([ROW])
        display.move(NOW)
    text = console.file.getvalue()
    assert "*90.00%" in text
    assert "\x1b[" in text, "the cursor is moved"
    assert "m" not in text.replace("\x1b[", "\0").split("hello")[0]
    assert not [code for code in text.split("\x1b[")[1:] if code.lstrip("0123456789;")[:1] == "m"]


def test_rows_are_plain_lines_on_stderr_without_a_terminal(capsys):
    with TrainingDisplay(10) as display:
        display.say("[bold]not markup[/bold] and \\[not this")
        display.show_rows([ROW])
        display.move(NOW)
    assert capsys.readouterr() == ("", f"[bold]not markup[/bold] and \\[not this\n{header(ROW)}\n{line(ROW)}\n")


def test_a_search_without_a_terminal_says_its_decisions_and_how_far_it_is_not_at_every_step(capsys):
    made = Decision(step=3, name="learning-rate", claim="", verdict="pass", reason="lr 0.1")
    with SearchDisplay() as display:
        for _ in range(100):
            display.move(MEASURING)
        display.show([made])
    out, err = capsys.readouterr()
    assert out == ""
    assert [" ".join(line.split()) for line in err.splitlines()] == [
        "5 of 10 steps: learning rates, 2 of 3 still training", "step 3 learning-rate pass lr 0.1",
    ]  # fmt: skip


def test_quiet_shows_nothing(capsys):
    with TrainingDisplay(10, quiet=True) as display:
        display.say("hello")
        display.show_rows([ROW])
        display.move(NOW)
    assert capsys.readouterr() == ("", "")
