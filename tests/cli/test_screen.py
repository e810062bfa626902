"""The live display takes at most 1 % of the time, raises nothing into the run, and knows what a terminal can show."""

import io

import pytest
from rich.text import Text

from surefoot.cli.screen import EVERY_SECONDS, SHARE, Screen, Terminal


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def terminal(width=80, **more):
    more = {"no_color": False, **more}  # whatever the environment of the tests says
    return Terminal(
        width=width,
        height=24,
        force_terminal=True,
        file=io.StringIO(),
        highlight=False,
        _environ={"TERM": "xterm"},
        **more,
    )


@pytest.mark.parametrize("cost", [0.0001, 0.002, 0.05])
def test_drawing_takes_at_most_its_share_of_the_time_however_slow_it_is(cost):
    clock, drawn = Clock(), []

    def frame(width, height):
        clock.now += cost
        drawn.append(clock.now)
        return [Text("x")]

    with Screen(console=terminal(), clock=clock) as screen:
        while clock.now < 100:
            screen.draw(frame)
            clock.now += 0.001  # a step of training
    assert len(drawn) > 10
    assert len(drawn) * cost <= SHARE * clock.now + 2 * cost  # the first picture and the one at the end come on top
    assert len(drawn) <= 100 / EVERY_SECONDS + 2


def test_what_goes_wrong_with_drawing_ends_the_display_and_not_the_run():
    calls = []

    def broken(width, height):
        calls.append(width)
        raise ValueError("a picture that cannot be drawn")

    clock = Clock()
    with Screen(console=terminal(), clock=clock) as screen:
        for _ in range(5):
            screen.draw(broken)
            clock.now += 1
    assert len(calls) == 2, "once, and once more at the end"


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


@pytest.mark.parametrize("live", [True, False])
def test_a_terminal_that_has_gone_does_not_stop_the_run(live):
    console = Terminal(force_terminal=live, file=Gone(), width=80, height=24, _environ={"TERM": "xterm"})
    with Screen(console=console) as screen:
        screen.say("hello")
        screen.draw(lambda width, height: [Text("x")])


def test_an_error_of_the_run_goes_through():
    with pytest.raises(KeyError), Screen(console=terminal()):
        raise KeyError


def test_lines_break_between_words_and_hang_under_their_text_on_a_terminal():
    console = terminal(40)
    Screen(console=console).say("recipe   lr 0.1, batch 128, momentum 0.9 (pytorch), weight decay 0.0005")
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert [line[:9].strip() for line in lines] == ["recipe", ""]
    assert " ".join(" ".join(lines).split()).endswith("weight decay 0.0005")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {}])
def test_without_a_terminal_that_moves_its_cursor_nothing_is_drawn(environment):
    file = io.StringIO()
    console = Terminal(file=file, width=40, force_terminal=bool(environment), _environ=environment, highlight=False)
    text = "words " * 20
    with Screen(console=console) as screen:
        screen.say(text)
        screen.draw(lambda width, height: [Text("picture")])
        assert not screen.live
    assert "picture" not in file.getvalue()


def test_no_color_leaves_no_style_at_all():
    console = terminal(no_color=True)
    with Screen(console=console) as screen:
        screen.say("hello", "bold red")
        screen.draw(lambda width, height: [Text("best", style="bold green")])
    assert "best" in console.file.getvalue()
    assert "\x1b[1" not in console.file.getvalue().replace("\x1b[1A", "")
    assert "\x1b[3" not in console.file.getvalue()
