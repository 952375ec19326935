"""The live panel and the lines of a log file."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from agents.run.display import Display

NUMBERS = {"games": 3.0, "steps/s": 12_345.6, "training score": 21.5, "last 30 games": 400.0, "loss": 0.01234}
SHARES = {"env": 0.25, "act": 0.25, "learn": 0.25, "log": 0.25}


def test_a_log_file_gets_plain_lines_with_whole_thousands() -> None:
    screen = io.StringIO()
    with Display(20_000, "Pong", console=Console(file=screen, width=200)) as display:
        display.update(1_500, NUMBERS, SHARES)
    line = "Pong: 1,500/20,000  games 3  steps/s 12,346  training score 21.5  last 30 games 400  loss 0.01234\n"
    assert screen.getvalue() == line


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_cursor_rests_on_an_empty_line_so_that_an_echoed_interrupt_does_not_wrap(width: int) -> None:
    screen = io.StringIO()
    with Display(10_000_000, "CartPole-v1", 475.0, Console(file=screen, force_terminal=True, width=width)) as display:
        assert resting_line(screen) == ""
        display.update(8_088, NUMBERS, SHARES)
        display.live.refresh()  # type: ignore[union-attr]
        assert resting_line(screen) == ""
    shown = plain(screen)
    assert "8,088/10,000,000" in shown
    assert "training score 21.50   last 30 games 400.00 of 475" in " ".join(shown.split("\r\n"))
    assert "steps/s 12,346" in shown


def plain(screen: io.StringIO) -> str:
    """What was written, without escape sequences."""
    return re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", screen.getvalue())


def resting_line(screen: io.StringIO) -> str:
    """The text on the line of the cursor."""
    return plain(screen).rpartition("\n")[2].strip()
