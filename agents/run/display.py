"""What a person sees of a running training: a live panel on a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table


class Display:
    """Progress bar with ETA, score, speed and where the time goes; `update` may be called at every row."""

    def __init__(self, total_steps: int, title: str, goal: float | None = None, console: Console | None = None):
        self.console = console or Console()
        self.total_steps, self.title, self.goal = total_steps, title, goal
        self.shown = 0.0
        self.live: Live | None = None
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(),
            TextColumn("elapsed"), TimeElapsedColumn(), TextColumn("left"), Remaining(), console=self.console,
        )  # fmt: skip
        self.task = self.progress.add_task(title, total=total_steps)

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live = Live(self.progress, console=self.console, refresh_per_second=4)
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live is not None:
            self.live.__exit__(*error)

    def due(self) -> bool:
        """Whether the last picture is old enough for a new one."""
        return time.monotonic() - self.shown >= (0.5 if self.live is not None else 20.0)

    def update(self, env_steps: int, facts: dict[str, float], shares: dict[str, float]) -> None:
        """Show the state of the run; `facts` are metrics by name."""
        self.shown = time.monotonic()
        if self.live is None:
            numbers = "  ".join(f"{name} {value:.4g}" for name, value in facts.items())
            self.console.print(f"{self.title}: {env_steps:,}/{self.total_steps:,}  {numbers}", highlight=False)
            return
        self.progress.update(self.task, completed=env_steps)
        parts: list[Any] = [self.progress, self._numbers(facts), *([self._shares(shares)] if shares else [])]
        self.live.update(Group(*parts))

    def _numbers(self, facts: dict[str, float]) -> Table:
        table = Table.grid(padding=(0, 3))
        cells = []
        if "score" in facts:
            goal = f" of {self.goal:g}" if self.goal is not None else ""
            cells.append(f"[bold green]score {facts['score']:.2f}[/]{goal}")
        cells += [f"{name} [cyan]{value:,.4g}[/]" for name, value in facts.items() if name != "score"]
        table.add_row(*cells)
        return table

    def _shares(self, shares: dict[str, float]) -> Table:
        colours = {"env": "blue", "act": "green", "learn": "magenta", "log": "yellow"}
        table = Table.grid(padding=(0, 1))
        bar = "".join(f"[{colours[name]}]{'█' * round(40 * share)}[/]" for name, share in shares.items())
        legend = "  ".join(f"[{colours[name]}]{name} {share:.0%}[/]" for name, share in shares.items())
        table.add_row("time", bar, legend)
        return table
