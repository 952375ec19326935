"""Options and settings shared by the experiments that train; they import no torch, so that `--help` is quick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from agents.errors import ConfigError
from agents.run.tracking import TrackMode
from scripts.runner.files import RUNS, check_folder

BENCH = RUNS / "bench"
SUITE_FIELDS = ("env", "seed", "total_steps", "threads")
"""Fields of a training that an experiment sets from its own options."""


@dataclass(frozen=True)
class Settings:
    """Games, seeds, budget and places of an experiment's trainings."""

    envs: tuple[str, ...]
    seeds: range
    total_steps: int | None
    """Env steps of each run; None takes the preset's, for listings that train nothing."""
    preset: str | None = None
    overrides: tuple[str, ...] = ()
    """Options of train.py that every run gets."""
    parallel: int = 1
    threads: int = 0
    """Threads of each run; 0 leaves the choice to train.py."""
    folder: Path = BENCH
    episodes: int = 30
    """Evaluation games of each run; 0 for none."""
    out: Path | None = None
    track: TrackMode = "disabled"
    group: str | None = None
    """W&B group; None for <algo>__<env>."""

    def __post_init__(self) -> None:
        limits = {"--seeds": (len(self.seeds), 1), "--first-seed": (self.seeds.start, 0), "--jobs": (self.parallel, 1),
                  "--threads": (self.threads, 0), "--eval-episodes": (self.episodes, 0)}  # fmt: skip
        if self.total_steps is not None:
            limits["--total-steps"] = self.total_steps, 1
        for name, (value, minimum) in limits.items():
            if value < minimum:
                raise ConfigError(f"{name} must be at least {minimum}, not {value}")
        check_overrides(self.overrides)
        check_folder(self.folder, "--runs-dir")
        check_out(self.out)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Options of everything that trains: processes, folders, tracking and evaluation."""

    jobs: Annotated[int, arg(metavar="J")] = 1
    """Runs side by side."""
    threads: Annotated[int | None, arg(metavar="T", help_behavior_hint="(default: 1 with several jobs)")] = None
    """Threads of each run."""
    runs_dir: Annotated[Path, arg(metavar="DIR", help_behavior_hint="(default: runs/bench)")] = BENCH
    """Parent of the run folders."""
    track: TrackMode = "disabled"
    """Weights & Biases, as for train.py."""
    group: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: ALGO__ENV)")] = None
    """W&B group of the runs."""
    eval_episodes: Annotated[int, arg(metavar="N")] = 30
    """Games that evaluate each run after training."""

    def make_settings(
        self, envs: Sequence[str], seeds: range, total_steps: int | None, *, preset: str | None = None,
        overrides: Sequence[str] = (), out: Path | None = None,
    ) -> Settings:  # fmt: skip
        """Return the settings of an experiment on these games; raise ConfigError for impossible ones."""
        return Settings(
            envs=tuple(dict.fromkeys(envs)), seeds=seeds, total_steps=total_steps, preset=preset,
            overrides=tuple(overrides), parallel=self.jobs,
            threads=int(self.jobs > 1) if self.threads is None else self.threads, folder=self.runs_dir,
            episodes=self.eval_episodes, out=out, track=self.track, group=self.group,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(JobOptions):
    """Options of experiments that train each contender with several seeds."""

    seeds: Annotated[int, arg(metavar="N")] = 3
    """Runs of each contender."""
    first_seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the first run; the others count up from it."""

    @property
    def seed_range(self) -> range:
        """The seeds of each contender."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(TrainingOptions):
    """Options of experiments whose budget and preset come from the command line."""

    total_steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(required)")] = None
    """Env steps of each run."""
    preset: Annotated[str | None, arg(metavar="P", help_behavior_hint="(default: the game family's)")] = None
    """Preset, as for train.py."""
    out: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None
    """Write all numbers to this JSON file."""

    def settings(self, envs: Sequence[str], overrides: Sequence[str], may_lack_budget: bool = False) -> Settings:
        """Return the settings of an experiment on these games; raise ConfigError where the budget is missing."""
        if self.total_steps is None and not may_lack_budget:
            raise ConfigError("say how long to train: --total-steps N")
        return self.make_settings(
            envs, self.seed_range, self.total_steps, preset=self.preset, overrides=overrides, out=self.out
        )


@dataclass(frozen=True, kw_only=True)
class TurnOptions:
    """Options of measurements in turns."""

    repeats: Annotated[int, arg(metavar="N")] = 5
    """Turns of each contender."""
    seconds: Annotated[float, arg(metavar="S")] = 3.0
    """Length of a turn."""
    out: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None
    """Write all numbers to this JSON file."""

    def check(self) -> None:
        """Raise ConfigError for impossible options."""
        if self.repeats < 1 or self.seconds <= 0:
            raise ConfigError("--repeats must be at least 1 and --seconds above 0")
        check_out(self.out)


def check_overrides(words: Sequence[str]) -> None:
    """Raise ConfigError where options of train.py set a field that the experiment sets itself."""
    for word in words:
        name = word.split("=", 1)[0]
        if name.startswith("--") and name[2:].replace("-", "_") in SUITE_FIELDS:
            raise ConfigError(f"{name} is an option of the suite: give it before the --")


def check_out(path: Path | None) -> None:
    """Raise ConfigError unless --out can be written, before hours of training."""
    if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
        raise ConfigError(f"--out {path} is not a file in a folder that exists")
