"""Weights & Biases as a mirror of metrics.jsonl: offline without an account, never in the way of training."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Literal, Protocol

TrackMode = Literal["offline", "online", "disabled"]


class Tracker(Protocol):
    """Where metrics go beside the run's own files."""

    def log(self, metrics: dict[str, float]) -> None:
        """Take one line of metrics, which has `env_steps`."""

    def video(self, key: str, path: Path, env_steps: int) -> None:
        """Take a finished video file."""

    def finish(self) -> Path | None:
        """Flush and close; return the folder that holds the tracked run, if any."""


class NoTracker:
    """Tracks nothing."""

    def log(self, metrics: dict[str, float]) -> None:
        """Do nothing."""

    def video(self, key: str, path: Path, env_steps: int) -> None:
        """Do nothing."""

    def finish(self) -> Path | None:
        """Return None."""
        return None


class WandbTracker:
    """Mirrors to W&B; a failure there is a warning, never the end of a run. `env_steps` is every metric's x-axis."""

    def __init__(self, folder: Path, run_id: str, config: dict[str, Any], mode: TrackMode, project: str, group: str):
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self.wandb, self.videos = wandb, 0
        settings = wandb.Settings(console="off", x_disable_stats=True, init_timeout=30)
        self.run = wandb.init(
            project=project, id=run_id, name=folder.name, group=group, dir=str(folder), config=config, mode=mode,
            resume="allow", settings=settings, tags=[config["algo"], config["env_id"]], job_type="train",
        )  # fmt: skip
        self.run.define_metric("env_steps")
        self.run.define_metric("*", step_metric="env_steps")

    def log(self, metrics: dict[str, float]) -> None:
        """Log one line."""
        self._guard(lambda: self.run.log(metrics))

    def video(self, key: str, path: Path, env_steps: int) -> None:
        """Log a video, then make sure that a copy of it lies among the run's files."""
        self.videos += 1
        self._guard(lambda: self.run.log({key: self.wandb.Video(str(path), format="mp4"), "env_steps": env_steps}))
        media = Path(self.run.dir) / "media" / "videos"
        size = path.stat().st_size
        if not any(copy.stat().st_size == size for copy in media.rglob("*.mp4")):
            warnings.warn(f"W&B did not take {path.name}; it is still in {path.parent}", stacklevel=2)

    def finish(self) -> Path | None:
        """Close the run; return its folder."""
        folder = Path(self.run.dir).parent
        self._guard(self.run.finish)
        return folder

    def _guard(self, action: Any) -> None:
        try:
            action()
        except Exception as error:  # a tracker must not be able to end a training
            warnings.warn(f"W&B failed ({error}); metrics.jsonl is complete all the same", stacklevel=3)


def make_tracker(
    mode: TrackMode, folder: Path, run_id: str, config: dict[str, Any], project: str = "joypad", group: str = ""
) -> Tracker:
    """Start a tracker; fall back to offline without an account, and to none where W&B cannot write."""
    if mode == "disabled":
        return NoTracker()
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            return WandbTracker(folder, run_id, config, attempt, project, group)
        except Exception as error:  # no account, no network, no permission: the run's own files are the truth
            warnings.warn(f"W&B cannot run {attempt}: {str(error).splitlines()[0]}", stacklevel=2)
    return NoTracker()
