"""Tracking with Weights & Biases: a mirror of metrics.jsonl, offline without an account."""

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

from agents.errors import ConfigError

MAX_TAG, MAX_NAME, FORBIDDEN = 64, 128, "/\\#?%:"
"""Limits of W&B: letters of a tag and of other names, and characters that no project's name has."""
TrackMode = Literal["offline", "online", "disabled"]


@dataclass(frozen=True)
class TrackingSettings:
    """Tracking on Weights & Biases, beside the run's own files."""

    track: TrackMode = "offline"
    """offline (a folder to `wandb sync` later), online, or disabled."""
    project: str = "joypad"
    """Project on W&B."""
    group: str | None = None
    """Runs that belong together; None groups by algorithm and game (ALGO__ENV)."""
    tags: tuple[str, ...] = ()
    """Tags beside algorithm, game and protocol."""

    def validate(self) -> None:
        """Raise ConfigError for names that W&B refuses."""
        for tag in self.tags:
            if not 1 <= len(tag) <= MAX_TAG:
                raise ConfigError(f"--tags: W&B takes tags of 1 to {MAX_TAG} letters, and '{tag}' has {len(tag)}")
        for name, value in (("--project", self.project), ("--group", self.group)):
            if value is not None and not 1 <= len(value) <= MAX_NAME:
                raise ConfigError(f"{name}: W&B takes names of 1 to {MAX_NAME} letters, and this has {len(value)}")
        if bad := sorted(set(self.project) & set(FORBIDDEN)):
            raise ConfigError(f"--project: W&B's projects have no {' '.join(bad)} in their names")


class Tracker(Protocol):
    """A second destination for metrics, videos and the report; the run's own files are always written."""

    def log(self, metrics: dict[str, float]) -> None:
        """Log one line of metrics, `env_steps` among them."""

    def video(self, key: str, path: Path) -> None:
        """Log a finished video file under `key`."""

    def report(self, path: Path) -> None:
        """Log the run's HTML report."""

    def finish(self) -> Path | None:
        """Flush and close; return the folder of the tracked run, if there is one."""


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
    """Labels of a run on W&B, in addition to its config."""

    project: str = "joypad"
    group: str = ""
    """Name shared by related runs, such as the seeds of one comparison; empty for <algo>__<env>."""
    tags: tuple[str, ...] = ()
    """Tags in addition to algorithm, game and protocol."""
    job_type: str = "train"


class WandbTracker:
    """Mirrors metrics.jsonl to W&B; a failure of W&B is a warning and never ends a run.

    W&B's step is the number of the line in metrics.jsonl, and `env_steps` is the x-axis of every metric. A resumed run
    therefore loses and repeats no line: lines that W&B has are skipped, lines that it lacks are sent first. Offline,
    each start makes a new folder, which gets all lines and replaces the old one.
    """

    def __init__(self, folder: Path, run_id: str, config: dict[str, Any], mode: TrackMode, labels: Labels):
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        earlier = list((folder / "wandb").glob(f"offline-run-*-{run_id}"))
        self.wandb, self.lines = wandb, 0
        known = [config["algo"], config["env_id"], config["protocol"]]
        settings = wandb.Settings(console="off", x_disable_stats=True, init_timeout=30)
        self.run = wandb.init(
            project=labels.project, id=run_id, name=folder.name, group=labels.group, dir=str(folder), config=config,
            mode=mode, resume="allow", settings=settings, job_type=labels.job_type,
            tags=list(dict.fromkeys(tag[:MAX_TAG] for tag in [*known, *labels.tags])),
        )  # fmt: skip
        self.run.define_metric("env_steps")
        self.run.define_metric("*", step_metric="env_steps")
        self.known = self.run.step  # lines that W&B has from before a resume
        self._catch_up(folder)
        for mirror in earlier:
            shutil.rmtree(mirror)

    def _catch_up(self, folder: Path) -> None:
        """Send the videos and lines of the run's own files that W&B lacks."""
        if not self.known:
            for path in sorted((folder / "videos").glob("*trained_step_*.mp4")):
                self.video(f"video/{path.stem.split('_step_')[0]}", path)
        if (folder / "metrics.jsonl").exists():
            with open(folder / "metrics.jsonl") as file:
                for line in file:
                    self.log(json.loads(line))

    def log(self, metrics: dict[str, float]) -> None:
        """Log one line unless W&B has it already."""
        if self.lines >= self.known:
            self._guard(lambda: self.run.log(metrics, step=self.lines))
        self.lines += 1

    def video(self, key: str, path: Path) -> None:
        """Log a video; warn unless W&B stored a copy of it."""
        self._media(key, lambda: self.wandb.Video(str(path), format="mp4"), path)

    def report(self, path: Path) -> None:
        """Log the HTML report; warn unless W&B stored a copy of it."""
        self._media("report", lambda: self.wandb.Html(path.read_text(), inject=False), path)

    def _media(self, key: str, make: Callable[[], Any], path: Path) -> None:
        # logged with the last line, or with the next one: a step of its own would take a later line's number
        self._guard(lambda: self.run.log({key: make()}, step=max(self.lines - 1, self.known)))
        size = path.stat().st_size
        copies = (Path(self.run.dir) / "media").rglob(f"*{path.suffix}")
        if not any(copy.stat().st_size == size for copy in copies):
            warnings.warn(f"W&B did not store {path.name}; the file is in {path.parent}", stacklevel=3)

    def finish(self) -> Path | None:
        """Close the run; return its folder."""
        folder = Path(self.run.dir).parent
        self._guard(self.run.finish)
        return folder

    def _guard(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # no failure of a tracker may end a training
            warnings.warn(f"W&B failed ({error}); metrics.jsonl is complete nevertheless", stacklevel=3)


def new_run_id() -> str:
    """Return the id that a W&B sweep agent sets, or else the time in milliseconds, in hex."""
    return os.environ.get("WANDB_RUN_ID") or f"{int(time.time() * 1000):x}"


def make_tracker(mode: TrackMode, folder: Path, run_id: str, config: dict[str, Any], labels: Labels) -> Tracker:
    """Start a tracker; fall back to offline without an account, and to no tracker where W&B cannot write."""
    if mode == "disabled":
        return NoTracker()
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            return WandbTracker(folder, run_id, config, attempt, labels)
        except Exception as error:  # no account, network or permission: the run's own files have everything
            hint = "; run `wandb login` first" if "API key" in str(error) else ""
            warnings.warn(f"W&B cannot run {attempt}: {str(error).splitlines()[0]}{hint}", stacklevel=2)
    return NoTracker()
