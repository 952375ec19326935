"""PQN (Gallici et al. 2024): Q-learning from rollouts, without replay or target network. Layer normalisation and many
environments keep it stable, lambda-returns (Peng & Williams 1996) propagate rewards.

Differences from the authors' code: rows that only reset are masked out, truncation bootstraps. As in theirs, the values
in lambda-returns were computed when acting; with a core, sequences start from the carry stored then, and their first
rows may be left out of the loss (burn-in). Published: Atari-57 median 245 % human-normalised after 400M frames (no
sticky actions); CartPole 495 within 500k steps (CleanRL).

    python scripts/train.py pqn --env CartPole-v1
    python scripts/train.py pqn --env ALE/Pong-v5
    python scripts/train.py pqn --env joypad/MemoryChain-v0 --core gru
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.config import RolloutConfig
from agents.exploration import epsilon_greedy, linear_schedule
from agents.interface import Metrics, Rollout
from agents.losses import masked_mean
from agents.on_policy import RolloutLearner
from agents.run.machine import MachineFacts
from agents.settings import OptimizerName
from networks.heads.q_values import QHead, QOutput
from networks.model import he_init


@dataclass(frozen=True)
class PQNConfig(RolloutConfig):
    """Settings of PQN."""

    optimizer: OptimizerName = "radam"
    """adam, radam (rectified) or rmsprop."""
    optimizer_epsilon: float = 1e-8
    """Added to the denominator of each step, for numerical stability."""
    q_lambda: float = 0.65
    """Decay of later steps in the lambda-return."""
    layer_norm: bool = True
    """Layer normalisation after every layer of the torso."""
    dueling: bool = False
    """Split the head into a state value and advantages."""
    burn_in: int = 0
    """First rows of each sequence, which only refresh the memory; for a recurrent core."""
    epsilon_start: float = 1.0
    """Probability of a random action at the start."""
    epsilon_end: float = 0.01
    """Probability of a random action after the decay."""
    epsilon_fraction: float = 0.1
    """Fraction of total_steps over which epsilon decays."""
    eval_epsilon: float = 0.001
    """Probability of a random action in evaluation."""
    max_grad_norm: float = 10.0
    """Gradients of a larger norm are scaled down to it."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("q_lambda", "epsilon_start", "epsilon_end", "epsilon_fraction", "eval_epsilon"):
            self.require(0.0 <= getattr(self, name) <= 1.0, name, "must lie in 0 to 1")
        fits = 0 <= self.burn_in < max(self.sequence_length, 1)
        self.require(self.core != "none" or self.burn_in == 0, "burn_in", "must be 0 without a memory (--core)")
        self.require(fits, "burn_in", f"must lie in 0 to {self.sequence_length - 1}, below the sequence length")

    def epsilon(self, env_steps: int | None) -> float:
        """Return the probability of a random action; None means evaluation."""
        if env_steps is None:
            return self.eval_epsilon
        return linear_schedule(
            self.epsilon_start, self.epsilon_end, self.epsilon_fraction * self.total_steps, env_steps
        )

    def schedule_line(self) -> str:
        """Return exploration and learning rate, for the pre-flight."""
        return f"epsilon {self.epsilon_start:g} to {self.epsilon_end:g}, {super().schedule_line()}"


class PQN(RolloutLearner):
    """Parallelised Q-network."""

    config: PQNConfig

    def __init__(
        self, config: PQNConfig, observation_space: spaces.Space, action_space: spaces.Space, machine: MachineFacts
    ):
        super().__init__(config, observation_space, action_space, machine)
        torso = self.build_torso(nn.ReLU, layer_norm=config.layer_norm)
        model = self.assemble(torso, lambda width: QHead(width, self.num_actions, dueling=config.dueling))
        he_init(model)
        self.model = self.place(model)
        self.optimizer = self.make_optimizer(config)

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Act epsilon-greedily; extras: `value`, the greedy action value [N]."""
        output, carry = self.forward(obs, first, carry)
        action = epsilon_greedy(output.q, self.config.epsilon(env_steps), rng)
        return action.cpu().numpy(), carry, {"value": self.value(output).cpu().numpy()}

    def value(self, output: QOutput) -> Tensor:
        """Return the greedy action value [...]."""
        return output.q.amax(dim=-1)

    def prepare(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return the lambda-returns R = r + discount * (lambda * R' + (1 - lambda) * max Q'), [T, N]."""
        return {"target": rollout.extras["value"] + self.advantage(rollout, self.config.q_lambda)}

    def loss(self, output: QOutput, batch: dict[str, Any], progress: float) -> tuple[Tensor, Metrics]:
        """Return half the squared error of the values of the actions taken."""
        q = output.q.gather(-1, batch["action"].long()[..., None]).squeeze(-1)
        mask = batch["mask"].clone()
        mask[: self.config.burn_in] = 0.0
        loss = masked_mean(0.5 * (q - batch["target"]) ** 2, mask)
        return loss, {"train/q_mean": masked_mean(q.detach(), mask)}
