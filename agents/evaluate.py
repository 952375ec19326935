"""Judge an agent: full games, raw scores, the first k of each environment so that short ones do not count more."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from agents.learner import Learner
from agents.loops import interact
from agents.run.checkpoint import weights_sha256

STUCK_STEPS = 200_000
"""Env steps of one episode after which an agent counts as stuck, in a game without an end."""


def evaluate(agent: Learner, envs: gym.vector.VectorEnv, episodes: int, seed: int) -> dict[str, Any]:
    """Play `episodes` full games; return their returns, lengths, values and action replays, and the mean and std.

    Every environment plays its share, the first ones one more where it does not divide. `records` are the finished
    episodes in the order of (game of that environment, environment), `values` the agent's value at each step of them.
    """
    wanted = np.full(envs.num_envs, episodes // envs.num_envs)
    wanted[: episodes % envs.num_envs] += 1
    rng = torch.Generator(agent.device).manual_seed(seed)
    records: list[tuple[int, int, Any, list[float]]] = []
    played, length = np.zeros(envs.num_envs, int), np.zeros(envs.num_envs, int)
    values: list[list[float]] = [[] for _ in range(envs.num_envs)]
    for row in interact(agent, envs, [seed + k for k in range(envs.num_envs)], rng):
        length = np.where(row.first, 1, length + 1)
        for k in np.flatnonzero(~row.dead & (played < wanted)):
            values[k].append(float(row.extras["value"][k]))
        for record in row.next_info.get("episodes", ()):
            k = record.env
            if played[k] < wanted[k]:
                records.append((int(played[k]), k, record, values[k]))
                played[k] += 1
            values[k] = []
        if (played >= wanted).all():
            break
        if length[played < wanted].max() > STUCK_STEPS:
            raise ValueError(
                f"an episode has not ended after {STUCK_STEPS:,} steps; this environment needs a time limit"
            )
    records.sort(key=lambda entry: entry[:2])
    returns = np.array([record.episode_return for _, _, record, _ in records])
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "episodes": len(records),
        "returns": returns.tolist(),
        "length_mean": float(np.mean([record.length for _, _, record, _ in records])),
        "weights_sha256": weights_sha256(agent),
        "fingerprint": getattr(envs, "card", {}).get("fingerprint"),
        "records": [record for _, _, record, _ in records],
        "values": [values for *_, values in records],
    }
