"""Trainings as jobs: each in its own process and folder, several side by side; they can be stopped and repeated.

A finished training is not trained again, and an interrupted one is resumed. Jobs run `train.py` and
read the folders that it leaves.
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
from envs.make import check_id, family
from scripts.command_line.groups import train_settings
from scripts.experiments.progress import Board, Running
from scripts.experiments.settings import Settings
from scripts.report.run_data import differing_values
from scripts.report.tables import print_line

SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, eq=False)
class Contender:
    """An algorithm with all its settings for one game."""

    label: str
    algorithm: str
    env: str
    preset: str | None
    overrides: tuple[str, ...]
    config: dict[str, Any]
    """All settings but seed and threads."""

    @property
    def resumable(self) -> bool:
        """Whether an interrupted training can be resumed; Stable-Baselines3's cannot."""
        return ALGORITHMS[self.algorithm][1].resumable

    def folder(self, parent: Path, seed: int) -> Path:
        """Return the run folder of one seed; contenders with other options never share one."""
        text = json.dumps([*self.overrides, self.config["total_steps"]])
        parts = [self.algorithm, self.env.replace("/", "-"), *([self.preset] if self.preset else []), f"s{seed}"]
        return parent / "__".join([*parts, hashlib.sha256(text.encode()).hexdigest()[:6]])


def make_contender(
    label: str, algorithm: str, env: str, preset: str | None, overrides: Sequence[str], total_steps: int | None
) -> Contender:
    """Return the contender; raise ConfigError for options that it does not take.

    Without a preset, Stable-Baselines3's agents take their zoo's settings for the game, where it has some.
    """
    if algorithm in ALGORITHMS:
        ALGORITHMS[algorithm][1].check_installed()
        check_id(env)
        if preset is None and zoo_preset(algorithm, env, family(env)) is not None:
            preset = "zoo"
    config = _comparable(resolve(algorithm, env, preset, overrides, total_steps))
    return Contender(label, algorithm, env, preset, tuple(overrides), config)


def resolve(
    algorithm: str, env: str, preset: str | None, overrides: Sequence[str], total_steps: int | None
) -> TrainConfig:
    """Return the config that train.py makes of these options."""
    return train_settings(algorithm, env, preset, [*base_options(total_steps), *overrides])


def base_options(total_steps: int | None) -> list[str]:
    """Return the options before the overrides: the budget, and no early stop, for runs of equal length."""
    budget = [] if total_steps is None else ["--total-steps", str(total_steps)]
    return [*budget, "--stop-return", "None"]


def _comparable(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that runs of one contender share."""
    return {name: value for name, value in asdict(config).items() if name not in ("seed", "threads")}


@dataclass(frozen=True, eq=False)
class Job:
    """One training: a contender and a seed."""

    contender: Contender
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """Name on the console."""
        return f"{self.contender.label} on {self.contender.env}, seed {self.seed}"

    @property
    def total_steps(self) -> int:
        """Env steps of the whole training."""
        return int(self.contender.config["total_steps"])

    @property
    def log(self) -> Path:
        """File beside the folder with the output of its processes."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def state(self) -> dict[str, Any]:
        """Return the latest checkpoint's state (env_steps, wall_seconds, ...); empty where there is none to resume."""
        try:
            if (self.folder / "config.json").exists():
                return dict(checkpoint.read_state(checkpoint.resolve(self.folder / "checkpoints")))
        except FileNotFoundError:
            pass
        except ValueError:  # a damaged checkpoint: the process that resumes it reports the damage
            return {"env_steps": 0}
        return {}

    @property
    def solved(self) -> bool:
        """Whether it reached its `stop_return`."""
        goal, games = self.contender.config["stop_return"], self.contender.config["stop_episodes"]
        recent = self.state().get("returns", [])[-games:]
        return goal is not None and len(recent) == games and sum(recent) / games >= goal

    @property
    def done(self) -> bool:
        """Whether it is trained to the end."""
        return self.state().get("env_steps", -1) >= self.total_steps or self.solved

    def command(self, settings: Settings) -> list[str]:
        """Return the command that starts or resumes the training."""
        contender, train = self.contender, [sys.executable, str(SCRIPTS / "train.py")]
        if contender.resumable and self.state():
            return [*train, "--resume", str(self.folder)]
        words = [contender.algorithm, "--env", contender.env, "--seed", str(self.seed), "--run-dir", str(self.folder)]
        words += ["--threads", str(settings.threads)] if settings.threads else []
        words += ["--preset", contender.preset] if contender.preset else []
        words += ["--group", settings.group] if settings.group else []
        words += ["--track", settings.track, *base_options(self.total_steps)]
        return [*train, *words, *contender.overrides]

    def check(self) -> None:
        """Raise ConfigError where the folder holds a run with other settings, as after a change of a preset."""
        if not self.state():
            return
        try:
            saved = json.loads((self.folder / "config.json").read_text())["config"]
            # fields added since then take their defaults
            before = _comparable(ALGORITHMS[self.contender.algorithm][0].from_json(saved))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.folder} cannot be used ({error}); remove it, or give another --runs-dir"
            ) from error
        changes = differing_values([before, self.contender.config])
        if changes:
            words = ", ".join(f"{name} was {was}, is {now}" for name, (was, now) in changes.items())
            raise ConfigError(
                f"{self.folder} was trained with other settings ({words}); remove it, or give another --runs-dir"
            )


class Process(NamedTuple):
    """The process of a running job."""

    handle: subprocess.Popen[bytes]
    log_start: int
    """Bytes of its log that earlier processes wrote."""
    started: float


def run(jobs: Sequence[Job], settings: Settings, console: Console) -> dict[Job, str]:
    """Train the jobs that are not done yet; return an error line for each failed one.

    An interrupt lets the running jobs save a checkpoint.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    waiting = deque(job for job in jobs if not job.done)
    total = len(waiting)
    if total < len(jobs):
        print_line(console, f"{len(jobs) - total} of {len(jobs)} runs are trained already")
    running: dict[Job, Process] = {}
    failed: dict[Job, str] = {}
    with _interrupt_jobs(running, console), Board(console, total) as board:
        while waiting or running:
            while waiting and len(running) < settings.parallel:
                job = waiting.popleft()
                verb = "resumes" if job.state() and job.contender.resumable else "starts"
                print_line(console, f"[{total - len(waiting)}/{total}] {job.name}: {verb}")
                running[job] = _launch(job, settings)
            for job, process in list(running.items()):
                if process.handle.poll() is None:
                    continue
                del running[job]
                seconds = time.monotonic() - process.started
                if process.handle.returncode or not job.done:
                    failed[job] = _failure(job, process)
                print_line(console, f"{job.name}: " + (
                    f"FAILED after {seconds:.1f} s: {failed[job]}" if job in failed else f"done in {seconds:.1f} s"
                ))  # fmt: skip
            watched = [Running(job.name, job.folder / "metrics.jsonl", job.total_steps) for job in running]
            board.update(watched, total - len(waiting) - len(running))
            time.sleep(0.05)
    return failed


@contextlib.contextmanager
def _interrupt_jobs(running: dict[Job, Process], console: Console) -> Iterator[None]:
    """Pass an interrupt on to the running jobs, and wait until they have saved."""
    # SIGINT too: a shell makes background processes ignore it
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
            print_line(console, "stopped; finished runs are kept, and the same command resumes the others")


def _launch(job: Job, settings: Settings) -> Process:
    """Start or resume a training; one that cannot be resumed starts anew."""
    if job.state() and not job.contender.resumable:
        clear(job.folder)
    log_start = job.log.stat().st_size if job.log.exists() else 0
    return Process(start(job.command(settings), job.log, settings.threads), log_start, time.monotonic())


def start(command: Sequence[str], log: Path, threads: int) -> subprocess.Popen[bytes]:
    """Start a process that appends its output to `log`."""
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    with open(log, "ab") as file:
        # its own session: the terminal's Ctrl-C must not reach it beside ours, for a second one keeps it from saving
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)


def clear(folder: Path) -> None:
    """Remove an interrupted run; raise ConfigError where a process is still training it."""
    held = lock(folder)
    shutil.rmtree(folder)
    held.release()


def _failure(job: Job, process: Process) -> str:
    """Return the last line that the process wrote to its log, or its exit code."""
    code = process.handle.returncode
    if code == 0:
        return f"stopped at {job.state().get('env_steps', 0):,} of {job.total_steps:,} env steps"
    with open(job.log, "rb") as file:
        file.seek(process.log_start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"exit code {code}, and nothing in {job.log}"
