"""Base of the agents with a replay: an online network, and a target network that is copied from it periodically.

The updates themselves are in value/dqn.py and policy/sac.py.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping

import gymnasium as gym
from gymnasium import spaces
from torch import nn

from agents.augment import SMALLEST, can_shift
from agents.config import ReplayConfig
from agents.errors import ConfigError
from agents.learner import Learner
from agents.loops import train_off_policy
from agents.replay.buffer import Replay
from agents.run.machine import MachineFacts
from agents.run.run import Run
from networks.model import Network
from networks.observation_spaces import parts_of


class ReplayLearner(Learner):
    """Learns from minibatches of transitions or sequences, with a target network."""

    config: ReplayConfig

    def __init__(
        self, config: ReplayConfig, observation_space: spaces.Space, action_space: spaces.Space, machine: MachineFacts
    ):
        super().__init__(config, observation_space, action_space, machine)
        if config.augment and not any(can_shift(part.shape or ()) for part in parts_of(observation_space)):
            raise ConfigError(f"--augment shifts images by 4 pixels and needs at least {SMALLEST} pixels a side")
        self.model = self.place(self.build())
        # placed again: deepcopy splits the block of memory in which cuDNN needs all recurrent weights
        self.target = self.place(copy.deepcopy(self.target_source)).requires_grad_(False)
        self.optimizer = self.make_optimizer(config)

    @abstractmethod
    def build(self) -> Network:
        """Return the online network."""

    @property
    def target_source(self) -> Network:
        """Network that the target network copies; as a part of the model, its state comes first in the carry."""
        return self.model

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the online and the target network."""
        return {"model": self.model, "target": self.target}

    def train(self, envs: gym.vector.VectorEnv, run: Run, replay: Replay | None) -> None:
        """Play and learn from `replay` until the run is over."""
        assert replay is not None
        train_off_policy(self, envs, replay, run, self.config)
