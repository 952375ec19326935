"""Typed results of trainings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainResult:
    """A finished or interrupted training."""

    folder: Path
    """The run folder, which `evaluate`, `watch`, `compare` and `resume` take."""
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
