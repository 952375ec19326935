"""Stable-Baselines3's agents as baselines: PPO, A2C, DQN, QR-DQN and recurrent PPO.

They play the same environments under the same protocols as our agents, and write the same run folders. Training is one
call of SB3's own `learn()` through adapters.py. It cannot be resumed: checkpoints have no replay and no
unfinished rollouts of SB3.

Source: Raffin et al. 2021, "Stable-Baselines3" (JMLR 22:268).
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.interface import Metrics, OptimizerState
from agents.learner import Learner
from agents.replay.buffer import Replay
from agents.run.machine import MachineFacts
from agents.run.run import Run
from agents.sb3.config import SB3Config, SB3DQNConfig


class StableBaseline(Learner):
    """One of SB3's agents: `act` is greedy, `train` calls SB3's `learn()`."""

    config: SB3Config
    model: Any
    resumable: ClassVar[bool] = False

    def __init__(
        self, config: TrainConfig, observation_space: spaces.Space, action_space: spaces.Space, machine: MachineFacts
    ):
        super().__init__(config, observation_space, action_space, machine)
        self.check_installed()
        from agents.sb3 import adapters

        self.adapters = adapters
        self.sb3: Any = adapters.build(
            self.config, adapters.Spaces(config.num_envs, observation_space, action_space), self.device
        )
        self.policy: Any = self.sb3.policy
        self.model = self.policy
        self.policy.set_training_mode(False)
        self.value_based = isinstance(config, SB3DQNConfig)
        lstm = getattr(self.policy, "lstm_actor", None)
        self.layers = (lstm.num_layers, lstm.hidden_size) if lstm is not None else None

    @classmethod
    def check_installed(cls) -> None:
        """Raise ConfigError with the pip line unless Stable-Baselines3 and its contrib are installed."""
        if any(importlib.util.find_spec(name) is None for name in ("stable_baselines3", "sb3_contrib")):
            raise ConfigError("no Stable-Baselines3: pip install -c constraints.txt -e '.[sb3]'")

    @property
    def carry_dim(self) -> int:
        """Width of the carry of one environment: hidden and cell states of actor and critic."""
        return 4 * self.layers[0] * self.layers[1] if self.layers else 0

    def initial_carry(self, batch: int) -> Tensor:
        """Return the zero carry of `batch` environments, [batch, C]."""
        return torch.zeros(batch, self.carry_dim, device=self.device)

    @torch.no_grad()
    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Return greedy actions, as SB3's `predict(deterministic=True)`, the new memory, and values."""
        tensors, _ = self.policy.obs_to_tensor(obs)
        if self.value_based:
            network: Any = getattr(self.policy, "q_net", None)
            q = network(tensors) if network is not None else self.policy.quantile_net(tensors).mean(dim=1)
            value, action = q.max(dim=1)
        elif self.layers is None:
            action, value, _ = self.policy(tensors, deterministic=True)
        else:
            action, value, carry = self._recurrent(tensors, first, carry)
        return action.cpu().numpy(), carry, {"value": value.flatten().cpu().numpy()}

    def _recurrent(self, tensors: Any, first: np.ndarray, carry: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the recurrent policy; `carry` [B, C] concatenates its states. Returns actions, values, carry."""
        from sb3_contrib.common.recurrent.type_aliases import RNNStates

        assert self.layers is not None
        batch, starts = len(carry), torch.as_tensor(first, dtype=torch.float32, device=self.device)
        parts = [part.contiguous() for part in carry.view(batch, 4, *self.layers).permute(1, 2, 0, 3)]
        states = RNNStates((parts[0], parts[1]), (parts[2], parts[3]))
        action, value, _, after = self.policy(tensors, states, starts, deterministic=True)
        packed = torch.stack([*after.pi, *after.vf]).permute(2, 0, 1, 3)
        return action, value, packed.reshape(batch, self.carry_dim)

    def update(self, batch: Any, rng: torch.Generator) -> tuple[Metrics, Tensor | None]:
        """Raise TypeError: SB3 collects and learns in `train`."""
        raise TypeError("Stable-Baselines3's agents learn in train() only")

    def train(self, envs: Any, run: Run, replay: Replay | None = None) -> None:
        """Call SB3's `learn()` until the run is over; `replay` is unused, since SB3 has its own."""
        for segment in run.segments():
            vector = self.adapters.Vector(envs, self.config, segment.seeds, run.count, run.clock.record_time)
            self.sb3.set_env(vector)
            self.sb3.set_random_seed(segment.seed)
            progress = self.adapters.Progress(run, segment, self)
            self.sb3.learn(self.config.total_steps, callback=progress, log_interval=None)
            self.policy.set_training_mode(False)
            run.checkpoint(self, segment)

    def measure_speed(self, envs: Any) -> float:
        """Return env steps per second of a copy in training, measured for a moment."""
        changes: dict[str, Any] = {"learning_starts": 0, "buffer_size": 1_000} if self.value_based else {}
        vector = self.adapters.Vector(envs, self.config, range(envs.num_envs))
        trial: Any = self.adapters.build(self.config, vector, self.device, **changes)
        freq = self.config.train_freq if isinstance(self.config, SB3DQNConfig) else self.config.rows_in_memory
        steps = max(freq, 64 // freq * freq) * envs.num_envs
        begin = time.perf_counter()
        trial.learn(steps, log_interval=None)
        return steps / (time.perf_counter() - begin)

    def optimizer_state(self) -> OptimizerState:
        """Return no tensors: the training cannot be resumed."""
        return {"tensors": {}, "updates": 0}

    def load_optimizer_state(self, state: OptimizerState) -> None:
        """Do nothing: the optimizer is not saved."""
