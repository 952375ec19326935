"""DQN (Mnih et al. 2015), with double Q-learning (van Hasselt et al. 2016), n-step returns (Sutton 1988; Hessel et al.
2018), dueling heads (Wang et al. 2016) and a recurrent core (DRQN, Hausknecht & Stone 2015) as fields.

Differs from the paper: Adam instead of RMSProp, several environments side by side, and schedules in env steps.
The published agent scores 18.9 on Pong and 401 on Breakout after 200M frames (no sticky actions).

    python scripts/train.py dqn --env CartPole-v1
    python scripts/train.py dqn --env ALE/Pong-v5 --double --n-step 3
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.config import TrainConfig
from agents.exploration import epsilon_greedy, linear_schedule
from agents.interface import Sequences, Transitions
from agents.learner import Learner
from agents.losses import huber, masked_mean, td_target
from agents.replay.ring import ReplayLayout
from networks.heads import QHead


@dataclass(frozen=True)
class DQNConfig(TrainConfig):
    """Settings of DQN and its switches."""

    learning_rate: float = 1e-4
    """Adam's step size."""
    adam_epsilon: float = 1e-8
    """Adam's epsilon."""
    batch_size: int = 32
    """Transitions, or sequences, in a minibatch."""
    replay_capacity: int = 1_000_000
    """Env steps that the replay holds."""
    learning_starts: int = 20_000
    """Env steps before the first update."""
    replay_ratio: float = 0.25
    """Gradient updates per env step."""
    target_period: int = 1000
    """Updates between copies of the online network to the target network."""
    double: bool = False
    """Let the online network choose the action that the target network values."""
    dueling: bool = False
    """Split the head into a value and advantages."""
    n_step: int = 1
    """Rewards summed before bootstrapping."""
    sequence_length: int = 1
    """Rows in a sample; a recurrent core wants 8 or more."""
    epsilon_start: float = 1.0
    """Chance of a random action at the start."""
    epsilon_end: float = 0.01
    """Chance of a random action once explored."""
    epsilon_steps: int = 100_000
    """Env steps from the one to the other."""
    eval_epsilon: float = 0.001
    """Chance of a random action when judged."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this norm."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        positive = ("learning_rate", "adam_epsilon", "batch_size", "replay_ratio", "target_period", "n_step",
                    "sequence_length", "epsilon_steps", "max_grad_norm", "replay_capacity")  # fmt: skip
        for name in positive:
            self.require(getattr(self, name) > 0, name, "must be above 0")
        for name in ("epsilon_start", "epsilon_end", "eval_epsilon"):
            self.require(0.0 <= getattr(self, name) <= 1.0, name, "must lie in 0 to 1")
        recurrent = self.core != "none"
        self.require(not recurrent or self.sequence_length > 1, "sequence_length", "must be above 1 with a memory")
        self.require(recurrent or self.sequence_length == 1, "sequence_length", "must be 1 without a memory (--core)")
        least = self.num_envs * (self.n_step + self.sequence_length)
        self.require(self.learning_starts >= least, "learning_starts", f"must be at least {least}, for one sample")

    def layout(self, observation_space: spaces.Space, frame_stack: int, carry_dim: int) -> ReplayLayout:
        """Return the replay that these settings need."""
        return ReplayLayout(
            observation_space, self.num_envs, self.replay_capacity, self.n_step, self.gamma, frame_stack,
            self.sequence_length, carry_dim,
        )  # fmt: skip


class DQN(Learner):
    """Deep Q-network."""

    config: DQNConfig

    def __init__(
        self, config: DQNConfig, observation_space: spaces.Space, action_space: spaces.Space, machine: dict[str, Any]
    ):
        super().__init__(config, observation_space, action_space, machine)
        torso = self.build_torso(nn.ReLU)
        self.model = self.place(self.assemble(torso, lambda width: QHead(width, self.num_actions, config.dueling)))
        self.target = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = self.make_optimizer(config.learning_rate, config.adam_epsilon)

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the online and the target network."""
        return {"model": self.model, "target": self.target}

    def epsilon(self, env_steps: int | None) -> float:
        """Return the chance of a random action; None is for being judged."""
        if env_steps is None:
            return self.config.eval_epsilon
        return linear_schedule(self.config.epsilon_start, self.config.epsilon_end, self.config.epsilon_steps, env_steps)

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Choose epsilon-greedily; extras: `value`, the greedy action value [N]."""
        output, carry = self.forward(obs, first, carry)
        action = epsilon_greedy(output.q, self.epsilon(env_steps), rng)
        return action.cpu().numpy(), carry, {"value": output.q.amax(dim=1).cpu().numpy()}

    def update(self, batch: Transitions | Sequences, rng: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Take one gradient step; return metrics and the absolute TD error of each sample [B]."""
        loss, error, q = self.td_loss(batch)
        self.optimizer.zero_grad()
        total = (loss * batch.weight).mean()
        total.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.updates += 1
        if self.updates % self.config.target_period == 0:
            self.target.load_state_dict(self.model.state_dict())
        metrics = {"train/loss": total.detach(), "train/q_mean": q.mean(), "train/grad_norm": grad_norm}
        return metrics, error

    def td_loss(self, batch: Transitions | Sequences) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss [B] with gradient, and without it |TD error| [B] and the values of the actions taken."""
        if isinstance(batch, Sequences):
            return self._sequence_loss(batch)
        carry, first = self.model.initial_carry(len(batch.action)), torch.zeros_like(batch.action, dtype=torch.bool)
        q = self.model(batch.obs, carry, first)[0].q.gather(1, batch.action[:, None]).squeeze(1)
        with torch.no_grad():
            next_q = self.target(batch.next_obs, carry, first)[0].q
            selecting = self.model(batch.next_obs, carry, first)[0].q if self.config.double else next_q
        error = q - td_target(batch.reward, batch.discount, next_q, selecting)
        return huber(error), error.detach().abs(), q.detach()

    def _sequence_loss(self, batch: Sequences) -> tuple[Tensor, Tensor, Tensor]:
        """The same over [L, B] rows: both networks unroll once from the stored carry; targets are picked from that."""
        length = len(batch.action)
        all_q = self.model(batch.obs, batch.carry, batch.first)[0].q  # [L + n, B, A]
        with torch.no_grad():
            target_q = self.target(batch.obs, batch.carry, batch.first)[0].q
        rows = batch.bootstrap[..., None].expand(-1, -1, all_q.shape[-1])
        next_q = target_q.gather(0, rows)
        selecting = all_q.detach().gather(0, rows) if self.config.double else next_q
        q = all_q[:length].gather(2, batch.action[..., None]).squeeze(2)
        error = q - td_target(batch.reward, batch.discount, next_q, selecting)
        samples = batch.mask.sum(dim=0).clamp(min=1.0)
        loss = (huber(error) * batch.mask).sum(dim=0) / samples
        return loss, (error.detach().abs() * batch.mask).sum(dim=0) / samples, masked_mean(q.detach(), batch.mask)
