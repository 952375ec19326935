"""Rebuild the agent of a run folder from one of its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from agents import build
from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.learner import Learner
from agents.run import checkpoint, machine
from envs.action_replays import RecordEpisodes
from scripts.runner.encoders import with_copied_encoders
from scripts.runner.environments import environments
from scripts.runner.run_record import RunRecord, read_record


class SavedRun(NamedTuple):
    """A run with its agent, read from its folder."""

    folder: Path
    record: RunRecord
    config: TrainConfig
    """The record's config, with the encoders in the run folder."""
    agent: Learner
    checkpoint: Path
    """Folder of the checkpoint that the agent was loaded from."""
    state: checkpoint.State
    """state.json of the checkpoint."""


def split_checkpoint(path: Path, default: str = "latest") -> tuple[Path, str]:
    """Split RUN/checkpoints/NAME into the run folder and NAME (latest, best or step_N); a run folder gets `default`."""
    if path.parent.name == "checkpoints" and not (path / "config.json").exists():
        return path.parent.parent, path.name
    return path, default


def is_run(path: Path) -> bool:
    """Whether a path is a folder, or a checkpoint in one, rather than a file of recorded games."""
    return split_checkpoint(path)[0].is_dir()


def load_run(
    folder: Path, which: str = "latest", envs: RecordEpisodes | None = None, record: RunRecord | None = None
) -> SavedRun:
    """Rebuild a run's agent from the checkpoint `which` (latest, best or step_N).

    `folder` may be RUN/checkpoints/NAME, which names the checkpoint too. `record` replaces the one in the folder;
    `envs` are environments of its config, otherwise one is made for its spaces. Raises ConfigError, EnvError or
    CheckpointError.
    """
    folder, which = split_checkpoint(folder, which)
    record = record or read_record(folder)
    config = with_copied_encoders(record.config, folder)
    own = envs or environments(config, 1)
    if own.game.fingerprint != record.fingerprint:
        raise ConfigError(f"{folder} was made under another protocol: its config.json was changed")
    agent = build.build_agent(record.algo, config, own, machine.available(record.machine_facts))
    if envs is None:
        own.close()
    path = checkpoint.resolve(folder / "checkpoints", which)
    return SavedRun(folder, record, config, agent, path, checkpoint.load_agent(path, agent))
