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

from agents.interface import Rollout
from agents.losses import masked_mean, masked_normalize, masked_variance, ppo_policy_loss, ppo_value_loss
from agents.rollouts import Metrics, RolloutConfig, RolloutLearner
from networks.heads import PolicyOutput, PolicyValueHead
from networks.model import orthogonal_init
from networks.torsos import MLP, TwinTorso


@dataclass(frozen=True)
class PPOConfig(RolloutConfig):
    """Settings of PPO."""

    schedule: Literal["linear", "constant", "kl"] = "linear"  # type: ignore[assignment]
    """linear falls to 0 at total_steps; kl multiplies or divides by 1.5 to keep the KL divergence near target_kl."""
    target_kl: float = 0.01
    """KL divergence of one epoch that the kl schedule aims at."""
    max_learning_rate: float = 1e-2
    """Highest step size that the kl schedule may reach."""
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
    normalize_advantage: bool = True
    """Per minibatch."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("target_kl", "clip"):
            self.require(getattr(self, name) > 0, name, "must be above 0")
        for name in ("entropy_coef", "value_coef"):
            self.require(getattr(self, name) >= 0, name, "must not be negative")
        self.require(0.0 <= self.gae_lambda <= 1.0, "gae_lambda", "must lie in 0 to 1")

    def schedule_line(self) -> str:
        """Say what becomes of the learning rate."""
        if self.schedule == "kl":
            return f"learning rate {self.learning_rate:g} to what keeps KL near {self.target_kl:g}"
        return super().schedule_line()


class PPO(RolloutLearner):
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

    def value(self, output: PolicyOutput) -> Tensor:
        """Return the critic's value [...]."""
        return output.value

    def prepare(self, rollout: Rollout) -> dict[str, Any]:
        """Return the advantages, and what was noted when acting."""
        noted = {name: rollout.extras[name] for name in ("log_prob", "value")}
        return {**noted, "advantage": self.advantage(rollout, self.config.gae_lambda)}

    def loss(self, part: dict[str, Any], carry: Tensor) -> tuple[Tensor, Metrics]:
        """Clipped surrogate, value loss and entropy bonus over a minibatch of columns."""
        config, mask, old_value = self.config, part["mask"], part["value"]
        output, _ = self.model(part["obs"], carry, part["first"])
        log_probs = output.logits.log_softmax(dim=-1)
        log_prob = log_probs.gather(-1, part["action"][..., None]).squeeze(-1)
        advantage = masked_normalize(part["advantage"], mask) if config.normalize_advantage else part["advantage"]
        policy_loss = masked_mean(ppo_policy_loss(log_prob, part["log_prob"], advantage, config.clip), mask)
        target = old_value + part["advantage"]
        value_clip = config.clip if config.clip_value else None
        value_loss = masked_mean(ppo_value_loss(output.value, old_value, target, value_clip), mask)
        entropy = masked_mean(-(log_probs.exp() * log_probs).sum(dim=-1), mask)
        loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
        with torch.no_grad():
            log_ratio = log_prob - part["log_prob"]
            approx_kl = masked_mean(log_ratio.exp() - 1.0 - log_ratio, mask)  # Schulman's k3 estimator
            clipped = masked_mean(((log_ratio.exp() - 1.0).abs() > config.clip).float(), mask)
        return loss, {
            "train/policy_loss": policy_loss.detach(), "train/value_loss": value_loss.detach(),
            "train/entropy": entropy.detach(), "train/approx_kl": approx_kl, "train/clip_fraction": clipped,
        }  # fmt: skip

    def summary(self, rows: dict[str, Any]) -> Metrics:
        """Return how much of the variance of the returns the values explain."""
        returns_variance = masked_variance(rows["value"] + rows["advantage"], rows["mask"]).clamp(min=1e-8)
        return {"train/explained_variance": 1.0 - masked_variance(rows["advantage"], rows["mask"]) / returns_variance}

    def after_epoch(self, metrics: Metrics) -> None:
        """Lower the rate where the policy moved more than twice the target KL, raise it where less than half."""
        if self.config.schedule != "kl":
            return
        kl, target = metrics["train/approx_kl"], self.config.target_kl
        factor = torch.where(kl > 2.0 * target, 1.0 / 1.5, torch.where(kl < 0.5 * target, 1.5, 1.0))
        self.learning_rate.mul_(factor).clamp_(1e-6, self.config.max_learning_rate)
