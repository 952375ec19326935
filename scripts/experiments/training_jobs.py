"""Trainings as jobs: each in a folder and a process of its own, several side by side, to be stopped and repeated.

What is trained already is not trained again, and what was interrupted goes on. Nothing here knows how an agent learns:
jobs run `train.py`, and read the folders that it leaves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.presets.registry import ALGORITHMS, zoo_preset
from agents.run import checkpoint
from agents.run.run import lock
from agents.run.tracking import TrackMode
from envs.make import check_id, family
from scripts.command_line.groups import train_settings
from scripts.experiments.progress import Board, Running
from scripts.report.run_data import differing_values
from scripts.runner.files import RUNS

BENCH = RUNS / "bench"
SUITE_FIELDS = ("env", "seed", "total_steps", "threads")
"""Fields that a suite sets by options of its own."""
SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """What a suite was asked for, but for the algorithms."""

    envs: tuple[str, ...]
    seeds: range
    total_steps: int
    preset: str | None = None
    overrides: tuple[str, ...] = ()
    """Options of train.py that every run gets."""
    parallel: int = 1
    threads: int = 0
    folder: Path = BENCH
    episodes: int = 30
    """Games of the evaluation of each run; 0 for none."""
    out: Path | None = None
    track: TrackMode = "disabled"
    group: str | None = None
    """On W&B; None for <algo>__<env>."""

    def __post_init__(self) -> None:
        least = {"--seeds": (len(self.seeds), 1), "--first-seed": (self.seeds.start, 0), "--jobs": (self.parallel, 1),
                 "--total-steps": (self.total_steps, 1), "--threads": (self.threads, 0),
                 "--eval-episodes": (self.episodes, 0)}  # fmt: skip
        for name, (value, minimum) in least.items():
            if value < minimum:
                raise ConfigError(f"{name} must be at least {minimum}, not {value}")
        for part in self.overrides:
            name = part.split("=", 1)[0]
            if name.startswith("--") and name[2:].replace("-", "_") in SUITE_FIELDS:
                raise ConfigError(f"{name} is an option of the suite: give it before the --")
        if self.out is not None and (self.out.is_dir() or not self.out.resolve().parent.is_dir()):
            raise ConfigError(f"--out {self.out} is not a file in a folder that exists")


@dataclass(frozen=True, eq=False)
class Contender:
    """An algorithm with all its settings for one game."""

    label: str
    algorithm: str
    env: str
    preset: str | None
    overrides: tuple[str, ...]
    config: dict[str, Any]
    """Every setting that follows, but for seed and threads."""

    @property
    def resumable(self) -> bool:
        """Whether a half-done training can go on; those of Stable-Baselines3 begin anew."""
        return ALGORITHMS[self.algorithm][1].resumable

    def folder(self, parent: Path, seed: int) -> Path:
        """Return the run folder of one seed: contenders that were asked for differently never share one."""
        text = json.dumps([*self.overrides, self.config["total_steps"]])
        parts = [self.algorithm, self.env.replace("/", "-"), *([self.preset] if self.preset else []), f"s{seed}"]
        return parent / "__".join([*parts, hashlib.sha256(text.encode()).hexdigest()[:6]])


def contender(
    label: str, algorithm: str, env: str, preset: str | None, overrides: Sequence[str], total_steps: int
) -> Contender:
    """Return the contender, or raise ConfigError for options that it does not take.

    Without a preset, Stable-Baselines3's agents take what its zoo has for the game.
    """
    if algorithm in ALGORITHMS:
        ALGORITHMS[algorithm][1].require()
        check_id(env)
        if preset is None and zoo_preset(algorithm, env, family(env)) is not None:
            preset = "zoo"
    config = _without_seed(asdict(resolve(algorithm, env, preset, overrides, total_steps)))
    return Contender(label, algorithm, env, preset, tuple(overrides), config)


def resolve(algorithm: str, env: str, preset: str | None, overrides: Sequence[str], total_steps: int) -> TrainConfig:
    """Return the config that train.py makes of these options."""
    return train_settings(algorithm, env, preset, [*base_options(total_steps), *overrides])


@dataclass(frozen=True, eq=False)
class Job:
    """One training."""

    who: Contender
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """What a person reads."""
        return f"{self.who.label} on {self.who.env}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """Where the output of its processes goes, beside the folder."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def state(self) -> dict[str, Any]:
        """Return how far it has come: env steps, wall seconds and more; empty where there is nothing to go on with."""
        try:
            if (self.folder / "config.json").exists():
                return checkpoint.read_state(checkpoint.resolve(self.folder / "checkpoints"))
        except FileNotFoundError:
            pass
        except ValueError:  # a damaged checkpoint: the process that is to go on with it says what is wrong
            return {"env_steps": 0}
        return {}

    @property
    def solved(self) -> bool:
        """Whether it reached the `stop_return` that it was given."""
        state, wanted, games = self.state(), self.who.config["stop_return"], self.who.config["stop_episodes"]
        recent = state.get("returns", [])[-games:]
        return wanted is not None and len(recent) == games and sum(recent) / games >= wanted

    @property
    def done(self) -> bool:
        """Whether it is trained to the end."""
        return self.state().get("env_steps", -1) >= self.who.config["total_steps"] or self.solved

    def command(self, settings: Settings) -> list[str]:
        """Return the command that begins the training, or goes on with it."""
        who = self.who
        if who.resumable and self.state():
            return [sys.executable, str(SCRIPTS / "train.py"), "--resume", str(self.folder)]
        given = [who.algorithm, "--env", who.env, "--seed", str(self.seed), "--run-dir", str(self.folder)]
        given += ["--threads", str(settings.threads)] if settings.threads else []
        given += ["--preset", who.preset] if who.preset else []
        given += ["--group", settings.group] if settings.group else []
        given += ["--track", settings.track, *base_options(who.config["total_steps"])]
        return [sys.executable, str(SCRIPTS / "train.py"), *given, *who.overrides]

    def check(self) -> None:
        """Raise ConfigError where the folder holds a run of other settings, as after a preset was changed."""
        if not self.state():
            return
        try:
            then = json.loads((self.folder / "config.json").read_text())["config"]
            # fields that came later have their default
            then = asdict(ALGORITHMS[self.who.algorithm][0].from_json(then))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.folder} cannot be used ({error}); remove it, or give another --dir") from error
        found = differing_values([_without_seed(then), self.who.config])
        if found:
            words = ", ".join(f"{name} was {was}, is {now}" for name, (was, now) in found.items())
            raise ConfigError(f"{self.folder} was trained otherwise ({words}); remove it, or give another --dir")


def clear(folder: Path) -> None:
    """Remove a half-done run that cannot go on; raise ConfigError where a process is still training it."""
    held = lock(folder)
    shutil.rmtree(folder)
    held.release()


def start(command: Sequence[str], log: Path, threads: int) -> subprocess.Popen[bytes]:
    """Start a process whose output goes to the end of `log`."""
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    with open(log, "ab") as file:
        # out of the terminal's reach: an interrupt is passed on once, for a second one would keep it from saving
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)


class Process(NamedTuple):
    """A training that runs."""

    handle: subprocess.Popen[bytes]
    written: int
    """Bytes that its log held before."""
    since: float


def run(jobs: Sequence[Job], settings: Settings, console: Console) -> dict[Job, str]:
    """Train what is not trained yet; return what went wrong, by job. An interrupt lets the running ones save."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    waiting = deque(job for job in jobs if not job.done)
    total = len(waiting)
    if total < len(jobs):
        _say(console, f"{len(jobs) - total} of {len(jobs)} runs are trained already")
    running: dict[Job, Process] = {}
    failed: dict[Job, str] = {}
    with _stopped_in_order(running, console), Board(console, total) as board:
        while waiting or running:
            while waiting and len(running) < settings.parallel:
                job = waiting.popleft()
                verb = "goes on" if job.state() and job.who.resumable else "starts"
                _say(console, f"[{total - len(waiting)}/{total}] {job.name}: {verb}")
                running[job] = _launch(job, settings)
            for job, process in list(running.items()):
                if process.handle.poll() is None:
                    continue
                del running[job]
                words = f"done in {time.monotonic() - process.since:.1f} s"
                if process.handle.returncode or not job.done:
                    failed[job] = _failure(job, process.written, process.handle.returncode)
                    words = f"FAILED after {time.monotonic() - process.since:.1f} s: {failed[job]}"
                _say(console, f"{job.name}: {words}")
            board.update([_watched(job) for job in running], total - len(waiting) - len(running))
            time.sleep(0.05)
    return failed


@contextlib.contextmanager
def _stopped_in_order(running: dict[Job, Process], console: Console) -> Iterator[None]:
    """Pass an interrupt on to the trainings that run, and wait until they have saved."""
    # SIGINT too: in the background of a shell it would be ignored
    handlers = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for process in running.values():
            process.handle.send_signal(signal.SIGINT)
        for process in running.values():
            process.handle.wait()
        if running:
            _say(console, "stopped; what was trained is kept, and the same command goes on from there")


def _launch(job: Job, settings: Settings) -> Process:
    """Start a training, or go on with it; one that cannot go on begins anew."""
    if job.state() and not job.who.resumable:
        clear(job.folder)
    written = job.log.stat().st_size if job.log.exists() else 0
    return Process(start(job.command(settings), job.log, settings.threads), written, time.monotonic())


def _watched(job: Job) -> Running:
    return Running(job.name, job.folder / "metrics.jsonl", job.who.config["total_steps"])


def _failure(job: Job, written: int, code: int) -> str:
    """Return the last line that the process left in its log, or what else there is to say."""
    if code == 0:
        return f"stopped at {job.state().get('env_steps', 0):,} of {job.who.config['total_steps']:,} env steps"
    with open(job.log, "rb") as file:
        file.seek(written)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"exit code {code}, and nothing in {job.log}"


def base_options(total_steps: int) -> list[str]:
    """Return the options before the overrides. A run that ended at a good score would not be like the others."""
    return ["--total-steps", str(total_steps), "--stop-return", "None"]


def _without_seed(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in ("seed", "threads")}


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
