"""Train an agent on a bare vector of environments, and play with it: without envs.make, without files that matter."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

from agents.build import build_agent, build_replay, replay_layout
from agents.config import TrainConfig
from agents.learner import Learner
from agents.loops import interact, train_off_policy, train_on_policy
from agents.run import Run
from tests.conftest import CPU


def train(algorithm: str, config: TrainConfig, envs: gym.vector.VectorEnv, folder: Path) -> tuple[Learner, Run]:
    """Train to the end; return the agent and its run."""
    agent = build_agent(algorithm, config, envs, CPU)
    return agent, fit(agent, envs, folder)


def fit(agent: Learner, envs: gym.vector.VectorEnv, folder: Path) -> Run:
    """Train an agent that is there already, by the loop that its config asks for; return its run."""
    run = Run(folder, agent.config)
    layout = replay_layout(agent.config, envs, agent.model.carry_dim)
    if layout is None:
        train_on_policy(agent, envs, run)
    else:
        train_off_policy(agent, envs, build_replay(layout, agent.device), run)
    run.close()
    return run


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
