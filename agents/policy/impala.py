"""IMPALA's learner (Espeholt et al. 2018): actor-critic from rollouts of an older policy, corrected by V-trace.

Here one process acts and learns; the policies differ because a rollout is split into several minibatches of whole
environments (and `epochs`), as in Cleanba (Huang et al. 2023), whose settings these are. Differences from the papers:
no separate actor processes; the value after a rollout's last row comes from the acting policy; losses are means, not
sums. Published: Atari-57 median 192 % human-normalised after 200M frames (deep network, experts).

    python scripts/train.py impala --env CartPole-v1
    python scripts/train.py impala --env ALE/Pong-v5 --torso impala
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.interface import Metrics, Rollout
from agents.losses import huber, masked_mean
from agents.policy.actor_critic import ActorCritic, ActorCriticConfig
from agents.returns import vtrace
from agents.settings import OptimizerName
from networks.heads.policies import PolicyOutput


@dataclass(frozen=True)
class ImpalaConfig(ActorCriticConfig):
    """Settings of IMPALA's learner."""

    learning_rate: float = 6e-4
    """Step size of the optimizer at the start."""
    optimizer: OptimizerName = "rmsprop"
    """adam, radam (rectified) or rmsprop."""
    optimizer_epsilon: float = 0.01
    """Added to the denominator of each step, for numerical stability."""
    num_envs: int = 64
    """Environments stepped side by side."""
    rollout_length: int = 20
    """Rows collected from each environment between updates."""
    sequence_length: int = 0
    """Always 0: V-trace runs over the whole rollout."""
    epochs: int = 1
    """Passes over each rollout; V-trace corrects later ones."""
    gae_lambda: float = 1.0
    """Decay of later corrections (lambda of the paper's remark 2)."""
    rho_bar: float = 1.0
    """Clip of the ratio at a step's own residual; sets the policy whose values are learned."""
    c_bar: float = 1.0
    """Clip of the ratios at later residuals; sets the speed of learning."""
    max_grad_norm: float = 40.0
    """Gradients of a larger norm are scaled down to it."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.sequence_length == 0, "sequence_length", "must be 0: V-trace runs over the whole rollout")
        for name in ("rho_bar", "c_bar"):
            self.require(getattr(self, name) > 0, name, "must be above 0")
        self.require(self.c_bar <= self.rho_bar, "c_bar", f"must be at most rho_bar, {self.rho_bar}")


class Impala(ActorCritic):
    """Actor-critic with V-trace."""

    config: ImpalaConfig

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return rewards, ends, log-probabilities and values from acting, and on-policy targets, [T, N] each.

        `next_value`, after the last row, is repeated in all rows, so that each minibatch has it. The targets are for
        summary and value scale only: the loss computes its own with the current policy.
        """
        rows = {name: getattr(rollout, name) for name in ("reward", "terminated", "truncated")}
        rows |= {"log_prob": rollout.extras["log_prob"], "value": rollout.extras["value"]}
        rows["next_value"] = self.next_value(rollout).expand_as(rollout.reward)
        target, _ = self._vtrace(torch.ones_like(rollout.reward), rows, rows["value"])
        return {**rows, "target": target}

    def _vtrace(self, ratio: Tensor, rows: dict[str, Any], value: Tensor) -> tuple[Tensor, Tensor]:
        """Return targets and advantages [T, N] for `ratio` and `value` [T, N] of the current policy."""
        config = self.config
        return vtrace(
            ratio, rows["reward"], value, rows["next_value"][-1], rows["terminated"], rows["truncated"], config.gamma,
            config.gae_lambda, config.rho_bar, config.c_bar,
        )  # fmt: skip

    def loss(self, output: PolicyOutput, batch: dict[str, Any], progress: float) -> tuple[Tensor, Metrics]:
        """Return policy gradient, value loss and entropy bonus, with V-trace targets of the current policy."""
        log_prob = self.policy.log_prob(output.policy, batch["action"])
        with torch.no_grad():
            ratio = (log_prob - batch["log_prob"]).exp()
            target, advantage = self._vtrace(ratio, batch, self.value(output))
        value_loss = huber(output.value - self.value_scale.encode(target), 0.0)
        policy_loss = -self.scaled_advantage(advantage, batch["mask"]) * log_prob
        loss, metrics = self.total_loss(policy_loss, value_loss, output, batch["mask"], progress)
        return loss, {**metrics, "train/ratio": masked_mean(ratio, batch["mask"])}
