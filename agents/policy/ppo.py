"""PPO (Schulman et al. 2017) with the details that its results rest on (Huang et al. 2022, "The 37 implementation
details of PPO"): orthogonal initialisation, GAE with bootstrapped time limits, advantages normalised per minibatch,
value clipping, entropy bonus, global gradient clipping, annealed learning rate; separate networks for policy and value
on vectors, a shared one on images; with a core, whole sequences from the stored carry.

Differs from the paper: 4 epochs and clip 0.1 on Atari as in its authors' code; the learning rate can instead follow the
KL divergence between old and new policy (`schedule="kl"`, as in rl_games); rows that only reset are masked out.
Published: Pong 20.7, Breakout 274 after 40M frames.

    python scripts/train.py ppo --env CartPole-v1
    python scripts/train.py ppo --env Pendulum-v1
    python scripts/train.py ppo --env ALE/Pong-v5 --core lstm --sequence-length 32
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from agents.losses import masked_mean, ppo_policy_loss, ppo_value_loss
from agents.on_policy import Metrics
from agents.policy.actor_critic import ActorCritic, ActorCriticConfig


@dataclass(frozen=True)
class PPOConfig(ActorCriticConfig):
    """Settings of PPO."""

    schedule: Literal["linear", "constant", "kl"] = "linear"  # type: ignore[assignment]
    """linear falls to 0 at total_steps; kl multiplies or divides by 1.5 to keep the KL divergence near target_kl."""
    target_kl: float = 0.01
    """KL divergence of one epoch that the kl schedule aims at."""
    max_learning_rate: float = 1e-2
    """Highest step size that the kl schedule may reach."""
    clip: float = 0.1
    """Bound on the change of an action's probability ratio."""
    clip_value: bool = True
    """Also bound the change of the critic's prediction, by `clip`."""
    normalize_advantage: bool = True
    """Per minibatch."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("target_kl", "clip"):
            self.require(getattr(self, name) > 0, name, "must be above 0")

    def schedule_line(self) -> str:
        """Say what becomes of the learning rate."""
        if self.schedule == "kl":
            return f"learning rate {self.learning_rate:g} to what keeps KL near {self.target_kl:g}"
        return super().schedule_line()


class PPO(ActorCritic):
    """Proximal policy optimisation."""

    config: PPOConfig

    def loss(self, part: dict[str, Any], carry: Tensor, progress: float) -> tuple[Tensor, Metrics]:
        """Clipped surrogate, value loss and entropy bonus over a minibatch of columns."""
        config, mask, encode = self.config, part["mask"], self.value_scale.encode
        output, _ = self.model(part["obs"], carry, part["first"])
        log_prob = self.policy.log_prob(output.policy, part["action"])
        advantage = self.scaled_advantage(part["advantage"], mask)
        policy_loss = ppo_policy_loss(log_prob, part["log_prob"], advantage, config.clip)
        value_clip = config.clip if config.clip_value else None
        value_loss = ppo_value_loss(output.value, encode(part["value"]), encode(part["target"]), value_clip)
        loss, metrics = self.combine(policy_loss, value_loss, output, part, progress)
        with torch.no_grad():
            log_ratio = log_prob - part["log_prob"]
            approx_kl = masked_mean(log_ratio.exp() - 1.0 - log_ratio, mask)  # Schulman's k3 estimator
            clipped = masked_mean(((log_ratio.exp() - 1.0).abs() > config.clip).float(), mask)
        return loss, {**metrics, "train/approx_kl": approx_kl, "train/clip_fraction": clipped}

    def after_epoch(self, metrics: Metrics) -> None:
        """Lower the rate where the policy moved more than twice the target KL, raise it where less than half."""
        if self.config.schedule != "kl":
            return
        kl, target = metrics["train/approx_kl"], self.config.target_kl
        factor = torch.where(kl > 2.0 * target, 1.0 / 1.5, torch.where(kl < 0.5 * target, 1.5, 1.0))
        self.learning_rate.mul_(factor).clamp_(1e-6, self.config.max_learning_rate)
