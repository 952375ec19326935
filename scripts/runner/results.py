"""Typed results of trainings, and learning curves read from a run's metrics.jsonl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.errors import ConfigError
from agents.scores import training_score
from scripts.report.run_data import ReportError, read_metrics, series


@dataclass(frozen=True)
class Curve:
    """One metric over a training: three arrays of the same length K, in the order of the training."""

    env_steps: np.ndarray
    """int64 [K], env steps summed over environments."""
    wall_seconds: np.ndarray
    """float64 [K], seconds of training."""
    values: np.ndarray
    """float64 [K]."""


@dataclass(frozen=True)
class Curves:
    """Learning curves of a run."""

    episode_returns: Curve
    """Return of each training episode, at the env step at which it ended."""
    eval_means: Curve
    """Mean return of the evaluation at each checkpoint; empty for `eval_episodes=0`."""


@dataclass(frozen=True)
class TrainResult:
    """A finished or interrupted training."""

    folder: Path
    """The run folder, which `resume`, `evaluate`, `record_video` and `load` take."""
    env_steps: int
    """Env steps trained for, summed over environments."""
    returns: tuple[float, ...]
    """Returns of the last training episodes (at most 100), oldest first."""
    solved: bool
    """Whether the mean return of the last `stop_episodes` episodes reached `stop_return`."""
    interrupted: bool
    """Whether a signal (Ctrl-C) ended the training before its budget."""
    wall_seconds: float
    """Seconds of training, those before a resume included."""

    @property
    def score(self) -> float | None:
        """Training score: mean return of the last 100 training games; None before the first has ended."""
        return training_score(self.returns)

    @property
    def curves(self) -> Curves:
        """Learning curves, read from the run folder."""
        return read_curves(self.folder)


def read_curves(folder: Path) -> Curves:
    """Read a run's learning curves; raise ConfigError where metrics.jsonl is missing or damaged.

    The last line may be incomplete, as a killed training leaves it; it is skipped.
    """
    try:
        rows, damage = read_metrics(folder / "metrics.jsonl")
    except (OSError, ReportError) as error:
        raise ConfigError(f"{folder}/metrics.jsonl cannot be read: {error}") from error
    if damage:
        raise ConfigError(f"{folder}/metrics.jsonl cannot be read: {damage[0]}")
    return Curves(_curve(rows, "episode/return"), _curve(rows, "eval/return_mean"))


def _curve(rows: list[dict[str, Any]], name: str) -> Curve:
    """Select the rows that have the metric `name`."""
    env_steps, wall_seconds, values = series(rows, name).T
    return Curve(env_steps.astype(np.int64), wall_seconds, values)
