"""Train an agent on a bare vector of environments, and act with it: no envs.make, no files to keep."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import torch

from agents.build import build_agent, build_replay, replay_layout
from agents.config import TrainConfig
from agents.interface import Rollout, Sequences, Transitions
from agents.learner import Learner
from agents.loops import RolloutCollector, interact, learning_view
from agents.off_policy import ReplayLearner
from agents.run.run import Run
from agents.value.dqn import DQN, Outputs
from tests.machine import CPU


def train(algorithm: str, config: TrainConfig, envs: gym.vector.VectorEnv, folder: Path) -> tuple[Learner, Run]:
    """Train to the end; return the agent and its run."""
    agent = build_agent(algorithm, config, envs, CPU)
    return agent, fit(agent, envs, folder)


def fit(agent: Learner, envs: gym.vector.VectorEnv, folder: Path) -> Run:
    """Train an agent that is there already, return its run."""
    run = Run(folder, agent.config)
    layout = replay_layout(agent.config, envs, agent.model.carry_dim)
    agent.train(envs, run, build_replay(layout, agent.device) if layout is not None else None)
    run.close()
    return run


def collect(
    agent: Learner, envs: gym.vector.VectorEnv, env_steps: int = 0, skip: int = 3, rows: int | None = None
) -> Rollout:
    """Collect a rollout as the loop does, after `skip` rows: it begins in the middle of episodes."""
    config: Any = agent.config
    played = interact(agent, envs, range(envs.num_envs), torch.Generator().manual_seed(2), 0)
    collector = RolloutCollector(config.rollout_length, agent.device)
    for row in islice(played, skip, skip + (rows or config.rollout_length)):
        collector.add(learning_view(row, config.clip_rewards, config.life_loss_ends))
    return collector.rollout(env_steps)


def mean_return(agent: Learner, envs: gym.vector.VectorEnv, episodes: int = 50) -> float:
    """Play until `episodes` have ended; return their mean return."""
    rng = torch.Generator().manual_seed(7)
    running, finished = np.zeros(envs.num_envs), []
    for row in interact(agent, envs, [1000 + k for k in range(envs.num_envs)], rng):
        running = np.where(row.first, 0.0, running) + row.reward
        finished += running[row.terminated | row.truncated].tolist()
        if len(finished) >= episodes:
            return float(np.mean(finished))
    raise AssertionError


class _Captured(Exception):
    """Ends an update at its loss."""


def outputs(agent: ReplayLearner, batch: Transitions | Sequences, rng: torch.Generator | None) -> Outputs:
    """Return the network outputs that `agent.update` passes to its loss; nothing is learned."""
    captured: list[Outputs] = []

    def loss(batch: Any, out: Outputs) -> Any:
        captured.append(out)
        raise _Captured

    with mock.patch.object(agent, "td_loss" if isinstance(agent, DQN) else "critic_loss", loss), suppress(_Captured):
        agent.update(batch, rng)  # type: ignore[arg-type]
    agent.model.eval()
    return captured[0]
