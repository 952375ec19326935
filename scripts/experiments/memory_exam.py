"""The memory exam: over how many steps can an agent remember, as it is set up?

Each task is trained at several horizons, the steps between what must be remembered and its use. A score of 0 is what
the best agent without memory gets, 1 the optimum. The useful horizon is the longest that is passed, with all shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from agents.errors import ConfigError
from agents.presets.registry import ALGORITHMS, OURS, is_baseline
from scripts.experiments.suite import compete, finish
from scripts.experiments.training_jobs import Contender, Settings, contender
from scripts.report.tables import number, wide_console

PASSED = 0.9
"""Score that a horizon counts as mastered from."""
HORIZONS = (2, 4, 8, 16)


@dataclass(frozen=True)
class Task:
    """A game, and what its mean returns mean."""

    env: str
    chance: float
    """Of the best agent without memory."""
    optimum: float
    argument: str = "horizon"
    """What the environment calls the level."""
    only: float | None = None
    """The one level of a game that has no horizon."""

    def levels(self, horizons: Sequence[int]) -> Sequence[float]:
        """Return the levels to train at."""
        return horizons if self.only is None else (self.only,)

    def score(self, mean_return: float) -> float:
        """0 at chance, 1 at the optimum."""
        return (mean_return - self.chance) / (self.optimum - self.chance)


TASKS = {
    "recall": Task("joypad/MemoryChain-v0", 0.0, 1.0),
    "t-maze": Task("joypad/TMaze-v0", 0.5, 1.0),
    "repeat-previous": Task("joypad/RepeatPrevious-v0", 0.25, 1.0),
    "flickering-pong": Task("ALE/Pong-v5", -21.0, 21.0, "flicker", 0.5),
}
"""Flickering Pong is one training with half of all frames blank; an agent that sees nothing scores 0."""


def memory_exam(algorithms: Sequence[str], tasks: Sequence[str], horizons: Sequence[int], settings: Settings) -> None:
    """Train every algorithm on every task and horizon, and print one table."""
    unknown = [name for name in algorithms if name not in ALGORITHMS or is_baseline(name)]
    if unknown:
        raise ConfigError(f"the exam is for agents of ours: {', '.join(OURS)}; not {', '.join(unknown)}")
    if min(horizons) < 1:
        raise ConfigError(f"--horizons must be at least 1, not {min(horizons)}")
    if not settings.episodes:
        raise ConfigError("--eval-episodes must be at least 1: the exam is what is judged after training")
    algorithms, tasks, horizons = list(dict.fromkeys(algorithms)), list(dict.fromkeys(tasks)), sorted(set(horizons))
    asked: list[tuple[str, str, float]] = [
        (algorithm, name, level) for algorithm in algorithms for name in tasks for level in TASKS[name].levels(horizons)
    ]
    console = wide_console()
    rows, failed = compete([_candidate(*about, settings) for about in asked], settings, console)
    papers = [_paper(*about, row) for about, row in zip(asked, rows, strict=True)]
    useful = {algorithm: {name: useful_horizon(papers, algorithm, name) for name in tasks} for algorithm in algorithms}
    console.print(exam_table(papers, useful))
    finish({"suite": "exam", "papers": papers, "useful_horizon": useful, "rows": rows}, failed, settings)


def _candidate(algorithm: str, name: str, level: float, settings: Settings) -> Contender:
    task, label = TASKS[name], f"{algorithm}, {name} {level:g}"
    given = [*settings.overrides, "--env-kwargs", task.argument, f"{level:g}"]
    return contender(label, algorithm, task.env, settings.preset, given, settings.total_steps)


def _paper(algorithm: str, name: str, level: float, row: dict[str, Any]) -> dict[str, Any]:
    """Return one line of the exam: the scores of all seeds, and their median."""
    scores = [TASKS[name].score(run["evaluation"]["return_mean"]) for run in row["runs"]]
    median = float(np.median(scores)) if scores else None
    seconds = row["wall_seconds"]
    return {"algorithm": algorithm, "task": name, "level": level, "scores": scores, "score": median, "seconds": seconds}


def useful_horizon(papers: Sequence[dict[str, Any]], algorithm: str, task: str) -> int | None:
    """Return the longest horizon whose median score, and that of every shorter one, passes; None for a game without."""
    if TASKS[task].only is not None:
        return None
    reached = 0
    mine = [paper for paper in papers if (paper["algorithm"], paper["task"]) == (algorithm, task)]
    for paper in sorted(mine, key=lambda paper: paper["level"]):
        if paper["score"] is None or paper["score"] < PASSED:
            break
        reached = int(paper["level"])
    return reached


def exam_table(papers: Sequence[dict[str, Any]], useful: dict[str, dict[str, int | None]]) -> Table:
    """Return one line for each algorithm and task."""
    title = f"memory exam: score, 0 without memory and 1 at best; passed from {PASSED:g} on; median over seeds"
    table = Table(box=None, title=title, title_justify="left")
    levels = sorted({paper["level"] for paper in papers if TASKS[paper["task"]].only is None})
    for heading in ("algorithm", "task"):
        table.add_column(heading, overflow="fold")
    for heading in (*(f"horizon {level:g}" for level in levels), "useful horizon", "seconds a run"):
        table.add_column(heading, justify="right", overflow="fold")
    for algorithm, by_task in useful.items():
        for task, reached in by_task.items():
            mine = [paper for paper in papers if (paper["algorithm"], paper["task"]) == (algorithm, task)]
            by_level = {paper["level"]: paper["score"] for paper in mine}
            durations = [paper["seconds"] for paper in mine if paper["seconds"] is not None]
            seconds = number(float(np.median(durations))) if durations else "-"
            if reached is None:  # the one level that such a game has
                cells = ["" for _ in levels] + [f"score {number(next(iter(by_level.values())))}"]
            else:
                cells = [number(by_level.get(level)) for level in levels] + [str(reached) if reached else "none"]
            table.add_row(algorithm, task, *cells, seconds)
    return table
