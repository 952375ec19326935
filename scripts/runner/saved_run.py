"""Saved runs: write the record of a run, and rebuild its agent from a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from agents import build
from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.learner import Learner
from agents.presets.registry import ALGORITHMS
from agents.run import checkpoint, machine, provenance
from agents.run.machine import MachineFacts
from envs.action_replays import RecordEpisodes
from scripts.runner import encoders
from scripts.runner.environments import environments


class SavedRun(NamedTuple):
    """A run read back from its folder."""

    folder: Path
    record: dict[str, Any]
    """config.json"""
    config: TrainConfig
    agent: Learner
    checkpoint: Path
    state: dict[str, Any]


def read_record(folder: Path) -> dict[str, Any]:
    """Read a run folder's config.json, or raise ConfigError in words."""
    try:
        record = json.loads((folder / "config.json").read_text())
        sealed = checkpoint.digest_matches(record)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} is not a run folder: it has no config.json") from error
    except (ValueError, AttributeError, OSError) as error:
        raise ConfigError(f"{folder}/config.json cannot be read ({error}); the run cannot be used") from error
    if not sealed:
        raise ConfigError(f"{folder}/config.json was changed after it was written; restore it, or train a new run")
    if record["algo"] not in ALGORITHMS:
        raise ConfigError(f"{folder} was made by the algorithm {record['algo']}, which this version does not have")
    return record


def config_of(folder: Path, record: dict[str, Any]) -> TrainConfig:
    """Return a run's config, with the encoders that lie in its folder."""
    return encoders.kept(ALGORITHMS[record["algo"]][0].from_json(record["config"]), folder)


def load_run(folder: Path, which: str = "latest", envs: RecordEpisodes | None = None) -> SavedRun:
    """Rebuild a run's agent from a checkpoint; `envs` are made from the config unless they are given."""
    record = read_record(folder)
    config = config_of(folder, record)
    own = envs or environments(config, 1)
    if own.game.fingerprint != record["card"]["fingerprint"]:
        raise ConfigError(f"{folder} was made under another protocol: its config.json was changed")
    agent = build.build_agent(record["algo"], config, own, machine.available(MachineFacts(**record["machine_facts"])))
    if envs is None:
        own.close()
    path = checkpoint.resolve(folder / "checkpoints", which)
    return SavedRun(folder, record, config, agent, path, checkpoint.load_agent(path, agent))


def run_record(algorithm: str, config: TrainConfig, envs: RecordEpisodes, facts: MachineFacts) -> dict[str, Any]:
    """Return what a run writes into config.json before it starts."""
    return {
        "algo": algorithm,
        "env_id": config.env,
        "seed": config.seed,
        "config": asdict(config),
        "card": envs.game.to_json(),
        "spaces": {"observation": str(envs.single_observation_space), "action": str(envs.single_action_space)},
        "machine_facts": asdict(facts),
        **origin(),
    }


def origin() -> dict[str, Any]:
    """Return where measured numbers come from: machine, versions, commit and command."""
    return {"machine": machine.hardware(), "versions": machine.versions(), **provenance.describe()}
