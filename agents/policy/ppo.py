"""PPO (Schulman et al. 2017) with the details behind its published results (Huang et al. 2022, "The 37 implementation
details of PPO"): orthogonal initialisation, GAE with bootstrapped time limits, advantages normalised per minibatch,
value clipping, entropy bonus, global gradient clipping, annealed learning rate; separate networks for policy and value
on vectors, a shared one on images; with a core, whole sequences from the stored carry.

Differences from the paper: 4 epochs and clip 0.1 on Atari as in its authors' code; optionally the learning rate follows
the KL divergence between old and new policy (`schedule="kl"`, as in rl_games); rows that only reset are masked out.
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

from agents.interface import Metrics
from agents.losses import masked_mean, ppo_policy_loss, ppo_value_loss
from agents.policy.actor_critic import ActorCritic, ActorCriticConfig
from networks.heads.policies import PolicyOutput


@dataclass(frozen=True)
class PPOConfig(ActorCriticConfig):
    """Settings of PPO."""

    schedule: Literal["linear", "constant", "kl"] = "linear"  # type: ignore[assignment]
    """Learning rate: linear falls to 0 at total_steps; kl changes by a factor of 1.5 to keep the KL near target_kl."""
    target_kl: float = 0.01
    """kl schedule: target KL divergence of one epoch."""
    max_learning_rate: float = 1e-2
    """kl schedule: upper bound of the learning rate."""
    clip: float = 0.1
    """Clip range of the probability ratio."""
    clip_value: bool = True
    """Clip the change of the critic's prediction by the same range."""
    normalize_advantage: bool = True
    """Normalise the advantages of each minibatch to mean 0 and deviation 1, instead of by the critic's scale."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("target_kl", "clip"):
            self.require(getattr(self, name) > 0, name, "must be above 0")

    def schedule_line(self) -> str:
        """Return the learning rate's schedule, for the pre-flight."""
        if self.schedule == "kl":
            return f"learning rate from {self.learning_rate:g}, adapted to keep the KL near {self.target_kl:g}"
        return super().schedule_line()


class PPO(ActorCritic):
    """Proximal policy optimisation."""

    config: PPOConfig

    def loss(self, output: PolicyOutput, batch: dict[str, Any], progress: float) -> tuple[Tensor, Metrics]:
        """Return the clipped surrogate, plus the value loss, less the entropy bonus (equation 9 of the paper).

        `output` and the rows of `batch` are [L, M, ...]; the log_prob and value in `batch` were computed when acting.
        """
        config, mask = self.config, batch["mask"]
        log_prob, old_log_prob = self.policy.log_prob(output.policy, batch["action"]), batch["log_prob"]

        advantage = self.scaled_advantage(batch["advantage"], mask)
        policy_loss = masked_mean(ppo_policy_loss(log_prob, old_log_prob, advantage, config.clip), mask)

        old_value, target = self.value_scale.encode(batch["value"]), self.value_scale.encode(batch["target"])
        value_clip = config.clip if config.clip_value else None
        value_loss = masked_mean(ppo_value_loss(output.value, old_value, target, value_clip), mask)

        entropy = masked_mean(self.policy.entropy(output.policy), mask)
        loss = policy_loss + config.value_coef * value_loss - config.entropy_weight(progress) * entropy

        with torch.no_grad():
            log_ratio = log_prob - old_log_prob
            approx_kl = masked_mean(log_ratio.exp() - 1.0 - log_ratio, mask)  # Schulman's k3 estimator
            clipped = masked_mean(((log_ratio.exp() - 1.0).abs() > config.clip).float(), mask)
        return loss, {
            "train/policy_loss": policy_loss.detach(), "train/value_loss": value_loss.detach(),
            "train/entropy": entropy.detach(), "train/approx_kl": approx_kl, "train/clip_fraction": clipped,
        }  # fmt: skip

    def after_epoch(self, metrics: Metrics) -> None:
        """With the kl schedule, lower the rate at more than twice the target KL and raise it at less than half."""
        if self.config.schedule != "kl":
            return
        kl, target = metrics["train/approx_kl"], self.config.target_kl
        factor = torch.where(kl > 2.0 * target, 1.0 / 1.5, torch.where(kl < 0.5 * target, 1.5, 1.0))
        self.learning_rate.mul_(factor).clamp_(1e-6, self.config.max_learning_rate)
