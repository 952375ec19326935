"""The memory exam: over how many steps can an agent remember, with these settings?

Each task is trained at several horizons: the number of steps between seeing a cue and using it. The best agent without
memory scores 0, the optimum is 1. The useful horizon is the longest one passed together with all shorter ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from rich.table import Table
from tyro.conf import Positional, arg

from agents.errors import ConfigError
from agents.presets.registry import ALGORITHMS, OURS, is_baseline
from scripts.experiments.results import ContenderResult
from scripts.experiments.settings import BudgetOptions, Settings
from scripts.experiments.suite import compete, finish
from scripts.experiments.training_jobs import Contender, make_contender
from scripts.report.tables import number, wide_console

PASSED = 0.9
"""Lowest score that passes a horizon."""
TaskName = Literal["recall", "t-maze", "repeat-previous", "flickering-pong"]


@dataclass(frozen=True, kw_only=True)
class Exam(BudgetOptions):
    """Train algorithms on memory tasks, and find the longest horizon that they pass.

    Options of train.py for every run go after a --.
    """

    algorithms: Annotated[Positional[tuple[str, ...]], arg(metavar="ALGO...", help_behavior_hint="(required)")] = ()
    """Algorithms, as for train.py."""
    tasks: tuple[TaskName, ...] = ("recall", "t-maze", "repeat-previous")
    """Memory tasks; flickering-pong takes hours."""
    horizons: Annotated[tuple[int, ...], arg(metavar="H...")] = (2, 4, 8, 16)
    """Steps to remember over."""
    eval_episodes: Annotated[int, arg(metavar="N")] = 100
    """Games that evaluate each run after training."""

    def run(self, overrides: Sequence[str]) -> None:
        """Train, evaluate and print; `overrides` are options of train.py for every run."""
        if not self.algorithms:
            raise ConfigError("name algorithms: exam ALGO...")
        settings = self.settings([TASKS[name].env for name in self.tasks], overrides)
        memory_exam(self.algorithms, self.tasks, self.horizons, settings)


@dataclass(frozen=True)
class MemoryTask:
    """A game that needs memory, and the mean returns that bound its score."""

    env: str
    chance: float
    """Return of the best agent without memory."""
    optimum: float
    argument: str = "horizon"
    """Environment argument that sets the level."""
    only: float | None = None
    """The one level of a game that has no horizon."""

    def levels(self, horizons: Sequence[int]) -> Sequence[float]:
        """Return the levels to train at."""
        return horizons if self.only is None else (self.only,)

    def score(self, mean_return: float) -> float:
        """Return 0 at chance, 1 at the optimum."""
        return (mean_return - self.chance) / (self.optimum - self.chance)


TASKS: dict[str, MemoryTask] = {
    "recall": MemoryTask("joypad/MemoryChain-v0", 0.0, 1.0),
    "t-maze": MemoryTask("joypad/TMaze-v0", 0.5, 1.0),
    "repeat-previous": MemoryTask("joypad/RepeatPrevious-v0", 0.25, 1.0),
    "flickering-pong": MemoryTask("ALE/Pong-v5", -21.0, 21.0, "flicker", 0.5),
}
"""Flickering Pong is one training with half of all frames blank; an agent that sees nothing scores 0."""
assert {*TASKS} == {*get_args(TaskName)}


@dataclass(frozen=True)
class Paper:
    """One line of the exam: an algorithm's scores at one level of one task."""

    algorithm: str
    task: str
    level: float
    scores: list[float]
    """Score of each seed."""
    score: float | None
    """Their median; None where every run failed."""
    seconds: float | None
    """Median wall-clock of a run."""


def memory_exam(algorithms: Sequence[str], tasks: Sequence[str], horizons: Sequence[int], settings: Settings) -> None:
    """Train every algorithm on every task and horizon, and print one table."""
    unknown = [name for name in algorithms if name not in ALGORITHMS or is_baseline(name)]
    if unknown:
        raise ConfigError(f"the exam is for our own algorithms: {', '.join(OURS)}; not {', '.join(unknown)}")
    if not horizons or min(horizons) < 1:
        raise ConfigError(f"--horizons must be at least 1, not {min(horizons, default='empty')}")
    if not settings.episodes:
        raise ConfigError("--eval-episodes must be at least 1: the exam scores evaluations")
    algorithms, tasks, horizons = list(dict.fromkeys(algorithms)), list(dict.fromkeys(tasks)), sorted(set(horizons))
    entries = [
        (algorithm, name, level) for algorithm in algorithms for name in tasks for level in TASKS[name].levels(horizons)
    ]
    console = wide_console()
    results, failed = compete([_candidate(*entry, settings) for entry in entries], settings, console)
    papers = [_paper(*entry, result) for entry, result in zip(entries, results, strict=True)]
    useful = {algorithm: {name: useful_horizon(papers, algorithm, name) for name in tasks} for algorithm in algorithms}
    console.print(exam_table(papers, useful))
    numbers = {"papers": [asdict(paper) for paper in papers], "useful_horizon": useful}
    finish({"suite": "exam", **numbers, "rows": [asdict(result) for result in results]}, failed, settings)


def _candidate(algorithm: str, name: str, level: float, settings: Settings) -> Contender:
    task, label = TASKS[name], f"{algorithm}, {name} {level:g}"
    overrides = [*settings.overrides, "--env-kwargs", task.argument, f"{level:g}"]
    return make_contender(label, algorithm, task.env, settings.preset, overrides, settings.total_steps)


def _paper(algorithm: str, name: str, level: float, result: ContenderResult) -> Paper:
    scores = [TASKS[name].score(run.evaluation.return_mean) for run in result.runs if run.evaluation is not None]
    median = float(np.median(scores)) if scores else None
    return Paper(algorithm, name, level, scores, median, result.wall_seconds)


def useful_horizon(papers: Sequence[Paper], algorithm: str, task: str) -> int | None:
    """Return the longest horizon passed with all shorter ones, 0 for none; None for a game without horizons."""
    if TASKS[task].only is not None:
        return None
    reached = 0
    own = [paper for paper in papers if (paper.algorithm, paper.task) == (algorithm, task)]
    for paper in sorted(own, key=lambda paper: paper.level):
        if paper.score is None or paper.score < PASSED:
            break
        reached = int(paper.level)
    return reached


def exam_table(papers: Sequence[Paper], useful: Mapping[str, Mapping[str, int | None]]) -> Table:
    """Return one line for each algorithm and task."""
    title = f"memory exam: 0 is the best score without memory, 1 the optimum; {PASSED:g} passes; median over seeds"
    table = Table(box=None, title=title, title_justify="left")
    levels = sorted({paper.level for paper in papers if TASKS[paper.task].only is None})
    for heading in ("algorithm", "task"):
        table.add_column(heading, overflow="fold")
    for heading in (*(f"horizon {level:g}" for level in levels), "useful horizon", "seconds per run"):
        table.add_column(heading, justify="right", overflow="fold")
    for algorithm, by_task in useful.items():
        for task, reached in by_task.items():
            own = [paper for paper in papers if (paper.algorithm, paper.task) == (algorithm, task)]
            scores = {paper.level: paper.score for paper in own}
            durations = [paper.seconds for paper in own if paper.seconds is not None]
            if reached is None:  # the one level of a game without horizons
                cells = ["" for _ in levels] + [f"score {number(next(iter(scores.values())))}"]
            else:
                cells = [number(scores.get(level)) for level in levels] + [str(reached) if reached else "none"]
            table.add_row(algorithm, task, *cells, number(float(np.median(durations)) if durations else None))
    return table
