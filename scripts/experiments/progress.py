"""What a person sees of trainings side by side: a bar for each on a terminal, plain lines in a log file."""

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

TAIL = 32_768
"""Bytes of metrics.jsonl that are looked at."""
GAMES = 30


class State(NamedTuple):
    """How far a training has come, by its metrics."""

    env_steps: int = 0
    wall_seconds: float = 0.0
    score: float | None = None
    """Mean return of the latest games."""
    speed: float | None = None
    """Env steps a second."""


class Running(NamedTuple):
    """A training that is watched."""

    name: str
    metrics: Path
    total_steps: int


def read(metrics: Path) -> State:
    """Return the state that the end of a metrics.jsonl tells; nothing yet where there is no whole line."""
    try:
        with open(metrics, "rb") as file:
            start = max(file.seek(0, os.SEEK_END) - TAIL, 0)
            file.seek(start)
            lines = file.read().split(b"\n")[1 if start else 0 : -1]  # the first may be cut, the last unfinished
        found = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return State()
    if not found:
        return State()
    returns = [line["episode/return"] for line in found if "episode/return" in line][-GAMES:]
    speeds = [line["time/steps_per_second"] for line in found if "time/steps_per_second" in line]
    score, speed = float(np.mean(returns)) if returns else None, speeds[-1] if speeds else None
    return State(found[-1]["env_steps"], found[-1]["wall_seconds"], score, speed)


def describe(state: State, total_steps: int) -> str:
    """Return score, speed and the time that is left, as far as they are known."""
    words = [f"score {state.score:,.2f}"] if state.score is not None else []
    if state.speed:
        left = max(total_steps - state.env_steps, 0) / state.speed
        words += [f"{state.speed:,.0f} steps/s", f"{_duration(left)} left"]
    return ", ".join(words)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Board:
    """Shows running jobs; `update` may be called as often as one likes."""

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
        """Show the jobs that run now, and how many have ended, if the last picture is old enough."""
        if time.monotonic() - self.shown < (0.5 if self.progress is not None else 60.0):
            return
        self.shown = time.monotonic()
        for job in running:
            state = read(job.metrics)
            words = describe(state, job.total_steps)
            if self.progress is None:
                share = f"{state.env_steps / job.total_steps:.0%}"
                line = f"{job.name}: {state.env_steps:,}/{job.total_steps:,} ({share}){', ' if words else ''}{words}"
                self.console.print(line, highlight=False, markup=False, soft_wrap=True)
                continue
            if job.name not in self.tasks:
                self.tasks[job.name] = self.progress.add_task(job.name, total=job.total_steps, words="")
            self.progress.update(self.tasks[job.name], completed=state.env_steps, words=words)
        if self.progress is not None:
            names = {job.name for job in running}
            for name in [name for name in self.tasks if name not in names]:
                self.progress.remove_task(self.tasks.pop(name))
            self.progress.update(self.all, completed=done, words=f"{done} done")
