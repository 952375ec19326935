"""Evaluate an agent under its own protocol, and keep the games it played."""

from __future__ import annotations

import warnings
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


def judge(agent: Learner, config: TrainConfig, episodes: int, seed: int) -> Evaluation:
    """Evaluate under the config's own protocol, on environments of its own."""
    envs = environments(config, min(EVAL_ENVS, episodes))
    if envs.single_observation_space != agent.observation_space:
        envs.close()
        raise ConfigError(f"the agent reads {agent.observation_space}, and is given {envs.single_observation_space}")
    try:
        return evaluate(agent, envs, episodes, seed)
    finally:
        envs.close()


def keep_games(saved: SavedRun, kind: str, result: Evaluation) -> None:
    """Add the games of an `evaluate` to the run's replays, unless they were of another game than it was trained on.

    Where that cannot be written, the verdict still counts.
    """
    if result.fingerprint != saved.record.fingerprint:
        return
    facts = {"kind": kind, "env_steps": saved.state["env_steps"], "weights_sha256": result.weights_sha256}
    try:
        with open(saved.folder / "replays" / f"{kind}.jsonl", "a") as file:
            file.writelines(record.to_json(**facts) + "\n" for record in result.records)
    except OSError as error:
        warnings.warn(f"the games were not kept: {error}", stacklevel=2)


def summary(result: Evaluation, saved: SavedRun) -> dict[str, Any]:
    """Return what `evaluate.py` prints as JSON."""
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


def judging_seed(seed: int = 0) -> int:
    """Return the seed of judged games, apart from those of training, which come out of a SeedSequence."""
    return seed_of(seed, 0xE7A1)


def seed_of(*numbers: int) -> int:
    """Return one seed made from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] & 0x7FFFFFFF)
