"""PPO (Schulman et al. 2017) with the details that its results rest on (Huang et al. 2022, "The 37 implementation
details of PPO"): orthogonal initialisation, GAE with bootstrapped time limits, advantages normalised per minibatch,
value clipping, entropy bonus, global gradient clipping, annealed learning rate; separate networks for policy and value
on vectors, a shared one on images; with a core, whole sequences from the stored carry.

Differs from the paper: 4 epochs and clip 0.1 on Atari as in its authors' code; the learning rate can instead follow the
KL divergence between old and new policy (`schedule="kl"`, as in rl_games); rows that only reset are masked out.
Published: Pong 20.7, Breakout 274 after 40M frames.

    python scripts/train.py ppo --env CartPole-v1
    python scripts/train.py ppo --env ALE/Pong-v5 --core lstm --sequence-length 32
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.config import TrainConfig
from agents.interface import Rollout
from agents.learner import Learner
from agents.losses import masked_mean, masked_normalize, masked_variance, ppo_policy_loss, ppo_value_loss
from agents.returns import gae
from networks.heads import PolicyValueHead
from networks.images import take_columns
from networks.model import map_tree, orthogonal_init
from networks.torsos import MLP, TwinTorso


@dataclass(frozen=True)
class PPOConfig(TrainConfig):
    """Settings of PPO."""

    learning_rate: float = 2.5e-4
    """Adam's step size at the start."""
    schedule: Literal["linear", "constant", "kl"] = "linear"
    """linear falls to 0 at total_steps; kl multiplies or divides by 1.5 to keep the KL divergence near target_kl."""
    target_kl: float = 0.01
    """KL divergence of one epoch that the kl schedule aims at."""
    max_learning_rate: float = 1e-2
    """Highest step size that the kl schedule may reach."""
    adam_epsilon: float = 1e-5
    """Adam's epsilon."""
    rollout_length: int = 128
    """Rows collected from each environment between updates."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Minibatches in a pass."""
    sequence_length: int = 1
    """Rows unrolled together; a recurrent core wants more, up to rollout_length. Must divide it."""
    gae_lambda: float = 0.95
    """Decay of the sum of residuals."""
    clip: float = 0.1
    """Bound on the change of an action's probability ratio."""
    clip_value: bool = True
    """Also bound the change of the value, by `clip`."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    value_coef: float = 0.5
    """Weight of the value loss, which is half the squared error."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    normalize_advantage: bool = True
    """Per minibatch."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("learning_rate", "target_kl", "adam_epsilon", "rollout_length", "epochs", "minibatches",
                     "sequence_length", "clip", "max_grad_norm"):  # fmt: skip
            self.require(getattr(self, name) > 0, name, "must be above 0")
        for name in ("entropy_coef", "value_coef"):
            self.require(getattr(self, name) >= 0, name, "must not be negative")
        self.require(0.0 <= self.gae_lambda <= 1.0, "gae_lambda", "must lie in 0 to 1")
        divides = self.rollout_length % self.sequence_length == 0
        self.require(divides, "sequence_length", f"must divide the rollout length {self.rollout_length}")
        columns = self.rollout_length * self.num_envs // self.sequence_length
        self.require(
            self.minibatches <= columns, "minibatches", f"must be at most the {columns} sequences of a rollout"
        )
        recurrent = self.core != "none"
        self.require(not recurrent or self.sequence_length > 1, "sequence_length", "must be above 1 with a memory")


class PPO(Learner):
    """Proximal policy optimisation."""

    config: PPOConfig

    def __init__(
        self, config: PPOConfig, observation_space: spaces.Space, action_space: spaces.Space, machine: dict[str, Any]
    ):
        super().__init__(config, observation_space, action_space, machine)
        torso = self.build_torso(nn.Tanh)
        twin = config.core == "none" and isinstance(torso, MLP)
        if twin:
            torso = TwinTorso(torso, self.build_torso(nn.Tanh))
        model = self.assemble(torso, lambda width: PolicyValueHead(width, self.num_actions, twin))
        orthogonal_init(model, {"policy": 0.01, "value": 1.0})
        self.model = self.place(model)
        self.optimizer = self.make_optimizer(config.learning_rate, config.adam_epsilon)

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Sample from the policy, when judged too; extras: `value` [N], `log_prob` [N]."""
        output, carry = self.forward(obs, first, carry)
        log_probs = output.logits.log_softmax(dim=1)
        action = torch.multinomial(log_probs.exp(), 1, generator=rng)
        log_prob = log_probs.gather(1, action).squeeze(1)
        extras = {"value": output.value.cpu().numpy(), "log_prob": log_prob.cpu().numpy()}
        return action.squeeze(1).cpu().numpy(), carry, extras

    def update(self, rollout: Rollout, rng: torch.Generator) -> tuple[dict[str, Tensor], None]:
        """Make `epochs` passes over the rollout; return metrics averaged over the last pass."""
        advantage = self._advantage(rollout)
        columns = {
            "obs": map_tree(self._columns, rollout.obs),
            "first": self._columns(rollout.first),
            "carry": self._columns(rollout.carry)[0],
            "action": self._columns(rollout.action.long()),
            "log_prob": self._columns(rollout.extras["log_prob"]),
            "value": self._columns(rollout.extras["value"]),
            "advantage": self._columns(advantage),
            "mask": self._columns((~rollout.dead).float()),
        }
        if self.config.schedule == "linear":
            before = max(rollout.env_steps - rollout.dead.numel(), 0)
            self.learning_rate.fill_(self.config.learning_rate * max(1.0 - before / self.config.total_steps, 0.0))
        count = columns["mask"].shape[1]
        metrics: list[dict[str, Tensor]] = []
        for _ in range(self.config.epochs):
            order = torch.randperm(count, generator=rng, device=self.device)
            metrics = [self._minibatch(columns, part) for part in order.chunk(self.config.minibatches)]
            if self.config.schedule == "kl":
                self._follow_kl(torch.stack([values["train/approx_kl"] for values in metrics]).mean())
        self.updates += 1
        means = {name: torch.stack([values[name] for values in metrics]).mean() for name in metrics[0]}
        returns_variance = masked_variance(rollout.extras["value"] + advantage, ~rollout.dead).clamp(min=1e-8)
        means["train/explained_variance"] = 1.0 - masked_variance(advantage, ~rollout.dead) / returns_variance
        means["train/learning_rate"] = self.learning_rate.clone()
        return means, None

    @torch.no_grad()
    def _advantage(self, rollout: Rollout) -> Tensor:
        next_value = self.model(rollout.next_obs, rollout.next_carry, rollout.next_first)[0].value
        return gae(
            rollout.reward, rollout.extras["value"], next_value, rollout.terminated, rollout.truncated,
            self.config.gamma, self.config.gae_lambda,
        )  # fmt: skip

    def _columns(self, x: Tensor) -> Tensor:
        """[T, N, ...] -> [L, T/L * N, ...]: every column is L consecutive rows of one environment."""
        length = self.config.sequence_length
        steps, envs = x.shape[:2]
        cut = x.view(steps // length, length, envs, *x.shape[2:]).transpose(0, 1)
        return cut.reshape(length, steps // length * envs, *x.shape[2:])

    def _minibatch(self, columns: dict[str, Any], index: Tensor) -> dict[str, Tensor]:
        """Take one gradient step on the columns `index` [M]."""
        config = self.config
        part = {key: map_tree(lambda x: take_columns(x, index), x) for key, x in columns.items() if key != "carry"}
        mask, old_value = part["mask"], part["value"]
        output, _ = self.model(part["obs"], columns["carry"][index], part["first"])
        log_probs = output.logits.log_softmax(dim=-1)
        log_prob = log_probs.gather(-1, part["action"][..., None]).squeeze(-1)
        advantage = masked_normalize(part["advantage"], mask) if config.normalize_advantage else part["advantage"]
        policy_loss = masked_mean(ppo_policy_loss(log_prob, part["log_prob"], advantage, config.clip), mask)
        value_clip = config.clip if config.clip_value else None
        target = old_value + part["advantage"]
        value_loss = masked_mean(ppo_value_loss(output.value, old_value, target, value_clip), mask)
        entropy = masked_mean(-(log_probs.exp() * log_probs).sum(dim=-1), mask)
        loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
        self.optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        self.optimizer.step()
        with torch.no_grad():
            log_ratio = log_prob - part["log_prob"]
            approx_kl = masked_mean(log_ratio.exp() - 1.0 - log_ratio, mask)  # Schulman's k3 estimator
            clipped = masked_mean(((log_ratio.exp() - 1.0).abs() > config.clip).float(), mask)
        return {
            "train/loss": loss.detach(), "train/policy_loss": policy_loss.detach(),
            "train/value_loss": value_loss.detach(), "train/entropy": entropy.detach(), "train/approx_kl": approx_kl,
            "train/clip_fraction": clipped, "train/grad_norm": grad_norm,
        }  # fmt: skip

    def _follow_kl(self, kl: Tensor) -> None:
        """Lower the rate where the policy moved more than twice the target, raise it where less than half."""
        target = self.config.target_kl
        factor = torch.where(kl > 2.0 * target, 1.0 / 1.5, torch.where(kl < 0.5 * target, 1.5, 1.0))
        self.learning_rate.mul_(factor).clamp_(1e-6, self.config.max_learning_rate)
