"""REINFORCE (Williams 1992): the Monte Carlo policy gradient, with the state value as baseline.

The return of a step is known once its episode has ended, so steps of episodes still running at the end of the rollout
are left out: a rollout should be several times as long as an episode, or long episodes hardly count. The baseline
(section 4 of the paper; the value of the state, as in Sutton & Barto 2018, section 13.4) lowers the variance, and
replaces the rewards after a time limit. Differences from the paper: advantages are normalised over the rollout, and
there is an entropy bonus. Published: CartPole 483 within 200k steps (SLM-Lab).

    python scripts/train.py reinforce --env CartPole-v1
    python scripts/train.py reinforce --env CartPole-v1 --no-baseline
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.interface import Metrics, Rollout
from agents.policy.actor_critic import ActorCritic, ActorCriticConfig
from agents.returns import rewards_to_go
from networks.heads.policies import PolicyOutput


@dataclass(frozen=True)
class ReinforceConfig(ActorCriticConfig):
    """Settings of REINFORCE."""

    rollout_length: int = 512
    """Rows collected from each environment between updates: several episodes."""
    epochs: int = 1
    """Always 1: further passes would be off-policy."""
    minibatches: int = 1
    """Always 1: further minibatches would be off-policy."""
    baseline: bool = True
    """Subtract the value of the state from the return; without it, time limits count as terminations."""
    normalize_advantage: bool = True
    """Normalise the advantages of each rollout to mean 0 and deviation 1, instead of by the critic's scale."""
    gae_lambda: float = 1.0
    """Always 1: the Monte Carlo return."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("epochs", "minibatches", "gae_lambda"):
            self.require(getattr(self, name) == 1, name, "must be 1: REINFORCE is on-policy and uses whole returns")


class Reinforce(ActorCritic):
    """Monte Carlo policy gradient."""

    config: ReinforceConfig

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return values, returns and advantages [T, N]; `mask` leaves out steps whose episode has not ended."""
        value, next_value = rollout.extras["value"], self.next_value(rollout)
        if not self.config.baseline:
            value, next_value = torch.zeros_like(value), torch.zeros_like(next_value)
        target, known = rewards_to_go(
            rollout.reward, value, next_value, rollout.terminated, rollout.truncated, self.config.gamma
        )
        mask = (known & ~rollout.dead).float()
        return {"value": value, "target": target, "advantage": target - value, "mask": mask}

    def loss(self, output: PolicyOutput, batch: dict[str, Any], progress: float) -> tuple[Tensor, Metrics]:
        """Add the fraction of rows with a known return to the metrics of the policy gradient."""
        loss, metrics = super().loss(output, batch, progress)
        return loss, {**metrics, "train/known_fraction": batch["mask"].mean()}
