"""What all agents with a policy and a critic share: the networks, acting, advantages, and the entropy bonus.

The loss here is the plain policy gradient, that of a2c.py and reinforce.py; ppo.py and impala.py have others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Generator, Tensor, nn

from agents.errors import ConfigError
from agents.exploration import linear_schedule
from agents.interface import Rollout
from agents.losses import huber, masked_mean, masked_normalize, masked_variance
from agents.on_policy import Metrics, RolloutConfig, RolloutLearner
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
    """Decay of the sum of residuals."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus at the start."""
    entropy_coef_end: float | None = None
    """Its weight at the end of training, reached in a straight line; None keeps it as it is."""
    value_coef: float = 0.5
    """Weight of the value loss, which is half the squared error."""
    eval_greedy: bool = False
    """Take the likeliest action when judged, instead of drawing one."""
    normalize_advantage: bool = False
    """Give the advantages of each minibatch mean 0 and deviation 1; else they are in units of the critic's scale."""
    value_scale: ValueScaleName = "none"
    """What the critic predicts: values as they are, their symlog or rescale, or normalize(d) by all returns so far."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("entropy_coef", "value_coef"):
            self.require(getattr(self, name) >= 0, name, "must not be negative")
        self.require((self.entropy_coef_end or 0.0) >= 0, "entropy_coef_end", "must not be negative")
        self.require(0.0 <= self.gae_lambda <= 1.0, "gae_lambda", "must lie in 0 to 1")

    def entropy_weight(self, progress: float) -> float:
        """Return the weight of the entropy bonus when a part `progress` of the training is over."""
        end = self.entropy_coef if self.entropy_coef_end is None else self.entropy_coef_end
        return linear_schedule(self.entropy_coef, end, 1.0, progress)

    @property
    def bounds_reward_scale(self) -> bool:
        """Whether large rewards are brought to a size that can be learned from."""
        return self.clip_rewards or self.value_scale != "none"


class ActorCritic(RolloutLearner):
    """A policy and the values of states; separate networks on vectors, shared ones on images and with a memory."""

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
        self.equip(model)
        orthogonal_init(model, {"policy.layer": 0.01, "value": 1.0, "novelty_value": 1.0})
        self.model = self.place(model)
        self.policy: Policy = model.head.policy  # type: ignore[assignment]
        self.value_scale = SCALES[config.value_scale]().to(self.device)
        self.optimizer = self.make_optimizer(config.learning_rate, config.adam_epsilon, config.optimizer)

    def equip(self, model: Model) -> None:
        """Give the model what a subclass learns beside policy and values, before its weights are drawn."""

    def head(self, width: int, twin: bool) -> PolicyValueHead:
        """Return the head over features of this width."""
        return PolicyValueHead(width, self.action_space, twin)

    def modules(self) -> dict[str, nn.Module]:
        """Return the network, and the critic's scale where it is learned."""
        learned = {"value_scale": self.value_scale} if self.value_scale.state_dict() else {}
        return {"model": self.model, **learned}

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Draw from the policy, or take its likeliest action when judged; extras: `value` [N], `log_prob` [N]."""
        output, carry = self.forward(obs, first, carry)
        greedy = env_steps is None and self.config.eval_greedy
        action = self.policy.mode(output.policy) if greedy else self.policy.sample(output.policy, rng)
        log_prob = self.policy.log_prob(output.policy, action)
        extras = {"log_prob": log_prob, **self.values(output)}
        return action.cpu().numpy(), carry, {name: x.cpu().numpy() for name, x in extras.items()}

    def values(self, output: PolicyOutput) -> dict[str, Tensor]:
        """Return what is noted of the critic when acting, [N] each."""
        return {"value": self.value(output)}

    def value(self, output: PolicyOutput) -> Tensor:
        """Return the critic's value [...], in the rewards that are learned from."""
        return self.value_scale.decode(output.value)

    def prepare(self, rollout: Rollout) -> dict[str, Any]:
        """Return what was noted when acting, the advantages, and the returns that the critic is to predict."""
        noted = {name: rollout.extras[name] for name in ("log_prob", "value")}
        advantage = self.advantage(rollout, self.config.gae_lambda)
        return {**noted, "advantage": advantage, "target": noted["value"] + advantage}

    def loss(self, part: dict[str, Any], carry: Tensor, progress: float) -> tuple[Tensor, Metrics]:
        """Policy gradient, half the squared error of the values, and entropy bonus."""
        output, _ = self.model(part["obs"], carry, part["first"])
        log_prob = self.policy.log_prob(output.policy, part["action"])
        policy_loss = -self.scaled_advantage(part["advantage"], part["mask"]) * log_prob
        value_loss = huber(output.value - self.value_scale.encode(part["target"]), 0.0)
        return self.combine(policy_loss, value_loss, output, part, progress)

    def scaled_advantage(self, advantage: Tensor, mask: Tensor) -> Tensor:
        """Return what the policy is to go by, from advantages in rewards; both [L, M]."""
        if self.config.normalize_advantage:
            return masked_normalize(advantage, mask)
        return advantage / self.value_scale.unit

    def combine(self, policy_loss: Tensor, value_loss: Tensor, output: PolicyOutput, part: dict[str, Any],
                progress: float) -> tuple[Tensor, Metrics]:  # fmt: skip
        """Return the whole loss and its parts, from the two losses [L, M] and the entropy of the policy."""
        mask = part["mask"]
        entropy = masked_mean(self.policy.entropy(output.policy), mask)
        policy_loss, value_loss = masked_mean(policy_loss, mask), masked_mean(value_loss, mask)
        loss = policy_loss + self.config.value_coef * value_loss - self.config.entropy_weight(progress) * entropy
        return loss, {
            "train/policy_loss": policy_loss.detach(), "train/value_loss": value_loss.detach(),
            "train/entropy": entropy.detach(),
        }  # fmt: skip

    def summary(self, rows: dict[str, Any]) -> Metrics:
        """Return how much of the variance of the returns the values explain; the critic's scale learns from them."""
        mask, target = rows["mask"], rows["target"]
        self.value_scale.update(target, mask, self.model.head.value)  # type: ignore[arg-type]
        left = masked_variance(target - rows["value"], mask) / masked_variance(target, mask).clamp(min=1e-8)
        return {"train/explained_variance": 1.0 - left}
