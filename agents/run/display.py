"""The progress of a training: a live panel on a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

LIVE_SECONDS, LINE_SECONDS = 0.5, 20.0
"""Seconds between updates of the panel, and between lines of a log file."""
COLOURS = {"env": "blue", "act": "green", "learn": "magenta", "log": "yellow"}


class Display:
    """Progress bar with time left, score, speed and shares of wall time; check `due` before each `update`."""

    def __init__(self, total_steps: int, title: str, goal: float | None = None, console: Console | None = None):
        self.console = console or Console()
        self.total_steps, self.title, self.goal = total_steps, title, goal
        self.shown = 0.0
        self.live: Live | None = None
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
            TextColumn("[green]{task.completed:,.0f}/{task.total:,.0f}"), TextColumn("elapsed"), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=self.console,
        )  # fmt: skip
        self.task = self.progress.add_task(escape(title), total=total_steps)

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live = Live(_panel(self.progress), console=self.console, refresh_per_second=4)
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live is not None:
            self.live.__exit__(*error)

    def due(self) -> bool:
        """Whether it is time for the next update."""
        return time.monotonic() - self.shown >= (LIVE_SECONDS if self.live is not None else LINE_SECONDS)

    def update(self, env_steps: int, numbers: dict[str, float], shares: dict[str, float]) -> None:
        """Show the progress, `numbers` by name, and `shares` of wall time, 0 to 1."""
        self.shown = time.monotonic()
        if self.live is None:
            words = "  ".join(f"{name} {_short(value)}" for name, value in numbers.items())
            line = f"{self.title}: {env_steps:,}/{self.total_steps:,}  {words}"
            self.console.print(line, highlight=False, markup=False)
            return
        self.progress.update(self.task, completed=env_steps)
        self.live.update(_panel(self.progress, self._numbers(numbers), *([_bar(shares)] if shares else [])))

    def _numbers(self, numbers: dict[str, float]) -> Text:
        """Return the numbers on one line: scores first, with the goal beside the mean of the last games."""
        scores, others = [], []
        for name, value in numbers.items():
            if name == "training score" or name.startswith("last "):
                goal = f" of {self.goal:g}" if name.startswith("last ") and self.goal is not None else ""
                scores.append(f"[bold green]{name} {value:.2f}[/]{goal}")
            else:
                others.append(f"{name} [cyan]{_short(value)}[/]")
        return Text.from_markup("   ".join(scores + others))


def _panel(*parts: Any) -> Group:
    """Return the parts above an empty line, where the terminal's ^C cannot wrap and so repeat the panel."""
    return Group(*parts, "")


def _short(value: float) -> str:
    """Return four significant digits, or a whole number from 1,000 on: 0.01234, 12,300."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _bar(shares: dict[str, float]) -> Table:
    """Return a bar of 40 characters, coloured by share, and its legend."""
    table = Table.grid(padding=(0, 1))
    bar = "".join(f"[{COLOURS[name]}]{'█' * round(40 * share)}[/]" for name, share in shares.items())
    legend = "  ".join(f"[{COLOURS[name]}]{name} {share:.0%}[/]" for name, share in shares.items())
    table.add_row("time", bar, legend)
    return table
