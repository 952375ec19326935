"""Base of the agents with a policy and a critic: networks, acting, advantages, and the policy-gradient loss.

a2c.py and reinforce.py use this loss; ppo.py and impala.py override it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Generator, Tensor, nn

from agents.config import RolloutConfig
from agents.errors import ConfigError
from agents.exploration import linear_schedule
from agents.interface import Metrics, Rollout
from agents.losses import huber, masked_mean, masked_normalize, masked_variance
from agents.on_policy import RolloutLearner
from agents.run.machine import MachineFacts
from agents.value_scale import SCALES, ValueScaleName
from networks.heads.policies import Policy, PolicyOutput, PolicyValueHead
from networks.model import Model, orthogonal_init
from networks.torsos.composite import TwinTorso
from networks.torsos.vectors import MLP


@dataclass(frozen=True)
class ActorCriticConfig(RolloutConfig):
    """Settings of agents with a policy and a critic."""

    gae_lambda: float = 0.95
    """Decay of later residuals in the advantage (GAE's lambda)."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus at the start."""
    entropy_coef_end: float | None = None
    """Weight of the entropy bonus at total_steps, reached linearly; None keeps it constant."""
    value_coef: float = 0.5
    """Weight of the value loss, which is half the squared error."""
    eval_greedy: bool = False
    """Take the most probable action in evaluation, instead of sampling."""
    normalize_advantage: bool = False
    """Normalise the advantages of each minibatch to mean 0 and deviation 1, instead of by the critic's scale."""
    value_scale: ValueScaleName = "none"
    """Transform of the critic's targets: none, symlog, rescale, or normalize by mean and deviation of past returns."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("entropy_coef", "value_coef"):
            self.require(getattr(self, name) >= 0, name, "must not be negative")
        self.require((self.entropy_coef_end or 0.0) >= 0, "entropy_coef_end", "must not be negative")
        self.require(0.0 <= self.gae_lambda <= 1.0, "gae_lambda", "must lie in 0 to 1")

    def entropy_weight(self, progress: float) -> float:
        """Return the weight of the entropy bonus once the fraction `progress` of the training is over."""
        end = self.entropy_coef if self.entropy_coef_end is None else self.entropy_coef_end
        return linear_schedule(self.entropy_coef, end, 1.0, progress)

    @property
    def bounds_reward_scale(self) -> bool:
        """Whether targets stay in a learnable range for rewards of any size."""
        return self.clip_rewards or self.value_scale != "none"


class ActorCritic(RolloutLearner):
    """A policy and a critic, with separate networks on vectors and a shared one on images or with a core."""

    config: ActorCriticConfig

    def __init__(
        self, config: ActorCriticConfig, observation_space: spaces.Space, action_space: spaces.Space,
        machine: MachineFacts,
    ):  # fmt: skip
        super().__init__(config, observation_space, action_space, machine)
        torso = self.build_torso(nn.Tanh)
        twin = config.core == "none" and isinstance(torso, MLP)
        if twin:
            torso = TwinTorso(torso, self.build_torso(nn.Tanh))
        try:
            model = self.assemble(torso, lambda width: self.head(width, twin))
        except ValueError as error:
            raise ConfigError(f"{type(self).__name__} on {config.env or 'this environment'}: {error}") from error
        self.add_modules(model)
        orthogonal_init(model, {"policy.layer": 0.01, "value": 1.0, "novelty_value": 1.0})
        self.model = self.place(model)
        self.policy: Policy = model.head.policy  # type: ignore[assignment]
        self.value_scale = SCALES[config.value_scale]().to(self.device)
        self.optimizer = self.make_optimizer(config)

    def add_modules(self, model: Model) -> None:
        """Add modules of a subclass to the model, before its weights are initialised."""

    def head(self, width: int, twin: bool) -> PolicyValueHead:
        """Return the head over features of this width."""
        return PolicyValueHead(width, self.action_space, twin)

    def modules(self) -> dict[str, nn.Module]:
        """Return the network, and the critic's scale where it has a state."""
        scale = {"value_scale": self.value_scale} if self.value_scale.state_dict() else {}
        return {"model": self.model, **scale}

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Sample from the policy, or take its mode in a greedy evaluation; extras: `value` [N], `log_prob` [N]."""
        output, carry = self.forward(obs, first, carry)
        greedy = env_steps is None and self.config.eval_greedy
        action = self.policy.mode(output.policy) if greedy else self.policy.sample(output.policy, rng)
        log_prob = self.policy.log_prob(output.policy, action)
        extras = {"log_prob": log_prob, **self.values(output)}
        return action.cpu().numpy(), carry, {name: x.cpu().numpy() for name, x in extras.items()}

    def values(self, output: PolicyOutput) -> dict[str, Tensor]:
        """Return the critic's extras of acting, [N] each."""
        return {"value": self.value(output)}

    def value(self, output: PolicyOutput) -> Tensor:
        """Return the critic's value [...] in units of the reward."""
        return self.value_scale.decode(output.value)

    def prepare(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return log-probabilities and values from acting, advantages and the critic's targets, [T, N] each."""
        acting = {name: rollout.extras[name] for name in ("log_prob", "value")}
        advantage = self.advantage(rollout, self.config.gae_lambda)
        return {**acting, "advantage": advantage, "target": acting["value"] + advantage}

    def update_value_scale(self, rows: dict[str, Any]) -> None:
        """Update the critic's scale from the targets."""
        self.value_scale.update(rows["target"], rows["mask"], self.model.head.value)  # type: ignore[arg-type]

    def loss(self, output: PolicyOutput, batch: dict[str, Any], progress: float) -> tuple[Tensor, Metrics]:
        """Return the policy gradient's loss, plus half the squared error of the values, less the entropy bonus."""
        log_prob = self.policy.log_prob(output.policy, batch["action"])
        policy_loss = -self.scaled_advantage(batch["advantage"], batch["mask"]) * log_prob
        value_loss = huber(output.value - self.value_scale.encode(batch["target"]), 0.0)
        return self.total_loss(policy_loss, value_loss, output, batch["mask"], progress)

    def scaled_advantage(self, advantage: Tensor, mask: Tensor) -> Tensor:
        """Normalise advantages [L, M] over the minibatch, or divide them by the critic's scale."""
        if self.config.normalize_advantage:
            return masked_normalize(advantage, mask)
        return advantage / self.value_scale.unit

    def total_loss(
        self, policy_loss: Tensor, value_loss: Tensor, output: PolicyOutput, mask: Tensor, progress: float
    ) -> tuple[Tensor, Metrics]:
        """Return policy loss + value_coef * value loss - entropy_coef * entropy, a scalar, and its terms as metrics.

        `policy_loss` and `value_loss` are [L, M]; each term is a mean over the rows whose `mask` is 1.
        """
        entropy = masked_mean(self.policy.entropy(output.policy), mask)
        policy_loss, value_loss = masked_mean(policy_loss, mask), masked_mean(value_loss, mask)
        loss = policy_loss + self.config.value_coef * value_loss - self.config.entropy_weight(progress) * entropy
        return loss, {
            "train/policy_loss": policy_loss.detach(), "train/value_loss": value_loss.detach(),
            "train/entropy": entropy.detach(),
        }  # fmt: skip

    def summary(self, rows: dict[str, Any]) -> Metrics:
        """Return the share of the targets' variance that the values explain."""
        mask, target = rows["mask"], rows["target"]
        residual = masked_variance(target - rows["value"], mask)
        return {"train/explained_variance": 1.0 - residual / masked_variance(target, mask).clamp(min=1e-8)}
