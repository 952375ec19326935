"""Weights & Biases as a mirror of metrics.jsonl: offline without an account, never in the way of training."""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

TrackMode = Literal["offline", "online", "disabled"]


class Tracker(Protocol):
    """Where metrics go beside the run's own files."""

    def log(self, metrics: dict[str, float]) -> None:
        """Take one line of metrics, which has `env_steps`."""

    def video(self, key: str, path: Path) -> None:
        """Take a finished video file."""

    def report(self, path: Path) -> None:
        """Take the run's page."""

    def finish(self) -> Path | None:
        """Flush and close; return the folder that holds the tracked run, if any."""


class NoTracker:
    """Tracks nothing."""

    def log(self, metrics: dict[str, float]) -> None:
        """Do nothing."""

    def video(self, key: str, path: Path) -> None:
        """Do nothing."""

    def report(self, path: Path) -> None:
        """Do nothing."""

    def finish(self) -> Path | None:
        """Return None."""
        return None


@dataclass(frozen=True)
class Labels:
    """How a run is found on W&B, beside its config."""

    project: str = "joypad"
    group: str = ""
    """Runs that belong together, as the seeds of one comparison; empty for <algo>__<env>."""
    tags: tuple[str, ...] = ()
    """Beside the algorithm, the game and the protocol."""
    job_type: str = "train"


class WandbTracker:
    """Mirrors metrics.jsonl to W&B; a failure there is a warning, never the end of a run.

    A line's number is its step there, and `env_steps` every metric's x-axis. So a resumed run goes on without doubled
    or lost lines: what W&B has already is not sent again, and what it lacks is sent first. Offline it has nothing, for
    each start makes a folder of its own there: the new one gets all lines and replaces the old.
    """

    def __init__(self, folder: Path, run_id: str, config: dict[str, Any], mode: TrackMode, labels: Labels):
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        before = list((folder / "wandb").glob(f"offline-run-*-{run_id}"))
        self.wandb, self.lines = wandb, 0
        settings = wandb.Settings(console="off", x_disable_stats=True, init_timeout=30)
        self.run = wandb.init(
            project=labels.project, id=run_id, name=folder.name, group=labels.group, dir=str(folder), config=config,
            mode=mode, resume="allow", settings=settings, job_type=labels.job_type,
            tags=list(dict.fromkeys([config["algo"], config["env_id"], config["protocol"], *labels.tags])),
        )  # fmt: skip
        self.run.define_metric("env_steps")
        self.run.define_metric("*", step_metric="env_steps")
        self.known = self.run.step
        self._catch_up(folder)
        for mirror in before:
            shutil.rmtree(mirror)

    def _catch_up(self, folder: Path) -> None:
        """Send what the run's own files have and W&B has not."""
        if not self.known:
            for path in sorted((folder / "videos").glob("*trained_step_*.mp4")):
                self.video(f"video/{path.stem.split('_step_')[0]}", path)
        if (folder / "metrics.jsonl").exists():
            with open(folder / "metrics.jsonl") as file:
                for line in file:
                    self.log(json.loads(line))

    def log(self, metrics: dict[str, float]) -> None:
        """Log one line, unless W&B has it from before a resume."""
        if self.lines >= self.known:
            self._guard(lambda: self.run.log(metrics, step=self.lines))
        self.lines += 1

    def video(self, key: str, path: Path) -> None:
        """Log a video, and make sure that a copy of it lies among the run's files."""
        self._media(key, lambda: self.wandb.Video(str(path), format="mp4"), path)

    def report(self, path: Path) -> None:
        """Log the run's page, and make sure that a copy of it lies among the run's files."""
        self._media("report", lambda: self.wandb.Html(path.read_text(), inject=False), path)

    def _media(self, key: str, make: Callable[[], Any], path: Path) -> None:
        # in the last line's row, or the first that is to come: a row of its own would take a later line's number
        self._guard(lambda: self.run.log({key: make()}, step=max(self.lines - 1, self.known)))
        size = path.stat().st_size
        kept = (Path(self.run.dir) / "media").rglob(f"*{path.suffix}")
        if not any(copy.stat().st_size == size for copy in kept):
            warnings.warn(f"W&B did not take {path.name}; it is still in {path.parent}", stacklevel=3)

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


def new_run_id() -> str:
    """Return the id of a new run: the one that a W&B agent gives it in a sweep, or a time in milliseconds."""
    return os.environ.get("WANDB_RUN_ID") or f"{int(time.time() * 1000):x}"


def make_tracker(mode: TrackMode, folder: Path, run_id: str, config: dict[str, Any], labels: Labels) -> Tracker:
    """Start a tracker; fall back to offline without an account, and to none where W&B cannot write."""
    if mode == "disabled":
        return NoTracker()
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            return WandbTracker(folder, run_id, config, attempt, labels)
        except Exception as error:  # no account, no network, no permission: the run's own files are the truth
            hint = ", until you `wandb login`" if "API key" in str(error) else ""
            warnings.warn(f"W&B cannot run {attempt}: {str(error).splitlines()[0]}{hint}", stacklevel=2)
    return NoTracker()
