"""Evaluate an agent: full games, raw scores."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch

from agents.interface import EpisodeRecord, GameSpec
from agents.learner import Learner
from agents.loops import interact
from agents.run.checkpoint import weights_sha256

STUCK_STEPS = 200_000
"""Steps of one episode after which the evaluation gives up: the game never ends."""


@dataclass(frozen=True)
class Evaluation:
    """The games that one agent played, in the order (game of that environment, environment)."""

    records: list[EpisodeRecord]
    """The record of each game."""
    values: list[list[float]]
    """The agent's value of the observation at each step of each game."""
    weights_sha256: str
    """Hash of the weights that played."""
    fingerprint: str | None
    """Fingerprint of the game; None for environments without a `GameSpec`."""

    @property
    def episodes(self) -> int:
        """Number of games."""
        return len(self.records)

    @property
    def returns(self) -> list[float]:
        """Undiscounted sum of raw rewards of each game."""
        return [record.episode_return for record in self.records]

    @property
    def return_mean(self) -> float:
        """Mean of the returns."""
        return float(np.mean(self.returns))

    @property
    def return_std(self) -> float:
        """Standard deviation of the returns."""
        return float(np.std(self.returns))

    @property
    def length_mean(self) -> float:
        """Mean number of agent steps of a game."""
        return float(np.mean([record.length for record in self.records]))


def evaluate(agent: Learner, envs: gym.vector.VectorEnv, episodes: int, seed: int) -> Evaluation:
    """Play `episodes` full games, shared evenly among the environments (the first ones play the remainder).

    The first games of each environment count, whatever their length: no bias towards short ones. Raises ValueError
    for an episode that does not end.
    """
    quota = np.full(envs.num_envs, episodes // envs.num_envs)
    quota[: episodes % envs.num_envs] += 1
    rng = torch.Generator(agent.device).manual_seed(seed)
    records: list[tuple[int, int, EpisodeRecord, list[float]]] = []
    played, length = np.zeros(envs.num_envs, int), np.zeros(envs.num_envs, int)
    values: list[list[float]] = [[] for _ in range(envs.num_envs)]
    for row in interact(agent, envs, [seed + k for k in range(envs.num_envs)], rng):
        length = np.where(row.first, 1, length + 1)
        for k in np.flatnonzero(~row.dead & (played < quota)):
            values[k].append(float(row.extras["value"][k]))
        for record in row.next_info.get("episodes", ()):
            k = record.env
            if played[k] < quota[k]:
                records.append((int(played[k]), k, record, values[k]))
                played[k] += 1
            values[k] = []
        if (played >= quota).all():
            break
        if length[played < quota].max() > STUCK_STEPS:
            raise ValueError(
                f"an episode has not ended after {STUCK_STEPS:,} steps; this environment needs a time limit"
            )
    records.sort(key=lambda entry: entry[:2])
    game: GameSpec | None = getattr(envs, "game", None)
    return Evaluation(
        records=[record for _, _, record, _ in records],
        values=[values for *_, values in records],
        weights_sha256=weights_sha256(agent),
        fingerprint=game.fingerprint if game is not None else None,
    )
