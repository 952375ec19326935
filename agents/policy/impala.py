"""IMPALA's learner (Espeholt et al. 2018): actor-critic from rollouts of a policy that is older than the one that
learns, corrected by V-trace.

Here one process plays and learns, and the policies differ because a rollout is learned from in several minibatches of
whole environments (and `epochs`), as in Cleanba (Huang et al. 2023), whose settings these are; actors of their own are
for many machines. Differs from the papers: the value after a rollout's last row is that of the policy which acted;
losses are means, not sums. Published: Atari-57 median 192 % human-normalised after 200M frames (deep network, experts).

    python scripts/train.py impala --env CartPole-v1
    python scripts/train.py impala --env ALE/Pong-v5 --torso impala
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.interface import Rollout
from agents.learner import OptimizerName
from agents.losses import huber, masked_mean
from agents.on_policy import Metrics
from agents.policy.actor_critic import ActorCritic, ActorCriticConfig
from agents.returns import vtrace


@dataclass(frozen=True)
class ImpalaConfig(ActorCriticConfig):
    """Settings of IMPALA's learner."""

    learning_rate: float = 6e-4
    """The optimizer's step size at the start."""
    optimizer: OptimizerName = "rmsprop"
    """adam, radam (rectified) or rmsprop."""
    adam_epsilon: float = 0.01
    """The optimizer's epsilon."""
    num_envs: int = 64
    """Environments stepped side by side."""
    rollout_length: int = 20
    """Rows collected from each environment between updates."""
    sequence_length: int = 0
    """Always 0, the whole rollout: V-trace runs over it."""
    epochs: int = 1
    """Passes over each rollout; V-trace corrects for those after the first."""
    gae_lambda: float = 1.0
    """Decay of the trace (lambda of the paper's remark 2)."""
    rho_bar: float = 1.0
    """Cut of the ratios that weigh a step's own error; decides which policy's values are learned."""
    c_bar: float = 1.0
    """Cut of the ratios that weigh later errors; decides how fast."""
    max_grad_norm: float = 40.0
    """Gradients are scaled down to this norm."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.sequence_length == 0, "sequence_length", "must be 0, for V-trace runs over the whole rollout")
        for name in ("rho_bar", "c_bar"):
            self.require(getattr(self, name) > 0, name, "must be above 0")
        self.require(self.c_bar <= self.rho_bar, "c_bar", f"must be at most rho_bar, {self.rho_bar}")


class Impala(ActorCritic):
    """Actor-critic with V-trace."""

    config: ImpalaConfig

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> dict[str, Any]:
        """Return rewards and ends, what was noted when acting, and in every row the value after the last one."""
        last = self.value(self.model(rollout.next_obs, rollout.next_carry, rollout.next_first)[0])
        noted = {name: rollout.extras[name] for name in ("log_prob", "value")}
        told = {name: getattr(rollout, name) for name in ("reward", "terminated", "truncated")}
        return {**noted, **told, "last_value": last.expand_as(rollout.reward), "target": self._on_policy(rollout, last)}

    def _on_policy(self, rollout: Rollout, last: Tensor) -> Tensor:
        """Return the targets as they are before the first gradient step, for the summary and the critic's scale."""
        ratio = torch.ones_like(rollout.reward)
        return self._vtrace(ratio, rollout._asdict(), rollout.extras["value"], last)[0]

    def _vtrace(self, ratio: Tensor, rows: dict[str, Any], value: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        return vtrace(
            ratio, rows["reward"], value, last, rows["terminated"], rows["truncated"], config.gamma,
            config.gae_lambda, config.rho_bar, config.c_bar,
        )  # fmt: skip

    def loss(self, part: dict[str, Any], carry: Tensor, progress: float) -> tuple[Tensor, Metrics]:
        """Policy gradient, value loss and entropy bonus, all towards V-trace of the policy as it is now."""
        mask = part["mask"]
        output, _ = self.model(part["obs"], carry, part["first"])
        log_prob = self.policy.log_prob(output.policy, part["action"])
        with torch.no_grad():
            ratio = (log_prob - part["log_prob"]).exp()
            target, advantage = self._vtrace(ratio, part, self.value(output), part["last_value"][-1])
        value_loss = huber(output.value - self.value_scale.encode(target), 0.0)
        policy_loss = -self.scaled_advantage(advantage, mask) * log_prob
        loss, metrics = self.combine(policy_loss, value_loss, output, part, progress)
        return loss, {**metrics, "train/ratio": masked_mean(ratio, mask)}
