"""Evaluation of a run's agent under its own protocol; the games played are added to the run."""

from __future__ import annotations

import warnings
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import numpy as np

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.evaluate import Evaluation, evaluate
from agents.learner import Learner
from scripts.report.published_scores import human_normalized
from scripts.runner.environments import environments
from scripts.runner.saved_run import SavedRun

EVAL_ENVS = 8
"""Environments stepped side by side in an evaluation."""


def evaluate_agent(agent: Learner, config: TrainConfig, episodes: int, seed: int) -> Evaluation:
    """Play `episodes` full games on new environments; raise ConfigError if these have another observation space."""
    envs = environments(config, min(EVAL_ENVS, episodes))
    if envs.single_observation_space != agent.observation_space:
        envs.close()
        raise ConfigError(
            f"the agent observes {agent.observation_space}, the game shows {envs.single_observation_space}"
        )
    try:
        return evaluate(agent, envs, episodes, seed)
    finally:
        envs.close()


def save_episodes(saved: SavedRun, kind: str, result: Evaluation, played: TrainConfig | None = None) -> None:
    """Append the games of an evaluation to the run's replays/<kind>.jsonl, unless their fingerprint is not the run's.

    `played` are the settings of the games, where they may differ from the run's. A failure to write is a warning: the
    result counts all the same.
    """
    if result.fingerprint != saved.record.fingerprint:
        return
    now = datetime.now(UTC).isoformat(sep=" ", timespec="milliseconds")
    facts = {
        "kind": kind, "env_steps": saved.state["env_steps"], "weights_sha256": result.weights_sha256,
        "evaluated": now, "changes": _changes(saved.config, played or saved.config),
    }  # fmt: skip
    try:
        with open(saved.folder / "replays" / f"{kind}.jsonl", "a") as file:
            file.writelines(record.to_json(**facts) + "\n" for record in result.records)
    except OSError as error:
        warnings.warn(f"the games were not saved: {error}", stacklevel=2)


def _changes(own: TrainConfig, played: TrainConfig) -> str:
    """Return the settings in which the games differ from the run's own, as words."""
    pairs = ((each.name, getattr(own, each.name), getattr(played, each.name)) for each in fields(own))
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, before, value in pairs if value != before)


def summary(result: Evaluation, saved: SavedRun) -> dict[str, Any]:
    """Return the JSON line of `evaluate.py`."""
    return {
        "return_mean": result.return_mean,
        "return_std": result.return_std,
        "episodes": result.episodes,
        "human_normalized": human_normalized(saved.config.env, result.return_mean),
        "fingerprint": result.fingerprint,
        "weights_sha256": result.weights_sha256,
        "env_steps": saved.state["env_steps"],
        "length_mean": result.length_mean,
    }


def evaluation_seed(seed: int = 0) -> int:
    """Return the seed of evaluation games; training seeds come from a SeedSequence and differ from it."""
    return seed_of(seed, 0xE7A1)


def seed_of(*numbers: int) -> int:
    """Combine several numbers into one seed below 2^31."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] & 0x7FFFFFFF)
