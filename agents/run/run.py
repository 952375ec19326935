"""A run: its folder, counters, metrics and checkpoints, and its end: out of budget, solved or stopped."""

from __future__ import annotations

import json
import resource
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout

from agents.config import TrainConfig
from agents.errors import CheckpointError, ConfigError, RunError
from agents.interface import Agent, EpisodeRecord, Metrics, Row
from agents.replay.buffer import Replay
from agents.run import checkpoint
from agents.run.checkpoint import Counters
from agents.run.display import Display
from agents.run.tracking import NoTracker, Tracker
from agents.scores import SCORE_GAMES, training_score

LOGS = ("metrics.jsonl", "replays/train.jsonl", "replays/judged.jsonl")
"""Append-only files, which a resume truncates to the checkpoint: metrics, training games, evaluation games."""
SHARES = ("env", "act", "learn", "log")


def lock(folder: Path) -> FileLock:
    """Lock a run's folder for this process; raise ConfigError if another one trains there.

    The kernel releases the lock when the process ends, however it ends; the empty file `.lock` may stay behind.
    """
    file = FileLock(folder / ".lock")
    try:
        file.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"{folder} is being trained by another process; stop that first") from error
    return file


class Clock:
    """Splits wall time into env, act, learn and log."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set all times to 0."""
        self.seconds = dict.fromkeys(SHARES, 0.0)
        self.last = time.perf_counter()

    def record_time(self, name: str) -> None:
        """Charge the time since the last call to `name`."""
        now = time.perf_counter()
        self.seconds[name] += now - self.last
        self.last = now

    def shares(self) -> dict[str, float]:
        """Return each name's share of the recorded time, 0 to 1."""
        total = sum(self.seconds.values()) or 1.0
        return {name: seconds / total for name, seconds in self.seconds.items()}


@dataclass(frozen=True)
class Segment:
    """The env steps between two checkpoints; everything random in it follows from (seed, index)."""

    seed: int
    index: int
    until: int
    """Env steps of the run at which the segment ends."""
    num_envs: int

    @property
    def seeds(self) -> list[int]:
        """One seed per environment, below 2^31 because emulators take 31 bits."""
        state = np.random.SeedSequence([self.seed, self.index, 0]).generate_state(self.num_envs)
        return [int(number) & 0x7FFFFFFF for number in state]

    def rng(self, device: torch.device, use: Literal["acting", "learning"]) -> torch.Generator:
        """Return the generator for one use; the streams of two uses are independent."""
        generator, stream = torch.Generator(device), {"acting": 1, "learning": 3}[use]
        generator.manual_seed(int(np.random.SeedSequence([self.seed, self.index, stream]).generate_state(1)[0]))
        return generator

    def numpy_rng(self) -> np.random.Generator:
        """Return the generator that samples the replay."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.index, 2]))


class Run:
    """Counts, logs and saves one training. The loops report steps and updates to it, and stop when it is over."""

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        tracker: Tracker | None = None,
        display: Display | None = None,
        evaluate: Callable[[Any], dict[str, float]] | None = None,
    ):
        self.folder, self.config = folder, config
        self.tracker, self.display, self.evaluate = tracker or NoTracker(), display, evaluate
        self.clock = Clock()
        self.env_steps = self.updates = self.episodes = self.segment_index = 0
        self.wall_before, self.started = 0.0, time.monotonic()
        self.returns: deque[float] = deque(maxlen=max(SCORE_GAMES, config.stop_episodes))
        self.best_return = -np.inf
        self.latest: Metrics = {}
        self.logged_steps, self.logged_wall, self.speed = 0, 0.0, 0.0
        self.signalled, self.saved_steps = False, -1
        (folder / "replays").mkdir(parents=True, exist_ok=True)
        self.lock = lock(folder)
        self.files = {name: open(folder / name, "ab") for name in LOGS}

    @property
    def wall_seconds(self) -> float:
        """Seconds of training, including those before a resume."""
        return self.wall_before + time.monotonic() - self.started

    @property
    def solved(self) -> bool:
        """Whether the mean of the last `stop_episodes` full games reaches `stop_return`."""
        goal, recent = self.config.stop_return, list(self.returns)[-self.config.stop_episodes :]
        return goal is not None and len(recent) == self.config.stop_episodes and float(np.mean(recent)) >= goal

    @property
    def over(self) -> bool:
        """Whether the training ends here: out of budget, solved, or stopped by a signal."""
        return self.env_steps >= self.config.total_steps or self.solved or self.signalled

    def segments(self) -> Iterator[Segment]:
        """Yield segments until the run is over; Ctrl-C ends the current one early."""
        main = threading.current_thread() is threading.main_thread()  # Python takes signal handlers in no other thread
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        handlers = {number: signal.signal(number, self._stop) for number in numbers}
        try:
            while not self.over:
                period = self.config.checkpoint_steps
                until = min((self.env_steps // period + 1) * period, self.config.total_steps)
                yield Segment(self.config.seed, self.segment_index, until, self.config.num_envs)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def segment_over(self, segment: Segment) -> bool:
        """Whether the next checkpoint is due."""
        return self.env_steps >= segment.until or self.solved or self.signalled

    def _stop(self, number: int, frame: Any) -> None:
        if self.signalled:
            raise KeyboardInterrupt
        self.signalled = True

    def observe(self, row: Row) -> None:
        """Count the row's env steps, and log the games that ended in it."""
        self.count(int(np.count_nonzero(~row.dead)), row.next_info.get("episodes", ()))

    def count(self, env_steps: int, episodes: Iterable[EpisodeRecord]) -> None:
        """Add `env_steps`, and log the games that ended."""
        self.env_steps += env_steps
        for record in episodes:
            self.returns.append(record.episode_return)
            line = record.to_json(episode=self.episodes, kind="train", env_steps=self.env_steps)
            self.write("replays/train.jsonl", line)
            self.episodes += 1
            self.log({"episode/return": record.episode_return, "episode/length": record.length})
        if self.display is not None and self.display.due():
            self._show(self.display)

    def learned(self, metrics: Metrics, updates: int = 1) -> None:
        """Count gradient updates and keep their metrics; on a CPU, raise RunError at once if the loss is not finite."""
        self.updates += updates
        self.latest = metrics
        if metrics["train/loss"].device.type == "cpu" and not torch.isfinite(metrics["train/loss"]):
            raise RunError(f"the loss is {float(metrics['train/loss'])} at env step {self.env_steps:,}")

    def log_if_due(self) -> None:
        """Log learning and timing metrics once every `log_steps`; raise RunError if one is not finite."""
        if self.env_steps // self.config.log_steps == self.logged_steps // self.config.log_steps:
            return
        wall = self.wall_seconds
        values = {name: float(value) for name, value in self.latest.items()}
        bad = [name for name, value in values.items() if not np.isfinite(value)]
        if bad:
            raise RunError(f"{bad[0]} is {values[bad[0]]} at env step {self.env_steps:,}")
        self.speed = (self.env_steps - self.logged_steps) / max(wall - self.logged_wall, 1e-9)
        values["time/steps_per_second"] = self.speed
        values |= {f"time/{name}_share": share for name, share in self.clock.shares().items()}
        values["time/updates"] = self.updates
        values["system/peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # Linux counts in kB
        self.logged_steps, self.logged_wall = self.env_steps, wall
        self.log(values)
        self.files["metrics.jsonl"].flush()  # other processes follow this file

    def log(self, values: dict[str, float]) -> None:
        """Write one line of metrics, and send it to the tracker."""
        line = {"env_steps": self.env_steps, "wall_seconds": round(self.wall_seconds, 3), **values}
        self.write("metrics.jsonl", json.dumps(line))
        self.tracker.log(line)

    def write(self, name: str, line: str) -> None:
        """Append one line to the log `name`."""
        self.files[name].write(line.encode() + b"\n")

    def checkpoint(self, agent: Agent, segment: Segment | None = None, replay: Replay | None = None) -> None:
        """Evaluate if configured, and save agent, replay and counters; `segment` None is the start of the run."""
        if segment is not None and self.env_steps == self.saved_steps:
            return  # stopped before the first step of a segment: the last checkpoint is this one
        broken = checkpoint.non_finite(agent)
        if broken is not None:
            raise RunError(f"{broken} is not finite at env step {self.env_steps:,}")
        self.segment_index = 0 if segment is None else segment.index + 1
        self.latest = {}  # a resumed run starts without metrics too
        score = float(np.mean(self.returns)) if self.returns else -np.inf
        if self.evaluate is not None and segment is not None:
            metrics = self.evaluate(agent)
            self.log(metrics)
            score = metrics["eval/return_mean"]
        best = score > self.best_return or segment is None
        self.best_return = score if best else self.best_return
        name = f"step_{self.env_steps:012d}"
        checkpoint.save(self.folder / "checkpoints", name, agent, self._counters(), replay, best)
        self.saved_steps = self.env_steps
        self.clock.record_time("log")

    def _counters(self) -> Counters:
        """Return the counters for state.json, and the length of each log in bytes once it is flushed."""
        for file in self.files.values():
            file.flush()
        return {
            "env_steps": self.env_steps, "updates": self.updates, "episodes": self.episodes, "leg": self.segment_index,
            "wall_seconds": self.wall_seconds, "logged_steps": self.logged_steps, "returns": list(self.returns),
            "best_return": self.best_return if np.isfinite(self.best_return) else None,
            "offsets": {name: file.tell() for name, file in self.files.items()},
        }  # fmt: skip

    def restore(self, state: Counters) -> None:
        """Set the counters from a checkpoint and truncate the logs to it; raise CheckpointError if one is too short."""
        self.env_steps, self.updates, self.episodes = state["env_steps"], state["updates"], state["episodes"]
        self.saved_steps = self.env_steps
        self.segment_index, self.logged_steps = state["leg"], state["logged_steps"]
        self.wall_before = self.logged_wall = state["wall_seconds"]
        self.returns.extend(state["returns"])
        self.best_return = -np.inf if state["best_return"] is None else state["best_return"]
        for name, offset in state["offsets"].items():
            if self.files[name].tell() < offset:
                raise CheckpointError(f"{self.folder / name} is shorter than when the checkpoint was made")
        for name, offset in state["offsets"].items():
            self.files[name].truncate(offset)
            self.files[name].seek(offset)

    def close(self) -> None:
        """Close the logs and release the folder."""
        for file in self.files.values():
            file.close()
        self.lock.release()

    def _show(self, display: Display) -> None:
        numbers = {"games": float(self.episodes), "steps/s": self.speed}
        returns = list(self.returns)
        if (score := training_score(returns)) is not None:
            numbers["training score"] = score
            if self.config.stop_return is not None:
                last = returns[-self.config.stop_episodes :]
                numbers[f"last {len(last)} games"] = float(np.mean(last))
        for name in ("train/loss", "train/entropy", "train/q_mean", "train/learning_rate"):
            if name in self.latest:
                numbers[name.removeprefix("train/")] = float(self.latest[name])
        display.update(self.env_steps, numbers, self.clock.shares())
