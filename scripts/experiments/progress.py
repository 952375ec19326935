"""Progress of trainings side by side: a bar for each on a terminal, plain lines in a log file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from agents.scores import SCORE_GAMES
from scripts.report.tables import print_line

TAIL = 32_768
"""Bytes read from the end of a metrics.jsonl."""


class State(NamedTuple):
    """Progress of one training, from its metrics."""

    env_steps: int = 0
    wall_seconds: float = 0.0
    score: float | None = None
    """Training score."""
    speed: float | None = None
    """Env steps per second."""


class Running(NamedTuple):
    """A training that is shown."""

    name: str
    metrics: Path
    total_steps: int


def read(metrics: Path) -> State:
    """Return the state at the end of a metrics.jsonl; the initial state where there is no complete line."""
    try:
        with open(metrics, "rb") as file:
            start = max(file.seek(0, os.SEEK_END) - TAIL, 0)
            file.seek(start)
            lines = file.read().split(b"\n")[1 if start else 0 : -1]  # the first may be cut off, the last unfinished
        records = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return State()
    if not records:
        return State()
    returns = [record["episode/return"] for record in records if "episode/return" in record][-SCORE_GAMES:]
    speeds = [record["time/steps_per_second"] for record in records if "time/steps_per_second" in record]
    score, speed = float(np.mean(returns)) if returns else None, speeds[-1] if speeds else None
    return State(records[-1]["env_steps"], records[-1]["wall_seconds"], score, speed)


def describe(state: State, total_steps: int) -> str:
    """Return score, speed and remaining time, as far as they are known."""
    words = [f"training score {state.score:,.2f}"] if state.score is not None else []
    if state.speed:
        left = max(total_steps - state.env_steps, 0) / state.speed
        words += [f"{state.speed:,.0f} steps/s", f"{_duration(left)} left"]
    return ", ".join(words)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Board:
    """Display of running jobs; `update` limits how often it changes."""

    def __init__(self, console: Console, jobs: int):
        self.console, self.shown = console, time.monotonic()
        self.tasks: dict[str, TaskID] = {}
        self.progress: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
                       TextColumn("{task.fields[words]}"))  # fmt: skip
            self.progress = Progress(*columns, console=console, transient=True)
            self.all = self.progress.add_task("all runs", total=jobs, words="")

    def __enter__(self) -> Board:
        if self.progress is not None:
            self.progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.progress is not None:
            self.progress.stop()

    def update(self, running: Sequence[Running], done: int) -> None:
        """Show the running jobs and the number of finished ones, at most twice a second (once a minute in a log)."""
        if time.monotonic() - self.shown < (0.5 if self.progress is not None else 60.0):
            return
        self.shown = time.monotonic()
        for job in running:
            state = read(job.metrics)
            words = describe(state, job.total_steps)
            if self.progress is None:
                share = f"{state.env_steps / job.total_steps:.0%}"
                line = f"{job.name}: {state.env_steps:,}/{job.total_steps:,} ({share}){', ' if words else ''}{words}"
                print_line(self.console, line)
                continue
            if job.name not in self.tasks:
                self.tasks[job.name] = self.progress.add_task(job.name, total=job.total_steps, words="")
            self.progress.update(self.tasks[job.name], completed=state.env_steps, words=words)
        if self.progress is not None:
            names = {job.name for job in running}
            for name in [name for name in self.tasks if name not in names]:
                self.progress.remove_task(self.tasks.pop(name))
            self.progress.update(self.all, completed=done, words=f"{done} done")
