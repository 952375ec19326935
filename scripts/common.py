"""What the scripts share: from a run's config to environments and agent, and errors that a person can use."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import yaml
from gymnasium import spaces
from safetensors import SafetensorError

from agents import build, checkpoint, machine, provenance
from agents.config import ConfigError, TrainConfig
from agents.evaluate import evaluate
from agents.learner import Learner
from agents.presets import ALGORITHMS
from agents.run import RunError
from agents.statistics import human_normalized
from envs.make import EnvError, make_envs, resolve_protocol
from envs.recording import RecordingError
from envs.replays import RecordEpisodes
from envs.wrappers import ObserveLast, ObserveMask
from scripts import channels, cli, encoding, sensing

USER_ERRORS = (ConfigError, EnvError, checkpoint.CheckpointError, SafetensorError, ValueError)
EVAL_ENVS = 8


class Saved(NamedTuple):
    """A run read back from its folder."""

    folder: Path
    record: dict[str, Any]
    """config.json"""
    config: TrainConfig
    agent: Learner
    checkpoint: Path
    state: dict[str, Any]


def guarded(main: Callable[[], None]) -> None:
    """Run a script that trains, plays or judges; every failure is one line."""
    cli.guarded(main, USER_ERRORS, (RunError, RecordingError))


def environments(config: TrainConfig, num_envs: int, threads: int = 0, said: str | None = None) -> RecordEpisodes:
    """Make the environments that a config describes; `said` is a mission in the place of the game's."""
    protocol = resolve_protocol(config.env, config.protocol, config.image_size)
    envs = make_envs(config.env, num_envs, protocol, config.env_kwargs, threads)
    if config.observe_last and not isinstance(envs.single_action_space, spaces.Discrete):
        raise ConfigError(f"--observe-last shows numbered actions only; {config.env} has {envs.single_action_space}")
    wrapped: Any = sensing.repaired(envs, config)
    wrapped = encoding.freeze(channels.channel(wrapped, config, said), config)
    wrapped = ObserveLast(wrapped) if config.observe_last else wrapped
    return cast(RecordEpisodes, ObserveMask(wrapped) if config.mask_actions else wrapped)  # which have its attributes


def read_record(folder: Path) -> dict[str, Any]:
    """Read a run folder's config.json, or raise ConfigError in words."""
    try:
        record = json.loads((folder / "config.json").read_text())
        sealed = checkpoint.seal_holds(record)
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
    return encoding.kept(ALGORITHMS[record["algo"]][0].from_json(record["config"]), folder)


def load_run(folder: Path, which: str = "latest", envs: RecordEpisodes | None = None) -> Saved:
    """Rebuild a run's agent from a checkpoint; `envs` are made from the config unless they are given."""
    record = read_record(folder)
    config = config_of(folder, record)
    own = envs or environments(config, 1)
    if own.card["fingerprint"] != record["card"]["fingerprint"]:
        raise ConfigError(f"{folder} was made under another protocol: its config.json was changed")
    agent = build.build_agent(record["algo"], config, own, machine.here(record["machine_facts"]))
    if envs is None:
        own.close()
    path = checkpoint.resolve(folder / "checkpoints", which)
    return Saved(folder, record, config, agent, path, checkpoint.load_agent(path, agent))


def judge(agent: Learner, config: TrainConfig, episodes: int, seed: int) -> dict[str, Any]:
    """Evaluate under the config's own protocol, on environments of its own."""
    envs = environments(config, min(EVAL_ENVS, episodes))
    if envs.single_observation_space != agent.observation_space:
        envs.close()
        raise ConfigError(f"the agent reads {agent.observation_space}, and is given {envs.single_observation_space}")
    try:
        return evaluate(agent, envs, episodes, seed)
    finally:
        envs.close()


def keep_games(saved: Saved, kind: str, result: dict[str, Any]) -> None:
    """Add the games of an `evaluate` to the run's replays, unless they were of another game than it was trained on.

    Where that cannot be written, the verdict still counts.
    """
    if result["fingerprint"] != saved.record["card"]["fingerprint"]:
        return
    facts = {"kind": kind, "env_steps": saved.state["env_steps"], "weights_sha256": result["weights_sha256"]}
    try:
        with open(saved.folder / "replays" / f"{kind}.jsonl", "a") as file:
            file.writelines(record.to_json(**facts) + "\n" for record in result["records"])
    except OSError as error:
        warnings.warn(f"the games were not kept: {error}", stacklevel=2)


def verdict(result: dict[str, Any], saved: Saved) -> dict[str, Any]:
    """Return what `evaluate.py` prints as JSON."""
    return {
        "return_mean": result["return_mean"],
        "return_std": result["return_std"],
        "episodes": result["episodes"],
        "human_normalized": human_normalized(saved.config.env, result["return_mean"]),
        "fingerprint": result["fingerprint"],
        "weights_sha256": result["weights_sha256"],
        "env_steps": saved.state["env_steps"],
        "length_mean": result["length_mean"],
    }


def record(algorithm: str, config: TrainConfig, envs: RecordEpisodes, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a run writes into config.json before it starts."""
    return {
        "algo": algorithm,
        "env_id": config.env,
        "seed": config.seed,
        "config": asdict(config),
        "card": envs.card,
        "spaces": {"observation": str(envs.single_observation_space), "action": str(envs.single_action_space)},
        "machine_facts": facts,
        **origin(),
    }


def origin() -> dict[str, Any]:
    """Return where measured numbers come from: machine, versions, commit and command."""
    return {"machine": machine.facts(), "versions": machine.versions(), **provenance.describe()}


def read_yaml(path: Path) -> Any:
    """Return a YAML file's content, or raise ConfigError in words."""
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(values, indent=1) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def judging_seed(seed: int = 0) -> int:
    """Return the seed of judged games, apart from those of training, which come out of a SeedSequence."""
    return seed_of(seed, 0xE7A1)


def seed_of(*numbers: int) -> int:
    """Return one seed made from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] & 0x7FFFFFFF)
