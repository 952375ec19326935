"""REINFORCE (Williams 1992): actions are made likelier by the whole return that followed them, less a baseline.

The return of a step is known once its episode has ended, so steps of episodes that are still running when the rollout
ends are left out: a rollout should be several times as long as an episode, or long ones hardly count. The baseline
(section 4 there; the value of the state, as in Sutton & Barto 2018, section 13.4) lowers the variance, and stands for
what a time limit cut off. Differs from the paper: advantages are whitened over the rollout, entropy is rewarded.
CartPole 483 within 200k steps (SLM-Lab).

    python scripts/train.py reinforce --env CartPole-v1
    python scripts/train.py reinforce --env CartPole-v1 --no-baseline
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.interface import Rollout
from agents.on_policy import Metrics
from agents.policy.actor_critic import ActorCritic, ActorCriticConfig
from agents.returns import rewards_to_go


@dataclass(frozen=True)
class ReinforceConfig(ActorCriticConfig):
    """Settings of REINFORCE."""

    rollout_length: int = 512
    """Rows collected from each environment between updates: several episodes."""
    epochs: int = 1
    """Passes over each rollout; more than one would be off-policy."""
    minibatches: int = 1
    """Minibatches in a pass; more than one would be off-policy."""
    baseline: bool = True
    """Subtract the value of the state from the return; otherwise time limits count as ends."""
    normalize_advantage: bool = True
    """Over the rollout."""
    gae_lambda: float = 1.0
    """Always 1: the return itself."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("epochs", "minibatches", "gae_lambda"):
            self.require(getattr(self, name) == 1, name, "must be 1: REINFORCE is on-policy and takes whole returns")


class Reinforce(ActorCritic):
    """Monte Carlo policy gradient."""

    config: ReinforceConfig

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> dict[str, Any]:
        """Return the returns of steps whose episode has ended, and which steps these are."""
        value = rollout.extras["value"]
        last = self.value(self.model(rollout.next_obs, rollout.next_carry, rollout.next_first)[0])
        if not self.config.baseline:
            value, last = torch.zeros_like(value), torch.zeros_like(last)
        target, known = rewards_to_go(
            rollout.reward, value, last, rollout.terminated, rollout.truncated, self.config.gamma
        )
        mask = (known & ~rollout.dead).float()
        return {"value": value, "target": target, "advantage": target - value, "mask": mask}

    def loss(self, part: dict[str, Any], carry: Tensor, progress: float) -> tuple[Tensor, Metrics]:
        """Note what share of the rows is learned from, beside the policy gradient and the baseline's error."""
        loss, metrics = super().loss(part, carry, progress)
        return loss, {**metrics, "train/known_fraction": part["mask"].mean()}
